"""Upsample: nearest neighbour."""

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.stream import Frame, lanes_signature


class Upsample(wiring.Component):
    """Nearest neighbour to `size` (H, W), source index floor(i * in / out); enlarges only.

    Holds two rows: one is repeated while the next arrives. One beat of the enlarged frame a cycle.

    latency  cycles from taking the beat that completes a pixel to `o.valid` of its first copy.
    """

    latency: int

    def __init__(self, *, frame: Frame, size: tuple[int, int], lanes: int, bits: int) -> None:
        beat = lanes_signature(lanes, bits)
        super().__init__({"i": In(beat), "o": Out(beat)})
