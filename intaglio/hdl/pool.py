"""Pooling: the largest code of a window, or their exact sum requantised."""

from collections.abc import Sequence

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intaglio.fixed import IntType, Rounding
from intaglio.hdl.conv import Padding, Pair
from intaglio.hdl.requant import Scaling
from intaglio.hdl.rom import Rom
from intaglio.hdl.stream import Frame, lanes_signature


class MaxPool(wiring.Component):
    """Largest code of each window; positions outside the image do not take part.

    Ports `i` and `o`: lanes * x.bits. Cycles per output pixel: ceil(C / lanes) * Kh * Kw.
    """

    out_frames: tuple[Frame, ...]
    cycles_per_pixel: int
    latency: int

    def __init__(
        self,
        *,
        frames: Sequence[Frame],
        kernel: Pair,
        x: IntType,
        lanes: int,
        stride: Pair = (1, 1),
        dilation: Pair = (1, 1),
        padding: Padding = (0, 0, 0, 0),
        rows: int | None = None,
    ) -> None:
        beat = lanes_signature(lanes, x.bits)
        super().__init__({"i": In(beat), "o": Out(beat)})


class SumPool(wiring.Component):
    """Exact sum of each window, requantised: average pooling.

    pad_value: what positions outside the image count as. Ports: `i` lanes * x.bits, `o`
    out_lanes * y.bits; out_lanes divides lanes, and lanes / out_lanes <= Kh * Kw.
    Cycles per output pixel: ceil(C / lanes) * Kh * Kw.
    """

    out_frames: tuple[Frame, ...]
    cycles_per_pixel: int
    latency: int
    roms: tuple[Rom, ...]

    def __init__(
        self,
        *,
        frames: Sequence[Frame],
        kernel: Pair,
        x: IntType,
        y: IntType,
        scalings: Sequence[Scaling],
        rounding: Rounding = "RND",
        lanes: int,
        out_lanes: int,
        stride: Pair = (1, 1),
        dilation: Pair = (1, 1),
        padding: Padding = (0, 0, 0, 0),
        pad_value: int = 0,
        rows: int | None = None,
        rom: str | None = None,
    ) -> None:
        super().__init__(
            {
                "i": In(lanes_signature(lanes, x.bits)),
                "o": Out(lanes_signature(out_lanes, y.bits)),
            }
        )
