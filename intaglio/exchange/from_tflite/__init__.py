"""TFLite files to Programs.

A file of integers comes in, a Program that makes each of its tensors to the bit goes out.
"""
