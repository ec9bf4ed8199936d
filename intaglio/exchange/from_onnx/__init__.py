"""The importer's parts: nodes of an ONNX graph in, operations of a `Program` out.

`onnx_file` reads the file; `operators` is the table of what may be in it, `door` lets in what it
names, and `folding` computes constants. `layers`, `windows`, `qonnx` and `pointwise` know their
operators, `shapes` and `resizing` where values go, `functions` what is tabulated; `known` and
`values` keep what is known of each tensor, and `settling` gives it codes. `on_codes` and `linear`
say what onnxruntime does in its own arithmetic.
"""
