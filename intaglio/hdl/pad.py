"""Pad: a border around every channel."""

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intaglio.fixed import IntType
from intaglio.hdl.stream import Frame, lanes_signature


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
        beat = lanes_signature(lanes, x.bits)
        super().__init__({"i": In(beat), "o": Out(beat)})
