"""Parts of blocks that have no stream at one side, with the simplest partner that keeps the rules
written in their docstrings, so that the harness can hold them."""

from typing import Any

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intaglio.hdl.drain import Drain
from intaglio.hdl.fifo import Outlet
from intaglio.hdl.linebuffer import LineBuffer
from intaglio.hdl.stream import advance, counter, delay, pipe
from intaglio.hdl.window import Window


class OutletUser(wiring.Component):
    """Beats of `i` are started when there is a place, and pushed `cycles` later."""

    def __init__(self, *, width: int, depth: int, cycles: int) -> None:
        self.inner = Outlet(width=width, depth=depth)
        self.cycles = cycles
        payload = stream.Signature(unsigned(width))
        super().__init__({"i": In(payload), "o": Out(payload)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.inner = inner = self.inner
        connect(m, inner.o, flipped(self.o))
        taken = self.i.valid & self.i.ready
        m.d.comb += [
            self.i.ready.eq(inner.free != 0),
            inner.reserve.eq(taken),
            inner.push.eq(delay(m, taken, self.cycles, "taken")),
            inner.data.eq(pipe(m, self.i.payload, self.cycles, "beat")),
        ]
        return m


class DrainUser(wiring.Component):
    """A beat of `i` is the sums of a pass; passes are issued `spacing` cycles apart at least."""

    def __init__(self, *, inner: Drain, lead: int, spacing: int) -> None:
        self.inner = inner
        self.lead = lead
        self.spacing = spacing
        sums = stream.Signature(unsigned(inner.results * inner.sum_type.bits))
        super().__init__({"i": In(sums), "o": Out(inner.o.signature)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.inner = inner = self.inner
        connect(m, inner.o, flipped(self.o))
        rest = Signal(range(self.spacing + 1))
        issue = self.i.valid & self.i.ready
        m.d.sync += rest.eq(Mux(issue, self.spacing - 1, Mux(rest == 0, 0, rest - 1)))
        m.d.comb += [
            self.i.ready.eq(inner.go & (rest == 0)),
            inner.issue_last.eq(issue),
            inner.done.eq(delay(m, issue, self.lead, "issue")),
            inner.sums.eq(pipe(m, self.i.payload, self.lead, "sums")),
        ]
        return m


class LineReader(wiring.Component):
    """Reads every row of a `LineBuffer` once, when it is complete, into a queue."""

    def __init__(self, *, inner: LineBuffer) -> None:
        self.inner = inner
        payload = stream.Signature(unsigned(inner.width))
        super().__init__({"i": In(payload), "o": Out(payload)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.inner = inner = self.inner
        m.submodules.outlet = outlet = Outlet(width=inner.width, depth=3)
        connect(m, flipped(self.i), inner.i)
        connect(m, outlet.o, flipped(self.o))
        (frame,) = inner.frames
        word = counter(inner.row_words, "word")
        row = counter(frame.height, "row")
        issue = (inner.have_rows > row) & (outlet.free != 0)
        row_ends = issue & (word == inner.row_words - 1)
        last_row = row == frame.height - 1
        with m.If(issue):
            advance(m, word, word == inner.row_words - 1)
            advance(m, inner.addr, inner.addr == inner.size - 1)
        with m.If(row_ends):
            advance(m, row, last_row)
        m.d.comb += [
            inner.limit.eq(row + inner.rows),
            inner.height.eq(frame.height),
            inner.leave.eq(row_ends & last_row),
            outlet.reserve.eq(issue),
            outlet.push.eq(delay(m, issue, 1, "read")),
            outlet.data.eq(inner.data),
        ]
        return m


class WindowReader(wiring.Component):
    """The words of a `Window`, with the first and last of each pass, into a queue."""

    def __init__(self, *, inner: Window) -> None:
        self.inner = inner
        word = stream.Signature(unsigned(len(inner.data) + 2))
        super().__init__({"i": In(inner.i.signature.flip()), "o": Out(word)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.inner = inner = self.inner
        m.submodules.outlet = outlet = Outlet(width=len(self.o.payload), depth=8)
        connect(m, flipped(self.i), inner.i)
        connect(m, outlet.o, flipped(self.o))
        m.d.comb += [
            inner.go.eq(outlet.free >= inner.pass_cycles),
            outlet.reserve.eq(Mux(inner.issue_last, inner.pass_cycles, 0)),
            outlet.push.eq(inner.valid),
            outlet.data.eq(Cat(inner.data, inner.first, inner.last)),
        ]
        return m


def stream_block(block: Any) -> Any:
    """The block of `intaglio.hdl` that a proof is about."""
    return getattr(block, "inner", block)
