# amaranth: UnusedElaboratable=no
"""Multiply: a map times another, or times one value for each channel or pixel, as gates are."""

from typing import Any

import numpy as np
from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from intaglio.errors import BuildError
from intaglio.fixed import IntType, Rounding
from intaglio.hdl.fifo import Outlet
from intaglio.hdl.hard import ANY, Hard
from intaglio.hdl.pack import Ints
from intaglio.hdl.requant import Requantiser, Scaling
from intaglio.hdl.rom import MemoryStyle, ram_attributes
from intaglio.hdl.stream import Frame, advance, counter, delay, lane, lanes_signature, pipe


class Multiply(wiring.Component):
    """y = requantised((a - zero_a) * (b - zero_b)), lane by lane; the products are of type `x`.

    Ports: `a`, `b` and `o`, values of the types `a_type`, `b_type`, `y`; `a` and `o` have `lanes`,
    `b` the same, or one where it has a single channel. Of every `period` beats of `a` the first
    `fresh` are taken together with one of `b` (each `ready` follows the other's `valid`); the
    others meet the same beats of `b` again, which are kept. So a gate for each channel is read
    with a frame's first pixel, and one for each pixel with its first beat. One beat a cycle.

    latency  cycles from taking the beats to `o.valid`: difference, product, the requantiser's, and
             the outlet; one more where beats are kept.
    style    what the memory of several beats is to be made of; may be set until it is elaborated.
    """

    def __init__(
        self,
        *,
        frame: Frame,
        gate: Frame,
        lanes: int,
        a_type: IntType,
        b_type: IntType,
        zeros: tuple[int, int],
        x: IntType,
        y: IntType,
        scaling: Scaling,
        rounding: Rounding = "RND",
        hard: Hard = ANY,
        rom: str | None = None,
    ) -> None:
        whole = (gate.height, gate.width) == (frame.height, frame.width)
        if gate.channels not in (1, frame.channels) or not (whole or gate.pixels == 1):
            raise BuildError(f"A gate must be as large as {frame}, or have 1 channel or 1 pixel.")
        self.frame, self.gate = frame, gate
        self.lanes, self.gate_lanes = lanes, min(lanes, gate.channels)
        self.types = (a_type, b_type)
        self.zeros = zeros
        self.x, self.y = x, y
        self.scaling = scaling
        self.rounding = rounding
        self.fresh = gate.beats(self.gate_lanes) // gate.pixels
        self.period = frame.beats(lanes) // (gate.pixels if whole else 1)
        self.keeps = self.period > self.fresh
        self.style: MemoryStyle = "auto"
        self.requantiser = Requantiser(
            frames=[frame],
            lanes=lanes,
            x=x,
            y=y,
            scalings=[scaling],
            rounding=rounding,
            hard=hard,
            rom=rom,
        )
        self.roms = self.requantiser.roms
        self.lead = 3 if self.keeps else 2
        self.latency = self.lead + self.requantiser.latency + 1
        self.outlet = Outlet(width=lanes * y.bits, depth=self.latency + 1)
        super().__init__(
            {
                "a": In(lanes_signature(lanes, a_type.bits)),
                "b": In(lanes_signature(self.gate_lanes, b_type.bits)),
                "o": Out(lanes_signature(lanes, y.bits)),
            }
        )

    @property
    def kept_width(self) -> int:
        """Bits of a beat of `b`."""
        return self.gate_lanes * self.types[1].bits

    def model(self, a: Ints, b: Ints) -> Ints:
        """(C, H, W) and what it is multiplied by, to (C, H, W)."""
        made = (np.asarray(a) - self.zeros[0]) * (np.asarray(b) - self.zeros[1])
        return self.scaling.model(made, self.rounding)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.outlet = outlet = self.outlet
        m.submodules.requantiser = requantiser = self.requantiser
        connect(m, outlet.o, flipped(self.o))
        room, taken = outlet.free != 0, Signal()
        fresh, place = self._place(m, taken)
        m.d.comb += [
            taken.eq(self.a.valid & (self.b.valid | ~fresh) & room),
            self.a.ready.eq((self.b.valid | ~fresh) & room),
            self.b.ready.eq(self.a.valid & fresh & room),
        ]
        a, b = self.a.payload, self.b.payload
        if self.keeps:
            b = self._kept(m, taken & fresh, fresh, place)
            a = pipe(m, a, 1, "a")
        m.d.comb += [
            requantiser.i.eq(Cat(self._product(m, a, b, k) for k in range(self.lanes))),
            requantiser.i_valid.eq(delay(m, taken, self.lead, "taken")),
            outlet.reserve.eq(taken),
            outlet.data.eq(requantiser.o),
            outlet.push.eq(requantiser.o_valid),
        ]
        return m

    def _place(self, m: Module, taken: Signal) -> tuple[Value, Signal]:
        """Whether a beat of `a` needs a new one of `b`, and the number of that among the kept."""
        if not self.keeps:
            return Const(1), Signal()
        place, turn = counter(self.fresh, "place"), counter(self.period // self.fresh, "turn")
        with m.If(taken):
            last = place == self.fresh - 1
            advance(m, place, last)
            with m.If(last):
                advance(m, turn, turn == self.period // self.fresh - 1)
        return turn == 0, place

    def _kept(self, m: Module, write: Value, fresh: Value, place: Signal) -> Value:
        """The beat of `b` that belongs to the one of `a` a cycle ago."""
        new = pipe(m, self.b.payload, 1, "b")
        if self.fresh == 1:
            held = Signal(self.kept_width, reset_less=True)
            with m.If(write):
                m.d.sync += held.eq(self.b.payload)
            return held
        m.submodules.kept = kept = Memory(
            shape=unsigned(self.kept_width), depth=self.fresh, init=[],
            attrs=ram_attributes(self.style),
        )  # fmt: skip
        to, back = kept.write_port(), kept.read_port()
        m.d.comb += [
            to.addr.eq(place), to.data.eq(self.b.payload), to.en.eq(write),
            back.addr.eq(place), back.en.eq(1),
        ]  # fmt: skip
        return Mux(pipe(m, fresh, 1, "fresh"), new, back.data)

    def _product(self, m: Module, a: Any, b: Any, k: int) -> Value:
        """Lane k, two cycles later."""
        sides = []
        for name, word, at, type, zero in (
            ("less_a", a, k, self.types[0], self.zeros[0]),
            ("less_b", b, min(k, self.gate_lanes - 1), self.types[1], self.zeros[1]),
        ):
            sides.append(pipe(m, lane(word, at, type) - zero, 1, f"{name}{k}"))
        made = pipe(m, sides[0] * sides[1], 1, f"made{k}")
        exact = Signal(self.x.bits, name=f"exact{k}")
        m.d.comb += exact.eq(made)
        return exact
