"""Grids chosen by a detector's outputs (DetPTQ): graph and calibration in, a p for every step out.

`candidates` are what is tried, `partial` re-runs only what a step changes, `odol` is the loss,
`judge` spreads the work, `journal` keeps what was found; `detptq` is the search itself.
"""
