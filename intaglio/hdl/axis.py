"""AXI4-Stream at the edge of the design."""

from collections.abc import Iterable, Sequence

from amaranth.hdl import Elaboratable, Module, Mux, ResetSignal, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.stream import advance, ceil_div, counter


def axis_signature(width: int) -> wiring.Signature:
    """`tdata` of `width` bits rounded up to bytes, `tvalid`, `tlast`, and back `tready`."""
    return wiring.Signature(
        {"tdata": Out(8 * ceil_div(width, 8)), "tvalid": Out(1), "tready": In(1), "tlast": Out(1)}
    )


class AxisReceiver(wiring.Component):
    """AXI4-Stream `i` to stream `o` of whole frames of `beats` beats. Latency 0.

    Of a source that never sets tlast the beats are counted. From the first tlast on, a packet is a
    frame: one that is too short is filled up with beats of 0, while `i` waits; of one that is too
    long the rest is taken and dropped. So every packet gives one frame, and the next is right. The
    first packet is cut into frames, for it may have no end. `error` is 1 from the cycle after a
    packet turned out too short or too long until reset.
    """

    def __init__(self, *, width: int, beats: int) -> None:
        self.width = width
        self.beats = beats
        super().__init__(
            {
                "i": In(axis_signature(width)),
                "o": Out(stream.Signature(unsigned(width))),
                "error": Out(1),
            }
        )

    def model(self, beats: Iterable[tuple[int, bool]]) -> tuple[list[int], bool]:
        """(tdata, tlast) to the payloads of `o`, and `error` at the end."""
        given: list[int] = []
        length, packets, error = 0, False, False  # of this packet; whether a tlast has been
        for data, last in beats:
            length += 1
            if not packets or length <= self.beats:
                given.append(data % (1 << self.width))
            error |= length != self.beats if last else packets and length == self.beats
            if last:
                given += [0] * (-len(given) % self.beats)
                length, packets = 0, True
        return given, error

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        beat = counter(self.beats, "beat")
        packets = Signal()  # there has been a tlast
        counted = Signal()  # a frame has passed before there was one
        filling = Signal()  # a packet was too short
        dropping = Signal()  # a packet is too long
        last = beat == self.beats - 1
        taken = self.i.tvalid & self.i.tready & ~dropping
        short, long = self.i.tlast & ~last, ~self.i.tlast & last
        m.d.comb += [
            self.o.payload.eq(Mux(filling, 0, self.i.tdata)),
            self.o.valid.eq(self.i.tvalid & ~dropping | filling),
            self.i.tready.eq(self.o.ready & ~filling | dropping),
        ]
        with m.If(self.o.valid & self.o.ready):
            advance(m, beat, last)
            with m.If(last):
                m.d.sync += filling.eq(0)
        with m.If(self.i.tvalid & self.i.tready & self.i.tlast):
            m.d.sync += [packets.eq(1), dropping.eq(0)]
        with m.If(taken & short):
            m.d.sync += filling.eq(1)
        with m.If(taken & long):
            m.d.sync += [counted.eq(1), dropping.eq(packets)]
        late = packets & long | ~packets & counted & self.i.tlast
        with m.If(taken & (short | late)):
            m.d.sync += self.error.eq(1)
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
