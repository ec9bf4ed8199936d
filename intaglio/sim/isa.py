"""Which vector instructions the convolutions may use.

Numba compiles for the host, or for what NUMBA_CPU_NAME and NUMBA_CPU_FEATURES say; asking LLVM for
an instruction that the compilation target lacks aborts the process, so the target is asked here.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

from intaglio.errors import DataError
from intaglio.sim.amx.permission import granted
from intaglio.sim.code.target import features

Isa = Literal["amx", "avx512vnni", "avxvnni", "avx2", "generic"]


@dataclass(frozen=True)
class Unit:
    """One instruction set: its `lanes` 32-bit sums a register, and the blocks of sums that its
    registers hold, `pixels` or `most` pixels by up to 2 * `lanes` channels.

    needs    any of these sets of the target's features
    bytes    the LLVM name of its 4-products-a-sum instruction, u8 by i8; "" where it has none
    words    that of its 2-products-a-sum instruction, i16 by i16
    fused    whether `words` adds to its sums, or only multiplies
    tiles    whether convolutions of bytes are made by tiles: `sim.amx`
    """

    isa: Isa
    needs: tuple[frozenset[str], ...]
    lanes: int
    pixels: int
    most: int
    bytes: str
    words: str
    fused: bool
    tiles: bool = False

    def block(self, count: int) -> int:
        """Pixels of the blocks that make `count` pixels with the fewest beyond them."""
        return min((self.most, self.pixels), key=lambda pixels: -(-count // pixels) * pixels)

    @property
    def operand(self) -> Literal["bytes", "words"]:
        """What it convolves 8-bit codes as."""
        return "bytes" if self.bytes else "words"


UNITS: tuple[Unit, ...] = (
    Unit(
        isa="amx",
        needs=(frozenset({"amx-tile", "amx-int8", "avx512vnni", "avx512bw"}),),
        lanes=16,
        pixels=8,
        most=12,
        bytes="llvm.x86.avx512.vpdpbusd.512",
        words="llvm.x86.avx512.vpdpwssd.512",
        fused=True,
        tiles=True,
    ),
    Unit(
        isa="avx512vnni",
        needs=(frozenset({"avx512vnni", "avx512bw"}),),
        lanes=16,
        pixels=8,
        most=12,
        bytes="llvm.x86.avx512.vpdpbusd.512",
        words="llvm.x86.avx512.vpdpwssd.512",
        fused=True,
    ),
    Unit(
        isa="avxvnni",
        needs=(frozenset({"avxvnni", "avx2"}), frozenset({"avx512vnni", "avx512vl"})),
        lanes=8,
        pixels=4,
        most=6,
        bytes="llvm.x86.avx512.vpdpbusd.256",
        words="llvm.x86.avx512.vpdpwssd.256",
        fused=True,
    ),
    Unit(
        isa="avx2",
        needs=(frozenset({"avx2"}),),
        lanes=8,
        pixels=4,
        most=6,
        bytes="",
        words="llvm.x86.avx2.pmadd.wd",
        fused=False,
    ),
)


@functools.cache
def supported() -> tuple[Isa, ...]:
    """What this process can run, best first; "generic" is always there."""
    return (*(unit.isa for unit in UNITS if runs(unit)), "generic")


def runs(unit: Unit) -> bool:
    """Whether Numba's compilation target has its instructions, and this process may use them."""
    there = features()
    return any(needed <= there for needed in unit.needs) and (not unit.tiles or granted())


def unit_of(isa: Isa) -> Unit | None:
    """The vector unit behind a name; None for "generic"."""
    return next((unit for unit in UNITS if unit.isa == isa), None)


def choose(isa: str | None) -> Isa:
    """The named instruction set, or the best one. Raises DataError where it is not there."""
    for known in supported():
        if isa in (None, known):
            return known
    names = " or ".join(supported())
    raise DataError(f"isa must be {names} on this machine, not {isa!r}; leave it out for the best.")
