"""The innermost loop of every vectorised convolution: a block of 32-bit sums that stays in
registers, and an instruction that adds 4 products of bytes, or 2 of words, to each sum.

LLVM does not find `vpdpbusd` by itself, so the loop is written here in LLVM's own language, once
for every unit of `sim/isa.py`. Sums wrap modulo 2^32: they are exact in any order wherever the
result fits 32 bits, which `plan.py` has proved before it takes this path.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

import llvmlite.binding as llvm
from llvmlite import ir

from intaglio.sim.compiled import LONG, Pointer, caller, cgutils, named, types, written
from intaglio.sim.isa import Isa, Unit, unit_of
from intaglio.sim.vector import high
from intaglio.sim.vector.high import Way

Operand = Literal["bytes", "words"]
WIDE = 2  # registers of channels in a block, where the channels suffice
SLACK = 128  # bytes behind a buffer that a block may read; what they meet are weights of 0

INT = ir.IntType(32)
WORD = ir.IntType(16)
BYTE = ir.IntType(8)


def number(value: int) -> ir.Constant:
    """A 64-bit constant."""
    return ir.Constant(LONG, value)


def at(builder: ir.IRBuilder, address: Any, type: ir.Type) -> Any:
    """A pointer from an address."""
    return builder.inttoptr(address, type.as_pointer())


def sums_of(unit: Unit) -> ir.VectorType:
    """A register of sums."""
    return ir.VectorType(INT, unit.lanes)


def operand_of(unit: Unit, operand: Operand) -> ir.VectorType:
    """The type in which the unit's instruction takes its factors; LLVM 22 changed that of VNNI."""
    if unit.fused and llvm.llvm_version_info[0] < 22:
        return sums_of(unit)
    if operand == "bytes":
        return ir.VectorType(BYTE, 4 * unit.lanes)
    return ir.VectorType(WORD, 2 * unit.lanes)


def multiply_add(
    builder: ir.IRBuilder, unit: Unit, operand: Operand, total: Any, codes: Any, weights: Any
) -> Any:
    """total + the products of 4 bytes or 2 words, lane by lane."""
    name = unit.bytes if operand == "bytes" else unit.words
    sums, factors = sums_of(unit), operand_of(unit, operand)
    taken = (sums, factors, factors) if unit.fused else (factors, factors)
    call = builder.module.declare_intrinsic(name, fnty=ir.FunctionType(sums, taken))
    if unit.fused:
        return builder.call(call, (total, codes, weights))
    return builder.add(total, builder.call(call, (codes, weights)))


def fetch(builder: ir.IRBuilder, address: Any) -> None:
    """Ask for what lies there to be in the second cache; nothing happens where nothing lies."""
    pointer = at(builder, address, BYTE)
    kind = ir.FunctionType(ir.VoidType(), (pointer.type, INT, INT, INT))
    call = builder.module.declare_intrinsic("llvm.prefetch.p0", fnty=kind)
    builder.call(call, (pointer, INT(0), INT(2), INT(1)))


def make_block(unit: Unit, operand: Operand, registers: int) -> Pointer:
    """The function that computes a block of `unit.pixels` pixels by `registers` registers of
    channels; all its arguments are int64, addresses and counts:

    bases    addresses of the pixels' first bytes
    offsets  `pieces` distances from there to the runs of the window, of 4 * `quads` bytes each
    weight   packed by quads of bytes for each lane; `block` bytes from register to register
    start    where the sums begin, int32
    out      int32 sums, pixels `pitch` bytes apart
    """

    @written
    def block_of(  # type: ignore[no-untyped-def]  # Numba's typing context has no public types
        context, bases, offsets, pieces, quads, weight, block, start, out, pitch
    ):
        arguments = (bases, offsets, pieces, quads, weight, block, start, out, pitch)
        signature = types.void(*(types.int64 for _ in arguments))

        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]  # as above
            write_block(builder, unit, operand, registers, *values)
            return context.get_dummy_value()

        return signature, generate

    def block(
        bases: int, offsets: int, pieces: int, quads: int, weight: int, step: int, start: int,
        out: int, pitch: int,
    ) -> None:  # fmt: skip
        block_of(bases, offsets, pieces, quads, weight, step, start, out, pitch)

    return Pointer(named(block, f"block_{unit.isa}_{operand}_{registers}"), 9)


