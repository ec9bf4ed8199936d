"""Which folding: a graph, a target and a rate in, a design that fits out.

`candidates` are one convolution's possible engines, `solve` picks one each, `share` lets several
convolutions take turns on one, `estimate` says what it takes; `design` puts them together.
"""
