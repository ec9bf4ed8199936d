"""Each layer's own bits: what a width does to the outputs, and budgets, in; `Widths` out.

`mixed` measures, `allocate` solves.
"""
