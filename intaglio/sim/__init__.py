"""Bit-accurate execution: a `Program` and images in, every tensor's integers out.

`reference` is the plain definition, `engine` the fast one, `compare` their comparison.
"""
