"""Numba kernels of every operation, on (H, W, C) arrays of bytes, int16 or int64.

Bytes are codes counted from their type's lowest one. Maps of three dimensions may lie inside a
border of their own: of those only the values of a row lie side by side (`line`).

Roundings, wrapping and clamping are the functions of `fixed.py`, compiled.

Windows read a bordered copy of their input (`border`), so that no kernel tests for the edge. Every
kernel makes a part of its output, pixels or rows first ... last - 1, so that threads can share it;
`worker` is the number of the thread's own scratch memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy import int32, int64, uint8, uint16

from intaglio import fixed
from intaglio.ops import Ints
from intaglio.sim.code.kernel import Later
from intaglio.sim.compiled import LONG, inlined, jit, types, written

arrays: Any = Later("numba.np.arrayobj")
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
NARROW = 6  # TRN of a sum that 32 bits hold
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


@written
def line(context, x, i):  # type: ignore[no-untyped-def]  # Numba's typing context has no public types
    """The values of row i of x (H, W, C), as an array of one dimension that owns nothing."""
    kind = types.Array(x.dtype, 1, "C")

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]  # as above
        given = arrays.make_array(signature.args[0])(context, builder, values[0])
        made = arrays.make_array(kind)(context, builder)
        _, *sides = (builder.extract_value(given.shape, n) for n in range(3))
        pitch = builder.extract_value(given.strides, 0)
        place = builder.add(builder.ptrtoint(given.data, LONG), builder.mul(pitch, values[1]))
        arrays.populate_array(
            made, builder.inttoptr(place, given.data.type), [builder.mul(*sides)],
            [given.itemsize], given.itemsize, None,
        )  # fmt: skip
        return made._getvalue()

    return kind(x, types.int64), generate


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
def requant_rows(x: Any, scaling: Scaling, out: Any, first: int, last: int) -> None:
    """Rows first ... last - 1 of x (H, W, C) to out."""
    shape = x.shape[1], x.shape[2]
    for i in range(first, last):
        requant(line(x, i).reshape(shape), scaling, line(out, i).reshape(shape), 0, shape[0])


@jit
def requant_rows_trn(x: Any, scaling: Scaling, out: Any, first: int, last: int) -> None:
    """`requant_rows` where the rounding is TRN: by itself, for it compiles in a third of the time
    and is what most networks need alone."""
    shape = x.shape[1], x.shape[2]
    for i in range(first, last):
        requant_by(line(x, i).reshape(shape), scaling, TRN, line(out, i).reshape(shape))


@jit
def copy(source: Any, out: Any) -> None:
    """The first values of source. Assigning a slice does the same but compiles for seconds."""
    for i in range(out.size):
        out[i] = source[i]


@inlined
def add_by(a: Any, b: Any, scaling: Scaling, rounding: int, out: Any) -> None:
    """`add` of values in a row, where the rounding is known beforehand."""
    ma, mb = int64(scaling.m[0]), int64(scaling.m[1])
    bias, s = scaling.b[0], scaling.s[0]
    lo, hi, offset = scaling.lo, scaling.hi, scaling.offset
    for i in range(out.size):
        if rounding == SINGLE:
            t = single(single(int64(b[i]) * mb + bias) + (int64(a[i]) * ma + scaling.b[1]))
        else:
            t = int64(a[i]) * ma + int64(b[i]) * mb + bias
        out[i] = clamp(round_shift(t, s, rounding) + offset, lo, hi)


@jit
def add(a: Any, b: Any, scaling: Scaling, out: Any, first: int, last: int) -> None:
    """Rows first ... last - 1 of a, b and out (H, W, C); scaling.m holds both multipliers, its b
    the bias and, for SINGLE, what is added to a's product, its s one entry."""
    for i in range(first, last):
        x, y, codes = line(a, i), line(b, i), line(out, i)
        if scaling.rounding == SINGLE:
            add_by(x, y, scaling, SINGLE, codes)
        elif scaling.rounding == TRN:
            add_by(x, y, scaling, TRN, codes)
        else:
            add_by(x, y, scaling, scaling.rounding, codes)


@jit
def add_narrow(a: Any, b: Any, scaling: Scaling, out: Any, first: int, last: int) -> None:
    """`add` where the rounding is NARROW: by itself, for it is what most networks need alone."""
    ma, mb = int32(scaling.m[0]), int32(scaling.m[1])
    start, by, more = int32(scaling.b[0]), int32(scaling.s[0]), int32(scaling.offset)
    low, top = int32(scaling.lo), int32(scaling.hi)
    for i in range(first, last):
        x, y, codes = line(a, i), line(b, i), line(out, i)
        for j in range(codes.size):
            u = int32(int32(int32(x[j]) * ma) + int32(int32(y[j]) * mb))
            codes[j] = clamp(int32(int32(int32(u + start) >> by) + more), low, top)


@jit
def shift(x: Any, lowest: int, out: Any) -> None:
    """out = x - lowest."""
    if lowest == 0:
        copy(x, out)
    else:
        for i in range(out.size):
            out[i] = x[i] - lowest


