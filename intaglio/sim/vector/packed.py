"""Convolution by vector units: weights packed for their registers, windows walked run by run.

Operands are unsigned bytes by signed bytes, or 16-bit words. Codes of a signed type are stored as
bytes with their lowest code subtracted; the sums begin at that code times the sum of the weights.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from intaglio.ops import Ints
from intaglio.sim.compiled import jit
from intaglio.sim.dots import WIDE, Operand, call_block, call_codes
from intaglio.sim.isa import UNITS, Unit
from intaglio.sim.kernels import TILE, Forced, Scaling, Window
from intaglio.sim.plain import finish

DTYPES: dict[Operand, Any] = {"bytes": np.int8, "words": np.int16}  # of weights
UNSIGNED: dict[Operand, Any] = {"bytes": np.uint8, "words": np.int16}  # of codes
BLOCK = max(unit.most for unit in UNITS)  # pixels of the largest block
OPERANDS: dict[str, Operand] = {"bytes": "bytes", "pairs": "words"}  # of kinds of sums in `plan`


def pack(
    weight: Ints, groups: int, pieces: int, unit: Unit, operand: Operand
) -> NDArray[np.int8 | np.int16]:
    """Weights (Cout, Cin, Kh, Kw) as (groups, Cout / groups / lanes, pieces, quads, lanes, 4 bytes
    or 2 words), padded by zeros: Kh * Kw * Cin are cut into `pieces` of `run` neighbours (see
    `kernels.Window`), and those into quads."""
    dtype = np.dtype(DTYPES[operand])
    outs, k = weight.shape[0] // groups, weight[0].size
    run, each = k // pieces, 4 // dtype.itemsize
    blocks, quads = -(-outs // unit.lanes), -(-run // each)
    rows = np.zeros((groups, blocks * unit.lanes, pieces, quads * each), dtype=dtype)
    taps = weight.transpose(0, 2, 3, 1).reshape(groups, outs, pieces, run)
    rows[:, :outs, :, :run] = taps
    split = rows.reshape(groups, blocks, unit.lanes, pieces, quads, each)
    return np.ascontiguousarray(split.transpose(0, 1, 3, 4, 2, 5))


def pack_lanes(weight: Ints, lanes: int) -> NDArray[np.int16]:
    """Weights (C, 1, Kh, Kw) of channels by themselves as (C / lanes, pairs of taps, lanes, 2)."""
    channels, taps = weight.shape[0], weight[0].size
    blocks, pairs = -(-channels // lanes), -(-taps // 2)
    rows = np.zeros((blocks * lanes, pairs * 2), dtype=np.int16)
    rows[:channels, :taps] = weight.reshape(channels, taps)
    split = rows.reshape(blocks, lanes, pairs, 2)
    return np.ascontiguousarray(split.transpose(0, 2, 1, 3))


class Map(NamedTuple):
    """Where pixel (y, x) of a map lies: address + y * row + x * column, in bytes."""

    address: int
    row: int
    column: int


class Requantised(NamedTuple):
    """How sums become codes: a table of `high`, `head` its first row and `rows` those of the first
    register, addresses; `step` bytes from register to register; codes of `size` bytes."""

    head: int
    rows: int
    step: int
    size: int


class Parts(NamedTuple):
    """How workers share a convolution: `chunk` output pixels, of a row of `width` and `total` in
    all, by one of `splits` parts of the channels."""

    chunk: int
    splits: int
    width: int
    total: int


def starts(weight: Ints, groups: int, lowest: int, lanes: int) -> NDArray[np.int32]:
    """lowest * sum(w), modulo 2^32: (groups, channels of whole registers)."""
    sums = weight.reshape(groups, weight.shape[0] // groups, -1).sum(axis=2) * lowest
    start = np.zeros((groups, -(-sums.shape[1] // lanes) * lanes), dtype=np.int64)
    start[:, : sums.shape[1]] = sums
    return start.astype(np.int32)


def sums_shape(channels: int, groups: int, lanes: int) -> tuple[int, int]:
    """Of a worker's sums, with place for the channels that pad a block: behind each pixel, or only
    behind the last one where a block makes all of them."""
    if groups == 1 and channels <= WIDE * lanes:
        return TILE + -(-WIDE * lanes // channels), channels
    return TILE, channels + WIDE * lanes


@jit
def conv(
    narrow: int,
    wide: int,
    pixels: int,
    x: Any,
    weight: Any,
    start: Any,
    offsets: Ints,
    window: Window,
    forced: Forced,
    scaling: Scaling | None,
    bases: Ints,
    acc: Any,
    out: Any,
    overflow: Any,
    first: int,
    last: int,
    worker: int,
) -> None:
    """Conv2d of output pixels first ... last - 1, and the Requant behind it if there is one.

    narrow, wide  addresses of a `dots.Blocks`
    pixels        of a block
    x             (H, W * C) uint8 or int16, bordered, with SLACK bytes behind it
    weight        of `pack`
    start         of `starts`
    offsets       (groups, pieces) bytes from a pixel to its runs
    bases         (workers, TILE)
    acc           of `sums_shape`, int32: the padded channels of a group are overwritten by the next
                  one, those of a pixel by the next pixel where there is one block
    out           (P, Cout)
    overflow      (workers,) is added to
    """
    groups, blocks, pieces, quads, lanes = weight.shape[:5]
    outs = out.shape[1] // groups
    size = lanes * 4
    step = pieces * quads * size
    sums, places = acc[worker], bases[worker]
    pitch = sums.shape[1] * 4
    for tile in range(first, last, TILE):
        count = min(TILE, last - tile)
        for p in range(TILE):  # beyond the last pixel: that one again
            pixel = min(tile + p, last - 1)
            oy, ox = pixel // window.width, pixel % window.width
            place = oy * window.row_step * x.shape[1] + ox * window.step
            places[p] = x.ctypes.data + place * x.itemsize
        for g in range(groups):
            for b in range(0, blocks, 2):
                w = weight.ctypes.data + (g * blocks + b) * step
                s = start.ctypes.data + (g * blocks + b) * size
                to = sums.ctypes.data + g * outs * 4 + b * size
                for p in range(0, count, pixels):
                    call_block(
                        wide if b + 1 < blocks else narrow,
                        (
                            places.ctypes.data + p * 8, offsets.ctypes.data + g * pieces * 8,
                            pieces, quads, w, step, s, to + p * pitch, pitch,
                        ),
                    )  # fmt: skip
        overflow[worker] += finish(sums, tile, count, forced, scaling, out)


@jit
def spots(x: Map, out: Map, parts: Parts, first: int, count: int, places: Any) -> None:
    """Addresses of `count` pixels from `first` on: places[0] of their windows, places[1] of their
    codes; beyond the last pixel, in whole blocks, that one again."""
    oy, ox = first // parts.width, first % parts.width
    a, b = x.address + oy * x.row + ox * x.column, out.address + oy * out.row + ox * out.column
    for p in range(count):
        places[0, p], places[1, p] = a, b
        ox += 1
        a += x.column
        b += out.column
        if ox == parts.width:
            ox = 0
            oy += 1
            a, b = x.address + oy * x.row, out.address + oy * out.row
    for p in range(count, min(count + BLOCK, places.shape[1])):
        places[0, p], places[1, p] = places[0, count - 1], places[1, count - 1]


@jit
def codes(
    narrow: int,
    wide: int,
    pixels: int,
    x: Map,
    weight: Any,
    start: Any,
    offsets: Ints,
    requantised: Requantised,
    out: Map,
    channels: int,
    parts: Parts,
    places: Ints,
    first: int,
    last: int,
    worker: int,
) -> None:
    """Conv2d and the Requant behind it, in registers: shares first ... last - 1 of `Parts`, the
    splits of a chunk one after the other.

    narrow, wide  addresses of the blocks of `dots.codes_of`
    pixels        of a block
    x             places of the output pixels' windows, bordered, with SLACK bytes behind the last
    weight        of `pack`
    start         of `starts`
    offsets       (groups, pieces) bytes from a window to its runs
    out           of the output's pixels
    channels      of the output
    places        (workers, 2, at least a chunk and BLOCK)
    """
    groups, blocks, pieces, quads, lanes = weight.shape[:5]
    outs, size = channels // groups, lanes * 4
    step = pieces * quads * size
    here = places[worker]
    bases, to = here[0].ctypes.data, here[1].ctypes.data
    for share in range(first, last):
        begin, split = share // parts.splits * parts.chunk, share % parts.splits
        count = min(parts.chunk, parts.total - begin)
        spots(x, out, parts, begin, count, here)
        pairs = (blocks + 1) // 2
        for n in range(
            groups * pairs * split // parts.splits, groups * pairs * (split + 1) // parts.splits
        ):
            g, b = n // pairs, n % pairs * 2
            at = g * blocks + b
            for p in range(0, count, pixels):
                call_codes(
                    wide if b + 1 < blocks else narrow,
                    (
                        bases + p * 8, offsets.ctypes.data + g * pieces * 8, pieces, quads,
                        weight.ctypes.data + at * step, step, start.ctypes.data + at * size,
                        requantised.head, requantised.rows + at * requantised.step, to + p * 8,
                        (g * outs + b * lanes) * requantised.size, outs - b * lanes,
                    ),
                )  # fmt: skip


@jit
def codes_lanes(
    block: int,
    pixels: int,
    x: Map,
    weight: Any,
    start: Any,
    offsets: Ints,
    requantised: Requantised,
    out: Map,
    channels: int,
    parts: Parts,
    places: Ints,
    first: int,
    last: int,
    worker: int,
) -> None:
    """As `codes`, each channel by itself, from bytes: weight of `pack_lanes`, `offsets` (pairs, 2)
    bytes from a window to its taps, `block` of `dots.lanes_of`."""
    blocks, pairs, lanes = weight.shape[:3]
    size = lanes * 4
    here = places[worker]
    for share in range(first, last):
        begin, split = share // parts.splits * parts.chunk, share % parts.splits
        count = min(parts.chunk, parts.total - begin)
        spots(x, out, parts, begin, count, here)
        for b in range(blocks * split // parts.splits, blocks * (split + 1) // parts.splits):
            for p in range(0, count, pixels):
                call_codes(
                    block,
                    (
                        here[0].ctypes.data + p * 8, offsets.ctypes.data, pairs, b * lanes,
                        weight.ctypes.data + b * pairs * size, 0, start.ctypes.data + b * size,
                        requantised.head, requantised.rows + b * requantised.step,
                        here[1].ctypes.data + p * 8, b * lanes * requantised.size,
                        channels - b * lanes,
                    ),
                )  # fmt: skip
