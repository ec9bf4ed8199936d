"""Pad: a border around every channel."""

import numpy as np
from amaranth.hdl import Const, Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intaglio.fixed import IntType
from intaglio.hdl.pack import Ints, pack_word
from intaglio.hdl.stream import Frame, advance, ceil_div, counter, lanes_signature


class Pad(wiring.Component):
    """A border of `value`, padding (top, bottom, left, right), around a frame.

    Latency 0; `i.ready` follows `o.ready` combinationally inside the border.
    """

    def __init__(
        self,
        *,
        frame: Frame,
        padding: tuple[int, int, int, int],
        value: int,
        x: IntType,
        lanes: int,
    ) -> None:
        self.frame = frame
        self.padding = padding
        self.value = value
        self.x = x
        self.lanes = lanes
        top, bottom, left, right = padding
        self.out_frame = Frame(
            frame.channels, top + frame.height + bottom, left + frame.width + right
        )
        beat = lanes_signature(lanes, x.bits)
        super().__init__({"i": In(beat), "o": Out(beat)})

    def model(self, frame: Ints) -> Ints:
        """(C, H, W) to the padded (C, H', W')."""
        top, bottom, left, right = self.padding
        edges = ((0, 0), (top, bottom), (left, right))
        return np.pad(frame, edges, constant_values=self.value)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        top, _, left, _ = self.padding
        words = ceil_div(self.frame.channels, self.lanes)
        word = counter(words, "word")
        x = counter(self.out_frame.width, "x")
        y = counter(self.out_frame.height, "y")
        with m.If(self.o.valid & self.o.ready):
            last_word = word == words - 1
            last_x = x == self.out_frame.width - 1
            advance(m, word, last_word)
            with m.If(last_word):
                advance(m, x, last_x)
                with m.If(last_x):
                    advance(m, y, y == self.out_frame.height - 1)

        inside_y = (y >= top) & (y < top + self.frame.height)
        inside_x = (x >= left) & (x < left + self.frame.width)
        with m.If(inside_y & inside_x):
            m.d.comb += [
                self.o.payload.eq(self.i.payload),
                self.o.valid.eq(self.i.valid),
                self.i.ready.eq(self.o.ready),
            ]
        with m.Else():
            border = pack_word([self.value] * self.lanes, self.x.bits)
            m.d.comb += [
                self.o.payload.eq(Const(border, self.lanes * self.x.bits)),
                self.o.valid.eq(1),
            ]
        return m
