"""The innermost loop of convolutions by tiles: 32 pixels by 32 channels of sums in four tiles, 64
bytes of every pixel's window a step, and the requantisation of the block before in between.

Tiles cannot be requantised: their sums go through memory. That would take as long as making them;
but the tiles and the vector units work side by side, so that each step of the loop requantises a
few registers of the last block's sums. Two such memories take turns.

LLVM's intrinsics of numbered tiles are used, since its own allocation of tiles would configure them
anew in every function. `Emulated` writes the same meaning in plain instructions, for processors
that have no tiles: what it makes is tested, how fast it is does not matter.
"""

from __future__ import annotations

import functools
from typing import Any, Protocol

from llvmlite import ir

from intaglio.sim.compiled import LONG, Pointer, caller, cgutils, named, types, written
from intaglio.sim.dots import BYTE, INT, at, number
from intaglio.sim.isa import Unit
from intaglio.sim.vector import high
from intaglio.sim.vector.high import Way

ROWS, WIDTH = 16, 64  # of a tile: rows, and bytes of each
TILE = ROWS * WIDTH
GROUPS, REGISTERS = 2, 2  # of 16 pixels, of 16 channels, in a block
BLOCK = GROUPS * REGISTERS * TILE  # bytes of a block's sums
CODES, WEIGHTS = 4, 6  # the first of the tiles that hold them; sums are in those before
CONFIGURATION = 64  # bytes


class Tiles(Protocol):
    """What the loop does with tiles, by their numbers."""

    def load(self, tile: int, address: Any, pitch: Any, once: bool = False) -> None:
        """Rows `pitch` bytes apart; `once`: they will not be read again soon."""

    def store(self, tile: int, address: Any, pitch: Any) -> None:
        """Rows `pitch` bytes apart."""

    def dot(self, sums: int, codes: int, weights: int) -> None:
        """Add the products of unsigned bytes by signed bytes, four to each sum."""


class Real:
    """The processor's own."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder

    def call(self, name: str, *arguments: Any) -> None:
        kind = ir.FunctionType(ir.VoidType(), [one.type for one in arguments])
        function = self.builder.module.declare_intrinsic(f"llvm.x86.{name}", fnty=kind)
        self.builder.call(function, arguments)

    def load(self, tile: int, address: Any, pitch: Any, once: bool = False) -> None:
        name = "tileloaddt164" if once else "tileloadd64"
        self.call(name, BYTE(tile), at(self.builder, address, BYTE), pitch)

    def store(self, tile: int, address: Any, pitch: Any) -> None:
        self.call("tilestored64", BYTE(tile), at(self.builder, address, BYTE), pitch)

    def dot(self, sums: int, codes: int, weights: int) -> None:
        self.call("tdpbusd", BYTE(sums), BYTE(codes), BYTE(weights))


class Emulated:
    """The same in plain instructions, on memory of the function's own; all rows count."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder
        self.memory = [
            builder.ptrtoint(cgutils.alloca_once(builder, ir.ArrayType(BYTE, TILE)), LONG)
            for _ in range(8)
        ]

    def rows(self, tile: int, address: Any, pitch: Any, into: bool) -> None:
        builder, row = self.builder, ir.VectorType(BYTE, WIDTH)
        with cgutils.for_range(builder, number(ROWS)) as loop:
            here = builder.add(self.memory[tile], builder.mul(loop.index, number(WIDTH)))
            there = builder.add(address, builder.mul(loop.index, pitch))
            source, target = (there, here) if into else (here, there)
            value = builder.load(at(builder, source, row), align=1)
            builder.store(value, at(builder, target, row), align=1)

    def load(self, tile: int, address: Any, pitch: Any, once: bool = False) -> None:
        self.rows(tile, address, pitch, True)

    def store(self, tile: int, address: Any, pitch: Any) -> None:
        self.rows(tile, address, pitch, False)

    def dot(self, sums: int, codes: int, weights: int) -> None:
        builder, four = self.builder, ir.VectorType(BYTE, 4)
        wide = ir.VectorType(INT, 4)

        def place(tile: int, row: Any, column: Any, kind: ir.Type) -> Any:
            to = builder.add(builder.mul(row, number(WIDTH)), builder.mul(column, number(4)))
            return at(builder, builder.add(self.memory[tile], to), kind)

        def each(count: int) -> Any:
            return cgutils.for_range(builder, number(count))

        with each(ROWS) as row, each(ROWS) as column, each(ROWS) as quad:
            m, n, k = row.index, column.index, quad.index
            a = builder.zext(builder.load(place(codes, m, k, four), align=1), wide)
            b = builder.sext(builder.load(place(weights, k, n, four), align=1), wide)
            products, to = builder.mul(a, b), place(sums, m, n, INT)
            total = builder.load(to, align=1)
            for i in range(4):
                total = builder.add(total, builder.extract_element(products, INT(i)))
            builder.store(total, to, align=1)


ARGUMENTS = 17


