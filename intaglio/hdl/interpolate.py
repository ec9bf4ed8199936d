# amaranth: UnusedElaboratable=no
"""Interpolate: sums of two rows and two columns by weights, and nearest neighbours at any ratio."""

from collections.abc import Sequence

import numpy as np
from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import bits_for

from intaglio.fixed import IntType
from intaglio.hdl.fifo import Outlet
from intaglio.hdl.linebuffer import LineBuffer
from intaglio.hdl.pack import Ints, pack_word
from intaglio.hdl.products import product_of_adders
from intaglio.hdl.rom import Rom
from intaglio.hdl.stream import (
    Frame,
    advance,
    ceil_div,
    counter,
    delay,
    lane,
    lanes_signature,
    pipe,
    shape_of,
)
from intaglio.ops.interpolation import Tap, both

NARROW = 6  # bits of a weight by which a product is made of adders


def read(taps: Sequence[Tap], side: int) -> Ints:
    """Taps as (first place, last place, their weights): (n, 4). What has no weight is not read, and
    where no tap needs two places each has one."""
    found = both(taps, side)
    single = (found[:, 3] == 0) | (found[:, 0] == found[:, 1])
    found[single, 1] = found[single, 0]
    found[single, 2] += found[single, 3]
    found[single, 3] = 0
    return found


def taps_of(found: Ints) -> int:
    """Words that are read for each of an axis, of what `read` gives."""
    return 1 + bool((found[:, 0] != found[:, 1]).any())


def weight_bits(rows: Ints, columns: Ints) -> int:
    """Bits of the largest product of two weights."""
    return bits_for(int(rows[:, 2:].max()) * int(columns[:, 2:].max()))


