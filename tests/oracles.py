"""Second definitions, written from other words than the code: for tests only."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor

import numpy as np

from intaglio.ops import Ints, Padding, Pair, Tap


def rounded(t: int, s: int, rule: str) -> int:
    """t / 2^s by the named rule, as rational arithmetic says it."""
    q = Fraction(t, 2**s)
    half = Fraction(1, 2)
    away = floor(q + half) if q >= 0 else -floor(-q + half)
    if rule == "DOUBLE" and s > 31:
        return rounded(floor(Fraction(t, 2**31) + half), s - 31, "RND_INF")
    results = {
        "TRN": floor(q),
        "RND": floor(q + half),
        "RND_INF": away,
        "RND_CONV": round(q),
        "DOUBLE": floor(q + half),
    }
    return results[rule]


def windows(
    x: Ints, kernel: Pair, stride: Pair, dilation: Pair, padding: Padding, outside: Ints
) -> Ints:
    """Sliding windows of x (N, C, H, W) in a border of `outside` (C,): (N, C, H, W, Kh, Kw)."""
    top, bottom, left, right = padding
    channels = [
        np.pad(x[:, c], ((0, 0), (top, bottom), (left, right)), constant_values=int(v))
        for c, v in enumerate(np.broadcast_to(outside, x.shape[1:2]))
    ]
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    found = np.lib.stride_tricks.sliding_window_view(np.stack(channels, 1), span, axis=(2, 3))
    return found[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def convolution(taps: Ints, weight: Ints, groups: int) -> Ints:
    """Windows (N, C, H, W, Kh, Kw) by weight (Cout, C / groups, Kh, Kw), as one dense product."""
    cout, cin = weight.shape[:2]
    dense = np.zeros((cout, taps.shape[1], *weight.shape[2:]), dtype=np.int64)
    for o in range(cout):
        first = o * groups // cout * cin
        dense[o, first : first + cin] = weight[o]
    return np.einsum("nchwyx,ocyx->nohw", taps, dense)


def blend(taps: Sequence[Tap], side: int) -> Ints:
    """Taps over `side` rows or columns as a dense matrix (taps, side)."""
    matrix = np.zeros((len(taps), side), dtype=np.int64)
    for row, (place, weight, ahead) in zip(matrix, taps, strict=True):
        row[place] += weight
        row[place + 1 if place + 1 < side else place] += ahead
    return matrix
