"""3x3 convolution with a quarter of the multiplications, exact on integers.

Winograd's F(4x4, 3x3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015)
makes 4x4 outputs from a 6x6 tile of inputs by 36 products instead of 144:

    Y = A^T ((G w G^T) * (B^T x B)) A

Its G has denominators 4, 6 and 24. Here the rows of G are whole numbers and what they were
multiplied by is made up for in A, so that every step is an integer and the result is 576 Y.

    |B^T x B| <= 100 * 255, |G w G^T| <= 49 * 128: both are 16-bit words, summed by a words unit

Sums and everything behind them are modulo 2^32. 576 = 2^6 * 9, and 9 has an inverse modulo 2^32, so
multiplying by it leaves 2^6 Y modulo 2^32, and an arithmetic shift leaves Y wherever Y has at most
26 bits, which the Program's proof of its accumulators tells beforehand (`SUM`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from intaglio.fixed import IntType
from intaglio.ops import Ints
from intaglio.sim.compiled import Pointer, caller, inlined, jit, named, types, written
from intaglio.sim.dots import BYTE, INT, WORD, at, call_block, number
from intaglio.sim.isa import UNITS, Isa, Unit, unit_of
from intaglio.sim.kernels import TRN, Scaling, requant_channels

SUM = IntType(26, True)  # what a sum must be proved to fit
SIDE, EDGE = 4, 6  # of a tile of outputs, of inputs
POINTS = EDGE * EDGE
GROUP = 64  # output channels whose products lie in the cache together
NOTHING = np.zeros(2 * UNITS[0].lanes, np.int32)  # what products begin at
GAP = 64  # bytes between the rows of points beyond their own: powers of two would share cache sets

G = np.array([[1, 0, 0], [-1, -1, -1], [-1, 1, -1], [1, 2, 4], [1, -2, 4], [0, 0, 1]])
NINTH = (pow(9, -1, 1 << 32) + (1 << 31)) % (1 << 32) - (1 << 31)  # as a signed constant

Vector = Any  # an LLVM value


def tiles(height: int, width: int) -> int:
    """Tiles of an output map."""
    return -(-height // SIDE) * -(-width // SIDE)


@dataclass(frozen=True)
class Shares:
    """How workers share a convolution: `chunk` tiles go through together, in whole blocks, and a
    chunk's output channels in `splits` parts. `size` of these there are in all."""

    chunk: int
    splits: int
    size: int


