"""A `Program` in, a TFLite file out (`tflite`), which LiteRT's reference kernels run (`run`).

`layers`, `choosing` and `pieces` say one operation in TFLite's, `functions` which operator a table
is, `scales` which float32 scales give a Program's multipliers, `file` is the file as it grows.
"""
