"""Concat: channels of several streams one after the other."""

from collections.abc import Sequence

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intaglio.errors import BuildError
from intaglio.hdl.stream import lanes_signature


class Concat(wiring.Component):
    """Of every pixel the beats of `i[0]`, then those of `i[1]`, ...

    channels  of each operand; `lanes` divides them all.

    Latency 0; `i[k].ready` follows `o.ready` combinationally while operand k passes.
    """

    def __init__(self, *, channels: Sequence[int], lanes: int, bits: int) -> None:
        if any(c % lanes for c in channels):
            raise BuildError(f"Concat's lanes must divide every operand's channels, not {lanes}.")
        self.beats = tuple(c // lanes for c in channels)
        beat = lanes_signature(lanes, bits)
        super().__init__({"i": In(beat).array(len(self.beats)), "o": Out(beat)})
