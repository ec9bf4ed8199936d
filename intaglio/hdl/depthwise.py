"""The depthwise convolution engine: every lane its own channel."""

from collections.abc import Sequence

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intaglio.fixed import IntType, Rounding
from intaglio.hdl.accumulator import Accumulator
from intaglio.hdl.conv import Padding, Pair
from intaglio.hdl.pack import Ints
from intaglio.hdl.requant import Scaling
from intaglio.hdl.rom import Rom
from intaglio.hdl.stream import Frame, lanes_signature


class DepthwiseEngine(wiring.Component):
    """Depthwise convolution (groups = Cin = Cout) and requantisation on `lanes` multipliers.

    weights (C, 1, Kh, Kw); everything else as `ConvEngine`. Ports: `i` lanes * x.bits, `o`
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
        weights: Ints,
        x: IntType,
        w: IntType,
        y: IntType,
        accumulator: Accumulator,
        scalings: Sequence[Scaling],
        rounding: Rounding = "RND",
        lanes: int,
        out_lanes: int,
        stride: Pair = (1, 1),
        dilation: Pair = (1, 1),
        padding: Padding = (0, 0, 0, 0),
        pad_values: Sequence[Sequence[int]] = ((0,),),
        rows: int | None = None,
        rom: str | None = None,
    ) -> None:
        super().__init__(
            {
                "i": In(lanes_signature(lanes, x.bits)),
                "o": Out(lanes_signature(out_lanes, y.bits)),
            }
        )
