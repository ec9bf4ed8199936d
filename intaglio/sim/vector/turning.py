"""Maps of pixels to planes of channels: squares of 16 by 16 codes, turned in registers."""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir

from intaglio.sim.compiled import Pointer, caller, cgutils, jit, named, types, written
from intaglio.sim.dots import at, number
from intaglio.sim.vector import high

SIDE = 16
INT = ir.IntType(32)


def turned(builder: ir.IRBuilder, rows: list[Any]) -> list[Any]:
    """A square's columns: four times, rows of the upper half and of the lower one are interleaved
    value by value."""
    for _ in range(4):
        mixed = []
        for upper, lower in zip(rows[: SIDE // 2], rows[SIDE // 2 :], strict=True):
            for half in (0, SIDE // 2):
                taken = [INT(half + n // 2 + SIDE * (n % 2)) for n in range(SIDE)]
                mask = ir.Constant(ir.VectorType(INT, SIDE), taken)
                mixed.append(builder.shuffle_vector(upper, lower, mask))
        rows = mixed
    return rows


def make_turn(size: int) -> Pointer:
    """The function for codes of `size` bytes; all its arguments are int64:

    x        address of a row of pixels, `pitch` bytes apart
    width    how many they are
    left     channels that are turned, at most SIDE
    lowest   what is added to each code
    out      address of the first channel's plane, planes `plane` bytes apart
    """

    @written
    def turn_of(context, x, pitch, width, left, lowest, out, plane):  # type: ignore[no-untyped-def]  # Numba's typing context has no public types
        arguments = (x, pitch, width, left, lowest, out, plane)

        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]  # as above
            x, pitch, width, left, lowest, out, plane = values
            kind = ir.VectorType(ir.IntType(8 * size), SIDE)
            last = builder.sub(width, number(1))
            undefined = ir.Constant(kind, ir.Undefined)
            first = builder.insert_element(undefined, builder.trunc(lowest, kind.element), INT(0))
            zeros = ir.Constant(ir.VectorType(INT, SIDE), [0] * SIDE)
            more = builder.shuffle_vector(first, undefined, zeros)

            def inside(i: Any, most: Any) -> Any:
                return builder.select(builder.icmp_signed("<", i, most), i, most)

            times = builder.lshr(builder.add(width, number(SIDE - 1)), number(4))
            with cgutils.for_range(builder, times) as loop:
                done = builder.shl(loop.index, number(4))
                rows = []
                for i in range(SIDE):  # of pixels beyond the last, that one again
                    p = inside(builder.add(done, number(i)), last)
                    place = at(builder, builder.add(x, builder.mul(p, pitch)), kind)
                    rows.append(builder.add(builder.load(place, align=1), more))
                rest = builder.trunc(inside(builder.sub(width, done), number(SIDE)), INT)
                final = builder.sub(left, number(1))
                columns = turned(builder, rows)
                for i in reversed(range(SIDE)):  # channels beyond the last are overwritten by it
                    c = inside(number(i), final)
                    to = builder.add(out, builder.mul(c, plane))
                    to = builder.add(to, builder.mul(done, number(size)))
                    high.store_first(builder, columns[i], to, rest)
            return context.get_dummy_value()

        return types.void(*(types.int64 for _ in arguments)), generate

    def turn(x: int, pitch: int, width: int, left: int, lowest: int, out: int, plane: int) -> None:
        turn_of(x, pitch, width, left, lowest, out, plane)

    return Pointer(named(turn, f"turn_{size}"), 7)


@functools.cache
def pointer(size: int) -> Pointer:
    """The function, for codes of 1 or 2 bytes."""
    return make_turn(size)


call_turn = caller(7)


@jit
def planes(turn: int, x: Any, lowest: int, out: Any, first: int, last: int) -> None:
    """As `kernels.planes`, of codes as wide as the planes', by the function at `turn`."""
    width, channels, size = x.shape[1], x.shape[2], x.itemsize
    for i in range(first, last):
        for c in range(0, channels, SIDE):
            place = x.ctypes.data + i * x.strides[0] + c * size
            to = out.ctypes.data + c * out.strides[0] + i * width * size
            left = min(SIDE, channels - c)
            call_turn(turn, (place, channels * size, width, left, lowest, to, out.strides[0]))
