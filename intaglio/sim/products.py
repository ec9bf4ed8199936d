"""Numba kernels of products of two maps, on (H, W, C) arrays like those of `kernels`.

The second map has the first one's shape, or a single channel, or a single pixel.
"""

from __future__ import annotations

from typing import Any

from numpy import int32, int64

from intaglio.sim.compiled import inlined, jit
from intaglio.sim.kernels import NARROW, SINGLE, Scaling, clamp, line, round_shift, single, trn


@inlined
def gated(
    x: Any, y: Any, step: int, zeros: Any, scaling: Scaling, rounding: int, codes: Any
) -> None:
    """`multiply` of values side by side, of which y has one for each (step 1) or for all (0)."""
    end = codes.size
    m, b, s = scaling.m[:end], scaling.b[:end], scaling.s[:end]
    lo, hi, offset = scaling.lo, scaling.hi, scaling.offset
    for k in range(end):
        made = (int64(x[k]) - zeros[0]) * (int64(y[k * step]) - zeros[1])
        if rounding == SINGLE:
            t = single(single(made + b[k]) * int64(m[k]))
        else:
            t = made * int64(m[k]) + b[k]
        codes[k] = clamp(round_shift(t, s[k], rounding) + offset, lo, hi)


@inlined
def gated_narrow(x: Any, y: Any, step: int, zeros: Any, scaling: Scaling, codes: Any) -> None:
    """`gated` by TRN where 32 bits hold every product and every M, whose products have a vector
    instruction."""
    end = codes.size
    m, b, s = scaling.m[:end], scaling.b[:end], scaling.s[:end]
    lo, hi, offset = scaling.lo, scaling.hi, scaling.offset
    less_x, less_y = int32(zeros[0]), int32(zeros[1])
    for k in range(end):
        made = int32(int32(int32(x[k]) - less_x) * int32(int32(y[k * step]) - less_y))
        codes[k] = clamp(trn(int64(made) * int64(m[k]) + b[k], s[k]) + offset, lo, hi)


@inlined
def multiply_by(
    a: Any, b: Any, zeros: Any, scaling: Scaling, rounding: int, out: Any, first: int, last: int
) -> None:
    """`multiply` where the rounding is known beforehand; as many pixels at a time as there are
    entries for where each value has one of its own."""
    width, channels = out.shape[1], out.shape[2]
    step, across = int(b.shape[2] == channels), b.shape[2] if b.shape[1] == width else 0
    together = scaling.m.size // channels if step * across > 0 else 1
    for i in range(first, last):
        x, y, codes = line(a, i), line(b, i if b.shape[0] > 1 else 0), line(out, i)
        for j in range(0, width, together):
            at, count = j * channels, min(together, width - j) * channels
            part = codes[at : at + count]
            if rounding == NARROW:
                gated_narrow(x[at:], y[j * across :], step, zeros, scaling, part)
            else:
                gated(x[at:], y[j * across :], step, zeros, scaling, rounding, part)


@jit
def multiply(a: Any, b: Any, zeros: Any, scaling: Scaling, out: Any, first: int, last: int) -> None:
    """Rows first ... last - 1 of the products of a (H, W, C), less zeros[0], and b, less zeros[1],
    requantised to out."""
    if scaling.rounding == SINGLE:
        multiply_by(a, b, zeros, scaling, SINGLE, out, first, last)
    else:
        multiply_by(a, b, zeros, scaling, scaling.rounding, out, first, last)


@jit
def multiply_narrow(
    a: Any, b: Any, zeros: Any, scaling: Scaling, out: Any, first: int, last: int
) -> None:
    """`multiply` where the rounding is NARROW: by itself, as most networks need it alone."""
    multiply_by(a, b, zeros, scaling, NARROW, out, first, last)


@jit
def product(a: Any, b: Any, zeros: Any, out: Any, first: int, last: int) -> None:
    """The products of `multiply` themselves."""
    width, channels = out.shape[1], out.shape[2]
    step, across = int(b.shape[2] == channels), b.shape[2] if b.shape[1] == width else 0
    for i in range(first, last):
        x, y, made = line(a, i), line(b, i if b.shape[0] > 1 else 0), line(out, i)
        for j in range(width):
            at, other = j * channels, y[j * across :]
            for c in range(channels):
                made[at + c] = (int64(x[at + c]) - zeros[0]) * (int64(other[c * step]) - zeros[1])
