"""The link: every AXI4-Stream of a design over one pair of byte streams."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Elaboratable, Module, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.errors import BuildError
from intaglio.hdl.axis import axis_signature
from intaglio.hdl.stream import advance, ceil_div, counter

BYTE = stream.Signature(unsigned(8))
LAST = 0x80  # flag in a beat's tag
CREDIT = 0x7F  # tag of a message that is no beat
CREDIT_BYTES = 128  # bytes taken for each credit message


class Link(wiring.Component):
    """Bytes to the beats of one AXI4-Stream, and the beats of several to bytes.

    width   bits of tdata of the stream `o`, which feeds the design.
    widths  bits of tdata of the streams `i0`, `i1`, ..., which come from it.

    `rx`: the beats of `o` one after the other, each ceil(width / 8) bytes, the low byte first.
    `tx`: messages. A beat of stream k is its tag, k or LAST + k with tlast, and then its bytes, the
    low byte first. A CREDIT says that another CREDIT_BYTES bytes have been taken at `rx`: a sender
    that keeps no more bytes under way than the receiver's queue holds loses none.

    The streams take turns, so that none waits for ever. One byte a cycle; between two messages
    up to as many cycles as there are streams. No combinational path from `tx.ready` or `o.tready`
    to `rx.ready`, nor from any valid to any ready.
    """

    def __init__(self, *, width: int, widths: Sequence[int]) -> None:
        if not 1 <= len(widths) < CREDIT:
            raise BuildError(f"A link must carry 1 to {CREDIT - 1} outputs, not {len(widths)}.")
        self.credit_bytes = CREDIT_BYTES
        self.width = width
        self.widths = tuple(widths)
        self.ports = tuple(f"i{k}" for k in range(len(widths)))
        outputs = {name: In(axis_signature(w)) for name, w in zip(self.ports, widths, strict=True)}
        super().__init__(
            {"rx": In(BYTE), "o": Out(axis_signature(width)), "tx": Out(BYTE), **outputs}
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        owed = self._receive(m)
        self._send(m, owed)
        return m

    def _receive(self, m: Module) -> Signal:
        """Bytes into beats. Returns the credits that the sender has yet to be told of; the sender
        of `tx` takes one off with each message."""
        size = ceil_div(self.width, 8)
        word = Signal(8 * size, reset_less=True)
        have = counter(size + 1, "have")
        full = Signal()
        taken = self.rx.valid & self.rx.ready
        m.d.comb += [
            full.eq(have == size),
            self.rx.ready.eq(~full),
            self.o.tvalid.eq(full),
            self.o.tdata.eq(word),
        ]
        with m.If(taken):
            m.d.sync += [word.eq(Cat(word, self.rx.payload)[8:]), have.eq(have + 1)]
        with m.If(full & self.o.tready):
            m.d.sync += have.eq(0)
        count = counter(self.credit_bytes, "count")
        last = count == self.credit_bytes - 1
        with m.If(taken):
            advance(m, count, last)
        earned = Signal(8)
        m.d.sync += earned.eq(earned + (taken & last))
        return earned

    def _send(self, m: Module, earned: Signal) -> None:
        """Messages into bytes."""
        longest = 1 + max(ceil_div(w, 8) for w in self.widths)
        word = Signal(8 * longest, reset_less=True)
        left = counter(longest + 1, "left")
        turn = counter(len(self.widths), "turn")
        told = Signal.like(earned, name="told")
        m.d.comb += [self.tx.valid.eq(left != 0), self.tx.payload.eq(word)]
        idle = left == 0
        with m.If(~idle & self.tx.ready):
            m.d.sync += [word.eq(word >> 8), left.eq(left - 1)]
        with m.Elif(idle & (told != earned)):
            m.d.sync += [word.eq(CREDIT), left.eq(1), told.eq(told + 1)]
        with m.Elif(idle):
            advance(m, turn, turn == len(self.widths) - 1)
            with m.Switch(turn):
                for k, name in enumerate(self.ports):
                    port = getattr(self, name)
                    with m.Case(k):
                        m.d.comb += port.tready.eq(1)
                        with m.If(port.tvalid):
                            m.d.sync += [
                                word.eq(Cat(Const(k, 7), port.tlast, port.tdata)),
                                left.eq(1 + len(port.tdata) // 8),
                            ]
