"""Crop: some rows and columns of a frame."""

import numpy as np
from amaranth.hdl import Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.pack import Ints
from intaglio.hdl.stream import Frame, advance, ceil_div, counter, lanes_signature

Steps = tuple[int, int, int]  # start, stop, step


class Crop(wiring.Component):
    """Rows and columns of a frame from a start to a stop in steps; the other beats are taken and
    dropped.

    Latency 0; `i.ready` follows `o.ready` combinationally where a beat is kept.
    """

    def __init__(self, *, frame: Frame, rows: Steps, columns: Steps, lanes: int, bits: int) -> None:
        self.frame = frame
        self.rows = rows
        self.columns = columns
        self.lanes = lanes
        self.out_frame = Frame(frame.channels, len(range(*rows)), len(range(*columns)))
        beat = lanes_signature(lanes, bits)
        super().__init__({"i": In(beat), "o": Out(beat)})

    def model(self, frame: Ints) -> Ints:
        """(C, H, W) to the kept (C, H', W')."""
        return frame[:, np.arange(*self.rows)][:, :, np.arange(*self.columns)]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        words = ceil_div(self.frame.channels, self.lanes)
        word = counter(words, "word")
        last_word = word == words - 1
        taken = self.i.valid & self.i.ready
        with m.If(taken):
            advance(m, word, last_word)
        pixel = taken & last_word
        row_ends, in_x = kept(m, pixel, self.frame.width, self.columns, "x")
        _, in_y = kept(m, pixel & row_ends, self.frame.height, self.rows, "y")
        keep = in_x & in_y
        m.d.comb += [
            self.o.payload.eq(self.i.payload),
            self.o.valid.eq(self.i.valid & keep),
            self.i.ready.eq(self.o.ready | ~keep),
        ]
        return m


def kept(m: Module, step: Value, size: int, steps: Steps, name: str) -> tuple[Value, Value]:
    """Of a place that counts 0 .. size - 1 by `step`: whether it is the last, and one of those
    wanted."""
    start, stop, stride = steps
    at, due = counter(size, name), Signal(range(stop + stride), name=f"{name}_due", init=start)
    last, wanted = at == size - 1, (at == due) & (due < stop)
    with m.If(step):
        advance(m, at, last)
        m.d.sync += due.eq(Mux(last, start, Mux(wanted, due + stride, due)))
    return last, wanted
