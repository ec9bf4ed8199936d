"""Repack: another number of lanes."""

from collections.abc import Sequence
from math import gcd

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.stream import ceil_div, lanes_signature


class Repack(wiring.Component):
    """`lanes_in` channels a beat to `lanes_out`; any two numbers, any channel count.

    A pixel of C channels is ceil(C / lanes_in) beats in and ceil(C / lanes_out) beats out, and takes
    the larger of the two in cycles. Latency 1 from the input beat that completes an output beat.
    `i.ready` depends on registers alone.
    """

    def __init__(self, *, channels: int, bits: int, lanes_in: int, lanes_out: int) -> None:
        self.channels = channels
        self.bits = bits
        self.lanes_in = lanes_in
        self.lanes_out = lanes_out
        super().__init__(
            {
                "i": In(lanes_signature(lanes_in, bits)),
                "o": Out(lanes_signature(lanes_out, bits)),
            }
        )
