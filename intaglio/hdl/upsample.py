# amaranth: UnusedElaboratable=no
"""Upsample: nearest neighbour."""

import numpy as np
from amaranth.hdl import Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intaglio.errors import BuildError
from intaglio.hdl.fifo import Outlet
from intaglio.hdl.linebuffer import LineBuffer
from intaglio.hdl.pack import Ints
from intaglio.hdl.stream import Frame, advance, counter, delay, lanes_signature


class Upsample(wiring.Component):
    """Nearest neighbour to `size` (H, W), source index floor(i * in / out); enlarges only.

    Holds two rows: one is repeated while the next arrives. One beat of the enlarged frame a cycle,
    if that is wider than a pixel.

    latency  3 cycles from taking the beat that completes a pixel to `o.valid` of its first beat.
    """

    latency = 3

    def __init__(self, *, frame: Frame, size: tuple[int, int], lanes: int, bits: int) -> None:
        if size[0] < frame.height or size[1] < frame.width:
            raise BuildError(f"An upsampled frame must not be smaller than {frame}, not {size}.")
        self.frame = frame
        self.out_frame = Frame(frame.channels, *size)
        self.buffer = LineBuffer(frames=(frame,), rows=2, lanes=lanes, bits=bits)
        self.outlet = Outlet(width=lanes * bits, depth=self.latency)
        beat = lanes_signature(lanes, bits)
        super().__init__({"i": In(beat), "o": Out(beat)})

    def model(self, frame: Ints) -> Ints:
        """(C, H, W) to (C, H', W')."""
        rows = np.arange(self.out_frame.height) * self.frame.height // self.out_frame.height
        columns = np.arange(self.out_frame.width) * self.frame.width // self.out_frame.width
        return frame[:, rows][:, :, columns]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.buffer = buffer = self.buffer
        m.submodules.outlet = outlet = self.outlet
        connect(m, flipped(self.i), buffer.i)
        connect(m, outlet.o, flipped(self.o))
        issue = Signal()
        word = counter(buffer.words, "word")
        last_word = word == buffer.words - 1
        with m.If(issue):
            advance(m, word, last_word)
        pixel = issue & last_word
        x, next_x, row_ends = stretch(m, pixel, self.frame.width, self.out_frame.width, "x")
        row = pixel & row_ends
        y, next_y, ends = stretch(m, row, self.frame.height, self.out_frame.height, "y")

        # Addresses of the source row, the source pixel and the word.
        row_start = Signal.like(buffer.addr)
        pixel_start = Signal.like(buffer.addr)
        other_row = Mux(row_start == 0, buffer.row_words, 0)
        next_row = Mux(next_y | ends, other_row, row_start)
        with m.If(issue):
            m.d.sync += buffer.addr.eq(buffer.addr + 1)
        with m.If(pixel):
            start = Mux(next_x, pixel_start + buffer.words, pixel_start)
            m.d.sync += [pixel_start.eq(start), buffer.addr.eq(start)]
        with m.If(row):
            starts = (row_start, pixel_start, buffer.addr)
            m.d.sync += [start.eq(next_row) for start in starts]
        m.d.comb += [
            issue.eq(buffer.has(y, x) & (outlet.free != 0)),
            buffer.limit.eq(y + buffer.rows),
            buffer.height.eq(self.frame.height),
            buffer.leave.eq(row & ends),
            outlet.reserve.eq(issue),
            outlet.data.eq(buffer.data),
            outlet.push.eq(delay(m, issue, 1, "read")),
        ]
        return m


def stretch(
    m: Module, step: Signal, small: int, large: int, name: str
) -> tuple[Signal, Signal, Signal]:
    """Source index floor(i * small / large) while i counts 0 .. large - 1 by `step`.

    Returns (index, whether it grows at this step, whether i is at its last). `rest` is
    i * small - index * large.
    """
    i = counter(large, f"{name}_out")
    index = counter(small, f"{name}_in")
    rest = counter(large, f"{name}_rest")
    last = Signal(name=f"{name}_last")
    grows = Signal(name=f"{name}_grows")
    total = rest + small
    m.d.comb += [last.eq(i == large - 1), grows.eq((total >= large) & ~last)]
    with m.If(step):
        advance(m, i, last)
        m.d.sync += [
            rest.eq(Mux(last, 0, Mux(grows, total - large, total))),
            index.eq(Mux(last, 0, index + grows)),
        ]
    return index, grows, last
