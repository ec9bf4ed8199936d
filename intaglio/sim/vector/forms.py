"""The forms in which `winograd` makes 3x3 convolutions, exact on integers.

    Y = A^T ((G w G^T) * (B^T x B)) A

Winograd's minimal filtering (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
2015) has denominators in G. Here the rows of G are whole numbers and what they were multiplied by
is made up for in A, so that every step is an integer and the result a multiple of Y. Sums and
everything behind them are modulo 2^32.

WORDS  F(4x4, 3x3): 36 products instead of 144, of 16-bit words: |B^T x B| <= 100 * 255 and
       |G w G^T| <= 49 * 128. The result is 576 Y = 2^6 * 9 Y, and 9 has an inverse modulo 2^32, so
       that multiplying by it leaves 2^6 Y, and an arithmetic shift leaves Y of at most 26 bits.
BYTES  F(2x2, 3x3): 16 products instead of 36, of bytes. A point of B^T x B is a sum of codes with
       signs; what the negative ones can take away of codes 0 ... D is added to it, so that all
       points are unsigned bytes where D <= 63, and taken off again where the sums begin.
       |G w G^T| <= 9 |w| must fit signed bytes. The result is 4 Y; an arithmetic shift leaves Y of
       at most 30 bits.
OBLONG F(3x2, 3x3): 20 products instead of 54, of bytes likewise, where D <= 21 and where the points
       of the weights, at most 21 |w|, fit. Rows are evaluated at 0, 1, -1, 2 and infinity. The
       result is 12 Y = 2^2 * 3 Y; 3 has an inverse, and the shift leaves 30 bits again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from intaglio.fixed import IntType
from intaglio.ops import Ints, Pair
from intaglio.sim.dots import Operand

Vector = Any  # an LLVM value
Tiled = Literal["winograd", "winograd bytes", "winograd oblong"]  # kinds of sums in `plan`
PART = 32  # output channels


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


Side = Callable[[Lanes, Sequence[Vector]], list[Vector]]  # a transform of one row or column


@dataclass(frozen=True)
class Axis:
    """The transforms along rows or columns, to `count` outputs of a tile.

    b        the rows of B^T
    g        the rows of G
    times_b  B^T times a column
    times_a  A^T times a column, and what G's rows were multiplied by
    """

    count: int
    b: Ints
    g: Ints
    times_b: Side
    times_a: Side

    @property
    def edge(self) -> int:
        """Inputs of a tile, and points."""
        return len(self.b)


@dataclass(frozen=True)
class Form:
    """down, across  the transforms of columns, and of rows
    operand      what its points are multiplied as
    sum          the type that a convolution's result must be proved to fit
    factor       an odd number by which the result is a multiple of Y
    shift        and the power of 2
    spread_cost  vector instructions that a register of points takes, all of a tile
    gather_cost  that a register of sums takes, beyond its requantisation
    """

    name: str
    down: Axis
    across: Axis
    operand: Operand
    sum: IntType
    factor: int
    shift: int
    spread_cost: int
    gather_cost: int

    @property
    def sides(self) -> Pair:
        """Rows and columns of a tile of outputs."""
        return self.down.count, self.across.count

    @property
    def points(self) -> int:
        """Points of a tile."""
        return self.down.edge * self.across.edge

    @property
    def each(self) -> int:
        """Bytes of a point."""
        return 1 if self.operand == "bytes" else 2

    def tiles(self, height: int, width: int) -> int:
        """Tiles of an output map."""
        return -(-height // self.down.count) * -(-width // self.across.count)

    def of_weights(self, weight: Ints) -> NDArray[np.int32]:
        """G w G^T of (Cout, Cin, 3, 3), int32 (points, Cout, Cin)."""
        down, across = (axis.g.astype(np.int32) for axis in (self.down, self.across))
        made = down @ weight.astype(np.int32) @ across.T
        return made.transpose(2, 3, 0, 1).reshape(self.points, *weight.shape[:2])

    def in_parts(self, weight: Ints) -> Iterator[tuple[int, NDArray[np.int32]]]:
        """The same of some output channels at a time, with the number of the first: all at once
        they take many times what the weights do."""
        for first in range(0, len(weight), PART):
            yield first, self.of_weights(weight[first : first + PART])

    def holds(self, span: int, weight: Ints) -> bool:
        """Whether no point of codes 0 ... span, nor of these weights of at most 8 bits, overflows
        its type."""
        if self.operand == "words":
            return span <= 255
        most, least = self.signs()
        parts = (points for _, points in self.in_parts(weight))
        fits = (most + least).max() * span <= 255
        return bool(fits) and all(p.min() >= -128 and p.max() <= 127 for p in parts)

    def signs(self) -> tuple[Ints, Ints]:
        """How many codes each point is the sum of, and how many are taken off it again."""
        signs = np.kron(self.down.b, self.across.b)
        return np.maximum(signs, 0).sum(axis=1), -np.minimum(signs, 0).sum(axis=1)

    def offsets(self, span: int) -> Ints:
        """What is added to each point of codes 0 ... span so that none is negative."""
        return span * self.signs()[1] * (self.operand == "bytes")


def four_b(v: Lanes, d: Sequence[Vector]) -> list[Vector]:
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


def four_a(v: Lanes, m: Sequence[Vector]) -> list[Vector]:
    """24 times what G's rows were multiplied by: rows [6 4 4 1 1 0], [0 4 -4 2 -2 0],
    [0 4 4 4 4 0], [0 4 -4 8 -8 24]."""
    sum1, sum2 = v.add(m[1], m[2]), v.add(m[3], m[4])
    gap1, gap2 = v.times(v.sub(m[1], m[2]), 2), v.sub(m[3], m[4])
    return [
        v.add(v.add(v.times(m[0], 2, 1), v.times(sum1, 2)), sum2),
        v.add(gap1, v.times(gap2, 1)),
        v.times(v.add(sum1, sum2), 2),
        v.add(v.add(gap1, v.times(gap2, 3)), v.times(m[5], 4, 3)),
    ]


def three_b(v: Lanes, d: Sequence[Vector]) -> list[Vector]:
    gap, ahead, behind = v.sub(d[3], d[1]), v.sub(d[2], d[1]), v.sub(d[2], d[3])
    return [
        v.add(v.times(v.sub(d[0], d[2]), 1), gap),
        v.sub(v.add(d[1], d[2]), gap),
        v.add(v.times(ahead, 1), behind),
        gap,
        v.sub(v.sub(d[4], d[2]), v.times(gap, 1)),
    ]


def three_a(v: Lanes, m: Sequence[Vector]) -> list[Vector]:
    """6 times what G's rows were multiplied by: rows [3 3 1 1 0], [0 3 -1 2 0], [0 3 1 4 6]."""
    once = v.times(m[1], 1, 0)
    return [
        v.add(v.add(v.times(m[0], 1, 0), once), v.add(m[2], m[3])),
        v.add(v.sub(once, m[2]), v.times(m[3], 1)),
        v.add(v.add(once, m[2]), v.add(v.times(m[3], 2), v.times(m[4], 2, 1))),
    ]


