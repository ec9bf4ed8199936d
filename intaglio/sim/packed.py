"""Convolution by vector units: weights packed for their registers, windows walked run by run.

Operands are unsigned bytes by signed bytes, or 16-bit words. Codes of a signed type are stored as
bytes with their lowest code subtracted; the sums begin at that code times the sum of the weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.ops import Ints
from intaglio.sim.compiled import jit
from intaglio.sim.dots import WIDE, Operand, call_block
from intaglio.sim.isa import Unit
from intaglio.sim.kernels import TILE, Forced, Scaling, Window, finish

DTYPES: dict[Operand, Any] = {"bytes": np.int8, "words": np.int16}  # of weights
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
    scaling: Scaling,
    fused: int,
    bases: Ints,
    acc: Any,
    out: Any,
    overflow: Any,
    first: int,
    last: int,
    worker: int,
) -> None:
    """Conv2d of output pixels first ... last - 1, and the Requant behind it when `fused`.

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
        overflow[worker] += finish(sums, tile, count, forced, scaling, fused, out)
