"""Parts of blocks that have no stream at one side, with the simplest partner that keeps the rules
written in their docstrings, so that the harness can hold them."""

from typing import Any

from amaranth.hdl import (
    Assert,
    Cat,
    ClockDomain,
    ClockSignal,
    Const,
    Elaboratable,
    EnableInserter,
    Fragment,
    Module,
    Mux,
    ResetSignal,
    Signal,
    Value,
    unsigned,
)
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intaglio.hdl.drain import Drain
from intaglio.hdl.fifo import Outlet
from intaglio.hdl.linebuffer import LineBuffer
from intaglio.hdl.link import BYTE, CREDIT, Link
from intaglio.hdl.spi import LEAD, SpiPort
from intaglio.hdl.stream import advance, counter, delay, pipe
from intaglio.hdl.uart import UartReceiver, UartSender
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


class LinkUser(wiring.Component):
    """A `Link` and a host that keeps its rules: it sorts the messages of `tx`, and keeps no more
    than two credits' worth of bytes under way.

    Beats of `i[0]` and `i[1]` are tlast above tdata; those of stream `watched` come back at `s`,
    the others are thrown away. Bytes of `rx` become beats of `o`.
    """

    def __init__(self, *, inner: Link, watched: int) -> None:
        self.inner = inner
        self.watched = watched
        beats = [unsigned(1 + width) for width in inner.widths]
        super().__init__(
            {
                "rx": In(BYTE),
                "o": Out(stream.Signature(unsigned(len(inner.o.tdata) + 1))),
                **{f"i{k}": In(stream.Signature(beat)) for k, beat in enumerate(beats)},
                "s": Out(stream.Signature(beats[watched])),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.inner = inner = self.inner
        for name in inner.ports:
            here, there = getattr(self, name), getattr(inner, name)
            m.d.comb += [
                there.tvalid.eq(here.valid),
                Cat(there.tdata, there.tlast).eq(here.payload),
                here.ready.eq(there.tready),
            ]
        m.d.comb += [
            self.o.valid.eq(inner.o.tvalid),
            self.o.payload.eq(Cat(inner.o.tdata, inner.o.tlast)),
            inner.o.tready.eq(self.o.ready),
        ]
        credit = self._sort(m)
        self._send(m, credit)
        return m

    def _send(self, m: Module, credit: Value) -> None:
        """Bytes to the link, as far as its credits go."""
        inner, window = self.inner, 2 * self.inner.credit_bytes
        under_way = Signal(range(window + 1))
        allowed = under_way != window
        m.d.comb += [
            inner.rx.valid.eq(self.rx.valid & allowed),
            inner.rx.payload.eq(self.rx.payload),
            self.rx.ready.eq(inner.rx.ready & allowed),
            Assert(~credit | (under_way >= inner.credit_bytes), "no credit before its bytes"),
        ]
        taken = inner.rx.valid & inner.rx.ready
        m.d.sync += under_way.eq(under_way + taken - Mux(credit, inner.credit_bytes, 0))

    def _sort(self, m: Module) -> Value:
        """Messages from the link. Returns whether one is a credit."""
        inner, tx = self.inner, self.inner.tx
        sizes = [1 + width // 8 for width in inner.widths]
        left, mine, last = Signal(range(max(sizes))), Signal(), Signal()
        data = Signal(inner.widths[self.watched])
        given = tx.valid & tx.ready
        credit = given & (left == 0) & (tx.payload == CREDIT)
        m.d.comb += [tx.ready.eq(~self.s.valid), self.s.payload.eq(Cat(data, last))]
        with m.If(self.s.ready):
            m.d.sync += self.s.valid.eq(0)
        with m.If(given & (left != 0)):
            m.d.sync += [left.eq(left - 1), data.eq(Cat(data, tx.payload)[8:])]
            m.d.sync += self.s.valid.eq(mine & (left == 1))
        with m.Elif(given & ~credit):
            m.d.sync += [mine.eq(tx.payload[:7] == self.watched), last.eq(tx.payload[7])]
            for k, size in enumerate(sizes):
                with m.If(tx.payload[:7] == k):
                    m.d.sync += left.eq(size - 1)
        return credit


class OneByte(wiring.Component):
    """Bytes of `i` over a serial line to `o`, each when the last one has been taken, since a line
    knows no stop. The partner of the `inner` end is written here anew, bit by bit."""

    def __init__(self, *, inner: UartReceiver | UartSender) -> None:
        self.inner = inner
        super().__init__({"i": In(BYTE), "o": Out(BYTE)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.inner = self.inner
        busy = Signal()
        taken, given = self.i.valid & self.i.ready, self.o.valid & self.o.ready
        m.d.sync += busy.eq((busy | taken) & ~given)
        if isinstance(self.inner, UartSender):
            self._listen(m, busy)
        else:
            self._speak(m, busy)
        return m

    def _speak(self, m: Module, busy: Value) -> None:
        """Start bit, eight bits, low first, and a stop bit; then the line stays at 1."""
        inner, bits = self.inner, Signal(10, init=0x3FF)
        at, bit = counter(inner.cycles, "at"), counter(10, "bit")
        talks = Signal()
        connect(m, inner.o, flipped(self.o))
        m.d.comb += [
            self.i.ready.eq(~busy & ~talks),
            inner.rx.eq(~talks | bits.bit_select(bit, 1)),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [talks.eq(1), bits.eq(Cat(Const(0, 1), self.i.payload, Const(1, 1)))]
        with m.If(talks):
            ends = at == inner.cycles - 1
            advance(m, at, ends)
            with m.If(ends):
                advance(m, bit, bit == 9)
                m.d.sync += talks.eq(bit != 9)

    def _listen(self, m: Module, busy: Value) -> None:
        """Takes each bit in its middle, counted from the falling edge."""
        inner, byte = self.inner, Signal(8)
        at, bit = counter(inner.cycles, "at"), counter(10, "bit")
        hears = Signal()
        m.d.comb += [
            inner.i.valid.eq(self.i.valid & ~busy),
            inner.i.payload.eq(self.i.payload),
            self.i.ready.eq(inner.i.ready & ~busy),
            self.o.payload.eq(byte),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(~hears & ~inner.tx):
            m.d.sync += [hears.eq(1), at.eq(1)]
        with m.If(hears):
            advance(m, at, at == inner.cycles - 1)
            with m.If(at == inner.cycles // 2):
                advance(m, bit, bit == 9)
                m.d.comb += [
                    Assert((bit != 0) | ~inner.tx, "a start bit is 0"),
                    Assert((bit != 9) | inner.tx, "a stop bit is 1"),
                ]
                with m.If(bit == 9):
                    m.d.sync += [hears.eq(0), self.o.valid.eq(1), at.eq(0)]
                with m.Elif(bit != 0):
                    m.d.sync += byte.eq(Cat(byte, inner.tx)[1:])


class OneTransaction(wiring.Component):
    """A byte of `i` in each transaction of an SPI host, to `o` when the last one has been taken:
    the host's, or where the `inner` port `gives`, the design's.

    The host is written here anew. Its clock changes with ours, every `half` cycles: the port's
    registers that it clocks have ours, and an enable where it rises or falls. What two clocks do
    that know nothing of each other is for simulation.
    """

    def __init__(self, *, inner: SpiPort, gives: bool, half: int) -> None:
        self.inner, self.gives, self.half = inner, gives, half
        super().__init__({"i": In(BYTE), "o": Out(BYTE)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        inner, frame = self.inner, 8 * (LEAD + self.inner.block)
        talks, busy, shown = Signal(), Signal(), Signal()
        at, bit, rest = counter(self.half, "at"), counter(frame, "bit"), counter(10, "rest")
        sent, heard = Signal(frame), Signal(frame)
        turns, rise, fall, starts = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            turns.eq(talks & (at == self.half - 1)),
            rise.eq(turns & ~inner.sck),
            fall.eq(turns & inner.sck),
            inner.cs_n.eq(~talks),
            inner.copi.eq(sent[-1]),
            starts.eq(self.i.valid & ~busy & ~talks & (rest == 0)),
        ]
        with m.If(talks):
            advance(m, at, turns)
        with m.If(rest != 0):
            m.d.sync += rest.eq(rest - 1)
        with m.If(starts):
            data = Const(0, 8) if self.gives else self.i.payload
            count = Const(0, 8) if self.gives else Const(1, 8)
            m.d.sync += [
                talks.eq(1), busy.eq(1),
                sent.eq(Cat(Const(0, 8 * self.inner.block), data, count, Const(0, 8))),
            ]  # fmt: skip
        with m.If(rise):
            m.d.sync += [inner.sck.eq(1), heard.eq(Cat(inner.cipo, heard))]
        with m.If(fall):
            m.d.sync += [inner.sck.eq(0), sent.eq(sent << 1)]
            advance(m, bit, bit == frame - 1)
            with m.If(bit == frame - 1):
                m.d.sync += [talks.eq(0), rest.eq(9), shown.eq(1)]
        with m.Else():
            m.d.sync += shown.eq(0)
        answered = heard[8 * self.inner.block :][:8]
        m.d.comb += [
            Assert(~shown | (answered == int(self.gives)), "the port says how many it gives"),
            Assert(~inner.o.valid | (not self.gives), "the port gives what the host means"),
            Assert(~inner.broken, "the port resets the design where the host says so"),
        ]
        if self.gives:
            self._read(m, shown, heard[:8])
        else:
            connect(m, inner.o, flipped(self.o))
            m.d.comb += self.i.ready.eq(starts)
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += busy.eq(0)
        m.submodules.inner = self._with_our_clock(m, rise, fall)
        return m

    def _read(self, m: Module, shown: Value, byte: Value) -> None:
        """The design's byte is there before a transaction and after it is in the answer."""
        inner = self.inner
        m.d.comb += [
            inner.i.valid.eq(self.i.valid), inner.i.payload.eq(self.i.payload),
            inner.waiting.eq(self.i.valid), self.i.ready.eq(inner.i.ready),
        ]  # fmt: skip
        with m.If(shown):
            m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(byte)]
        with m.Elif(self.o.ready):
            m.d.sync += self.o.valid.eq(0)

    def _with_our_clock(self, m: Module, rise: Value, fall: Value) -> Fragment:
        """The port, of whose clocks the host's are ours with an enable."""
        port = Fragment.get(self.inner, None)
        for name in ("bits", "bytes", "out"):
            del port.domains[name]
            m.domains += ClockDomain(name, reset_less=name != "bits", local=True)
            m.d.comb += ClockSignal(name).eq(ClockSignal())
        m.d.comb += ResetSignal("bits").eq(self.inner.cs_n)
        return EnableInserter({"bits": rise, "bytes": rise, "out": fall})(port)


def stream_block(block: Any) -> Any:
    """The block of `intaglio.hdl` that a proof is about."""
    return getattr(block, "inner", block)
