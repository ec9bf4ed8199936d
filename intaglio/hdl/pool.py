# amaranth: UnusedElaboratable=no
"""Pooling: the largest code of a window, or their exact sum requantised."""

from collections.abc import Sequence

import numpy as np
from amaranth.hdl import Cat, Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intaglio.fixed import IntType, Rounding
from intaglio.hdl.accumulator import Accumulator
from intaglio.hdl.engine import Engine
from intaglio.hdl.fifo import Outlet
from intaglio.hdl.geometry import Geometry, Padding, Pair
from intaglio.hdl.hard import ANY, Hard
from intaglio.hdl.pack import Ints
from intaglio.hdl.requant import Scaling
from intaglio.hdl.stream import (
    Frame,
    ceil_div,
    common_channels,
    delay,
    lane,
    lanes_signature,
    shape_of,
)
from intaglio.hdl.window import Window


class MaxPool(wiring.Component):
    """Largest code of each window; positions outside the image do not take part.

    Ports `i` and `o`: lanes * x.bits. Cycles per output pixel: ceil(C / lanes) * Kh * Kw.

    latency  5 cycles from the issue of a pass's last word to `o.valid` (see `Window`).
    """

    latency = 5

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
        self.x = x
        self.lanes = lanes
        self.window = Window(
            frames=frames,
            geometry=Geometry(kernel, stride, dilation, padding),
            x=x,
            lanes=lanes,
            groups=ceil_div(common_channels(frames), lanes),
            pad_values=((x.lo,),),  # never larger than a pixel of the image
            rows=rows,
        )
        self.out_frames = self.window.out_frames
        self.cycles_per_pixel = self.window.cycles_per_pixel
        places = ceil_div(self.latency + self.window.goes + 1, self.window.pass_cycles)
        self.outlet = Outlet(width=lanes * x.bits, depth=places)
        beat = lanes_signature(lanes, x.bits)
        super().__init__({"i": In(beat), "o": Out(beat)})

    def model(self, frames: Sequence[Ints]) -> list[Ints]:
        """(C, H, W) of each level in turn to (C, H', W') of each."""
        geometry = self.window.geometry
        return [
            geometry.windows(frame, (self.x.lo,)).max(axis=(3, 4)).transpose(2, 0, 1)
            for frame in frames
        ]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.window = window = self.window
        m.submodules.outlet = outlet = self.outlet
        connect(m, flipped(self.i), window.i)
        connect(m, outlet.o, flipped(self.o))
        best = []
        for k in range(self.lanes):
            so_far = Signal(shape_of(self.x), name=f"best_{k}", reset_less=True)
            x = lane(window.data, k, self.x)
            with m.If(window.valid & (window.first | (x > so_far))):
                m.d.sync += so_far.eq(x)
            best.append(so_far)
        m.d.comb += [
            window.go.eq(outlet.free != 0),
            outlet.reserve.eq(window.issue_last),
            outlet.data.eq(Cat(best)),
            outlet.push.eq(delay(m, window.valid & window.last, 1, "done")),
        ]
        return m


class SumPool(Engine):
    """Exact sum of each window, requantised: average pooling.

    pad_value: what positions outside the image count as. Ports: `i` lanes * x.bits, `o`
    out_lanes * y.bits; out_lanes divides lanes, and lanes / out_lanes <= Kh * Kw.
    Cycles per output pixel: ceil(C / lanes) * Kh * Kw.
    """

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
        hard: Hard = ANY,
        rom: str | None = None,
    ) -> None:
        n = kernel[0] * kernel[1]
        channels = common_channels(frames)
        super().__init__(
            window=Window(
                frames=frames,
                geometry=Geometry(kernel, stride, dilation, padding),
                x=x,
                lanes=lanes,
                groups=ceil_div(channels, lanes),
                pad_values=((pad_value,),),
                rows=rows,
                late=hard.late,
            ),
            pairs=[[(k, k)] for k in range(lanes)],
            kernels=np.ones((1, channels, 1, *kernel), dtype=np.int64),
            groups=channels,
            weights=None,
            w=x,
            accumulator=Accumulator(IntType.accumulating(n * x.lo, n * x.hi).bits),
            y=y,
            scalings=scalings,
            rounding=rounding,
            out_lanes=out_lanes,
            hard=hard,
            rom=rom,
        )
