"""The two transforms of a tile, in registers: B^T x B of codes, and A^T m A of products.

What the forms are, and why they are exact, is in `forms`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from intaglio.sim.compiled import Pointer, cgutils, named, types, written
from intaglio.sim.dots import BYTE, INT, at, number
from intaglio.sim.isa import Isa, Unit, unit_of
from intaglio.sim.vector import high
from intaglio.sim.vector.forms import FORMS, Form, Lanes, Side, Tiled, Vector
from intaglio.sim.vector.high import Way


def inverse(odd: int) -> int:
    """Of an odd number modulo 2^32, as a signed constant."""
    return (pow(odd, -1, 1 << 32) + (1 << 31)) % (1 << 32) - (1 << 31)


def both_ways(
    down: Side, across: Side, v: Lanes, tile: Sequence[Sequence[Vector]]
) -> list[list[Vector]]:
    """A one-dimensional transform of the columns, then one of the rows."""
    columns = [down(v, column) for column in zip(*tile, strict=True)]
    return [across(v, row) for row in zip(*columns, strict=True)]


def make_spread(unit: Unit, form: Form) -> Pointer:
    """The function B^T x B for a register of channels of a tile: from bytes at x, `row` and
    `column` bytes apart, to points at out, `stride` bytes apart, counted from the form's `offsets`
    of codes up to `span`."""

    @written
    def spread_of(context, x, row, column, out, stride, span):  # type: ignore[no-untyped-def]  # as in dots
        signature = types.void(*(types.int64,) * 6)

        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]  # as above
            x, row, column, out, stride, span = values
            v = Lanes(builder, ir.VectorType(ir.IntType(8 * form.each), spread_lanes(unit, form)))
            codes = ir.VectorType(BYTE, v.type.count)

            def load(i: int, j: int) -> Vector:
                to = builder.add(builder.mul(row, number(i)), builder.mul(column, number(j)))
                loaded = builder.load(at(builder, builder.add(x, to), codes), align=1)
                return loaded if form.each == 1 else builder.zext(loaded, v.type)

            rows, columns = form.down.edge, form.across.edge
            tile = [[load(i, j) for j in range(columns)] for i in range(rows)]
            more = {k: splat(builder, v.type, span, k) for k in set(form.offsets(1).tolist())}
            made = both_ways(form.down.times_b, form.across.times_b, v, tile)
            points = [point for line in made for point in line]
            for n, (point, k) in enumerate(zip(points, form.offsets(1).tolist(), strict=True)):
                to = builder.add(out, builder.mul(stride, number(n)))
                counted = v.add(point, more[k]) if k else point
                builder.store(counted, at(builder, to, v.type), align=form.each)
            return context.get_dummy_value()

        return signature, generate

    def spread(x: int, row: int, column: int, out: int, stride: int, span: int) -> None:
        spread_of(x, row, column, out, stride, span)

    return Pointer(named(spread, f"spread_{unit.isa}_{form.name}"), 6)


def splat(builder: ir.IRBuilder, type: ir.VectorType, value: Any, times: int) -> Vector:
    """A vector of a number's low bits, so many times."""
    low = builder.trunc(builder.mul(value, number(times)), type.element)
    undefined = ir.Constant(type, ir.Undefined)
    zeros = ir.Constant(ir.VectorType(INT, type.count), [0] * type.count)
    one = builder.insert_element(undefined, low, INT(0))
    return builder.shuffle_vector(one, undefined, zeros)


def spread_lanes(unit: Unit, form: Form) -> int:
    """Channels that a register of points holds."""
    return 4 * unit.lanes // form.each


def write_gather(
    builder: ir.IRBuilder, unit: Unit, form: Form, m: Any, stride: Any, start: Any
) -> list[list[Vector]]:
    """The sums of a tile's pixels, for `lanes` channels: from the points at m, `stride` bytes
    apart, plus what is at start."""
    v = Lanes(builder, ir.VectorType(INT, unit.lanes))

    rows, columns = form.down.edge, form.across.edge

    def load(i: int, j: int) -> Vector:
        to = builder.add(m, builder.mul(stride, number(i * columns + j)))
        return builder.load(at(builder, to, v.type), align=4)

    def exact(total: Vector) -> Vector:
        if form.factor > 1:
            total = builder.mul(total, v.constant(inverse(form.factor)))
        return builder.ashr(total, v.constant(form.shift))

    begin = builder.load(at(builder, start, v.type), align=4)
    tile = [[load(i, j) for j in range(columns)] for i in range(rows)]
    made = both_ways(form.down.times_a, form.across.times_a, v, tile)
    return [[v.add(exact(total), begin) for total in sums] for sums in made]


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
                    to = builder.add(out, builder.mul(pitch, number(i * form.across.count + j)))
                    builder.store(total, at(builder, to, total.type), align=4)
            return context.get_dummy_value()

        return signature, generate

    def gather(m: int, stride: int, start: int, out: int, pitch: int) -> None:
        gather_of(m, stride, start, out, pitch)

    return Pointer(named(gather, f"gather_{unit.isa}_{form.name}"), 5)


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
            tall, wide = form.sides
            count = tall * wide
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
                i, j = builder.udiv(n, number(wide)), builder.urem(n, number(wide))
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

    name = f"gather_{unit.isa}_{form.name}_{way}_{size}"
    return Pointer(named(gather, name), 11)


@functools.cache
def spread_of(isa: Isa, kind: Tiled) -> Pointer:
    """`make_spread` for a supported instruction set and a kind of FORMS."""
    return make_spread(known(isa), FORMS[kind])


@functools.cache
def gather_of(isa: Isa, kind: Tiled) -> Pointer:
    """`make_gather`, likewise."""
    return make_gather(known(isa), FORMS[kind])


@functools.cache
def gather_codes_of(isa: Isa, kind: Tiled, way: Way, size: int) -> Pointer:
    """`make_gather_codes`, likewise."""
    return make_gather_codes(known(isa), FORMS[kind], way, size)


def known(isa: Isa) -> Unit:
    """The unit of a supported instruction set."""
    unit = unit_of(isa)
    assert unit is not None
    return unit
