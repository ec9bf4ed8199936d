"""A serial line of bytes: 8 data bits, no parity, one stop bit."""

from amaranth.hdl import Cat, Const, Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.link import BYTE
from intaglio.hdl.stream import counter, delay

FRAME = 10  # bits of a byte on the line: start, eight of data, stop
BREAK = 20  # bits of silence at 0 that are a break


class UartReceiver(wiring.Component):
    """The line `rx` (1 when idle) to a stream of bytes `o`, `cycles` clocks a bit.

    A bit is sampled in its middle; a byte without a stop bit is dropped. A byte that arrives before
    the last one is taken replaces it: a queue follows. `broken` is 1 from when the line has been 0
    for BREAK bits until it is 1 again; what came of a break is no byte.
    """

    def __init__(self, *, cycles: int) -> None:
        self.cycles = cycles
        super().__init__({"rx": In(1, init=1), "o": Out(BYTE), "broken": Out(1)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        line = Signal(init=1)
        m.d.comb += line.eq(~delay(m, ~self.rx, 2, "line"))  # two registers against metastability
        wait = counter(self.cycles, "wait")
        left = counter(FRAME + 1, "left")
        bits = Signal(FRAME - 1, reset_less=True)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(self.broken):
            m.d.sync += [left.eq(0), self.o.valid.eq(0)]
        with m.Elif((left == 0) & ~line):
            m.d.sync += [left.eq(FRAME), wait.eq(self.cycles // 2)]
        with m.Elif((left != 0) & (wait != 0)):
            m.d.sync += wait.eq(wait - 1)
        with m.Elif(left != 0):
            m.d.sync += [
                wait.eq(self.cycles - 1),
                left.eq(left - 1),
                bits.eq(Cat(bits, line)[1:]),
            ]
            with m.If((left == FRAME) & line):  # a spike, not a start bit
                m.d.sync += left.eq(0)
            with m.If((left == 1) & line):
                m.d.sync += [self.o.payload.eq(bits[1:]), self.o.valid.eq(1)]
        silent = counter(BREAK * self.cycles + 1, "silent")
        m.d.comb += self.broken.eq(silent == BREAK * self.cycles)
        with m.If(line):
            m.d.sync += silent.eq(0)
        with m.Elif(silent != BREAK * self.cycles):
            m.d.sync += silent.eq(silent + 1)
        return m


class UartSender(wiring.Component):
    """A stream of bytes `i` to the line `tx`, `cycles` clocks a bit, back to back."""

    def __init__(self, *, cycles: int) -> None:
        self.cycles = cycles
        super().__init__({"i": In(BYTE), "tx": Out(1, init=1)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        wait = counter(self.cycles, "wait")
        left = counter(FRAME + 1, "left")
        bits = Signal(FRAME, init=1)
        m.d.comb += self.i.ready.eq(left == 0)
        m.d.sync += self.tx.eq((left == 0) | bits[0])
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                bits.eq(Cat(Const(0, 1), self.i.payload, Const(1, 1))),
                left.eq(FRAME),
                wait.eq(self.cycles - 1),
            ]
        with m.Elif((left != 0) & (wait != 0)):
            m.d.sync += wait.eq(wait - 1)
        with m.Elif(left != 0):
            m.d.sync += [wait.eq(self.cycles - 1), left.eq(left - 1), bits.eq(bits >> 1)]
        return m