def write_block(
    builder: ir.IRBuilder, unit: Unit, operand: Operand, registers: int, bases: Any, offsets: Any,
    pieces: Any, quads: Any, weight: Any, block: Any, start: Any, out: Any, pitch: Any,
) -> None:  # fmt: skip
    """The instructions of `make_block`'s function. The weights that lie behind those of the block
    are fetched meanwhile: those of a transform's next point, too many for the caches nearby."""
    given = (bases, offsets, pieces, quads, weight, block, start)
    sums = write_sums(builder, unit, operand, registers, unit.pixels, *given, ahead=True)
    size = 4 * unit.lanes  # bytes of a register
    for i in range(unit.pixels):  # whole pixels: one may overwrite what the one before has beyond
        for r in range(registers):
            to = builder.add(builder.mul(pitch, number(i)), number(size * r))
            pointer = at(builder, builder.add(out, to), sums_of(unit))
            builder.store(builder.load(sums[r][i]), pointer, align=4)


def write_sums(
    builder: ir.IRBuilder, unit: Unit, operand: Operand, registers: int, count: int, bases: Any,
    offsets: Any, pieces: Any, quads: Any, weight: Any, block: Any, start: Any,
    ahead: bool = False,
) -> list[list[Any]]:  # fmt: skip
    """Two loops around the sums in registers: where they are, by register of channels and pixel;
    `ahead`: the weights behind these are fetched."""
    sums_type, factors = sums_of(unit), operand_of(unit, operand)
    size = 4 * unit.lanes
    zeros = ir.Constant(ir.VectorType(INT, unit.lanes), [0] * unit.lanes)

    def load(address: Any, type: ir.Type, align: int) -> Any:
        return builder.load(at(builder, address, type), align=align)

    pixels = [load(builder.add(bases, number(8 * i)), LONG, 8) for i in range(count)]
    sums = []
    for r in range(registers):
        begin = load(builder.add(start, number(size * r)), sums_type, 4)
        places = [cgutils.alloca_once(builder, sums_type) for _ in pixels]  # type: ignore[no-untyped-call]  # Numba's own
        for place in places:
            builder.store(begin, place)
        sums.append(places)
    behind = builder.mul(builder.mul(pieces, quads), number(size))
    with cgutils.for_range(builder, pieces) as outer:
        offset = load(builder.add(offsets, builder.shl(outer.index, number(3))), LONG, 8)
        row = builder.mul(outer.index, quads)
        with cgutils.for_range(builder, quads) as inner:
            place = builder.add(offset, builder.shl(inner.index, number(2)))
            step = builder.mul(builder.add(row, inner.index), number(size))
            w = builder.add(weight, step)
            packed = [
                load(builder.add(w, builder.mul(block, number(r))), factors, 1)
                for r in range(registers)
            ]
            for r in range(registers if ahead else 0):
                fetch(builder, builder.add(builder.add(w, behind), builder.mul(block, number(r))))
            for i, pixel in enumerate(pixels):
                word = load(builder.add(pixel, place), INT, 1)
                undefined = ir.Constant(sums_type, ir.Undefined)
                lane = builder.insert_element(undefined, word, INT(0))
                codes = builder.bitcast(builder.shuffle_vector(lane, undefined, zeros), factors)
                for r in range(registers):
                    total = builder.load(sums[r][i])
                    more = multiply_add(builder, unit, operand, total, codes, packed[r])
                    builder.store(more, sums[r][i])
    return sums


def write_lanes(
    builder: ir.IRBuilder, unit: Unit, each: int, bases: Any, offsets: Any, pairs: Any,
    channel: Any, weight: Any, start: Any,
) -> list[list[Any]]:  # fmt: skip
    """As `write_sums` for a convolution of each channel by itself, a channel a lane: `offsets` are
    distances of two taps for each of `pairs`, whose codes of `each` bytes become pairs of words."""
    sums_type, factors = sums_of(unit), operand_of(unit, "words")
    narrow = ir.VectorType(ir.IntType(8 * each), unit.lanes)
    sixteen = ir.Constant(sums_type, [16] * unit.lanes)
    pixels = [
        builder.load(at(builder, builder.add(bases, number(8 * i)), LONG), align=8)
        for i in range(unit.pixels)
    ]
    begin = builder.load(at(builder, start, sums_type), align=4)
    places = [cgutils.alloca_once(builder, sums_type) for _ in pixels]  # type: ignore[no-untyped-call]  # Numba's own
    for place in places:
        builder.store(begin, place)
    with cgutils.for_range(builder, pairs) as loop:
        taps = builder.add(offsets, builder.shl(loop.index, number(4)))
        step = builder.mul(loop.index, number(4 * unit.lanes))
        weights = builder.load(at(builder, builder.add(weight, step), factors), align=1)
        to = [
            builder.add(builder.load(at(builder, tap, LONG), align=8), channel)
            for tap in (taps, builder.add(taps, number(8)))
        ]
        for pixel, place in zip(pixels, places, strict=True):
            low, high = (
                builder.zext(
                    builder.load(at(builder, builder.add(pixel, tap), narrow), align=1), sums_type
                )
                for tap in to
            )
            codes = builder.bitcast(builder.or_(low, builder.shl(high, sixteen)), factors)
            total = builder.load(place)
            builder.store(multiply_add(builder, unit, "words", total, codes, weights), place)
    return [places]


