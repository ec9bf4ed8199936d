"""The line buffer: rows of the frames that arrive, in one simple dual-port RAM."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Elaboratable, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from intaglio.hdl.rom import MemoryStyle, ram_attributes
from intaglio.hdl.stream import (
    Frame,
    advance,
    below,
    by_level,
    ceil_div,
    common_channels,
    counter,
    lanes_signature,
)

WRITTEN = ("addr", "data", "en")  # of a memory's write port


class LineBuffer(wiring.Component):
    """Stores the beats of `i` in `rows` row places of the widest level's width, used in a circle.

    Word `word` of pixel (y, x) lies at ((row * W_max + x) * words + word) mod `size`, where `row`
    counts the rows of all frames since reset, W_max is the widest frame's width and words =
    ceil(C / lanes). `data` is the word at `addr` one cycle later.

    For its reader, who is in some frame of `height` rows:
    have_rows     complete rows received since the start of that frame; negative while rows of an
                  earlier frame are still missing.
    have_columns  complete pixels of the row being received.
    limit         rows let in: `rows` more than the first row of the frame that is still needed; it
                  never falls, but by `height` with `leave`. A row's beats are taken from the second
                  cycle on in which its number is below: `i.ready` is a register.
    leave         the reader moves to its next frame: have_rows falls by `height`.
    A beat is seen in have_rows and have_columns, and may be read, one cycle after it was taken.
    copies  of the rows, each with an address and data of its own, side by side in `addr` and
            `data`: the lowest is the first.
    size    words of the circle: those of all rows, at least 2; or, where a reader that counts with
            `size` said `round_up` before this is elaborated, as many as addresses can say: they
            then come round by themselves, without a comparison.
    style   says what the RAM is to be made of; it may be set until this is elaborated.
    """

    def __init__(
        self, *, frames: Sequence[Frame], rows: int, lanes: int, bits: int, copies: int = 1
    ) -> None:
        self.frames = tuple(frames)
        self.rows = rows
        self.words = ceil_div(common_channels(frames), lanes)
        self.row_words = max(f.width for f in frames) * self.words
        self.size = max(2, rows * self.row_words)
        self.width = lanes * bits
        self.copies = copies
        self.address_bits = ceil_log2(self.size)
        self.style: MemoryStyle = "auto"
        tallest = max(f.height for f in frames)
        self.row_shape = signed(1 + bits_for(tallest + rows))
        super().__init__(
            {
                "i": In(lanes_signature(lanes, bits)),
                "addr": In(copies * self.address_bits),
                "data": Out(copies * self.width),
                "have_rows": Out(self.row_shape),
                "have_columns": Out(range(max(f.width for f in frames) + 1)),
                "limit": In(self.row_shape, init=rows),
                "height": In(range(tallest + 1)),
                "leave": In(1),
            }
        )

    @property
    def comes_round(self) -> bool:
        """Whether the circle has all words that addresses can say, a power of two."""
        return self.size == 1 << self.address_bits

    def round_up(self) -> None:
        """Make it so."""
        self.size = 1 << self.address_bits

    def has(self, row: Value, column: Value) -> Value:
        """Whether a pixel of the reader's frame is complete."""
        row_there = (self.have_rows == row) & below(column, self.have_columns)
        return below(row, self.have_rows) | row_there

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        write, *others = [self._memory(m, k) for k in range(self.copies)]

        level = counter(len(self.frames), "level")
        width = by_level(m, level, [f.width for f in self.frames], "width")
        height = by_level(m, level, [f.height for f in self.frames], "height_in")
        word = counter(self.words, "word")
        row = counter(max(f.height for f in self.frames), "row")
        row_start = Signal.like(write.addr)
        next_start = Signal.like(write.addr)
        admits = Signal(init=1)
        m.d.comb += [
            next_start.eq(row_start + self.row_words),
            self.i.ready.eq(admits),
            write.en.eq(self.i.valid & self.i.ready),
            write.data.eq(self.i.payload),
            *(getattr(o, port).eq(getattr(write, port)) for o in others for port in WRITTEN),
        ]
        if not self.comes_round:
            with m.If(row_start == self.size - self.row_words):
                m.d.comb += next_start.eq(0)
        row_done = Signal()
        with m.If(write.en):
            last_word = word == self.words - 1
            advance(m, word, last_word)
            m.d.sync += write.addr.eq(write.addr + 1)
            with m.If(last_word):
                m.d.comb += row_done.eq(self.have_columns == width - 1)
                m.d.sync += self.have_columns.eq(Mux(row_done, 0, self.have_columns + 1))
        with m.If(row_done):
            last_row = row == height - 1
            advance(m, row, last_row)
            m.d.sync += [row_start.eq(next_start), write.addr.eq(next_start)]
            with m.If(last_row):
                advance(m, level, level == len(self.frames) - 1)
        # The end of a row is known late in the cycle: it chooses, of numbers made beforehand.
        have, more = self.have_rows, self.have_rows + 1
        left, left_more = have - self.height, more - self.height
        m.d.sync += [
            self.have_rows.eq(
                Mux(self.leave, Mux(row_done, left_more, left), Mux(row_done, more, have))
            ),
            admits.eq(Mux(row_done, below(more, self.limit), below(have, self.limit))),
        ]
        return m

    def _memory(self, m: Module, k: int) -> Any:
        """Write port of a copy of the rows, which reads for itself."""
        memory = Memory(
            shape=unsigned(self.width),
            depth=self.size,
            init=[],
            attrs=ram_attributes(self.style),
        )
        m.submodules[f"memory_{k}" if k else "memory"] = memory
        read, write = memory.read_port(), memory.write_port()
        m.d.comb += [
            read.addr.eq(self.addr[k * self.address_bits :][: self.address_bits]),
            self.data[k * self.width :][: self.width].eq(read.data),
        ]
        return write
