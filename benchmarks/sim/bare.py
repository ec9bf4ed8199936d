"""The peak that a network's multiplications a second are held against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from peers import spread

from intaglio.sim.code.emitting import callable_of
from intaglio.sim.compiled import jit
from intaglio.sim.dots import WIDE, blocks_of, call_block
from intaglio.sim.isa import UNITS, Isa, Unit, unit_of

STEPS = 12_800_000  # of the loop, an image: some 50 ms, beside which starting it is nothing
QUADS = 64  # steps of a block


@jit
def steps(block: int, count: int, tile: Any) -> None:
    """Multiplications without anything else: one small tile, again and again."""
    bases, offsets, weight, step, start, out, pitch = tile
    for _ in range(count // QUADS):
        call_block(
            block,
            (
                bases.ctypes.data, offsets.ctypes.data, 1, QUADS, weight.ctypes.data, step,
                start.ctypes.data, out.ctypes.data, pitch,
            ),
        )  # fmt: skip


def vectors(isa: Isa) -> Unit:
    """The vector unit behind an instruction set; of one that has none of its own, the first."""
    return unit_of(isa) or UNITS[0]


def macs_of(isa: Isa) -> int:
    """Multiplications of a thread's STEPS: each is a block of pixels by channels by the products
    that one sum takes at once."""
    unit = vectors(isa)
    return STEPS * unit.pixels * WIDE * unit.lanes * (4 if unit.operand == "bytes" else 2)


def bare(threads: int, isa: Isa) -> Callable[[Any], Any]:
    """STEPS of the kernels' innermost loop on every thread, for as many images."""
    unit = vectors(isa)
    size = 4 * unit.lanes  # bytes of a register
    block, loop = blocks_of(unit.isa, unit.operand).wide.address, callable_of(steps)

    def once(_: Any) -> None:
        codes = np.zeros(unit.pixels * 4 * QUADS, np.uint8)
        bases = codes.ctypes.data + np.arange(unit.pixels, dtype=np.int64) * 4 * QUADS
        weight = np.zeros(WIDE * QUADS * size, np.int8)
        start = np.zeros(WIDE * unit.lanes, np.int32)
        out = np.zeros((unit.pixels, WIDE * unit.lanes), np.int32)
        tile = (bases, np.zeros(1, np.int64), weight, QUADS * size, start, out, out.strides[0])
        loop(block, STEPS, tile)

    every = spread(once, threads)
    return lambda images: every(range(max(len(images), threads)))
