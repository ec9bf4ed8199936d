"""AXI4-Stream at the edge of the design."""

from collections.abc import Sequence

from amaranth.hdl import Elaboratable, Module, ResetSignal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.stream import advance, ceil_div, counter


def axis_signature(width: int) -> wiring.Signature:
    """`tdata` of `width` bits rounded up to bytes, `tvalid`, `tlast`, and back `tready`."""
    return wiring.Signature(
        {"tdata": Out(8 * ceil_div(width, 8)), "tvalid": Out(1), "tready": In(1), "tlast": Out(1)}
    )


class AxisReceiver(wiring.Component):
    """AXI4-Stream `i` to stream `o`; tlast is ignored, for frames are counted. Latency 0."""

    def __init__(self, *, width: int) -> None:
        self.width = width
        super().__init__(
            {"i": In(axis_signature(width)), "o": Out(stream.Signature(unsigned(width)))}
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.d.comb += [
            self.o.payload.eq(self.i.tdata),
            self.o.valid.eq(self.i.tvalid),
            self.i.tready.eq(self.o.ready),
        ]
        return m


class AxisSender(wiring.Component):
    """Stream `i` to AXI4-Stream `o`, tlast on the last of every `beats` beats. Latency 0.

    The bits above `width` are 0.
    """

    def __init__(self, *, width: int, beats: int) -> None:
        self.width = width
        self.beats = beats
        super().__init__(
            {"i": In(stream.Signature(unsigned(width))), "o": Out(axis_signature(width))}
        )

    def model(self, beats: Sequence[int]) -> list[tuple[int, bool]]:
        """Beats to (tdata, tlast)."""
        return [(beat, k % self.beats == self.beats - 1) for k, beat in enumerate(beats)]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        beat = counter(self.beats, "beat")
        m.d.comb += [
            self.o.tdata.eq(self.i.payload),
            # A block that needs no input, like a border, is valid even in reset; AXI forbids it.
            self.o.tvalid.eq(self.i.valid & ~ResetSignal(allow_reset_less=True)),
            self.o.tlast.eq(beat == self.beats - 1),
            self.i.ready.eq(self.o.tready),
        ]
        with m.If(self.i.valid & self.i.ready):
            advance(m, beat, self.o.tlast)
        return m
