"""Copies of a queue with one handshake fault each, which the proofs must find."""

from amaranth.hdl import Elaboratable, Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


class OneBeat(wiring.Component):
    """A queue of one beat; `fault` names what is wrong with it, and None is right.

    changes   the payload follows the input while the beat waits.
    withdraws valid falls after a cycle in which nobody took the beat.
    drops     a new beat is taken although the old one still waits.
    repeats   a beat is given twice.
    stuck     after three beats nothing is taken any more.
    waits     valid is shown only to a consumer that is ready.
    late      the 50th beat has a wrong bit: no short run shows it.
    """

    def __init__(self, fault: str | None = None) -> None:
        self.fault = fault
        payload = stream.Signature(unsigned(2))
        super().__init__({"i": In(payload), "o": Out(payload)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        full, beat = Signal(), Signal(2)
        taken, given = self.i.valid & self.i.ready, self.o.valid & self.o.ready
        again, beats = Signal(), Signal(range(4))
        m.d.comb += [self.i.ready.eq(~full), self.o.valid.eq(full), self.o.payload.eq(beat)]
        with m.If(taken):
            m.d.sync += [beat.eq(self.i.payload), full.eq(1), beats.eq(beats + (beats != 3))]
        with m.Elif(given):
            m.d.sync += full.eq(0)
        if self.fault == "changes":
            m.d.comb += self.o.payload.eq(Mux(self.i.valid, self.i.payload, beat))
        elif self.fault == "withdraws":
            with m.If(full & ~given & ~taken):
                m.d.sync += full.eq(0)
        elif self.fault == "drops":
            m.d.comb += self.i.ready.eq(1)
        elif self.fault == "repeats":
            with m.If(given):
                m.d.sync += again.eq(~again)
                with m.If(~again):
                    m.d.sync += full.eq(1)
        elif self.fault == "stuck":
            m.d.comb += self.i.ready.eq(~full & (beats != 3))
        elif self.fault == "waits":
            m.d.comb += self.o.valid.eq(full & self.o.ready)
        elif self.fault == "late":
            count = Signal(range(64))
            m.d.sync += count.eq(count + given)
            m.d.comb += self.o.payload.eq(beat ^ (count == 49))
        return m
