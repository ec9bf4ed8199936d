"""Better weights for the same grids: a graph and its scales in, others of the same function out.

`equalize` moves factors between layers before the grids are chosen; `compensate` rounds weights
one after the other, each making up for the last; `correct` shifts biases back after rounding.
"""
