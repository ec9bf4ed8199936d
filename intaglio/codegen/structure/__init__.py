"""From a Program to components: a `Program` and a folding in, the top level out.

`graph` says which block runs which operations; `fold` how many multipliers each block has;
`netlist` adds forks, queues and lane adapters; `assemble` makes the Amaranth components; `ports`
are the streams at the edge; `rtlil` and `verilog` write it down.
"""
