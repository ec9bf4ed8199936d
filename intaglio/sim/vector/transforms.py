"""The two transforms by which `sim.winograd` makes 3x3 convolutions, exact on integers.

    Y = A^T ((G w G^T) * (B^T x B)) A

Winograd's minimal filtering (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
2015) has denominators in G. Here the rows of G are whole numbers and what they were multiplied by
is made up for in A, so that every step is an integer and the result a multiple of Y. Sums and
everything behind them are modulo 2^32.

WORDS  F(4x4, 3x3): 36 products instead of 144, of 16-bit words: |B^T x B| <= 100 * 255 and
       |G w G^T| <= 49 * 128. The result is 576 Y = 2^6 * 9 Y, and 9 has an inverse modulo 2^32, so
       that multiplying by it leaves 2^6 Y, and an arithmetic shift leaves Y of at most 26 bits.
BYTES  F(2x2, 3x3): 16 products instead of 36, of bytes. Of codes 0 ... D a point of B^T x B is a
       sum of two codes less two others, but for the one in the middle, which is the sum of four:
       2 D added to every other one, all lie in 0 ... 4 D, unsigned bytes where D <= 63. What was
       added is taken off again where the sums begin. |G w G^T| <= 9 |w| must fit signed bytes.
       The result is 4 Y; an arithmetic shift leaves Y of at most 30 bits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from intaglio.fixed import IntType
from intaglio.ops import Ints
from intaglio.sim.compiled import Pointer, cgutils, named, types, written
from intaglio.sim.dots import BYTE, INT, Operand, at, number
from intaglio.sim.isa import Isa, Unit, unit_of
from intaglio.sim.vector import high
from intaglio.sim.vector.high import Way

Vector = Any  # an LLVM value
PART = 32  # output channels
NINTH = (pow(9, -1, 1 << 32) + (1 << 31)) % (1 << 32) - (1 << 31)  # as a signed constant


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
class Form:
    """side, edge  of a tile of outputs, of inputs
    operand      what its points are multiplied as
    sum          the type that a convolution's result must be proved to fit
    g            the rows of G
    times_b      B^T times a column
    times_a      A^T times a column, and what G's rows were multiplied by
    exact        of the multiple of Y, Y
    spread_cost  vector instructions that a register of points takes, all of a tile
    gather_cost  that a register of sums takes, beyond its requantisation
    """

    side: int
    edge: int
    operand: Operand
    sum: IntType
    g: NDArray[np.int64]
    times_b: Side
    times_a: Side
    exact: Callable[[Lanes, Vector], Vector]
    spread_cost: int
    gather_cost: int

    @property
    def points(self) -> int:
        """Points of a tile."""
        return self.edge**2

    @property
    def each(self) -> int:
        """Bytes of a point."""
        return 1 if self.operand == "bytes" else 2

    def tiles(self, height: int, width: int) -> int:
        """Tiles of an output map."""
        return -(-height // self.side) * -(-width // self.side)

    def of_weights(self, weight: Ints) -> NDArray[np.int32]:
        """G w G^T of (Cout, Cin, 3, 3), int32 (points, Cout, Cin)."""
        g = self.g.astype(np.int32)
        made = g @ weight.astype(np.int32) @ g.T
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
        parts = (points for _, points in self.in_parts(weight))
        return span <= 63 and all(p.min() >= -128 and p.max() <= 127 for p in parts)

    def offsets(self, span: int) -> Ints:
        """What is added to each point of codes 0 ... span so that none is negative."""
        added = np.full((self.edge, self.edge), 2 * span if self.operand == "bytes" else 0)
        if self.operand == "bytes":
            added[1, 1] = 0
        return added.reshape(-1)


def words_b(v: Lanes, d: Sequence[Vector]) -> list[Vector]:
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


def words_a(v: Lanes, m: Sequence[Vector]) -> list[Vector]:
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


def words_exact(v: Lanes, total: Vector) -> Vector:
    return v.builder.ashr(v.builder.mul(total, v.constant(NINTH)), v.constant(6))


def bytes_b(v: Lanes, d: Sequence[Vector]) -> list[Vector]:
    """B^T d, where B^T has the rows [1 0 -1 0], [0 1 1 0], [0 -1 1 0], [0 1 0 -1]."""
    return [v.sub(d[0], d[2]), v.add(d[1], d[2]), v.sub(d[2], d[1]), v.sub(d[1], d[3])]


def bytes_a(v: Lanes, m: Sequence[Vector]) -> list[Vector]:
    """2 A^T m / (what G's rows were multiplied by), with the rows [2 1 1 0], [0 1 -1 -2]."""
    return [
        v.add(v.times(m[0], 1), v.add(m[1], m[2])),
        v.sub(v.sub(m[1], m[2]), v.times(m[3], 1)),
    ]


def bytes_exact(v: Lanes, total: Vector) -> Vector:
    return v.builder.ashr(total, v.constant(2))


WORDS = Form(
    side=4,
    edge=6,
    operand="words",
    sum=IntType(26, True),
    g=np.array([[1, 0, 0], [-1, -1, -1], [-1, 1, -1], [1, 2, 4], [1, -2, 4], [0, 0, 1]]),
    times_b=words_b,
    times_a=words_a,
    exact=words_exact,
    spread_cost=200,
    gather_cost=120,
)
BYTES = Form(
    side=2,
    edge=4,
    operand="bytes",
    sum=IntType(30, True),
    g=np.array([[1, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 1]]),
    times_b=bytes_b,
    times_a=bytes_a,
    exact=bytes_exact,
    spread_cost=64,
    gather_cost=50,
)
FORMS = {"winograd": WORDS, "winograd bytes": BYTES}  # by kinds of sums in `plan`


def both_ways(times: Side, v: Lanes, square: Sequence[Sequence[Vector]]) -> list[list[Vector]]:
    """A one-dimensional transform of the columns, then of the rows."""
    columns = [times(v, column) for column in zip(*square, strict=True)]
    return [times(v, row) for row in zip(*columns, strict=True)]


def make_spread(unit: Unit, form: Form) -> Pointer:
    """The function B^T x B for a register of channels of a tile: from bytes at x, `row` and
    `column` bytes apart, to points at out, `stride` bytes apart; `added`, a byte, is what all but
    the one in the middle are counted from."""

    @written
    def spread_of(context, x, row, column, out, stride, added):  # type: ignore[no-untyped-def]  # as in dots
        signature = types.void(*(types.int64,) * 6)

        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]  # as above
            x, row, column, out, stride, added = values
            v = Lanes(builder, ir.VectorType(ir.IntType(8 * form.each), spread_lanes(unit, form)))
            codes = ir.VectorType(BYTE, v.type.count)

            def load(i: int, j: int) -> Vector:
                to = builder.add(builder.mul(row, number(i)), builder.mul(column, number(j)))
                loaded = builder.load(at(builder, builder.add(x, to), codes), align=1)
                return loaded if form.each == 1 else builder.zext(loaded, v.type)

            tile = [[load(i, j) for j in range(form.edge)] for i in range(form.edge)]
            places = form.offsets(1)
            zeros = ir.Constant(ir.VectorType(INT, v.type.count), [0] * v.type.count)
            undefined = ir.Constant(v.type, ir.Undefined)
            one = builder.insert_element(undefined, builder.trunc(added, v.type.element), INT(0))
            more = builder.shuffle_vector(one, undefined, zeros)
            for i, points in enumerate(both_ways(form.times_b, v, tile)):
                for j, point in enumerate(points):
                    n = i * form.edge + j
                    to = builder.add(out, builder.mul(stride, number(n)))
                    made = v.add(point, more) if places[n] else point
                    builder.store(made, at(builder, to, v.type), align=form.each)
            return context.get_dummy_value()

        return signature, generate

    def spread(x: int, row: int, column: int, out: int, stride: int, added: int) -> None:
        spread_of(x, row, column, out, stride, added)

    return Pointer(named(spread, f"spread_{unit.isa}_{form.operand}"), 6)