class Interpolate(wiring.Component):
    """y[c, i, j] = sum over (a, u) of rows[i], (b, v) of columns[j] of u * v * x[c, a, b]; see
    `ops.Interpolate`. The places and weights are in two ROMs.

    Reads one word a cycle: as many for each word of the result as there are `taps` (4; of one axis
    alone 2, of a nearest neighbour 1). Holds the rows that a row of the result needs, and as many
    as the next one needs beyond them.

    taps     words read for one of the result: cycles per beat of `o`.
    rom      name of the ROM files without `_rows.hex`, or None to build the contents in.
    latency  from reading a word's last tap to `o.valid`: 4 cycles, or 2 where nothing is weighted.
    """

    def __init__(
        self,
        *,
        frame: Frame,
        rows: Sequence[Tap],
        columns: Sequence[Tap],
        x: IntType,
        y: IntType,
        lanes: int,
        rom: str | None = None,
    ) -> None:
        self.frame = frame
        self.x, self.y, self.lanes = x, y, lanes
        self.rows, self.columns = read(rows, frame.height), read(columns, frame.width)
        self.out_frame = Frame(frame.channels, len(rows), len(columns))
        self.sides = taps_of(self.rows), taps_of(self.columns)
        self.taps = self.sides[0] * self.sides[1]
        self.weight_bits = weight_bits(self.rows, self.columns)
        self.weighted = self.taps > 1 or self.weight_bits > 1
        self.latency = 4 if self.weighted else 2
        steps = self.advances()
        self.buffer = LineBuffer(
            frames=(frame,),
            rows=self.sides[0] + max(1, min(int(steps[1:].max(initial=1)), frame.height)),
            lanes=lanes,
            bits=x.bits,
        )
        self.tables = {"rows": self.row_table(steps), "columns": self.column_table()}
        self.roms = tuple(
            Rom(
                words=[pack(self.widths(name), entry) for entry in table],
                width=sum(self.widths(name)),
                file=None if rom is None else f"{rom}_{name}.hex",
            )
            for name, table in self.tables.items()
        )
        self.outlet = Outlet(width=lanes * y.bits, depth=ceil_div(self.latency + 1, self.taps))
        super().__init__(
            {"i": In(lanes_signature(lanes, x.bits)), "o": Out(lanes_signature(lanes, y.bits))}
        )

    def advances(self) -> Ints:
        """Rows from each one's first to the next one's, the first of which is the next frame's."""
        first = self.rows[:, 0]
        return first - np.concatenate([[first[-1] - self.frame.height], first[:-1]])

    def row_table(self, steps: Ints) -> Ints:
        """Of each row: first place, words from the one before in the circle of the buffer, whether
        a second is read, weights."""
        buffer, (first, last, *weights) = self.buffer, self.rows.T
        ahead = steps * buffer.row_words % buffer.size
        return np.stack([first, ahead, last - first, *weights], axis=1)

    def column_table(self) -> Ints:
        """Of each column: last place, words before the first place, whether a second is read,
        weights."""
        first, last, *weights = self.columns.T
        return np.stack([last, first * self.buffer.words, last - first, *weights], axis=1)

    def widths(self, name: str) -> list[int]:
        """Bits of a table's columns."""
        return [bits_for(int(values.max())) for values in self.tables[name].T]

    def model(self, frame: Ints) -> Ints:
        """(C, H, W) to the sums (C, H', W')."""
        for axis, table in ((1, self.rows), (2, self.columns)):
            first, last, u, v = (column.reshape((-1,) + (1,) * (2 - axis)) for column in table.T)
            frame = np.take(frame, first.ravel(), axis) * u + np.take(frame, last.ravel(), axis) * v
        return frame

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.buffer = buffer = self.buffer
        m.submodules.outlet = outlet = self.outlet
        connect(m, flipped(self.i), buffer.i)
        connect(m, outlet.o, flipped(self.o))
        issue = Signal()
        tx, ty = (counter(n, name) for n, name in zip(self.sides[::-1], ("tx", "ty"), strict=True))
        word = counter(buffer.words, "word")
        last_tx, last_ty = tx == self.sides[1] - 1, ty == self.sides[0] - 1
        last_word = word == buffer.words - 1
        x, y = counter(self.out_frame.width, "x"), counter(self.out_frame.height, "y")
        last_x, last_y = x == self.out_frame.width - 1, y == self.out_frame.height - 1
        line = issue & last_tx
        done = line & last_ty
        pixel = done & last_word
        row = pixel & last_x
        for step, at, last in (
            (issue, tx, last_tx), (line, ty, last_ty), (done, word, last_word),
            (pixel, x, last_x), (row, y, last_y),
        ):  # fmt: skip
            with m.If(step):
                advance(m, at, last)
        need_x, base, more_x, *of_column = self._entries(m, pixel, "columns")
        first, _, more_y, *of_row = self._entries(m, row, "rows")

        # The address of the first row, which goes round the buffer, and that of the second.
        start = int(self.rows[0, 0]) * buffer.row_words % buffer.size
        above, below = Signal.like(buffer.addr, init=start), Signal.like(buffer.addr)
        with m.If(row):
            m.d.sync += above.eq(wrapped(above + self._next(m, "rows", 1), buffer.size))
        m.d.sync += below.eq(wrapped(above + Mux(more_y, buffer.row_words, 0), buffer.size))
        right = base + Mux(tx.bool() & more_x, buffer.words, 0) + word
        m.d.comb += [
            issue.eq(
                buffer.has(first + more_y, need_x) & (~(last_tx & last_ty) | (outlet.free != 0))
            ),
            buffer.addr.eq(Mux(ty.bool(), below, above) + right),
            buffer.limit.eq(first + buffer.rows),
            buffer.height.eq(self.frame.height),
            buffer.leave.eq(row & last_y),
            outlet.reserve.eq(done),
            outlet.push.eq(delay(m, done, self.latency - 1, "done")),
        ]
        if not self.weighted:
            codes = [Signal(shape_of(self.y), name=f"code_{k}") for k in range(self.lanes)]
            m.d.comb += [code.eq(lane(buffer.data, k, self.x)) for k, code in enumerate(codes)]
            m.d.comb += outlet.data.eq(Cat(codes))
            return m
        weight = self._weight(m, of_row, of_column, ty, tx)
        begins = delay(m, issue & ~tx.bool() & ~ty.bool(), 2, "begins")
        there = delay(m, issue, 2, "there")
        sums = [self._sum(m, k, weight, begins, there) for k in range(self.lanes)]
        m.d.comb += outlet.data.eq(Cat(sums))
        return m

    def _entries(self, m: Module, step: Value, name: str) -> list[Signal]:
        """Registers of a table's entry; the next one is read beforehand."""
        table, rom = self.tables[name], self.roms[list(self.tables).index(name)]
        m.submodules[f"rom_{name}"] = rom
        n = len(table)
        place = counter(n, f"{name}_next", init=1 % n)
        following = Mux(place == n - 1, 0, place + 1)
        with m.If(step):
            m.d.sync += place.eq(following)
        m.d.comb += rom.addr.eq(Mux(step, following, place))
        held = []
        for k, (value, bits) in enumerate(zip(table[0].tolist(), self.widths(name), strict=True)):
            register = Signal(bits, name=f"{name}_{k}", init=int(value))
            with m.If(step):
                m.d.sync += register.eq(self._next(m, name, k))
            held.append(register)
        return held

    def _next(self, m: Module, name: str, column: int) -> Value:
        """A value of the entry that comes next."""
        rom, widths = self.roms[list(self.tables).index(name)], self.widths(name)
        at = sum(widths[:column])
        return rom.data[at : at + widths[column]]

    def _weight(
        self, m: Module, of_row: list[Signal], of_column: list[Signal], ty: Signal, tx: Signal
    ) -> Value:
        """That of the word whose data are there: a cycle after it was asked for."""
        u = Mux(ty.bool(), of_row[1], of_row[0])
        v = Mux(tx.bool(), of_column[1], of_column[0])
        return pipe(m, times(m, u, v, "weight")[: self.weight_bits], 1, "weight")

    def _sum(self, m: Module, k: int, weight: Value, begins: Value, there: Value) -> Value:
        """One lane: product, then the sum so far."""
        x = lane(self.buffer.data, k, self.x)
        product = pipe(m, times(m, x, weight, f"product_{k}"), 1, f"product_{k}")
        bits = max(self.y.bits, len(product) + 1)
        total = Signal(signed(bits), name=f"sum_{k}", reset_less=True)
        with m.If(there):
            m.d.sync += total.eq(Mux(begins, 0, total) + product)
        return total[: self.y.bits]


def pack(widths: Sequence[int], entry: Ints) -> int:
    """An entry of a table as a word, its first value in the low bits."""
    word, at = 0, 0
    for bits, value in zip(widths, entry.tolist(), strict=True):
        word |= pack_word([value], bits) << at
        at += bits
    return word


def times(m: Module, a: Value, b: Value, name: str) -> Value:
    """A product: of a narrow b, of adders."""
    if len(b) > NARROW:
        return a * b
    return product_of_adders(m, a, b, name)


def wrapped(address: Value, size: int) -> Value:
    """An address below twice the size of the buffer, in its circle."""
    return Mux(address >= size, address - size, address)
