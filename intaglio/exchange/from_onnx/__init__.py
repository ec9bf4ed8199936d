"""The importer's parts: nodes of an ONNX graph in, operations of a `Program` out.

`onnx_file` reads the file; `operators` is the table of what may be in it, `door` lets in what it
names, and `folding` computes constants. `layers`, `windows`, `qonnx` and `pointwise` know their
operators, `shapes` and `resizing` where values go, `functions` what is tabulated; `settling` and
`values` keep what is known of each tensor until it has codes. `on_codes` and `linear` say what
onnxruntime does in its own arithmetic.
"""
