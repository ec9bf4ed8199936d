"""From torch to a graph: an `nn.Module` and an image in, a `FloatGraph` out.

`export` runs torch.export and walks its graph; `aten`, with `aten_layers` and `aten_maps`, says
what each operation means, at a `site`. `graph` is the result, which `passes` simplify without a
change of its function, and `execute` runs on real numbers.
"""
