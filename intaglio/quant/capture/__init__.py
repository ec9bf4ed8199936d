"""From torch to a graph: an `nn.Module` and an image in, a `FloatGraph` out.

`export` walks the graph of torch.export (`exported`). `translate` makes each call, a `site`, what
`aten`, with `aten_layers` and `aten_maps`, says that it means, and follows writes through the
memory that names share, which `replay` finds out. `graph` is the result, which `passes` simplify
without a change of its function, and `execute` runs on real numbers. `agree` holds it against the
module.
"""
