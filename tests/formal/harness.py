"""The harness: any stream block between any producers and any consumers, and what must hold.

Producers offer what they like when they like and keep an offer until it is taken; consumers are
ready when they like. A ghost remembers the last `rounds` rounds of every input and says what each
output beat must be. All counters are cyclic, so that a proof by induction holds for ever.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import (
    Array,
    Assert,
    Cat,
    ClockDomain,
    Const,
    Cover,
    Elaboratable,
    Module,
    Mux,
    Signal,
    Value,
)
from expect import Output, Round

from intaglio.hdl.stream import advance, counter, lane

COVERED = 2  # rounds that must be able to pass, for a proof not to be empty


@dataclass
class Taker:
    """The ghost of one input: its port, beats remembered, and where the next one goes."""

    valid: Value
    ready: Value
    payload: Value
    taken: Value
    at: Signal
    ghost: list[Value]


class Harness(Elaboratable):
    """`block` under the claims of `expected`.

    rounds  that the ghost remembers.
    waits   cycles that the block may take, with nobody stalling, until a beat follows its inputs
            or an offered beat is taken.
    """

    def __init__(self, block: Any, expected: Round, *, rounds: int, waits: int) -> None:
        self.block = block
        self.expected = expected
        self.rounds = rounds
        self.waits = waits
        self.free: list[Signal] = []  # the clock, and what the solver chooses

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.domains.sync = domain = ClockDomain(reset_less=True)
        self.free.append(domain.clk)
        m.submodules.block = self.block
        takers = {name: self._producer(m, name) for name in self.expected.inputs}
        givers = {name: self._consumer(m, name) for name in self.expected.outputs}
        stalled = Signal()
        m.d.comb += stalled.eq(Cat(valid & ~ready for valid, ready, _ in givers.values()).any())
        done = []
        for name, output in self.expected.outputs.items():
            done.append(self._check(m, name, output, takers, givers[name]))
        for name, taker in takers.items():
            others = Cat(takers[other].valid for other in self.expected.partners(name)).all()
            left_alone = taker.valid & ~taker.ready & ~stalled & others
            self._within(m, left_alone, f"{name} takes an offered beat in time")
        m.d.comb += Cover(Cat(done).all())
        return m

    def _choice(self, width: int, name: str) -> Signal:
        """A signal that may have any value in every cycle."""
        signal = Signal(width, name=name)
        self.free.append(signal)
        return signal

    def _producer(self, m: Module, name: str) -> Taker:
        """Any producer that keeps its offers."""
        valid, ready, payload = wires(self.block, name)
        tag = name.replace(".", "_")
        offer, data = self._choice(1, f"offer_{tag}"), self._choice(len(payload), f"data_{tag}")
        held = Signal(name=f"held_{tag}")
        held_data = Signal(len(payload), name=f"held_data_{tag}")
        m.d.comb += [valid.eq(held | offer), payload.eq(Mux(held, held_data, data))]
        m.d.sync += [held.eq(valid & ~ready), held_data.eq(payload)]
        size = self.rounds * self.expected.inputs[name].beats
        at = counter(size, f"at_{tag}")
        taken = Signal(name=f"taken_{tag}")
        m.d.comb += taken.eq(valid & ready)
        ghost: list[Value] = []
        for k in range(size):
            memory = Signal(len(payload), name=f"ghost_{tag}_{k}")
            here = at == k
            with m.If(taken & here):
                m.d.sync += memory.eq(payload)
            ghost.append(Mux(valid & here, payload, memory))  # an offered beat counts as well
        with m.If(taken):
            advance(m, at, at == size - 1)
        return Taker(valid, ready, payload, taken, at, ghost)

    def _consumer(self, m: Module, name: str) -> tuple[Value, Value, Value]:
        """Any consumer; and the protocol, which the block owes it."""
        valid, ready, payload = wires(self.block, name)
        tag = name.replace(".", "_")
        m.d.comb += ready.eq(self._choice(1, f"ready_{tag}"))
        waited = Signal(name=f"waited_{tag}")
        before = Signal(len(payload), name=f"before_{tag}")
        m.d.sync += [waited.eq(valid & ~ready), before.eq(payload)]
        m.d.comb += [
            Assert(~waited | valid, f"{name} keeps valid until the beat is taken"),
            Assert(~waited | (payload == before), f"{name} keeps the payload until it is taken"),
        ]
        return valid, ready, payload

    def _check(
        self,
        m: Module,
        name: str,
        output: Output,
        takers: Mapping[str, Taker],
        wires: tuple[Value, Value, Value],
    ) -> Value:
        """The beats of one output: the right ones, in order, after their inputs, and in time.

        Returns whether the rounds to be covered have passed.
        """
        valid, ready, payload = wires
        tag = name.replace(".", "_")
        given = valid & ready
        place = counter(len(output.beats), f"place_{tag}")
        turn = counter(self.rounds, f"turn_{tag}")
        passed = counter(COVERED + 1, f"passed_{tag}")
        last = place == len(output.beats) - 1
        ends = given & last
        with m.If(given):
            advance(m, place, last)
        with m.If(ends):
            advance(m, turn, turn == self.rounds - 1)
            m.d.sync += passed.eq(Mux(passed == COVERED, COVERED, passed + 1))

        there: list[Value] = []
        for port, taker in takers.items():
            if not output.reads(port):
                continue
            size = self.expected.inputs[port].beats
            # Beats taken since the start of the round that this output is in.
            lead = Signal(range(-size, self.rounds * size + 1), name=f"lead_{tag}_{port}")
            m.d.sync += lead.eq(lead + taker.taken - Mux(ends, size, 0))
            need = Array(output.needs(port))[place]
            there.append(lead + taker.valid >= need)
            claim = f"the ghost remembers enough of {port} for {name}"
            m.d.comb += Assert(~taker.valid | (lead < self.rounds * size), claim)
        want, cares = self._wanted(m, output, takers, place, turn, tag)
        m.d.comb += [
            Assert(~valid | Cat(there).all(), f"{name} gives no beat before its inputs"),
            Assert(~valid | ((payload & cares) == want), f"{name} gives the right beat"),
        ]
        self._within(m, Cat(there).all() & ~valid, f"{name} gives a beat in time")
        return passed == COVERED

    def _wanted(
        self,
        m: Module,
        output: Output,
        takers: Mapping[str, Taker],
        place: Signal,
        turn: Signal,
        tag: str,
    ) -> tuple[Value, Value]:
        """What the beat must be, with 0 in don't-care lanes, and the bits that matter."""
        seen: dict[str, list[Value]] = {}
        for port, taker in takers.items():
            size = self.expected.inputs[port].beats
            seen[port] = []
            for k in range(size):
                beat = Signal(len(taker.payload), name=f"seen_{tag}_{port}_{k}")
                m.d.comb += beat.eq(Array(taker.ghost[k::size])[turn])
                seen[port].append(beat)
        want = Signal(sum(output.bits), name=f"want_{tag}")
        cares = Signal(sum(output.bits), name=f"cares_{tag}")
        with m.Switch(place):
            for k, beat in enumerate(output.beats):
                codes, masks = [], []
                for bits, part in zip(output.bits, beat, strict=True):
                    masks.append(Const((1 << bits) - 1 if part else 0, bits))
                    if part is None:
                        codes.append(Const(0, bits))
                        continue
                    types = self.expected.inputs
                    values = [lane(seen[p][b], at, types[p].type) for p, b, at in part.sources]
                    code = Signal(bits, name=f"code_{tag}_{k}_{len(codes)}")
                    m.d.comb += code.eq(part.of(*values))
                    codes.append(code)
                with m.Case(k):
                    m.d.comb += [want.eq(Cat(codes)), cares.eq(Cat(masks))]
        return want, cares

    def _within(self, m: Module, waiting: Value, claim: str) -> None:
        """`waiting` lasts no longer than `waits` cycles."""
        age = Signal(range(self.waits + 2), name="age")
        with m.If(~waiting):
            m.d.sync += age.eq(0)
        with m.Elif(age <= self.waits):
            m.d.sync += age.eq(age + 1)
        m.d.comb += Assert(~waiting | (age < self.waits), claim)


def wires(block: Any, name: str) -> tuple[Value, Value, Value]:
    """(valid, ready, payload) of the port called `o`, or `o.1` in an array of ports; the payload
    of an AXI4-Stream is its data and, at an output, its last."""
    head, _, index = name.partition(".")
    port = getattr(block, head)
    if index:
        port = port[int(index)]
    if hasattr(port, "tdata"):
        data = port.tdata if head == "i" else Cat(port.tdata, port.tlast)
        return port.tvalid, port.tready, data
    return port.valid, port.ready, port.payload