def shares(count: int, cin: int, cout: int, workers: int) -> Shares:
    """Chunks whose points stay in a core's cache. Fewer tiles at a time would read all weights more
    often: where workers would not have as many chunks each, they make some of the channels."""
    fitting = max(16, (600 << 10) // (POINTS * 2 * cin) // 8 * 8)
    chunks = -(-count // min(fitting, 64))
    even = chunks % workers == 0 or chunks > 4 * workers
    splits = 1 if even else min(workers, -(-cout // GROUP))
    return Shares(-(-count // (chunks * 8)) * 8, splits, chunks * splits)


def pack(weight: Ints, unit: Unit) -> NDArray[np.int16]:
    """G w G^T of weights (Cout, Cin, 3, 3) as (36, Cout / lanes, pairs, lanes, 2), padded by 0."""
    cout, cin = weight.shape[:2]
    blocks, pairs = -(-cout // unit.lanes), -(-cin // 2)
    points = np.zeros((POINTS, blocks * unit.lanes, pairs * 2), dtype=np.int16)
    made = np.einsum("ia,ocab,jb->ijoc", G, weight, G).reshape(POINTS, cout, cin)
    points[:, :cout, :cin] = made
    split = points.reshape(POINTS, blocks, unit.lanes, pairs, 2)
    return np.ascontiguousarray(split.transpose(0, 1, 3, 2, 4))


class Lanes:
    """LLVM integer vectors of one type, with the few operations of the transforms."""

    def __init__(self, builder: ir.IRBuilder, type: ir.VectorType) -> None:
        self.builder, self.type = builder, type
        self.add: Callable[[Vector, Vector], Vector] = builder.add
        self.sub: Callable[[Vector, Vector], Vector] = builder.sub

    def constant(self, value: int) -> Vector:
        return ir.Constant(self.type, [value] * self.type.count)

    def times(self, x: Vector, *shifts: int) -> Vector:
        """x times the sum of 2^shift."""
        first, *rest = (self.builder.shl(x, self.constant(s)) if s else x for s in shifts)
        for more in rest:
            first = self.builder.add(first, more)
        return first


def times_b(v: Lanes, d: Sequence[Vector]) -> list[Vector]:
    """B^T d, where B^T has the rows [4 0 -5 0 1 0], [0 -4 -4 1 1 0], [0 4 -4 -1 1 0],
    [0 -2 -1 2 1 0], [0 2 -1 -2 1 0], [0 4 0 -5 0 1]."""
    even, odd = v.sub(d[4], v.times(d[2], 2)), v.sub(d[3], v.times(d[1], 2))
    near, far = v.sub(d[4], d[2]), v.times(v.sub(d[3], d[1]), 1)
    return [
        v.add(v.sub(v.times(d[0], 2), v.times(d[2], 2, 0)), d[4]),
        v.add(even, odd),
        v.sub(even, odd),
        v.add(near, far),
        v.sub(near, far),
        v.add(v.sub(v.times(d[1], 2), v.times(d[3], 2, 0)), d[5]),
    ]


def times_a(v: Lanes, m: Sequence[Vector]) -> list[Vector]:
    """24 A^T m / (what G's rows were multiplied by), with the rows [6 4 4 1 1 0],
    [0 4 -4 2 -2 0], [0 4 4 4 4 0], [0 4 -4 8 -8 24]."""
    sum1, sum2 = v.add(m[1], m[2]), v.add(m[3], m[4])
    gap1, gap2 = v.times(v.sub(m[1], m[2]), 2), v.sub(m[3], m[4])
    return [
        v.add(v.add(v.times(m[0], 2, 1), v.times(sum1, 2)), sum2),
        v.add(gap1, v.times(gap2, 1)),
        v.times(v.add(sum1, sum2), 2),
        v.add(v.add(gap1, v.times(gap2, 3)), v.times(m[5], 4, 3)),
    ]


def both_ways(
    times: Callable[[Lanes, Sequence[Vector]], list[Vector]],
    v: Lanes,
    square: Sequence[Sequence[Vector]],
) -> list[list[Vector]]:
    """A one-dimensional transform of the columns, then of the rows."""
    columns = [times(v, column) for column in zip(*square, strict=True)]
    return [times(v, row) for row in zip(*columns, strict=True)]


def make_spread(unit: Unit) -> Pointer:
    """The function B^T x B for 2 * lanes channels of a tile: from bytes at x, `row` and `column`
    bytes apart, to words at out, the 36 points `stride` bytes apart."""

    @written
    def spread_of(context, x, row, column, out, stride):  # type: ignore[no-untyped-def]  # as in dots
        signature = types.void(*(types.int64,) * 5)

        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]  # as above
            x, row, column, out, stride = values
            v = Lanes(builder, ir.VectorType(WORD, 2 * unit.lanes))
            codes = ir.VectorType(BYTE, 2 * unit.lanes)

            def load(i: int, j: int) -> Vector:
                to = builder.add(builder.mul(row, number(i)), builder.mul(column, number(j)))
                pointer = at(builder, builder.add(x, to), codes)
                return builder.zext(builder.load(pointer, align=1), v.type)

            tile = [[load(i, j) for j in range(EDGE)] for i in range(EDGE)]
            for i, points in enumerate(both_ways(times_b, v, tile)):
                for j, point in enumerate(points):
                    to = builder.add(out, builder.mul(stride, number(i * EDGE + j)))
                    builder.store(point, at(builder, to, v.type), align=2)
            return context.get_dummy_value()

        return signature, generate

    def spread(x: int, row: int, column: int, out: int, stride: int) -> None:
        spread_of(x, row, column, out, stride)

    return Pointer(named(spread, f"spread_{unit.isa}"), 5)


def make_gather(unit: Unit) -> Pointer:
    """The function that makes the sums of a tile's 4x4 pixels, for `lanes` channels: from the 36
    points at m, `stride` bytes apart, plus what is at start, to int32 at out, pixels `pitch` bytes
    apart."""

    @written
    def gather_of(context, m, stride, start, out, pitch):  # type: ignore[no-untyped-def]  # as in dots
        signature = types.void(*(types.int64,) * 5)

        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]  # as above
            m, stride, start, out, pitch = values
            v = Lanes(builder, ir.VectorType(INT, unit.lanes))

            def load(i: int, j: int) -> Vector:
                to = builder.add(m, builder.mul(stride, number(i * EDGE + j)))
                return builder.load(at(builder, to, v.type), align=4)

            begin = builder.load(at(builder, start, v.type), align=4)
            tile = [[load(i, j) for j in range(EDGE)] for i in range(EDGE)]
            for i, sums in enumerate(both_ways(times_a, v, tile)):
                for j, total in enumerate(sums):
                    exact = builder.ashr(builder.mul(total, v.constant(NINTH)), v.constant(6))
                    to = builder.add(out, builder.mul(pitch, number(i * SIDE + j)))
                    builder.store(v.add(exact, begin), at(builder, to, v.type), align=4)
            return context.get_dummy_value()

        return signature, generate

    def gather(m: int, stride: int, start: int, out: int, pitch: int) -> None:
        gather_of(m, stride, start, out, pitch)

    return Pointer(named(gather, f"gather_{unit.isa}"), 5)


@functools.cache
def transforms_of(isa: Isa) -> tuple[Pointer, Pointer]:
    """`make_spread` and `make_gather` for a supported instruction set's registers."""
    unit = unit_of(isa)
    assert unit is not None
    return make_spread(unit), make_gather(unit)


call_transform = caller(5)


@jit
def padded(channels: int, lanes: int) -> int:
    """Channels rounded up to whole registers."""
    return (channels + lanes - 1) // lanes * lanes


@jit
def spread_tile(spread: int, x: Any, ty: int, tx: int, lanes: int, out: int, stride: int) -> None:
    """B^T x B of every channel of tile (ty, tx) of x (H, W, C)."""
    row, channels = x.shape[1] * x.shape[2], x.shape[2]
    place = x.ctypes.data + ty * SIDE * row + tx * SIDE * channels
    for c in range(0, channels, 2 * lanes):
        call_transform(spread, (place + c, row, channels, out + 2 * c, stride))


@jit
def gather_tile(
    gather: int, m: int, stride: int, start: int, channels: int, lanes: int, sums: Any
) -> None:
    """The sums of one tile's pixels, for `channels` channels, begun at `start`."""
    for c in range(0, channels, lanes):
        to, pitch = sums.ctypes.data + 4 * c, sums.shape[1] * 4
        call_transform(gather, (m + 4 * c, stride, start + 4 * c, to, pitch))


@inlined
def store_by(
    sums: Any, tile: int, across: int, size: tuple[int, int], channel: int, outs: int,
    scaling: Scaling, rounding: int, fused: bool, out: Any,
) -> None:  # fmt: skip
    """`store` with what it does known beforehand, so that its innermost loop is one of vectors."""
    height, width = size
    top, left = tile // across * SIDE, tile % across * SIDE
    for i in range(min(SIDE, height - top)):
        for j in range(min(SIDE, width - left)):
            row, codes = sums[i * SIDE + j], out[(top + i) * width + left + j]
            if fused:
                requant_channels(row, scaling, rounding, channel, outs, codes)
            else:
                part = codes[channel : channel + outs]
                for c in range(part.size):
                    part[c] = row[c]


@jit
def store(
    sums: Any, tile: int, across: int, size: tuple[int, int], channel: int, outs: int,
    scaling: Scaling, fused: int, out: Any,
) -> None:  # fmt: skip
    """The sums (16, GROUP) of a tile into `out`, `outs` channels from `channel` on, requantised
    when `fused`; pixels beyond the map are left out."""
    if fused and scaling.rounding == TRN:
        store_by(sums, tile, across, size, channel, outs, scaling, TRN, True, out)
    elif fused:
        store_by(sums, tile, across, size, channel, outs, scaling, scaling.rounding, True, out)
    else:
        store_by(sums, tile, across, size, channel, outs, scaling, TRN, False, out)


@jit
def conv(
    narrow: int,
    wide: int,
    spread: int,
    gather: int,
    pixels: int,
    x: Any,
    weight: Any,
    start: Any,
    size: tuple[int, int],
    splits: int,
    scaling: Scaling,
    fused: int,
    points: Any,
    places: Any,
    products: Any,
    acc: Any,
    out: Any,
    first: int,
    last: int,
    worker: int,
) -> None:
    """3x3 Conv2d, and the Requant behind it: shares first ... last - 1 of `Shares`, the splits of a
    chunk one after the other.

    narrow, wide  addresses of the words `dots.Blocks`
    spread        that of `make_spread`'s function
    gather        that of `make_gather`'s
    pixels        of a block
    x             (H, W, C) uint8, bordered to whole tiles, with SLACK bytes behind it
    weight        of `pack`
    start         (Cout padded,) int32: what is added to each sum
    size          the output's (H, W)
    splits        of `Shares`
    points        (workers, 36, row) int16: a row holds the tiles' C channels, padded
    places        (workers, tiles + 36) int64: addresses of tiles, then distances of points
    products      (workers, 36, row) int32: a row holds the tiles' GROUP channels, padded
    acc           (workers, 16, GROUP) int32
    out           (H * W, Cout)
    """
    blocks, pairs, lanes = weight.shape[1:4]
    channels, cin = out.shape[1], x.shape[2]
    across = (size[1] + SIDE - 1) // SIDE
    chunk = places.shape[1] - POINTS
    v, v_row, v_tile = points[worker].ctypes.data, points.shape[2] * 2, padded(cin, 2 * lanes) * 2
    m, m_row = products[worker].ctypes.data, products.shape[2] * 4
    sums, at_tiles = acc[worker], places[worker].ctypes.data
    step = pairs * lanes * 4
    for t in range(chunk):
        places[worker, t] = v + t * v_tile
    for p in range(POINTS):
        places[worker, chunk + p] = p * v_row
    count_all = across * ((size[0] + SIDE - 1) // SIDE)
    groups = (channels + GROUP - 1) // GROUP
    for share in range(first, last):
        begin, split = share // splits * chunk, share % splits
        count = min(chunk, count_all - begin)
        for t in range(count):
            tile = begin + t
            spread_tile(spread, x, tile // across, tile % across, lanes, v + t * v_tile, v_row)
        for group in range(split * groups // splits, (split + 1) * groups // splits):
            g = group * GROUP
            outs = min(GROUP, channels - g)
            for p in range(POINTS):
                at_point = at_tiles + (chunk + p) * 8
                for c in range(0, outs, 2 * lanes):
                    w = weight.ctypes.data + (p * blocks + (g + c) // lanes) * step
                    for t in range(0, count, pixels):
                        call_block(
                            wide if c + lanes < outs else narrow,
                            (
                                at_tiles + t * 8, at_point, 1, pairs, w, step, NOTHING.ctypes.data,
                                m + p * m_row + (t * GROUP + c) * 4, GROUP * 4,
                            ),
                        )  # fmt: skip
            for t in range(count):
                begins = start.ctypes.data + g * 4
                gather_tile(gather, m + t * GROUP * 4, m_row, begins, outs, lanes, sums)
                store(sums, begin + t, across, size, g, outs, scaling, fused, out)
