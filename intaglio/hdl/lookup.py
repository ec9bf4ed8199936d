# amaranth: UnusedElaboratable=no
"""Lookup: a table over every code."""

from collections.abc import Sequence

import numpy as np
from amaranth.hdl import Cat, Elaboratable, Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intaglio.errors import BuildError
from intaglio.fixed import IntType
from intaglio.hdl.fifo import Outlet
from intaglio.hdl.pack import Ints, lookup_words
from intaglio.hdl.rom import Rom
from intaglio.hdl.stream import advance, ceil_div, counter, delay, lane, lanes_signature


class Lookup(wiring.Component):
    """y[c] = table[x[c] - x.lo], lane by lane, a ROM for each lane; one beat a cycle.

    tables   of 2^x.bits values of type `y`: one for all channels, or one for each. A lane's ROM
             has those of its channels one after the other, by the beat of a pixel.
    rom      name of the ROM file without `.hex`, to which the number of the lane is added where
             lanes differ; or None to build the contents in.
    turns    beats of a pixel, where their tables differ; else 1.
    latency  2 cycles from taking a beat at `i` to `o.valid`.
    """

    latency = 2

    def __init__(
        self, *, tables: Sequence[Sequence[int]], x: IntType, y: IntType, lanes: int,
        rom: str | None = None,
    ) -> None:  # fmt: skip
        for table in tables:
            if len(table) != 1 << x.bits:
                raise BuildError(
                    f"The table of a lookup must have 2^{x.bits}, not {len(table)} codes."
                )
        self.tables = tuple(tuple(table) for table in tables)
        self.x, self.y = x, y
        self.lanes = lanes
        self.turns = ceil_div(len(tables), lanes)
        self.copies = [self._rom(k, rom) for k in range(lanes)]
        self.roms = tuple(self.copies if len(tables) > 1 else self.copies[:1])
        self.outlet = Outlet(width=lanes * y.bits, depth=self.latency + 1)
        super().__init__(
            {"i": In(lanes_signature(lanes, x.bits)), "o": Out(lanes_signature(lanes, y.bits))}
        )

    def _rom(self, k: int, rom: str | None) -> Rom:
        """Of lane k; channels that the last beat of a pixel has not are 0."""
        if len(self.tables) == 1:
            words, name = lookup_words(self.tables[0], self.x, self.y.bits), rom
        else:
            own, words, name = self.tables[k :: self.lanes], [], f"{rom}_{k}"
            for table in own:
                words += lookup_words(table, self.x, self.y.bits)
            words += [0] * ((self.turns - len(own)) << self.x.bits)
        return Rom(words=words, width=self.y.bits, file=None if rom is None else f"{name}.hex")

    def model(self, frame: Ints) -> Ints:
        """(C, H, W) codes to (C, H, W) codes."""
        which = np.arange(len(frame)) % len(self.tables)
        tables = np.array(self.tables, dtype=np.int64)
        found: Ints = tables[which[:, None, None], frame - self.x.lo]
        return found

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.outlet = self.outlet
        connect(m, self.outlet.o, flipped(self.o))
        taken = self.i.valid & self.i.ready
        high: list[Value] = []
        if self.turns > 1:
            turn = counter(self.turns, "turn")
            high = [turn]
            with m.If(taken):
                advance(m, turn, turn == self.turns - 1)
        raw = IntType(self.x.bits, False)
        for k, rom in enumerate(self.copies):
            m.submodules[f"rom_{k}"] = rom
            m.d.comb += rom.addr.eq(Cat(lane(self.i.payload, k, raw), *high))
        m.d.comb += [
            self.i.ready.eq(self.outlet.free != 0),
            self.outlet.reserve.eq(taken),
            self.outlet.data.eq(Cat(rom.data for rom in self.copies)),
            self.outlet.push.eq(delay(m, taken, 1, "read")),
        ]
        return m
