"""The convolution engine: dense and grouped."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intaglio.fixed import IntType, Rounding
from intaglio.hdl.accumulator import Accumulator
from intaglio.hdl.pack import Ints
from intaglio.hdl.requant import Scaling
from intaglio.hdl.rom import Rom
from intaglio.hdl.stream import Frame, lanes_signature

Pair = tuple[int, int]
Padding = tuple[int, int, int, int]


class ConvEngine(wiring.Component):
    """Convolution and requantisation on SIMD * PE multipliers, for one or more levels.

    frames      input frames in their cyclic order; one channel count, any sizes.
    weights     (Cout, Cin / groups, Kh, Kw) codes of type `w`.
    padding     (top, bottom, left, right).
    pad_values  per level, one value or one per input channel: what lies outside the image.
    scalings    one per level.
    simd, pe    input channels and output channels a cycle. Grouped: they divide the group's.
    out_lanes   requantisers; divides `pe`, and pe / out_lanes <= cycles of a group of PE.
    rows        rows held by the line buffer; default `Window.default_rows`.
    rom         prefix of ROM files (`rom + "_weights.hex"`, ...), or None to build contents in.

    Ports: `i` simd * x.bits, `o` out_lanes * y.bits. Cycles per output pixel:
    ceil(Cout / pe) * Kh * Kw * ceil(Cin / groups / simd), with no others between pixels, rows,
    frames or levels as long as input is there and output is taken.
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
        simd: int,
        pe: int,
        out_lanes: int,
        groups: int = 1,
        stride: Pair = (1, 1),
        dilation: Pair = (1, 1),
        padding: Padding = (0, 0, 0, 0),
        pad_values: Sequence[Sequence[int]] = ((0,),),
        rows: int | None = None,
        rom: str | None = None,
    ) -> None:
        super().__init__(
            {
                "i": In(lanes_signature(simd, x.bits)),
                "o": Out(lanes_signature(out_lanes, y.bits)),
            }
        )
