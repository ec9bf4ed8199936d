# amaranth: UnusedElaboratable=no
"""Lookup: a table over every code."""

from collections.abc import Sequence

import numpy as np
from amaranth.hdl import Cat, Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intaglio.errors import BuildError
from intaglio.fixed import IntType
from intaglio.hdl.fifo import Outlet
from intaglio.hdl.pack import Ints, lookup_words
from intaglio.hdl.rom import Rom
from intaglio.hdl.stream import delay, lane, lanes_signature


class Lookup(wiring.Component):
    """y = table[x - x.lo], lane by lane, a ROM for each lane; one beat a cycle.

    table    2^x.bits values of type `y`.
    rom      name of the ROM file without `.hex`, or None to build the contents in.
    latency  2 cycles from taking a beat at `i` to `o.valid`.
    """

    latency = 2

    def __init__(
        self, *, table: Sequence[int], x: IntType, y: IntType, lanes: int, rom: str | None = None
    ) -> None:
        if len(table) != 1 << x.bits:
            raise BuildError(f"The table of a lookup must have 2^{x.bits}, not {len(table)} codes.")
        self.table = tuple(table)
        self.x = x
        self.lanes = lanes
        words = lookup_words(table, x, y.bits)
        file = None if rom is None else f"{rom}.hex"
        self.copies = [Rom(words=words, width=y.bits, file=file) for _ in range(lanes)]
        self.roms = (self.copies[0],)
        self.outlet = Outlet(width=lanes * y.bits, depth=self.latency + 1)
        super().__init__(
            {"i": In(lanes_signature(lanes, x.bits)), "o": Out(lanes_signature(lanes, y.bits))}
        )

    def model(self, frame: Ints) -> Ints:
        """Codes of any shape to codes of the same shape."""
        return np.array(self.table, dtype=np.int64)[frame - self.x.lo]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.outlet = self.outlet
        connect(m, self.outlet.o, flipped(self.o))
        raw = IntType(self.x.bits, False)
        for k, rom in enumerate(self.copies):
            m.submodules[f"rom_{k}"] = rom
            m.d.comb += rom.addr.eq(lane(self.i.payload, k, raw))
        taken = self.i.valid & self.i.ready
        m.d.comb += [
            self.i.ready.eq(self.outlet.free != 0),
            self.outlet.reserve.eq(taken),
            self.outlet.data.eq(Cat(rom.data for rom in self.copies)),
            self.outlet.push.eq(delay(m, taken, 1, "read")),
        ]
        return m
