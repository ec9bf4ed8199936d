"""What was built, run: a build in, every beat of its RTL out.

`verify` compares in cocotb; `compile` makes the RTL a function, which `library` builds; `tools`
finds the simulators.
"""
