"""What hardware takes: components and a target in, tables, registers, memories, multipliers out.

`area` counts bits, `engines` and `blocks` say what each component is made of, `mapping` what
synthesis makes of that on one of `devices`, which stand on `boards` with their `clocks`. Nothing
here knows a Program.
"""
