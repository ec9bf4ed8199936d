"""Kernels of registers: maps of bytes or words and packed weights in, codes out.

`high` requantises sums in registers; `packed` walks windows, `winograd` tiles of 3x3 convolutions
by the two `transforms`; `lookups` and `turning` move whole registers of codes.
"""