def write_loop(
    builder: ir.IRBuilder, unit: Unit, way: Way, size: int, sums: list[list[Any]], head: Any,
    rows: Any, outs: Any, channel: Any, left: Any,
) -> None:  # fmt: skip
    """Requantise sums, pixel by pixel for each register of channels: a loop, since instructions
    for every register would take longer to compile than most images take to run."""
    for r, places in enumerate(sums):
        kind = ir.ArrayType(sums_of(unit), len(places))
        kept = cgutils.alloca_once(builder, kind)  # type: ignore[no-untyped-call]  # Numba's own
        for i, total in enumerate(places):
            builder.store(builder.load(total), builder.gep(kept, [INT(0), INT(i)]))
        table = builder.add(rows, number(4 * unit.lanes * way.rows * r))
        to = builder.add(channel, number(unit.lanes * r * size))
        rest = builder.sub(left, number(unit.lanes * r))
        with cgutils.for_range(builder, number(len(places))) as loop:
            total = builder.load(builder.gep(kept, [LONG(0), loop.index]))
            place = at(builder, builder.add(outs, builder.shl(loop.index, number(3))), LONG)
            codes = high.write_codes(builder, unit, way, total, head, table)
            address = builder.add(builder.load(place, align=8), to)
            high.store_codes(builder, codes, size, address, rest)


def make_codes(
    unit: Unit,
    operand: Operand | Literal["lanes"],
    registers: int,
    pixels: int,
    way: Way,
    size: int,
) -> Pointer:
    """As `make_block` for so many pixels, requantised in registers, to codes of `size` bytes:

    head, rows  addresses of a table of `high`: its first row, and those of the first register
    outs        addresses of the pixels' codes, to which `channel` is added
    left        channels that there are from here on

    With "lanes" each channel is convolved by itself, from bytes: `write_lanes`, `quads` being the
    distance of the channel's codes.
    """

    @written
    def codes_of(  # type: ignore[no-untyped-def]  # Numba's typing context has no public types
        context,
        bases,
        offsets,
        pieces,
        quads,
        weight,
        block,
        start,
        head,
        rows,
        outs,
        channel,
        left,
    ):
        arguments = (
            bases, offsets, pieces, quads, weight, block, start, head, rows, outs, channel, left
        )  # fmt: skip
        signature = types.void(*(types.int64 for _ in arguments))

        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]  # as above
            *given, head, rows, outs, channel, left = values
            if operand == "lanes":
                begin, taps, pairs, place, weights, _, first = given
                sums = write_lanes(builder, unit, 1, begin, taps, pairs, place, weights, first)
            else:
                sums = write_sums(builder, unit, operand, registers, pixels, *given)
            write_loop(builder, unit, way, size, sums, head, rows, outs, channel, left)
            return context.get_dummy_value()

        return signature, generate

    def codes(
        bases: int, offsets: int, pieces: int, quads: int, weight: int, step: int, start: int,
        head: int, rows: int, outs: int, channel: int, left: int,
    ) -> None:  # fmt: skip
        codes_of(
            bases, offsets, pieces, quads, weight, step, start, head, rows, outs, channel, left
        )

    name = f"codes_{unit.isa}_{operand}_{registers}_{pixels}_{way}_{size}"
    return Pointer(named(codes, name), 12)


@dataclass(frozen=True)
class Blocks:
    """Of one unit and operand: the block of one register of channels, and that of two."""

    narrow: Pointer
    wide: Pointer


@functools.cache
def blocks_of(isa: Isa, operand: Operand) -> Blocks:
    """Of an instruction set that is supported."""
    unit = unit_of(isa)
    assert unit is not None
    return Blocks(make_block(unit, operand, 1), make_block(unit, operand, WIDE))


@functools.cache
def lanes_of(isa: Isa, way: Way, size: int) -> Pointer:
    """The block of channels by themselves."""
    unit = unit_of(isa)
    assert unit is not None
    return make_codes(unit, "lanes", 1, unit.pixels, way, size)


@functools.cache
def codes_of(isa: Isa, operand: Operand, pixels: int, way: Way, size: int) -> Blocks:
    """The same with codes as results."""
    unit = unit_of(isa)
    assert unit is not None
    narrow, wide = (make_codes(unit, operand, n, pixels, way, size) for n in (1, WIDE))
    return Blocks(narrow, wide)


call_block = caller(9)
call_codes = caller(12)