@jit
def pixels(x: Any, lowest: int, out: Any, first: int, last: int) -> None:
    """Rows first ... last - 1 of an image x (C, H, W) to out (H, W, C), less `lowest`."""
    channels, width = x.shape[0], x.shape[2]
    for i in range(first, last):
        codes = line(out, i)
        for c in range(channels):
            row = line(x, c)[i * width :]
            for j in range(width):
                codes[j * channels + c] = row[j] - lowest


@jit
def pixels_of_three(x: Any, lowest: int, out: Any, first: int, last: int) -> None:
    """`pixels` of three channels: known beforehand, it is a loop of vectors."""
    width = x.shape[2]
    for i in range(first, last):
        codes, at = line(out, i), i * width
        r, g, b = line(x, 0)[at:], line(x, 1)[at:], line(x, 2)[at:]
        for j in range(width):
            codes[3 * j] = r[j] - lowest
            codes[3 * j + 1] = g[j] - lowest
            codes[3 * j + 2] = b[j] - lowest


@jit
def planes(x: Any, lowest: int, out: Any, first: int, last: int) -> None:
    """Rows first ... last - 1 of x (H, W, C), plus `lowest`, to out (C, H * W), in squares that
    stay in the cache."""
    side = 32
    width, channels = x.shape[1], x.shape[2]
    for i in range(first, last):
        codes, to = line(x, i), i * width
        for p in range(0, width, side):
            for c in range(0, channels, side):
                for k in range(c, min(c + side, channels)):
                    part = out[k]
                    for j in range(p, min(p + side, width)):
                        part[to + j] = codes[j * channels + k] + lowest


@jit
def border(
    x: Any, top: int, left: int, value: Any, lowest: int, out: Any, first: int, last: int
) -> None:
    """x (H, W, C) - lowest into rows first ... last - 1 of out, elsewhere value (W of out * C,),
    which repeats the channels' own."""
    h, row = x.shape[0], x.shape[1] * x.shape[2]
    before = left * x.shape[2]
    for i in range(first, last):
        codes = line(out, i)
        if top <= i < top + h:
            copy(value, codes[:before])
            shift(line(x, i - top), lowest, codes[before : before + row])
            copy(value, codes[before + row :])
        else:
            copy(value, codes)


@jit
def raise_to(values: Any, out: Any) -> None:
    """Each value of out, or that of the first values where it is more."""
    for i in range(out.size):
        out[i] = max(out[i], values[i])


@jit
def maxpool(
    x: Any, kh: int, kw: int, sy: int, sx: int, dy: int, dx: int, lines: Any, lowest: int, out: Any,
    first: int, last: int, worker: int,
) -> None:  # fmt: skip
    """x (H, W, C) bordered by its type's lowest code; rows first ... last - 1 of out, less
    `lowest`. The maxima of a window's columns, then those of its rows at every place, lie in lines
    (workers, 2, W * C)."""
    channels = x.shape[2]
    both = line(lines, worker)
    columns, windows = both[: lines.shape[2]], both[lines.shape[2] :]
    for i in range(first, last):
        copy(line(x, i * sy), columns)
        for ky in range(1, kh):
            raise_to(line(x, i * sy + ky * dy), columns)
        copy(columns, windows)
        for kx in range(1, kw):
            right = columns[kx * dx * channels :]
            raise_to(right, windows[: right.size])
        codes = line(out, i)
        for j in range(out.shape[1]):
            shift(windows[j * sx * channels :], lowest, codes[j * channels : (j + 1) * channels])


@jit
def sumpool(
    x: Any, kh: int, kw: int, sy: int, sx: int, dy: int, dx: int, lowest: int, out: Any,
    first: int, last: int,
) -> None:  # fmt: skip
    """x bordered by the pool's pad value; rows first ... last - 1 of out. A sum begins at
    `lowest`."""
    channels = x.shape[2]
    for i in range(first, last):
        sums = line(out, i)
        for j in range(out.shape[1]):
            total = sums[j * channels : (j + 1) * channels]
            for c in range(total.size):
                total[c] = lowest
            for ky in range(kh):
                row = line(x, i * sy + ky * dy)
                for kx in range(kw):
                    tap = row[(j * sx + kx * dx) * channels :]
                    for c in range(total.size):
                        total[c] += tap[c]


@jit
def picked(x: Any, rows: Ints, columns: Ints, lowest: int, out: Any, first: int, last: int) -> None:
    """out[i, j] = x[rows[i], columns[j]] - lowest, rows first ... last - 1."""
    channels = x.shape[2]
    for i in range(first, last):
        source, codes = line(x, rows[i]), line(out, i)
        for j in range(out.shape[1]):
            part = codes[j * channels : (j + 1) * channels]
            shift(source[columns[j] * channels :], lowest, part)