def spread_lanes(unit: Unit, form: Form) -> int:
    """Channels that a register of points holds."""
    return 4 * unit.lanes // form.each


def write_gather(
    builder: ir.IRBuilder, unit: Unit, form: Form, m: Any, stride: Any, start: Any
) -> list[list[Vector]]:
    """The sums of a tile's pixels, for `lanes` channels: from the points at m, `stride` bytes
    apart, plus what is at start."""
    v = Lanes(builder, ir.VectorType(INT, unit.lanes))

    def load(i: int, j: int) -> Vector:
        to = builder.add(m, builder.mul(stride, number(i * form.edge + j)))
        return builder.load(at(builder, to, v.type), align=4)

    begin = builder.load(at(builder, start, v.type), align=4)
    tile = [[load(i, j) for j in range(form.edge)] for i in range(form.edge)]
    return [
        [v.add(form.exact(v, total), begin) for total in sums]
        for sums in both_ways(form.times_a, v, tile)
    ]


def make_gather(unit: Unit, form: Form) -> Pointer:
    """The function that stores the sums of `write_gather` as int32 at out, pixels `pitch` bytes
    apart."""

    @written
    def gather_of(context, m, stride, start, out, pitch):  # type: ignore[no-untyped-def]  # as in dots
        signature = types.void(*(types.int64,) * 5)

        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]  # as above
            m, stride, start, out, pitch = values
            for i, sums in enumerate(write_gather(builder, unit, form, m, stride, start)):
                for j, total in enumerate(sums):
                    to = builder.add(out, builder.mul(pitch, number(i * form.side + j)))
                    builder.store(total, at(builder, to, total.type), align=4)
            return context.get_dummy_value()

        return signature, generate

    def gather(m: int, stride: int, start: int, out: int, pitch: int) -> None:
        gather_of(m, stride, start, out, pitch)

    return Pointer(named(gather, f"gather_{unit.isa}_{form.operand}"), 5)


