"""Convolutions that the compiler vectorises, where no unit of `sim/isa.py` serves: columns of int16
or int64, dot products, sums forced into their accumulator.
"""

from __future__ import annotations

from typing import Any

from numpy import int64

from intaglio.sim.compiled import jit
from intaglio.sim.kernels import (
    SATURATE_END,
    SATURATE_MAC,
    TILE,
    WRAP,
    Forced,
    Scaling,
    Window,
    clamp,
    copy,
    requant,
    wrap,
)


@jit
def gather(x: Any, window: Window, g: int, first: int, count: int, cols: Any) -> None:
    """Columns, in the order (ky, kx, c), of group g for `count` output pixels from `first` on."""
    for p in range(count):
        oy, ox = (first + p) // window.width, (first + p) % window.width
        k = 0
        for ky in range(window.kh):
            row = x[oy * window.row_step + ky * window.row_tap]
            for r in range(window.runs):
                start = ox * window.step + r * window.tap + g * window.group
                for i in range(window.run):
                    cols[p, k + i] = row[start + i]
                k += window.run


@jit
def dot(cols: Any, weight: Any, count: int, acc: Any) -> None:
    """acc[p, o] = sum over k of cols[p, k] * weight[o, k], in blocks of 4 pixels by 2 channels.

    Sums are kept in acc's type: each block loads 6 values for 8 products, and LLVM makes int16
    products with int32 sums into one vector instruction.
    """
    whole = acc.dtype.type
    for o in range(0, weight.shape[0], 2):
        w0, w1 = weight[o], weight[o + 1]
        for p in range(0, count, 4):
            x0, x1, x2, x3 = cols[p], cols[p + 1], cols[p + 2], cols[p + 3]
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = whole(0)
            for k in range(weight.shape[1]):
                u, v = whole(w0[k]), whole(w1[k])
                a0 = whole(a0 + whole(whole(x0[k]) * u))
                a1 = whole(a1 + whole(whole(x1[k]) * u))
                a2 = whole(a2 + whole(whole(x2[k]) * u))
                a3 = whole(a3 + whole(whole(x3[k]) * u))
                b0 = whole(b0 + whole(whole(x0[k]) * v))
                b1 = whole(b1 + whole(whole(x1[k]) * v))
                b2 = whole(b2 + whole(whole(x2[k]) * v))
                b3 = whole(b3 + whole(whole(x3[k]) * v))
            acc[p, o], acc[p, o + 1] = a0, b0
            acc[p + 1, o], acc[p + 1, o + 1] = a1, b1
            acc[p + 2, o], acc[p + 2, o + 1] = a2, b2
            acc[p + 3, o], acc[p + 3, o + 1] = a3, b3


@jit
def dot_saturating(cols: Any, weight: Any, count: int, forced: Forced, acc: Any) -> int:
    """As `dot`, clamped after every product, in order; how many sums were clamped on the way."""
    hits = 0
    for p in range(count):
        for o in range(weight.shape[0]):
            total: Any = int64(0)
            clamped = False
            for k in range(weight.shape[1]):
                exact = total + int64(cols[p, k]) * int64(weight[o, k])
                total = int64(clamp(exact, forced.lo, forced.hi))
                clamped |= total != exact
            acc[p, o] = total
            hits += clamped
    return hits


@jit
def force(acc: Any, count: int, channels: int, forced: Forced) -> int:
    """Wrap or saturate exact sums into the forced type; how many did not fit."""
    hits = 0
    for p in range(count):
        for c in range(channels):
            exact = int64(acc[p, c])
            if exact < forced.lo or exact > forced.hi:
                hits += 1
                if forced.mode == WRAP:
                    acc[p, c] = wrap(exact, forced.bits, True)
                else:
                    acc[p, c] = clamp(exact, forced.lo, forced.hi)
    return hits


@jit
def finish(
    acc: Any, first: int, count: int, forced: Forced, scaling: Scaling | None, out: Any
) -> int:
    """Force a tile of sums, then requantise it into `out`, or store it as it is. Numba compiles but
    the one of both that the type of `scaling` asks for."""
    hits = 0
    if forced.mode == WRAP or forced.mode == SATURATE_END:
        hits = force(acc, count, out.shape[1], forced)
    tile = out[first : first + count]
    if scaling is None:
        for p in range(count):
            copy(acc[p], tile[p])
    else:
        requant(acc, scaling, tile, 0, count)
    return hits


@jit
def conv(
    x: Any,
    weight: Any,
    window: Window,
    forced: Forced,
    scaling: Scaling | None,
    cols: Any,
    acc: Any,
    out: Any,
    overflow: Any,
    first: int,
    last: int,
    worker: int,
) -> None:
    """Conv2d of output pixels first ... last - 1, and the Requant behind it if there is one.

    x (H, W * C) bordered; weight (groups, Cout / groups, K) with K and Cout / groups padded by
    zeros to ALIGN and 2; cols (workers, TILE, K); acc (workers, TILE, Cout + 1): the padded channel
    of a group is overwritten by the next one; out (P, Cout); overflow (workers,) is added to.
    """
    outs = out.shape[1] // weight.shape[0]
    columns, tile = cols[worker], acc[worker]
    for p in range(first, last, TILE):
        count = min(TILE, last - p)
        for g in range(weight.shape[0]):
            gather(x, window, g, p, count, columns)
            sums = tile[:, g * outs :]
            if forced.mode == SATURATE_MAC:
                overflow[worker] += dot_saturating(columns, weight[g], count, forced, sums)
            else:
                dot(columns, weight[g], count, sums)
        overflow[worker] += finish(tile, p, count, forced, scaling, out)


@jit
def depthwise(
    x: Any,
    weight: Any,
    window: Window,
    forced: Forced,
    scaling: Scaling | None,
    acc: Any,
    out: Any,
    overflow: Any,
    first: int,
    last: int,
    worker: int,
) -> None:
    """Conv2d with one input and one output channel a group: weight (Kh * Kw, C), else as `conv`."""
    channels = out.shape[1]
    whole, tile = acc.dtype.type, acc[worker]
    for start in range(first, last, TILE):
        count = min(TILE, last - start)
        for p in range(count):
            oy, ox = (start + p) // window.width, (start + p) % window.width
            sums = tile[p]
            for c in range(channels):
                sums[c] = 0
            for ky in range(window.kh):
                row = x[oy * window.row_step + ky * window.row_tap]
                for kx in range(window.runs):
                    taps = row[ox * window.step + kx * window.tap :]
                    w = weight[ky * window.runs + kx]
                    for c in range(channels):
                        sums[c] = whole(sums[c] + whole(whole(taps[c]) * whole(w[c])))
        overflow[worker] += finish(tile, start, count, forced, scaling, out)
