"""A byte link over SPI: the device's end, clocked by a host whose clock is no other clock's."""

from amaranth.hdl import Cat, ClockDomain, Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from intaglio.hdl.link import BYTE
from intaglio.hdl.stream import counter, delay

BLOCK = 252  # bytes each way of a transaction, at most
LEAD = 3  # bytes before the device's: two that mean nothing, and the number of those that do
RESET = 0xFF  # instead of a number of bytes: reset what is behind the port


class SpiPort(wiring.Component):
    """Transactions of a host (mode 0, the most significant bit first) to the stream `o` and from
    the stream `i`, of bytes.

    A transaction is `cs_n` low for LEAD + `block` bytes. The host's are one that means nothing, the
    number n of those that do (`block` at most), and those, then anything; the device's are two that
    mean nothing, the number of those that do, and those, then zeros. `waiting` is how many `i` can
    give at once. With n = RESET, `broken` is 1 until `cs_n` is 1 again.

    `sck` clocks the bits; a byte takes 8 of its periods, in which it crosses to `sync` and the next
    but one comes back. So `sck` must be no faster than `sync`, and `cs_n` high for 8 cycles of it.
    A byte that arrives before the last one at `o` is taken replaces it: a queue follows.
    """

    def __init__(self, *, block: int = BLOCK) -> None:
        self.block = block
        super().__init__(
            {
                "sck": In(1), "cs_n": In(1, init=1), "copi": In(1), "cipo": Out(1),
                "o": Out(BYTE), "i": In(BYTE), "waiting": In(range(block + 1)), "broken": Out(1),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        received, following, ended = self._bits(m)
        selected = Signal()
        away = Signal()
        m.submodules.select = FFSynchronizer(~self.cs_n, selected)
        m.submodules.ended = FFSynchronizer(ended, away)
        byte = Signal()
        m.d.comb += byte.eq(away ^ delay(m, away, 1, "before"))
        at = counter(LEAD + self.block + 1, "at")
        theirs, ours = counter(self.block + 1, "theirs"), counter(self.block + 1, "ours")
        give = Signal()
        m.d.comb += [give.eq(byte & (at != 0) & (ours != 0)), self.i.ready.eq(give)]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(byte):
            m.d.sync += [at.eq(at + 1), following.eq(Mux(give, self.i.payload, 0))]
            with m.If(give):
                m.d.sync += ours.eq(ours - 1)
            with m.If(at == 0):
                m.d.sync += [ours.eq(self.waiting), following.eq(self.waiting)]
            with m.If(at == 1):
                m.d.sync += [
                    theirs.eq(Mux(received == RESET, 0, received)),
                    self.broken.eq(received == RESET),
                ]
            with m.If((at > 1) & (theirs != 0)):
                m.d.sync += [
                    theirs.eq(theirs - 1), self.o.payload.eq(received), self.o.valid.eq(1),
                ]  # fmt: skip
        with m.Elif(~selected):
            m.d.sync += [at.eq(0), theirs.eq(0), ours.eq(0), following.eq(0), self.broken.eq(0)]
        return m

    def _bits(self, m: Module) -> tuple[Signal, Signal, Signal]:
        """Bits into bytes and back: the byte received, the one to be sent after the next, both for
        `sync`, and a signal that changes when a byte has ended."""
        m.domains.bits = bits = ClockDomain(async_reset=True, local=True)
        m.domains.bytes = whole = ClockDomain(reset_less=True, local=True)
        m.domains.out = out = ClockDomain(reset_less=True, clk_edge="neg", local=True)
        m.d.comb += [bits.clk.eq(self.sck), whole.clk.eq(self.sck), out.clk.eq(self.sck)]
        m.d.comb += bits.rst.eq(self.cs_n)
        left = Signal(3, init=7)
        shifted = Signal(7, reset_less=True)
        received, following = Signal(8, reset_less=True), Signal(8)
        sending, ended = Signal(8, reset_less=True), Signal()
        m.d.bits += left.eq(left - 1)
        m.d.bytes += [shifted.eq(Cat(self.copi, shifted)), sending.eq(sending << 1)]
        with m.If(left == 0):
            m.d.bytes += [
                received.eq(Cat(self.copi, shifted)), sending.eq(following), ended.eq(~ended),
            ]  # fmt: skip
        m.d.out += self.cipo.eq(sending[7])
        return received, following, ended
