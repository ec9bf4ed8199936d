"""Streams taking turns on one: pyramid levels, a whole frame of each at a time."""

from collections.abc import Sequence

from amaranth.hdl import Elaboratable, Module, Signal, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.stream import Frame, advance, by_level, counter


def turn(m: Module, beats: Sequence[int], step: Value) -> Signal:
    """Whose turn it is, when party k takes beats[k] `step`s in a row."""
    party = counter(len(beats), "party")
    done = counter(max(beats), "done")
    last = done == by_level(m, party, beats, "beats") - 1
    with m.If(step):
        advance(m, done, last)
        with m.If(last):
            advance(m, party, party == len(beats) - 1)
    return party


class Merge(wiring.Component):
    """n streams into one: beats[0] beats of `i[0]`, then beats[1] of `i[1]`, ..., and again.

    Latency 0; `i[k].ready` follows `o.ready` combinationally in k's turn.
    """

    def __init__(self, *, beats: Sequence[int], width: int) -> None:
        self.beats = tuple(beats)
        payload = stream.Signature(unsigned(width))
        super().__init__({"i": In(payload).array(len(self.beats)), "o": Out(payload)})

    def model(self, inputs: Sequence[Sequence[int]]) -> list[int]:
        """The beats of each input (whole rounds) to those of the output."""
        out: list[int] = []
        for k in range(len(inputs[0]) // self.beats[0]):
            for beats, size in zip(inputs, self.beats, strict=True):
                out += beats[k * size : (k + 1) * size]
        return out

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        with m.Switch(turn(m, self.beats, self.o.valid & self.o.ready)):
            for k, i in enumerate(self.i):
                with m.Case(k):
                    m.d.comb += [
                        self.o.payload.eq(i.payload),
                        self.o.valid.eq(i.valid),
                        i.ready.eq(self.o.ready),
                    ]
        return m


class Split(wiring.Component):
    """One stream into n: beats[0] beats to `o[0]`, then beats[1] to `o[1]`, ..., and again.

    Latency 0; `i.ready` follows the `o[k].ready` of the turn combinationally.
    """

    def __init__(self, *, beats: Sequence[int], width: int) -> None:
        self.beats = tuple(beats)
        payload = stream.Signature(unsigned(width))
        super().__init__({"i": In(payload), "o": Out(payload).array(len(self.beats))})

    def model(self, beats: Sequence[int]) -> list[list[int]]:
        """Beats (whole rounds) to the beats of each output."""
        out: list[list[int]] = [[] for _ in self.beats]
        at = 0
        while at < len(beats):
            for k, size in enumerate(self.beats):
                out[k] += beats[at : at + size]
                at += size
        return out

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.d.comb += [o.payload.eq(self.i.payload) for o in self.o]
        with m.Switch(turn(m, self.beats, self.i.valid & self.i.ready)):
            for k, o in enumerate(self.o):
                with m.Case(k):
                    m.d.comb += [o.valid.eq(self.i.valid), self.i.ready.eq(o.ready)]
        return m


class LevelMux(Merge):
    """A whole frame of each input in turn."""

    def __init__(self, *, frames: Sequence[Frame], lanes: int, bits: int) -> None:
        super().__init__(beats=[frame.beats(lanes) for frame in frames], width=lanes * bits)


class LevelDemux(Split):
    """A whole frame to each output in turn."""

    def __init__(self, *, frames: Sequence[Frame], lanes: int, bits: int) -> None:
        super().__init__(beats=[frame.beats(lanes) for frame in frames], width=lanes * bits)
