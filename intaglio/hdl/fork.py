"""Fork: one stream to several readers."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


class Fork(wiring.Component):
    """Every beat of `i` goes once to each of `o[0]` .. `o[n-1]`, each as soon as it is ready.

    Latency 0. `i.ready` follows the `o[k].ready` combinationally; a FIFO behind each output cuts
    that path. One beat a cycle while all are ready.
    """

    def __init__(self, *, width: int, n: int) -> None:
        self.n = n
        payload = stream.Signature(unsigned(width))
        super().__init__({"i": In(payload), "o": Out(payload).array(n)})

    def model(self, beats: Sequence[int]) -> list[list[int]]:
        """Beats in, the beats of each output."""
        return [list(beats) for _ in range(self.n)]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        done = Signal(self.n)  # readers that already have the beat
        now = Cat(o.ready for o in self.o) | done
        m.d.comb += self.i.ready.eq(now.all())
        for k, o in enumerate(self.o):
            m.d.comb += [o.payload.eq(self.i.payload), o.valid.eq(self.i.valid & ~done[k])]
        with m.If(self.i.valid):
            m.d.sync += done.eq(Mux(self.i.ready, 0, now))
        return m
