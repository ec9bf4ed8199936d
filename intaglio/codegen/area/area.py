"""What a component is made of: bits of adders, choices and registers, memories, products.

Counted, for each component, from what its `elaborate` writes down and the numbers that it is made
from, so that a layer's folding can be judged before anything is built. What a target makes of it
is `mapping`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from amaranth.utils import bits_for, ceil_log2

from intaglio.hdl.fifo import LUT_RAM_DEPTH
from intaglio.hdl.rom import MemoryStyle

# Read at once; read a cycle later; the same, in a circle (see `mapping.circle`); never written; the
# same, by whole banks (see `mapping.bank_words`).
MemoryKind = Literal["queue", "ram", "circle", "rom", "banks"]


@dataclass(frozen=True)
class Storage:
    """A memory: words, bits a word, and what it is made of ("auto": see `mapping.style_of`)."""

    kind: MemoryKind
    depth: int
    width: int
    style: MemoryStyle = "auto"

    @property
    def bits(self) -> int:
        """Size in bits."""
        return self.depth * self.width

    @property
    def read_only(self) -> bool:
        """Whether it is never written."""
        return self.kind in ("rom", "banks")


@dataclass(frozen=True)
class Product:
    """`count` hard products of a * b bits."""

    a: int
    b: int
    count: int


@dataclass(frozen=True)
class Area:
    """Bits of logic by kind, and what is not logic.

    adders     in carry chains: sums, differences, comparisons of two numbers
    choices    two-way multiplexers
    equals     comparisons with a constant, masks, and the like
    rows       of products made of adders: the masks before them
    shifts     bits of a repacker's shifter, times the places it shifts to
    registers  flip-flops
    """

    adders: float = 0
    choices: float = 0
    equals: float = 0
    rows: float = 0
    shifts: float = 0
    registers: float = 0
    memories: tuple[Storage, ...] = field(default=())
    products: tuple[Product, ...] = field(default=())

    def __add__(self, other: Area) -> Area:
        return Area(
            self.adders + other.adders,
            self.choices + other.choices,
            self.equals + other.equals,
            self.rows + other.rows,
            self.shifts + other.shifts,
            self.registers + other.registers,
            self.memories + other.memories,
            self.products + other.products,
        )

    def times(self, n: int) -> Area:
        """n of them side by side."""
        return Area(
            n * self.adders,
            n * self.choices,
            n * self.equals,
            n * self.rows,
            n * self.shifts,
            n * self.registers,
            self.memories * n,
            tuple(Product(p.a, p.b, n * p.count) for p in self.products),
        )


def total(areas: Sequence[Area]) -> Area:
    """Of several."""
    return sum(areas, Area())


def bits(limit: int) -> int:
    """Of a counter of `limit` steps; a single step needs none."""
    return ceil_log2(limit) if limit > 1 else 0


def count(limit: int) -> Area:
    """A counter that wraps by itself."""
    n = bits(limit)
    return Area(adders=n, equals=n, registers=n)


def delayed(width: int, cycles: int) -> Area:
    """A chain of registers."""
    return Area(registers=width * cycles)


def queue(depth: int, width: int, *, late: bool = False) -> Area:
    """A Fifo."""
    level, place = bits_for(depth), bits(depth)
    found = Area(adders=2 * level + 2 * place, equals=level + 2 * place,
                 registers=level + 2 * place)  # fmt: skip
    if depth <= LUT_RAM_DEPTH:
        return found + Area(memories=(Storage("queue", max(2, depth), width),))
    more = Area(adders=2 * level, equals=level, registers=level + 1)
    if late:
        more += Area(registers=width + 1)
    return found + more + Area(memories=(Storage("ram", depth, width),))


def outlet(depth: int, width: int) -> Area:
    """An Outlet: a queue and the places left in it."""
    free = depth.bit_length()
    return queue(depth, width) + Area(adders=2 * free, equals=free, registers=free)
