# amaranth: UnusedElaboratable=no
"""Blocks of pixels as one pixel of more channels, and back."""

import numpy as np
from amaranth.hdl import Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intaglio.errors import BuildError
from intaglio.fixed import IntType
from intaglio.hdl.fifo import Outlet
from intaglio.hdl.geometry import Geometry, Pair
from intaglio.hdl.linebuffer import LineBuffer
from intaglio.hdl.pack import Ints
from intaglio.hdl.stream import Frame, advance, counter, delay, lanes_signature
from intaglio.hdl.window import Window


class SpaceToDepth(wiring.Component):
    """Every block (bh, bw) of pixels as one, whose channels are (dy, dx, c). One beat a cycle;
    holds the rows of two blocks.

    lanes    divide the channels.
    latency  4 cycles from the issue of a word to `o.valid` (see `Window`).
    """

    latency = 4

    def __init__(self, *, frame: Frame, block: Pair, x: IntType, lanes: int) -> None:
        check_lanes(frame.channels, lanes)
        self.frame, self.block, self.lanes = frame, block, lanes
        bh, bw = block
        self.out_frame = Frame(frame.channels * bh * bw, frame.height // bh, frame.width // bw)
        geometry = Geometry(block, block)
        self.window = Window(frames=[frame], geometry=geometry, x=x, lanes=lanes, singly=True)
        self.outlet = Outlet(width=lanes * x.bits, depth=self.latency + 1)
        beat = lanes_signature(lanes, x.bits)
        super().__init__({"i": In(beat), "o": Out(beat)})

    def model(self, frame: Ints) -> Ints:
        """(C, H, W) to (C * bh * bw, H / bh, W / bw)."""
        bh, bw = self.block
        return np.concatenate([frame[:, y::bh, x::bw] for y in range(bh) for x in range(bw)])

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.window = window = self.window
        m.submodules.outlet = outlet = self.outlet
        connect(m, flipped(self.i), window.i)
        connect(m, outlet.o, flipped(self.o))
        m.d.comb += [
            window.go.eq(outlet.free != 0),
            outlet.reserve.eq(window.issue_last),
            outlet.data.eq(window.data),
            outlet.push.eq(window.valid),
        ]
        return m


class DepthToSpace(wiring.Component):
    """Channels (dy, dx, c) of every pixel as a block (bh, bw) of them. One beat a cycle, where a
    frame is wider than a pixel; holds two rows, of which one is read while the next arrives.

    lanes    divide the channels of the result.
    latency  3 cycles from taking the beat that completes a pixel to `o.valid` of its first beat.
    """

    latency = 3

    def __init__(self, *, frame: Frame, block: Pair, lanes: int, bits: int) -> None:
        bh, bw = block
        channels = frame.channels // (bh * bw)
        check_lanes(channels, lanes)
        self.frame, self.block, self.lanes = frame, block, lanes
        self.out_frame = Frame(channels, frame.height * bh, frame.width * bw)
        self.buffer = LineBuffer(frames=(frame,), rows=2, lanes=lanes, bits=bits)
        self.outlet = Outlet(width=lanes * bits, depth=self.latency)
        beat = lanes_signature(lanes, bits)
        super().__init__({"i": In(beat), "o": Out(beat)})

    def model(self, frame: Ints) -> Ints:
        """(C, H, W) to (C / (bh * bw), H * bh, W * bw)."""
        bh, bw = self.block
        out = self.out_frame
        made = np.empty((out.channels, out.height, out.width), dtype=np.int64)
        for k in range(bh * bw):
            part = frame[k * out.channels : (k + 1) * out.channels]
            made[:, k // bw :: bh, k % bw :: bw] = part
        return made

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.buffer = buffer = self.buffer
        m.submodules.outlet = outlet = self.outlet
        connect(m, flipped(self.i), buffer.i)
        connect(m, outlet.o, flipped(self.o))
        bh, run = self.block[0], buffer.words // self.block[0]  # words of a line in a pixel
        issue = Signal()
        word, x = counter(run, "word"), counter(self.frame.width, "x")
        dy, y = counter(bh, "dy"), counter(self.frame.height, "y")
        last_word, last_x = word == run - 1, x == self.frame.width - 1
        last_dy, last_y = dy == bh - 1, y == self.frame.height - 1
        pixel = issue & last_word
        line = pixel & last_x
        row = line & last_dy
        for step, at, last in (
            (issue, word, last_word), (pixel, x, last_x), (line, dy, last_dy), (row, y, last_y),
        ):  # fmt: skip
            with m.If(step):
                advance(m, at, last)

        # Addresses of the row, and of its pixels' words for this line.
        row_start, line_start = Signal.like(buffer.addr), Signal.like(buffer.addr)
        other_row = Mux(row_start == 0, buffer.row_words, 0)
        start = Mux(last_dy, other_row, line_start + run)
        with m.If(issue):
            ahead = Mux(last_word, buffer.words - run + 1, 1)
            m.d.sync += buffer.addr.eq(buffer.addr + ahead)
        with m.If(line):
            m.d.sync += [line_start.eq(start), buffer.addr.eq(start)]
        with m.If(row):
            m.d.sync += row_start.eq(other_row)
        m.d.comb += [
            issue.eq(buffer.has(y, x) & (outlet.free != 0)),
            buffer.limit.eq(y + buffer.rows),
            buffer.height.eq(self.frame.height),
            buffer.leave.eq(row & last_y),
            outlet.reserve.eq(issue),
            outlet.data.eq(buffer.data),
            outlet.push.eq(delay(m, issue, 1, "read")),
        ]
        return m


def check_lanes(channels: int, lanes: int) -> None:
    """Raises BuildError where a beat would hold channels of two pixels."""
    if channels % lanes:
        raise BuildError(
            f"The lanes must divide the {channels} channels of a pixel, not be {lanes}."
        )
