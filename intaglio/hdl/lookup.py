"""Lookup: a table over every code."""

from collections.abc import Sequence

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intaglio.fixed import IntType
from intaglio.hdl.rom import Rom
from intaglio.hdl.stream import lanes_signature


class Lookup(wiring.Component):
    """y = table[x - x.lo], lane by lane, a ROM for each lane; one beat a cycle.

    table   2^x.bits values of type `y`.
    latency  cycles from taking a beat at `i` to `o.valid`.
    """

    latency: int
    roms: tuple[Rom, ...]

    def __init__(
        self, *, table: Sequence[int], x: IntType, y: IntType, lanes: int, rom: str | None = None
    ) -> None:
        super().__init__(
            {"i": In(lanes_signature(lanes, x.bits)), "o": Out(lanes_signature(lanes, y.bits))}
        )
