"""A bench for stream blocks in Amaranth's simulator: sources, sinks, stalls, a protocol checker."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from amaranth.back import verilog
from amaranth.sim import Simulator

from intaglio.fixed import IntType
from intaglio.hdl.pack import Ints, beats_frame, frame_beats
from intaglio.hdl.stream import Frame

PATIENCE = 3000  # cycles without a beat on any port after which a bench gives up
AFTERMATH = 60  # cycles after the last expected beat in which no other may come


@dataclass
class Source:
    """Offers beats; once offered, a beat stays until it is taken."""

    port: Any
    queue: Sequence[int]
    chance: float
    beats: list[int] = field(default_factory=list)
    cycles: list[int] = field(default_factory=list)
    offering: bool = False

    def drive(self, ctx: Any, rng: random.Random) -> None:
        left = len(self.beats) < len(self.queue)
        self.offering = left and (self.offering or rng.random() < self.chance)
        ctx.set(self.port.valid, int(self.offering))
        ctx.set(self.port.payload, self.queue[len(self.beats)] if self.offering else 0)

    def sample(self, ctx: Any, cycle: int) -> bool:
        if not (self.offering and ctx.get(self.port.ready)):
            return False
        self.beats.append(self.queue[len(self.beats)])
        self.cycles.append(cycle)
        self.offering = False
        return True


@dataclass
class Sink:
    """Takes beats and checks the protocol. A shy sink is ready only after it has seen `valid`."""

    name: str
    port: Any
    chance: float
    shy: bool
    beats: list[int] = field(default_factory=list)
    cycles: list[int] = field(default_factory=list)
    held: int | None = None

    def drive(self, ctx: Any, rng: random.Random) -> None:
        ready = rng.random() < self.chance and not (self.shy and self.held is None)
        ctx.set(self.port.ready, int(ready))

    def sample(self, ctx: Any, cycle: int) -> bool:
        valid, ready = ctx.get(self.port.valid), ctx.get(self.port.ready)
        payload = ctx.get(self.port.payload) if valid else None
        if self.held is not None:
            assert valid, f"{self.name}: valid was withdrawn in cycle {cycle}"
            assert payload == self.held, f"{self.name}: payload changed in cycle {cycle}"
        self.held = None if ready else payload
        if not (valid and ready):
            return False
        self.beats.append(payload)
        self.cycles.append(cycle)
        return True


def run(
    block: Any,
    inputs: Mapping[str, Sequence[int]],
    outputs: Mapping[str, int],
    *,
    seed: int | None = None,
    shut: Sequence[str] = (),
    eager: bool = False,
) -> dict[str, Source | Sink]:
    """Feed `inputs` (beats by port name) and collect `outputs` (number of beats by port name).

    A name is an attribute of the block, or `o.1` for an element of an array of ports. Without a
    seed nobody stalls; with one, every port gets a habit. The outputs in `shut` take nothing.
    Returns the ports with the beats and the cycles in which they passed. Fails when `valid` is
    withdrawn or a payload changes before it is taken, when nothing passes for long, and when a
    beat too many appears (unless `eager`: the block may begin a frame before its input).
    """
    rng = random.Random(seed)
    stalls = seed is not None

    def chance() -> float:
        return rng.choice((0.2, 0.5, 0.8, 1.0)) if stalls else 1.0

    sources = {n: Source(find(block, n), beats, chance()) for n, beats in inputs.items()}
    sinks = {
        n: Sink(n, find(block, n), 0.0 if n in shut else chance(), stalls and rng.random() < 0.2)
        for n in outputs
    }
    ports: dict[str, Source | Sink] = {**sources, **sinks}

    async def bench(ctx: Any) -> None:
        cycle = quiet = after = 0
        while after < AFTERMATH:
            after += all(len(sinks[name].beats) >= n for name, n in outputs.items())
            for port in ports.values():
                port.drive(ctx, rng)
            passed = [port.sample(ctx, cycle) for port in ports.values()]
            quiet = 0 if any(passed) else quiet + 1
            progress = {name: len(port.beats) for name, port in ports.items()}
            assert quiet < PATIENCE, f"nothing passes any more: {progress}"
            await ctx.tick()
            cycle += 1

    simulator = Simulator(block)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    for name, n in outputs.items():
        got = len(sinks[name].beats)
        assert got == n or (eager and got > n), f"{name}: {got} beats, not {n}"
    return ports


def find(block: Any, name: str) -> Any:
    """The port called `o`, or `o.1`: element 1 of the array of ports `o`."""
    head, _, index = name.partition(".")
    port = getattr(block, head)
    return port[int(index)] if index else port


def run_frames(
    block: Any,
    frames: Sequence[Ints],
    expected: Sequence[Ints],
    *,
    x: IntType,
    y: IntType,
    lanes: tuple[int, int],
    seed: int | None = None,
    eager: bool = False,
) -> dict[str, Source | Sink]:
    """Frames (C, H, W) into `i`; what leaves `o` must be the `expected` frames, bit for bit.

    The unused lanes of a pixel's last beat hold random codes: nothing may depend on them.
    """
    rng = np.random.default_rng(seed or 0)
    filled = [with_noise(rng, frame, lanes[0], x) for frame in frames]
    beats = [beat for frame in filled for beat in frame_beats(frame, lanes[0], x.bits)]
    shapes = [frame.shape for frame in expected]
    sizes = [Frame(*shape).beats(lanes[1]) for shape in shapes]
    ports = run(block, {"i": beats}, {"o": sum(sizes)}, seed=seed, eager=eager)
    at = 0
    for k, (frame, size) in enumerate(zip(expected, sizes, strict=True)):
        got = beats_frame(ports["o"].beats[at : at + size], frame.shape, lanes[1], y.bits, y.signed)
        np.testing.assert_array_equal(got, frame, err_msg=f"frame {k}")
        at += size
    return ports


def with_noise(rng: np.random.Generator, frame: Ints, lanes: int, type: IntType) -> Ints:
    """The frame with random channels after its own, as many as fill its beats."""
    more = (-len(frame) % lanes, *frame.shape[1:])
    return np.concatenate([frame, rng.integers(type.lo, type.hi + 1, more)])


def random_frames(
    rng: np.random.Generator, frames: Sequence[Frame], type: IntType, images: int
) -> list[Ints]:
    """`images` times the frames of each level in turn, full-range codes."""
    return [
        rng.integers(type.lo, type.hi + 1, (f.channels, f.height, f.width), dtype=np.int64)
        for _ in range(images)
        for f in frames
    ]


def to_verilog(block: Any) -> str:
    """The block as Verilog, all ports exposed."""
    return str(verilog.convert(block, name="block", emit_src=False))


def bracketed_names(text: str) -> list[str]:
    """Verilog identifiers with brackets: yosys has miscompiled them."""
    return re.findall(r"\\\S*\[\S*", text)
