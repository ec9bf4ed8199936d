"""A `Program` in, ONNX out: exact integer operators (`integer`), or QLinear and QDQ (`quantised`).

`graph` is the file as it grows.
"""
