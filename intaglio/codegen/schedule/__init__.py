"""When every beat moves: a netlist in, cycles, depths of queues and their fillings out.

`tokens` is the inner loop, `timing` the model, `sizing` finds the depths of queues; `queues` and
`activity` are what a build keeps of it for people.
"""
