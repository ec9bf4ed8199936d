"""The importer's parts: nodes of an ONNX graph in, operations of a `Program` out.

`onnx_file` reads the file; `layers` and `windows` know their operators; `settling` and `values`
keep what is known of each tensor until it has codes.
"""
