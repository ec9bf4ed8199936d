"""From a graph to grids: a `FloatGraph` and images in, scale and zero point of every tensor out.

`observe` runs the images; `groups` says what shares a grid, and its bits; `grids` tries ranges and
takes the one of least error; `scales` holds the result; `fake` runs it in real numbers, rounded.
"""
