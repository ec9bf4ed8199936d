"""Repack: another number of lanes."""

from collections.abc import Sequence
from math import gcd

from amaranth.hdl import Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.pack import pack_word, unpack_word
from intaglio.hdl.stream import advance, ceil_div, counter, lanes_signature


class Repack(wiring.Component):
    """`lanes_in` channels a beat to `lanes_out`; any two numbers, any channel count.

    A pixel of C channels is ceil(C / lanes_in) beats in and ceil(C / lanes_out) beats out, and
    takes the larger of the two in cycles. Latency 1 from the input beat that completes an output
    beat. `i.ready` depends on registers alone.
    """

    def __init__(self, *, channels: int, bits: int, lanes_in: int, lanes_out: int) -> None:
        self.channels = channels
        self.bits = bits
        self.lanes_in = lanes_in
        self.lanes_out = lanes_out
        self.step = gcd(lanes_in, lanes_out)
        self.full = 2 * lanes_out - (self.step if lanes_in >= lanes_out else 0)
        self.per_pixel = ceil_div(channels, lanes_in)
        before_last = (self.per_pixel - 1) * lanes_in
        self.rest = ceil_div(channels, lanes_out) * lanes_out - before_last
        super().__init__(
            {
                "i": In(lanes_signature(lanes_in, bits)),
                "o": Out(lanes_signature(lanes_out, bits)),
            }
        )

    def model(self, beats: Sequence[int]) -> list[int]:
        """The beats of whole pixels to the beats of the same pixels; unused lanes are 0."""
        per_pixel = ceil_div(self.channels, self.lanes_in)
        out: list[int] = []
        for at in range(0, len(beats), per_pixel):
            codes: list[int] = []
            for beat in beats[at : at + per_pixel]:
                codes += unpack_word(beat, self.lanes_in, self.bits, signed=False)
            codes = codes[: self.channels]
            for k in range(0, self.channels, self.lanes_out):
                out.append(pack_word(codes[k : k + self.lanes_out], self.bits))
        return out

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        # The buffer holds `fill` lanes. A pixel's last beat counts as many lanes as complete the
        # pixel's last output beat, so that the next pixel starts in lane 0 of a beat again.
        step, full, per_pixel, rest = self.step, self.full, self.per_pixel, self.rest

        fill = Signal(range(full + max(rest, self.lanes_in) + 1))
        buffer = Signal((full + self.lanes_in) * self.bits)
        taken = self.i.valid & self.i.ready
        given = self.o.valid & self.o.ready
        m.d.comb += [
            self.i.ready.eq(fill <= full),
            self.o.valid.eq(fill >= self.lanes_out),
            self.o.payload.eq(buffer),
        ]
        beat = counter(per_pixel, "beat")
        last = beat == per_pixel - 1
        with m.If(taken):
            advance(m, beat, last)

        kept = Signal.like(fill)
        shifted = Signal.like(buffer)
        m.d.comb += [
            kept.eq(Mux(given, fill - self.lanes_out, fill)),
            shifted.eq(Mux(given, buffer >> self.lanes_out * self.bits, buffer)),
        ]
        m.d.sync += [fill.eq(kept), buffer.eq(shifted)]
        with m.If(taken):
            m.d.sync += fill.eq(kept + Mux(last, rest, self.lanes_in))
            with m.Switch(kept):
                for at in range(0, full + 1, step):
                    with m.Case(at):
                        place = buffer[at * self.bits :][: self.lanes_in * self.bits]
                        m.d.sync += place.eq(self.i.payload)
        return m
