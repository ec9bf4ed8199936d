"""From real numbers to integers: graph and scales in, a `Program` out.

`lower` derives every integer; `exact` runs a graph on the Program's codes in torch; `report` says
what quantisation did to each layer.
"""
