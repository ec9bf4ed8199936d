"""Quantised ONNX in, a `Program` out: QDQ, QLinear operators, QONNX's Quant.

`onnx_file` reads the file; `importer` walks it, with `layers` and `windows` for their operators;
`settling` and `values` keep what is known of each tensor until it has codes.
"""
