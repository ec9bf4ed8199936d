"""A convolution by tiles, block by block.

Sixteen pixels whose windows begin `pitch` bytes apart are a group. With a step of one pixel a group
runs on over the ends of rows: the few windows in between are computed and thrown away. A group that
would reach beyond the last pixel begins earlier, and makes some pixels again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from intaglio.ops import Ints
from intaglio.sim.amx.tiles import (
    BLOCK,
    CONFIGURATION,
    GROUPS,
    REGISTERS,
    ROWS,
    TILE,
    WIDTH,
    call_block,
    call_switch,
)
from intaglio.sim.compiled import jit
from intaglio.sim.vector.packed import Map, Requantised

BEHIND = ROWS * WIDTH  # bytes behind a map that a short group may read, beside a pixel's own


def pack(weight: Ints, pieces: int) -> NDArray[np.int8]:
    """Weights (Cout, Cin, Kh, Kw) as (blocks of 32 channels, steps, 2, 16, 16, 4): `pieces` runs of
    neighbours, in steps of 64 values, padded by zeros."""
    cout, k = weight.shape[0], weight[0].size
    run = k // pieces
    blocks, chunks = -(-cout // (REGISTERS * ROWS)), -(-run // WIDTH)
    rows = np.zeros((blocks * REGISTERS * ROWS, pieces, chunks * WIDTH), dtype=np.int8)
    rows[:cout, :, :run] = weight.transpose(0, 2, 3, 1).reshape(cout, pieces, run)
    split = rows.reshape(blocks, REGISTERS, ROWS, pieces * chunks, WIDTH // 4, 4)
    return aligned(split.transpose(0, 3, 1, 4, 2, 5))


def aligned(array: NDArray[Any]) -> NDArray[Any]:
    """A copy that begins where a cache line does: a tile's row that lies in two takes twice as
    long."""
    memory = np.empty(array.nbytes + WIDTH, np.uint8)
    start = -memory.ctypes.data % WIDTH
    made = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    made[...] = array
    return made


def configuration() -> NDArray[np.uint8]:
    """Palette 1: eight tiles of 16 rows of 64 bytes."""
    made = np.zeros(CONFIGURATION, np.uint8)
    made[0] = 1
    made[16:32].view(np.uint16)[:] = WIDTH
    made[48:56] = ROWS
    return aligned(made)


def distances(starts: Ints, run: int) -> Ints:
    """From a window to its steps: of each run, which begins at one of `starts`, 64 bytes each."""
    chunks = np.arange(0, run, WIDTH)
    return np.ascontiguousarray((starts[:, None] + chunks).reshape(-1), dtype=np.int64)


def groups(x: Map, out: Map, size: tuple[int, int], nowhere: int) -> tuple[Ints, Ints]:
    """Addresses of the groups' first windows (groups,), and of their pixels' codes (groups, 16):
    `nowhere` where a window is none of the map's. An even number of groups."""
    height, width = size
    across = x.row // x.column if x.row % x.column == 0 else 0
    on = (height - 1) * across + width  # windows, where groups run on over the ends of rows
    apart = height * -(-width // ROWS)
    rows, count = (1, on) if across >= width and -(-on // ROWS) <= apart else (height, width)
    firsts = np.minimum(np.arange(0, count, ROWS), max(count - ROWS, 0))
    lines = np.arange(rows)
    place = firsts[:, None] + np.arange(ROWS)
    y, j = np.divmod(place, across) if rows == 1 else (np.zeros_like(place), place)
    y = y + lines[:, None, None]
    to = out.address + y * out.row + j * out.column
    inside = (j < width) & (place < count) & (y < height)
    outs = np.where(inside, to, nowhere).reshape(-1, ROWS)
    bases = (x.address + lines[:, None] * x.row + firsts * x.column).reshape(-1)
    if len(bases) % GROUPS:
        bases, outs = np.append(bases, bases[-1]), np.concatenate([outs, outs[-1:]])
    return bases.astype(np.int64), np.ascontiguousarray(outs, dtype=np.int64)


class Switch(NamedTuple):
    """Addresses of `tiles.switches`, and of the configuration."""

    on: int
    off: int
    configuration: int


@jit
def codes(
    block: int,
    switch: Switch,
    pitch: int,
    weight: Any,
    start: Any,
    offsets: Ints,
    requantised: Requantised,
    bases: Ints,
    outs: Any,
    channels: int,
    chunk: int,
    splits: int,
    memory: Any,
    first: int,
    last: int,
    worker: int,
) -> None:
    """Conv2d and the Requant behind it, by tiles: shares first ... last - 1, of `chunk` pairs of
    groups by one of `splits` parts of the channels.

    block        address of `tiles.make_block`'s function
    pitch        bytes from window to window
    weight       of `pack`
    start        (channels of whole blocks,) int32
    offsets      of `distances`
    bases, outs  of `groups`
    memory       (workers, 2 * BLOCK) bytes, aligned: sums of the block that is made, and of the one
                 before
    """
    call_switch(switch.on, (switch.configuration,))
    steps, blocks = offsets.size, weight.shape[0]
    each = (GROUPS * REGISTERS * ROWS + steps - 1) // steps
    wide = REGISTERS * ROWS
    here = memory.ctypes.data + worker * memory.strides[0]
    other, count = here + BLOCK, 0
    to = rows = channel = left = 0
    pairs = bases.size // GROUPS
    for share in range(first, last):
        begin, split = share // splits * chunk, share % splits
        end = min(begin + chunk, pairs)
        for b in range(blocks * split // splits, blocks * (split + 1) // splits):
            w = weight.ctypes.data + b * steps * REGISTERS * TILE
            s = start.ctypes.data + b * wide * 4
            for pair in range(begin, end):
                call_block(
                    block,
                    (
                        bases[2 * pair], bases[2 * pair + 1], pitch, offsets.ctypes.data, steps, w,
                        s, here, other, count, each, to, channel, requantised.head, rows,
                        requantised.step, left,
                    ),
                )  # fmt: skip
                here, other, count = other, here, GROUPS * REGISTERS * ROWS
                to = outs.ctypes.data + pair * GROUPS * ROWS * 8
                rows = requantised.rows + b * REGISTERS * requantised.step
                channel, left = b * wide * requantised.size, channels - b * wide
    call_block(  # no step: only the last block's codes
        block,
        (
            bases[0], bases[0], pitch, offsets.ctypes.data, 0, weight.ctypes.data,
            start.ctypes.data, here, other, count, each, to, channel, requantised.head, rows,
            requantised.step, left,
        ),
    )  # fmt: skip
    call_switch(switch.off, (0,))
