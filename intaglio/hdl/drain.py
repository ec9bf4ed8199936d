# amaranth: UnusedElaboratable=no
"""The drain: from the accumulators of one pass to the beats of the output stream."""

from collections.abc import Sequence

from amaranth.hdl import Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intaglio.errors import BuildError
from intaglio.fixed import IntType, Rounding
from intaglio.hdl.fifo import Outlet
from intaglio.hdl.hard import ANY, Hard
from intaglio.hdl.requant import Requantiser, Scaling, clamped
from intaglio.hdl.stream import (
    Frame,
    advance,
    ceil_div,
    common_channels,
    counter,
    go_delay,
    lane,
    lanes_signature,
)


class Drain(wiring.Component):
    """Takes `results` sums at once with `done`, requantises `out_lanes` a cycle, queues the beats.

    frames       output frames. A pixel is ceil(C / results) passes; the last may need fewer beats.
    pixels       if more than 1, the sums are all those of so many pixels, one behind the other, and
                 `issue_pixels` and `pixels_here` say, with `issue_last` and `done`, how many count.
    sum_type     of a sum.
    saturate     a narrower type that the sums are clamped to first, or None.
    pass_cycles  cycles between two `done` at least. Of more than one, `go` is followed a cycle
                 later, see `Window`.
    lead         cycles from `issue_last` to `done` of the same pass.

    A pass's places in the queue are reserved with `issue_last`, which needs `go`. The queue is
    deep enough for one pass every `pass_cycles` when `o` is always taken.

    latency  cycles from `issue_last` to `o.valid` of the pass's first beat.
    """

    def __init__(
        self,
        *,
        frames: Sequence[Frame],
        results: int,
        sum_type: IntType,
        saturate: IntType | None,
        y: IntType,
        scalings: Sequence[Scaling],
        rounding: Rounding,
        out_lanes: int,
        pass_cycles: int,
        lead: int,
        pixels: int = 1,
        hard: Hard = ANY,
        rom: str | None,
    ) -> None:
        self.results = results
        self.pixels = pixels
        self.sum_type = sum_type
        self.saturate = saturate
        self.out_lanes = out_lanes
        channels = common_channels(frames)
        each = results // pixels  # sums of a pixel at once
        self.passes = ceil_div(channels, each)
        self.beats = results // out_lanes
        self.last_beats = ceil_div(channels, out_lanes) - (self.passes - 1) * (each // out_lanes)
        if pixels > 1 and each != channels:
            raise BuildError(
                f"The sums of pixels side by side must be those of all {channels} channels, not of"
                f" {each}."
            )
        if results % out_lanes or self.beats > pass_cycles:
            raise BuildError(
                f"The output lanes must divide {results} results and drain them in {pass_cycles}"
                f" cycles, not be {out_lanes}."
            )
        self.requantiser = Requantiser(
            frames=frames,
            lanes=out_lanes,
            x=saturate or sum_type,
            y=y,
            scalings=scalings,
            rounding=rounding,
            hard=hard,
            rom=rom,
        )
        self.latency = lead + 1 + self.requantiser.latency + 1
        back = (
            self.latency + go_delay(pass_cycles) + self.beats
        )  # until its places can be used again
        places = self.beats * ceil_div(back, pass_cycles)
        self.outlet = Outlet(width=out_lanes * y.bits, depth=max(places, self.beats))
        self.roms = self.requantiser.roms
        count = In(range(pixels + 1))
        told = {"issue_pixels": count, "pixels_here": count} if pixels > 1 else {}
        super().__init__(
            {
                "go": Out(1),
                "issue_last": In(1),
                "sums": In(results * sum_type.bits),
                "done": In(1),
                "o": Out(lanes_signature(out_lanes, y.bits)),
                **told,
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.requantiser = requantiser = self.requantiser
        m.submodules.outlet = outlet = self.outlet
        connect(m, outlet.o, flipped(self.o))
        if self.pixels > 1:
            issued: Value = self.issue_pixels * self.last_beats
        else:
            issued = self._beats(m, self.issue_last, "issued")
        m.d.comb += [
            self.go.eq(outlet.free >= self.beats),
            outlet.reserve.eq(Mux(self.issue_last, issued, 0)),
            outlet.data.eq(requantiser.o),
            outlet.push.eq(requantiser.o_valid),
        ]
        held = Signal.like(self.sums, reset_less=True)
        left = Signal(range(self.beats + 1))
        m.d.sync += held.eq(held >> self.out_lanes * self.sum_type.bits)
        with m.If(left != 0):
            m.d.sync += left.eq(left - 1)
        if self.pixels > 1:
            beats: Value = self.pixels_here * self.last_beats
        else:
            beats = self._beats(m, self.done, "summed")
        with m.If(self.done):
            m.d.sync += [held.eq(self.sums), left.eq(beats)]
        m.d.comb += requantiser.i_valid.eq(left != 0)
        for k in range(self.out_lanes):
            value = lane(held, k, self.sum_type)
            if self.saturate is not None:
                value = clamped(value, self.saturate.lo, self.saturate.hi)
            m.d.comb += lane(requantiser.i, k, IntType(requantiser.x.bits, False)).eq(value)
        return m

    def _beats(self, m: Module, step: Value, name: str) -> Value:
        """Beats of the current pass, counting passes by `step`."""
        at = counter(self.passes, name)
        last = at == self.passes - 1
        with m.If(step):
            advance(m, at, last)
        return Mux(last, self.last_beats, self.beats)