def two_b(v: Lanes, d: Sequence[Vector]) -> list[Vector]:
    return [v.sub(d[0], d[2]), v.add(d[1], d[2]), v.sub(d[2], d[1]), v.sub(d[1], d[3])]


def two_a(v: Lanes, m: Sequence[Vector]) -> list[Vector]:
    """2 times what G's rows were multiplied by: rows [2 1 1 0], [0 1 -1 -2]."""
    return [
        v.add(v.times(m[0], 1), v.add(m[1], m[2])),
        v.sub(v.sub(m[1], m[2]), v.times(m[3], 1)),
    ]


FOUR = Axis(
    count=4,
    b=np.array([
        [4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0], [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1],
    ]),
    g=np.array([[1, 0, 0], [-1, -1, -1], [-1, 1, -1], [1, 2, 4], [1, -2, 4], [0, 0, 1]]),
    times_b=four_b,
    times_a=four_a,
)  # fmt: skip
THREE = Axis(
    count=3,
    b=np.array([
        [2, -1, -2, 1, 0], [0, 2, 1, -1, 0], [0, -2, 3, -1, 0], [0, -1, 0, 1, 0], [0, 2, -1, -2, 1]
    ]),
    g=np.array([[1, 0, 0], [1, 1, 1], [1, -1, 1], [1, 2, 4], [0, 0, 1]]),
    times_b=three_b,
    times_a=three_a,
)  # fmt: skip
TWO = Axis(
    count=2,
    b=np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]),
    g=np.array([[1, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 1]]),
    times_b=two_b,
    times_a=two_a,
)
WORDS = Form("4x4", FOUR, FOUR, "words", IntType(26, True), 9, 6, 200, 120)
BYTES = Form("2x2", TWO, TWO, "bytes", IntType(30, True), 1, 2, 64, 50)
OBLONG = Form("3x2", THREE, TWO, "bytes", IntType(30, True), 3, 2, 110, 85)
FORMS: dict[str, Form] = {  # by kinds of sums
    "winograd": WORDS,
    "winograd bytes": BYTES,
    "winograd oblong": OBLONG,
}
