"""Fork: one stream to several readers."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Elaboratable, Module, Signal, unsigned
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
