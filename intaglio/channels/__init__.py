"""A layer's ratios in, M, B and S of every channel out, so that no channel takes another's bits.

A channel whose result is one code for every sum that it can reach is a constant (`constants`, by
the ranges that `spans` prove): it has M = 0 and does not take part in the choice of S. Of the
others the largest ratio chooses S; in a profile with `Arithmetic.split_shift` those to which that
leaves too few bits of M have a larger S of their own (`tables`). What cannot be held is named
(`losses`).
"""
