"""Numba kernels of every operation, on (H, W, C) arrays of int16 or int64.

Roundings, wrapping and clamping are the functions of `fixed.py`, compiled.

Windows read a bordered copy of their input (`border`), so that no kernel tests for the edge. Every
kernel makes a part of its output, pixels or rows first ... last - 1, so that threads can share it;
`worker` is the number of the thread's own scratch memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy import int64

from intaglio import fixed
from intaglio.ops import Ints
from intaglio.sim.compiled import inlined, jit

trn = jit(fixed.trn)
rnd = jit(fixed.rnd)
rnd_inf = jit(fixed.rnd_inf)
rnd_conv = jit(fixed.rnd_conv)
double = jit(fixed.double)
clamp = jit(fixed.clamp)
single = jit(fixed.single)
wrap = jit(fixed.wrap)

TILE = 32  # output pixels whose columns and accumulators stay in the cache together
ALIGN = 32  # int16 lanes: a column is padded to whole vectors, else its tail runs one by one

TRN, RND, RND_CONV = 0, 1, 3  # places in fixed.ROUNDINGS
SINGLE = 5  # RND_CONV of products in float32
EXACT, WRAP, SATURATE_END, SATURATE_MAC = range(4)  # what a forced accumulator does


class Window(NamedTuple):
    """Sliding window over rows flattened to (H, W * C).

    A column of the convolution is `kh` times `runs` pieces of `run` neighbouring values: a whole
    kernel row where that is contiguous, else the channels of one tap. Steps between taps (`tap`)
    and output pixels (`step`) within a row, and from group to group (`group`), count values;
    `row_tap` and `row_step` count rows. `width` is the output's.
    """

    kh: int
    runs: int
    run: int
    tap: int
    step: int
    row_step: int
    row_tap: int
    group: int
    width: int


class Scaling(NamedTuple):
    """Requant: one entry of m, b, s for each channel, and again for some pixels more where channels
    are few, as a vector loop needs many. `rounding` is a place in fixed.ROUNDINGS, or SINGLE.

    m is int32 where that holds it: products of 32-bit factors have their own vector instruction.
    """

    m: Any
    b: Ints
    s: Ints
    offset: int
    lo: int
    hi: int
    rounding: int


class Forced(NamedTuple):
    """The accumulator: EXACT, or `bits` wide with one of the other three behaviours."""

    mode: int
    bits: int
    lo: int
    hi: int


@jit
def round_shift(t: int, s: int, rounding: int) -> Any:
    """`fixed.round_shift`, the rule given by its place in fixed.ROUNDINGS, or SINGLE."""
    if rounding == 0:
        return trn(t, s)
    if rounding == 1:
        return rnd(t, s)
    if rounding == 2:
        return rnd_inf(t, s)
    if rounding in (RND_CONV, SINGLE):
        return rnd_conv(t, s)
    return double(t, s)


@inlined
def requant_channels(
    row: Any, scaling: Scaling, rounding: int, channel: int, count: int, codes: Any
) -> None:
    """`count` values of a pixel to codes from `channel` on; a loop of vectors where the rounding
    is known beforehand."""
    end = channel + count  # slices: an index that may be negative costs the vectors
    m, b, s = scaling.m[channel:end], scaling.b[channel:end], scaling.s[channel:end]
    lo, hi, offset = scaling.lo, scaling.hi, scaling.offset
    part = codes[channel:end]
    for i in range(part.size):
        if rounding == SINGLE:
            t = single(single(int64(row[i]) + b[i]) * int64(m[i]))
        else:
            t = int64(row[i]) * int64(m[i]) + b[i]
        part[i] = clamp(round_shift(t, s[i], rounding) + offset, lo, hi)


@inlined
def requant_by(x: Any, scaling: Scaling, rounding: int, out: Any) -> None:
    """x (P, C or more) to out (P, C), as many pixels at a time as there are entries for where the
    values lie side by side."""
    channels, pitch = out.shape[1], x.shape[1]
    values, codes = x.reshape(-1), out.reshape(-1)
    together = scaling.m.size // channels if pitch == channels else 1
    for p in range(0, out.shape[0], together):
        count = min(together, out.shape[0] - p) * channels
        row = values[p * pitch :]
        requant_channels(row, scaling, rounding, 0, count, codes[p * channels :])


@jit
def requant(x: Any, scaling: Scaling, out: Any, first: int, last: int) -> None:
    """Pixels first ... last - 1 of x (P, C) to out (P, C)."""
    x, out = x[first:last], out[first:last]
    if scaling.rounding == SINGLE:
        requant_by(x, scaling, SINGLE, out)
    elif scaling.rounding == TRN:
        requant_by(x, scaling, TRN, out)
    else:
        requant_by(x, scaling, scaling.rounding, out)


@jit
def copy(source: Any, out: Any) -> None:
    """The first values of source. Assigning a slice does the same but compiles for seconds."""
    for i in range(out.size):
        out[i] = source[i]


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
    acc: Any, first: int, count: int, forced: Forced, scaling: Scaling, fused: int, out: Any
) -> int:
    """Force a tile of sums, then requantise it into `out`, or store it as it is."""
    hits = 0
    if forced.mode == WRAP or forced.mode == SATURATE_END:
        hits = force(acc, count, out.shape[1], forced)
    tile = out[first : first + count]
    if fused:
        requant(acc, scaling, tile, 0, count)
    else:
        for p in range(count):
            copy(acc[p], tile[p])
    return hits


@jit
def conv(
    x: Any,
    weight: Any,
    window: Window,
    forced: Forced,
    scaling: Scaling,
    fused: int,
    cols: Any,
    acc: Any,
    out: Any,
    overflow: Any,
    first: int,
    last: int,
    worker: int,
) -> None:
    """Conv2d of output pixels first ... last - 1, and the Requant behind it when `fused`.

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
        overflow[worker] += finish(tile, p, count, forced, scaling, fused, out)


