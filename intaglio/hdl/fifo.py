"""Queues: the first-in first-out buffer, and the outlet of a pipeline that cannot stall."""

from collections.abc import Sequence

from amaranth.hdl import Elaboratable, Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from intaglio.errors import BuildError

LUT_RAM_DEPTH = 32  # deeper queues go to block RAM


class Fifo(wiring.Component):
    """A queue of exactly `depth` beats of `width` bits.

    No combinational path between the two sides: `i.ready` depends on the level alone. One beat a
    cycle when depth >= 2, one in two cycles when depth is 1 (one in three above, at block RAM's
    depth, is not possible: see `latency`).

    latency  cycles from taking a beat at `i` to `o.valid`: 1 up to 32 beats (LUT RAM, read
             asynchronously), 2 above (block RAM).
    """

    def __init__(self, *, width: int, depth: int) -> None:
        if depth < 1:
            raise BuildError(f"A FIFO must have a depth of at least 1, not {depth}.")
        self.width = width
        self.depth = depth
        self.latency = 1 if depth <= LUT_RAM_DEPTH else 2
        payload = stream.Signature(unsigned(width))
        super().__init__({"i": In(payload), "o": Out(payload)})

    def model(self, beats: Sequence[int]) -> list[int]:
        """Beats in, beats out."""
        return list(beats)


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
        count = unsigned(depth.bit_length())
        super().__init__(
            {
                "free": Out(count, init=depth),
                "reserve": In(count),
                "push": In(1),
                "data": In(unsigned(width)),
                "o": Out(stream.Signature(unsigned(width))),
            }
        )
