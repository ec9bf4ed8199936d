"""A `Program` in, TOSA 1.0 out (`tosa`), checked by its reference model (`run`, `worker`).

`pieces` and `scale` say one operation in TOSA's, `file` is the file as it grows.
"""