def make_block(unit: Unit, way: Way, size: int, emulated: bool = False) -> Pointer:
    """The function that makes a block's sums, and codes of `size` bytes of those of the block
    before; all its arguments are int64, addresses and counts:

    first, second  of the two groups' first pixels, each group's `pitch` bytes apart
    offsets        `steps` distances from there to 64 bytes of the windows each
    weights        REGISTERS tiles a step, one after the other
    start          where the sums begin, int32, REGISTERS * 16
    sums           memory of BLOCK bytes for them
    before         that of the block before, of whose registers `count` are requantised, `each` in
                   a step
    outs           addresses of its 32 pixels' codes, to which `channel` is added
    head, rows, step, left  as in `dots.make_codes`, and bytes from register to register
    """

    @written
    def block_of(  # type: ignore[no-untyped-def]  # Numba's typing context has no public types
        context, first, second, pitch, offsets, steps, weights, start, sums, before, count, each,
        outs, channel, head, rows, step, left
    ):  # fmt: skip
        arguments = (
            first, second, pitch, offsets, steps, weights, start, sums, before, count, each, outs,
            channel, head, rows, step, left,
        )  # fmt: skip
        signature = types.void(*(types.int64 for _ in arguments))

        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]  # as above
            made = (Emulated if emulated else Real)(builder)
            write_block(builder, unit, way, size, made, *values)
            return context.get_dummy_value()

        return signature, generate

    def block(
        first: int, second: int, pitch: int, offsets: int, steps: int, weights: int, start: int,
        sums: int, before: int, count: int, each: int, outs: int, channel: int, head: int,
        rows: int, step: int, left: int,
    ) -> None:  # fmt: skip
        block_of(
            first, second, pitch, offsets, steps, weights, start, sums, before, count, each, outs,
            channel, head, rows, step, left,
        )  # fmt: skip

    kind = "emulated" if emulated else "amx"
    return Pointer(named(block, f"block_{kind}_{way}_{size}"), ARGUMENTS)


def write_block(
    builder: ir.IRBuilder, unit: Unit, way: Way, size: int, tiles: Tiles, first: Any, second: Any,
    pitch: Any, offsets: Any, steps: Any, weights: Any, start: Any, sums: Any, before: Any,
    count: Any, each: Any, outs: Any, channel: Any, head: Any, rows: Any, step: Any, left: Any,
) -> None:  # fmt: skip
    """The instructions of `make_block`'s function."""
    words = ir.VectorType(INT, unit.lanes)
    done = cgutils.alloca_once_value(builder, number(0))

    def requantise(until: Any) -> None:
        """Registers of the block before, as far as `until`: pixel by pixel of each register of
        channels."""
        begin = builder.load(done)
        with cgutils.for_range(builder, builder.sub(until, begin)) as loop:
            n = builder.add(begin, loop.index)
            register, pixel = builder.lshr(n, number(5)), builder.and_(n, number(31))
            tile = builder.add(builder.mul(builder.lshr(pixel, number(4)), number(2)), register)
            row = builder.mul(builder.and_(pixel, number(15)), number(WIDTH))
            place = builder.add(before, builder.add(builder.mul(tile, number(TILE)), row))
            total = builder.load(at(builder, place, words), align=4)
            table = builder.add(rows, builder.mul(register, step))
            codes = high.write_codes(builder, unit, way, total, head, table)
            out = builder.add(outs, builder.shl(pixel, number(3)))
            lanes = builder.mul(register, number(unit.lanes))
            to = builder.add(channel, builder.mul(lanes, number(size)))
            address = builder.add(builder.load(at(builder, out, LONG), align=8), to)
            high.store_codes(builder, codes, size, address, builder.sub(left, lanes))
        builder.store(until, done)

    pairs = [(g, r) for g in range(GROUPS) for r in range(REGISTERS)]
    for g, r in pairs:
        tiles.load(2 * g + r, builder.add(start, number(WIDTH * r)), number(0))
    with cgutils.for_range(builder, steps) as loop:
        offset = builder.load(
            at(builder, builder.add(offsets, builder.shl(loop.index, number(3))), LONG), align=8
        )
        for g, address in enumerate((first, second)):
            tiles.load(CODES + g, builder.add(address, offset), pitch)
        w = builder.add(weights, builder.mul(loop.index, number(REGISTERS * TILE)))
        for r in range(REGISTERS):
            tiles.load(WEIGHTS + r, builder.add(w, number(TILE * r)), number(WIDTH), once=True)
        for g, r in pairs:
            tiles.dot(2 * g + r, CODES + g, WEIGHTS + r)
        until = builder.add(builder.load(done), each)
        full = builder.icmp_signed("<", until, count)
        requantise(builder.select(full, until, count))
    for g, r in pairs:
        tiles.store(2 * g + r, builder.add(sums, number(TILE * (2 * g + r))), number(WIDTH))
    requantise(count)


def make_switch(on: bool, emulated: bool = False) -> Pointer:
    """The function that configures this thread's tiles by what is at an address, or gives them
    back."""

    @written
    def switch_of(context, address):  # type: ignore[no-untyped-def]  # Numba's typing context has no public types
        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]  # as above
            real = Real(builder)
            if not emulated and on:
                real.call("ldtilecfg", at(builder, values[0], BYTE))
            elif not emulated:
                real.call("tilerelease")
            return context.get_dummy_value()

        return types.void(types.int64), generate

    def switch(address: int) -> None:
        switch_of(address)

    kind = "emulated" if emulated else "amx"
    return Pointer(named(switch, f"{'configure' if on else 'release'}_{kind}"), 1)


EMULATED = False  # tests run the same loops without tiles


@functools.cache
def switches(emulated: bool) -> tuple[Pointer, Pointer]:
    """On and off."""
    return make_switch(True, emulated), make_switch(False, emulated)


@functools.cache
def block_of(unit: Unit, way: Way, size: int, emulated: bool) -> Pointer:
    """`make_block`, once."""
    return make_block(unit, way, size, emulated)


call_block, call_switch = caller(ARGUMENTS), caller(1)
