# amaranth: UnusedElaboratable=no
"""Queues: the first-in first-out buffer, and the outlet of a pipeline that cannot stall."""

from collections.abc import Sequence

from amaranth.hdl import Elaboratable, Module, Signal, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from intaglio.errors import BuildError
from intaglio.hdl.rom import MemoryStyle, ram_attributes
from intaglio.hdl.stream import advance, counter

LUT_RAM_DEPTH = 32  # deeper queues go to block RAM


class Fifo(wiring.Component):
    """A queue of exactly `depth` beats of `width` bits.

    No combinational path between the two sides: `i.ready` depends on the level alone. One beat a
    cycle when depth >= 2, one in two cycles when depth is 1.

    late     whether there is a register behind a block RAM.
    latency  cycles from taking a beat at `i` to `o.valid`: 1 up to 32 beats (LUT RAM, read
             asynchronously), 2 above (block RAM), 3 if `late`.
    style    what a memory of more than 32 beats is to be made of; may be set until this is
             elaborated.
    """

    def __init__(self, *, width: int, depth: int, late: bool = False) -> None:
        if depth < 1:
            raise BuildError(f"A FIFO must have a depth of at least 1, not {depth}.")
        self.width = width
        self.depth = depth
        self.style: MemoryStyle = "auto"
        self.late = late
        self.latency = fifo_latency(depth, late=late)
        payload = stream.Signature(unsigned(width))
        super().__init__({"i": In(payload), "o": Out(payload)})

    def model(self, beats: Sequence[int]) -> list[int]:
        """Beats in, beats out."""
        return list(beats)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.memory = memory = Memory(
            shape=unsigned(self.width),
            depth=max(2, self.depth),
            init=[],
            attrs=ram_attributes(self.style),
        )
        level = Signal(range(self.depth + 1))
        taken = self.i.valid & self.i.ready
        given = self.o.valid & self.o.ready
        m.d.comb += self.i.ready.eq(level != self.depth)
        m.d.sync += level.eq(level + taken - given)

        write = memory.write_port()
        tail = counter(self.depth, "tail")
        m.d.comb += [write.addr.eq(tail), write.data.eq(self.i.payload), write.en.eq(taken)]
        with m.If(taken):
            advance(m, tail, tail == self.depth - 1)

        read = memory.read_port(domain="comb" if self.latency == 1 else "sync")
        head = counter(self.depth, "head")
        fetch = Signal()
        m.d.comb += read.addr.eq(head)
        with m.If(fetch):
            advance(m, head, head == self.depth - 1)
        if self.latency == 1:
            m.d.comb += [
                self.o.payload.eq(read.data), self.o.valid.eq(level != 0), fetch.eq(given)
            ]  # fmt: skip
            return m
        # What was read is one of the places, and so is the register behind: `stored` beats are not
        # there yet.
        stored = Signal(range(self.depth + 1))
        moves, there = given | ~self.o.valid, self.o.valid
        data: Value = read.data
        if self.late:
            there, late = Signal(name="read"), Signal(self.width, name="late", reset_less=True)
            with m.If(moves):
                m.d.sync += [late.eq(data), self.o.valid.eq(there)]
            moves, data = moves | ~there, late
        m.d.comb += [
            self.o.payload.eq(data),
            fetch.eq((stored != 0) & moves),
            read.en.eq(fetch),
        ]
        m.d.sync += stored.eq(stored + taken - fetch)
        with m.If(moves):
            m.d.sync += there.eq(fetch)
        return m


def fifo_latency(depth: int, *, late: bool) -> int:
    """That of a `Fifo`."""
    return 1 if depth <= LUT_RAM_DEPTH else 2 + late


class Outlet(wiring.Component):
    """The end of a pipeline that runs freely: a queue with places reserved beforehand.

    Whoever starts work that will make n beats waits until `free` >= n and drives `reserve` with n
    in that cycle; each beat is delivered later with `push`. So nothing in between needs to stall.
    A place is free again in the cycle after its beat has left at `o`. `push` to `o.valid` takes 1
    cycle (2 when depth > 32).
    """

    def __init__(self, *, width: int, depth: int) -> None:
        self.fifo = Fifo(width=width, depth=depth)
        self.depth = depth
        self.latency = self.fifo.latency
        places = unsigned(depth.bit_length())
        super().__init__(
            {
                "free": Out(places, init=depth),
                "reserve": In(places),
                "push": In(1),
                "data": In(unsigned(width)),
                "o": Out(stream.Signature(unsigned(width))),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.fifo = self.fifo
        connect(m, self.fifo.o, flipped(self.o))
        m.d.comb += [self.fifo.i.payload.eq(self.data), self.fifo.i.valid.eq(self.push)]
        given = self.o.valid & self.o.ready
        m.d.sync += self.free.eq(self.free - self.reserve + given)
        return m