def make_gather_codes(unit: Unit, form: Form, way: Way, size: int) -> Pointer:
    """The same, requantised, to codes of `size` bytes:

    head, rows   as in `dots.make_codes`
    out          the first pixel's codes; `row` and `column` bytes from pixel to pixel
    down, right  rows and columns of the tile that the map has
    left         channels that there are
    """

    @written
    def gather_of(context, m, stride, start, head, rows, out, row, column, down, right, left):  # type: ignore[no-untyped-def]  # as in dots
        signature = types.void(*(types.int64,) * 11)

        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]  # as above
            m, stride, start, head, rows, out, row, column, down, right, left = values

            made = write_gather(builder, unit, form, m, stride, start)
            count = form.side**2
            kind = ir.ArrayType(ir.VectorType(INT, unit.lanes), count)
            kept = cgutils.alloca_once(builder, kind)  # type: ignore[no-untyped-call]  # Numba's own
            for n, total in enumerate(total for sums in made for total in sums):
                builder.store(total, builder.gep(kept, [INT(0), INT(n)]))

            def inside(i: Any, count: Any) -> Any:
                last = builder.sub(count, number(1))
                return builder.select(builder.icmp_signed("<", i, count), i, last)

            # Pixels beyond the map go where the last ones are, which come afterwards.
            with cgutils.for_range(builder, number(count)) as loop:
                n = builder.sub(number(count - 1), loop.index)
                bits = number(form.side.bit_length() - 1)
                i, j = builder.lshr(n, bits), builder.and_(n, number(form.side - 1))
                total = builder.load(builder.gep(kept, [INT(0), n]))
                codes = high.write_codes(builder, unit, way, total, head, rows)
                line = builder.add(out, builder.mul(inside(i, down), row))
                to = builder.add(line, builder.mul(inside(j, right), column))
                high.store_codes(builder, codes, size, to, left)
            return context.get_dummy_value()

        return signature, generate

    def gather(
        m: int, stride: int, start: int, head: int, rows: int, out: int, row: int, column: int,
        down: int, right: int, left: int,
    ) -> None:  # fmt: skip
        gather_of(m, stride, start, head, rows, out, row, column, down, right, left)

    name = f"gather_{unit.isa}_{form.operand}_{way}_{size}"
    return Pointer(named(gather, name), 11)


@functools.cache
def spread_of(isa: Isa, kind: str) -> Pointer:
    """`make_spread` for a supported instruction set and a kind of FORMS."""
    return make_spread(known(isa), FORMS[kind])


@functools.cache
def gather_of(isa: Isa, kind: str) -> Pointer:
    """`make_gather`, likewise."""
    return make_gather(known(isa), FORMS[kind])


@functools.cache
def gather_codes_of(isa: Isa, kind: str, way: Way, size: int) -> Pointer:
    """`make_gather_codes`, likewise."""
    return make_gather_codes(known(isa), FORMS[kind], way, size)


def known(isa: Isa) -> Unit:
    """The unit of a supported instruction set."""
    unit = unit_of(isa)
    assert unit is not None
    return unit