@jit
def depthwise(
    x: Any,
    weight: Any,
    window: Window,
    forced: Forced,
    scaling: Scaling,
    fused: int,
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
        overflow[worker] += finish(tile, start, count, forced, scaling, fused, out)


@inlined
def add_by(a: Any, b: Any, scaling: Scaling, rounding: int, out: Any) -> None:
    """`add` of values in a row, where the rounding is known beforehand."""
    ma, mb = int64(scaling.m[0]), int64(scaling.m[1])
    bias, s = scaling.b[0], scaling.s[0]
    lo, hi, offset = scaling.lo, scaling.hi, scaling.offset
    for i in range(out.size):
        if rounding == SINGLE:
            t = single(single(int64(b[i]) * mb + bias) + int64(a[i]) * ma)
        else:
            t = int64(a[i]) * ma + int64(b[i]) * mb + bias
        out[i] = clamp(round_shift(t, s, rounding) + offset, lo, hi)


@jit
def add(a: Any, b: Any, scaling: Scaling, out: Any, first: int, last: int) -> None:
    """Pixels first ... last - 1 of a, b and out (P, C); scaling.m holds both multipliers, its b and
    s one entry."""
    a, b, out = a[first:last].reshape(-1), b[first:last].reshape(-1), out[first:last].reshape(-1)
    if scaling.rounding == SINGLE:
        add_by(a, b, scaling, SINGLE, out)
    elif scaling.rounding == TRN:
        add_by(a, b, scaling, TRN, out)
    else:
        add_by(a, b, scaling, scaling.rounding, out)


@jit
def shift(x: Any, lowest: int, out: Any) -> None:
    """out = x - lowest."""
    if lowest == 0:
        copy(x, out)
    else:
        for i in range(out.size):
            out[i] = x[i] - lowest


@jit
def pixels(x: Any, out: Any, first: int, last: int) -> None:
    """Rows first ... last - 1 of an image x (C, H, W) to out (H, W, C)."""
    for i in range(first, last):
        for c in range(x.shape[0]):
            row = x[c, i]
            for j in range(row.size):
                out[i, j, c] = row[j]


@jit
def planes(x: Any, out: Any, first: int, last: int) -> None:
    """Pixels first ... last - 1 of x (P, C) to out (C, P), in squares that stay in the cache."""
    side = 32
    for p in range(first, last, side):
        for c in range(0, x.shape[1], side):
            for i in range(c, min(c + side, x.shape[1])):
                for j in range(p, min(p + side, last)):
                    out[i, j] = x[j, i]


@jit
def border(
    x: Any, top: int, left: int, value: Any, lowest: int, out: Any, first: int, last: int
) -> None:
    """x (H, W, C) - lowest into rows first ... last - 1 of out, elsewhere value (W of out * C,),
    which repeats the channels' own."""
    h, row = x.shape[0], x.shape[1] * x.shape[2]
    before = left * x.shape[2]
    for i in range(first, last):
        line = out[i].reshape(-1)
        if top <= i < top + h:
            copy(value, line[:before])
            shift(x[i - top].reshape(-1), lowest, line[before : before + row])
            copy(value, line[before + row :])
        else:
            copy(value, line)


@jit
def raise_to(values: Any, out: Any) -> None:
    """Each value of out, or that of the first values where it is more."""
    for i in range(out.size):
        out[i] = max(out[i], values[i])


@jit
def maxpool(
    x: Any, kh: int, kw: int, sy: int, sx: int, dy: int, dx: int, lines: Any, out: Any,
    first: int, last: int, worker: int,
) -> None:  # fmt: skip
    """x (H, W, C) bordered by its type's lowest code; rows first ... last - 1 of out. The maxima of
    a window's columns, then those of its rows at every place, lie in lines (workers, 2, W * C)."""
    channels = x.shape[2]
    columns, windows = lines[worker, 0], lines[worker, 1]
    for i in range(first, last):
        copy(x[i * sy].reshape(-1), columns)
        for ky in range(1, kh):
            raise_to(x[i * sy + ky * dy].reshape(-1), columns)
        copy(columns, windows)
        for kx in range(1, kw):
            right = columns[kx * dx * channels :]
            raise_to(right, windows[: right.size])
        for j in range(out.shape[1]):
            copy(windows[j * sx * channels :], out[i, j])


@jit
def sumpool(
    x: Any, kh: int, kw: int, sy: int, sx: int, dy: int, dx: int, out: Any, first: int, last: int
) -> None:
    """x bordered by the pool's pad value; rows first ... last - 1 of out."""
    for i in range(first, last):
        for j in range(out.shape[1]):
            total = out[i, j]
            for c in range(total.size):
                total[c] = 0
            for ky in range(kh):
                for kx in range(kw):
                    tap = x[i * sy + ky * dy, j * sx + kx * dx]
                    for c in range(total.size):
                        total[c] += tap[c]


@jit
def upsample(x: Any, rows: Ints, columns: Ints, out: Any, first: int, last: int) -> None:
    """out[i, j] = x[rows[i], columns[j]], rows first ... last - 1."""
    for i in range(first, last):
        for j in range(out.shape[1]):
            copy(x[rows[i], columns[j]], out[i, j])


@jit
def place(x: Any, channel: int, out: Any, first: int, last: int) -> None:
    """One operand of Concat: pixels of x (P, C) into channels `channel` ... of out."""
    for p in range(first, last):
        copy(x[p], out[p, channel : channel + x.shape[1]])


@jit
def lookup(x: Any, lowest: int, table: Any, out: Any, first: int, last: int) -> None:
    """out = table[x - lowest], over pixels first ... last - 1 of (P, C)."""
    values, codes = x[first:last].reshape(-1), out[first:last].reshape(-1)
    for i in range(codes.size):
        codes[i] = table[values[i] - lowest]
