"""Bit-accurate execution of a Program: the reference, the fast engine, and their comparison."""
