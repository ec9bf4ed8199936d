"""From maps to boxes: a detector's raw outputs in, boxes, their pictures and losses out.

`decode` and `draw` need no torch; `losses` does.
"""