@inlined
def blended(
    above: Any, below: Any, left: int, right: int, weights: Any, narrow: bool, lowest: int, out: Any
) -> None:
    """Channels of four pixels of two rows by their weights, less `lowest`."""
    a, b, c, d = above[left:], above[right:], below[left:], below[right:]
    for k in range(out.size):
        if narrow:
            top = int32(int32(int32(a[k]) * weights[0]) + int32(int32(b[k]) * weights[1]))
            end = int32(int32(int32(c[k]) * weights[2]) + int32(int32(d[k]) * weights[3]))
            out[k] = int32(int32(top + end) - int32(lowest))
        else:
            top = int64(a[k]) * weights[0] + int64(b[k]) * weights[1]
            out[k] = top + int64(c[k]) * weights[2] + int64(d[k]) * weights[3] - lowest


@jit
def interpolated(
    x: Any, rows: Ints, columns: Ints, narrow: int, lowest: int, out: Any, first: int, last: int
) -> None:
    """Sums of two rows and two columns of x (H, W, C) less `lowest`, rows first ... last - 1; rows
    and columns (n, 4) are two places and two weights each. `narrow`: int32 holds every sum."""
    channels = x.shape[2]
    for i in range(first, last):
        above, below, codes = line(x, rows[i, 0]), line(x, rows[i, 1]), line(out, i)
        u, v = rows[i, 2], rows[i, 3]
        for j in range(out.shape[1]):
            left, right = columns[j, 0] * channels, columns[j, 1] * channels
            p, q = columns[j, 2], columns[j, 3]
            part = codes[j * channels : (j + 1) * channels]
            if narrow:
                small = int32(u * p), int32(u * q), int32(v * p), int32(v * q)
                blended(above, below, left, right, small, True, lowest, part)
            else:
                large = u * p, u * q, v * p, v * q
                blended(above, below, left, right, large, False, lowest, part)


@jit
def selected(
    x: Any, channels: Ints, value: int, lowest: int, out: Any, first: int, last: int
) -> None:
    """out[i, j, c] = x[i, j, channels[c]] - lowest, or value where channels[c] is negative, rows
    first ... last - 1."""
    given, made = x.shape[2], out.shape[2]
    for i in range(first, last):
        source, codes = line(x, i), line(out, i)
        for j in range(out.shape[1]):
            pixel, to = source[j * given : (j + 1) * given], codes[j * made : (j + 1) * made]
            for c in range(channels.size):
                at = channels[c]
                to[c] = value if at < 0 else pixel[at] - lowest


@jit
def deepened(x: Any, block: int, lowest: int, out: Any, first: int, last: int) -> None:
    """Pixels of x (H, W, C) less `lowest` as channels (dy, dx, c) of out, rows first ... last - 1;
    `block` is a block's height. Those of one row of a block lie side by side on both sides."""
    made = out.shape[2]
    run = made // block
    for i in range(first, last):
        codes = line(out, i)
        for dy in range(block):
            source = line(x, i * block + dy)
            for j in range(out.shape[1]):
                to = j * made + dy * run
                shift(source[j * run :], lowest, codes[to : to + run])


@jit
def spread(x: Any, block: int, lowest: int, out: Any, first: int, last: int) -> None:
    """Channels (dy, dx, c) of x (H, W, C) less `lowest` as pixels of out, rows first ... last - 1:
    the inverse of `deepened`."""
    given = x.shape[2]
    run = given // block
    for i in range(first, last):
        source, codes, dy = line(x, i // block), line(out, i), i % block
        for j in range(x.shape[1]):
            shift(source[j * given + dy * run :], lowest, codes[j * run : (j + 1) * run])


@jit
def place(x: Any, channel: int, lowest: int, out: Any, first: int, last: int) -> None:
    """One operand of Concat: pixels of x, less `lowest`, into channels `channel` ... of
    out (H, W, C), rows first ... last - 1."""
    channels, pitch = x.shape[2], out.shape[2]
    for i in range(first, last):
        source, codes = line(x, i), line(out, i)
        for j in range(x.shape[1]):
            to = j * pitch + channel
            shift(source[j * channels :], lowest, codes[to : to + channels])


@jit
def lookup(x: Any, table: Any, out: Any, first: int, last: int) -> None:
    """out = table[x], over rows first ... last - 1 of (H, W, C): 256 entries by the low byte of a
    code, else 65,536 by its low word, so that no code lies outside."""
    for i in range(first, last):
        values, codes = line(x, i), line(out, i)
        if table.size == 256:
            for j in range(codes.size):
                codes[j] = table[uint8(values[j])]
        else:
            for j in range(codes.size):
                codes[j] = table[uint16(values[j])]


@jit
def lookup_by_channel(x: Any, table: Any, out: Any, first: int, last: int) -> None:
    """As `lookup`, with a table for each channel: (C, 256) or (C, 65,536)."""
    count, size = table.shape
    for i in range(first, last):
        values, codes = line(x, i), line(out, i)
        for j in range(0, codes.size, count):
            if size == 256:
                for c in range(count):
                    codes[j + c] = table[c, uint8(values[j + c])]
            else:
                for c in range(count):
                    codes[j + c] = table[c, uint16(values[j + c])]
