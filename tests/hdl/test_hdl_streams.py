"""Blocks that only move beats: what goes in comes out, in order, under any stalls."""

import random

import numpy as np
import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator
from hdl_bench import bracketed_names, random_frames, run, run_frames, to_verilog
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.errors import BuildError
from intaglio.fixed import IntType
from intaglio.hdl.axis import AxisReceiver, AxisSender
from intaglio.hdl.concat import Concat
from intaglio.hdl.fifo import Fifo
from intaglio.hdl.fork import Fork
from intaglio.hdl.levels import LevelDemux, LevelMux
from intaglio.hdl.lookup import Lookup
from intaglio.hdl.pack import beats_frame, frame_beats, hex_text
from intaglio.hdl.pad import Pad
from intaglio.hdl.repack import Repack
from intaglio.hdl.rom import Rom
from intaglio.hdl.stream import Frame

pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
few = settings(max_examples=12, deadline=None)
seeds = st.one_of(st.none(), st.integers(0, 999))


def words(n: int, width: int, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [rng.getrandbits(width) for _ in range(n)]


@pytest.mark.parametrize("depth", [1, 2, 3, 7, 32, 33, 40])
@pytest.mark.parametrize("seed", [None, 1, 2, 3])
@pytest.mark.parametrize("late", [False, True])
def test_fifo_keeps_the_order(depth: int, seed: int | None, late: bool) -> None:
    block = Fifo(width=9, depth=depth, late=late)
    beats = words(100, 9)
    assert run(block, {"i": beats}, {"o": 100}, seed=seed)["o"].beats == block.model(beats)


@pytest.mark.parametrize("depth", [1, 2, 5, 32, 33, 50])
@pytest.mark.parametrize("late", [False, True])
def test_fifo_holds_exactly_its_depth_and_has_its_latency(depth: int, late: bool) -> None:
    block = Fifo(width=4, depth=depth, late=late)
    assert block.latency == (1 if depth <= 32 else 3 if late else 2)
    ports = run(block, {"i": words(depth + 9, 4)}, {"o": 0}, shut=["o"])
    assert len(ports["i"].beats) == depth
    ports = run(block, {"i": words(1, 4)}, {"o": 1})
    assert ports["o"].cycles[0] - ports["i"].cycles[0] == block.latency


@pytest.mark.parametrize("depth", [2, 3, 33])
@pytest.mark.parametrize("late", [False, True])
def test_fifo_passes_a_beat_a_cycle(depth: int, late: bool) -> None:
    cycles = run(Fifo(width=4, depth=depth, late=late), {"i": words(50, 4)}, {"o": 50})["o"].cycles
    assert cycles[-1] - cycles[0] == 49


@few
@given(st.integers(1, 4), seeds)
def test_fork_gives_every_reader_every_beat(n: int, seed: int | None) -> None:
    block = Fork(width=5, n=n)
    beats = words(40, 5)
    ports = run(block, {"i": beats}, {f"o.{k}": 40 for k in range(n)}, seed=seed)
    assert [ports[f"o.{k}"].beats for k in range(n)] == block.model(beats)


frames = st.builds(Frame, st.just(3), st.integers(1, 3), st.integers(1, 4))


@few
@given(st.lists(frames, min_size=1, max_size=3), st.integers(1, 4), seeds)
def test_levels_take_turns_by_the_frame(levels: list[Frame], lanes: int, seed: int | None) -> None:
    mux = LevelMux(frames=levels, lanes=lanes, bits=4)
    demux = LevelDemux(frames=levels, lanes=lanes, bits=4)
    streams = [words(3 * n, 4 * lanes, k) for k, n in enumerate(mux.beats)]
    inputs = {f"i.{k}": beats for k, beats in enumerate(streams)}
    merged = run(mux, inputs, {"o": sum(map(len, streams))}, seed=seed)["o"].beats
    assert merged == mux.model(streams)
    sizes = {f"o.{k}": len(beats) for k, beats in enumerate(streams)}
    ports = run(demux, {"i": merged}, sizes, seed=seed)
    assert [ports[name].beats for name in sizes] == demux.model(merged) == streams


@few
@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(1, 3), seeds)
def test_concat_joins_channels(words_each: list[int], lanes: int, seed: int | None) -> None:
    channels = [n * lanes for n in words_each]
    block = Concat(channels=channels, lanes=lanes, bits=3)
    rng = np.random.default_rng(1)
    type = IntType(3, False)
    parts = [random_frames(rng, [Frame(c, 2, 3)], type, 1)[0] for c in channels]
    inputs = {f"i.{k}": frame_beats(part, lanes, 3) for k, part in enumerate(parts)}
    out = run(block, inputs, {"o": 6 * sum(words_each)}, seed=seed)["o"].beats
    assert out == block.model(list(inputs.values()))
    got = beats_frame(out, (sum(channels), 2, 3), lanes, 3, False)
    np.testing.assert_array_equal(got, np.concatenate(parts))


def test_concat_refuses_lanes_that_span_operands() -> None:
    with pytest.raises(BuildError, match=r"must divide \(4, 6\) channels, not be 4"):
        Concat(channels=(4, 6), lanes=4, bits=3)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 13), st.integers(1, 8), st.integers(1, 8), seeds)
def test_repack_changes_only_the_lanes(
    channels: int, lanes_in: int, lanes_out: int, seed: int | None
) -> None:
    block = Repack(channels=channels, bits=3, lanes_in=lanes_in, lanes_out=lanes_out)
    type = IntType(3, True)
    frames = random_frames(np.random.default_rng(2), [Frame(channels, 2, 4)], type, 2)
    lanes = (lanes_in, lanes_out)
    ports = run_frames(block, frames, frames, x=type, y=type, lanes=lanes, seed=seed)
    beats = block.model(frame_beats(frames[0], lanes_in, 3))
    assert beats == frame_beats(frames[0], lanes_out, 3)
    if seed is None:  # the side with more beats moves one a cycle
        cycles = max(ports["i"].cycles, ports["o"].cycles, key=len)
        assert cycles[-1] - cycles[0] == len(cycles) - 1


@few
@given(st.tuples(*[st.integers(0, 2)] * 4), st.integers(1, 3), st.integers(1, 5), seeds)
def test_pad_draws_a_border(
    padding: tuple[int, int, int, int], lanes: int, channels: int, seed: int | None
) -> None:
    type = IntType(4, True)
    frame = Frame(channels, 2, 3)
    block = Pad(frame=frame, padding=padding, value=-5, x=type, lanes=lanes)
    frames = random_frames(np.random.default_rng(3), [frame], type, 2)
    expected = [block.model(f) for f in frames]
    both = (lanes, lanes)
    run_frames(block, frames, expected, x=type, y=type, lanes=both, seed=seed, eager=True)


@few
@given(st.booleans(), st.booleans(), st.integers(1, 5), seeds)
def test_lookup_reads_its_tables(signed: bool, own: bool, lanes: int, seed: int | None) -> None:
    x, y = IntType(4, signed), IntType(6, True)
    rng = np.random.default_rng(4)
    tables = rng.integers(y.lo, y.hi + 1, (5 if own else 1, 16))
    block = Lookup(tables=tables.tolist(), x=x, y=y, lanes=lanes)
    frames = random_frames(rng, [Frame(5, 3, 3)], x, 2)
    expected = [block.model(f) for f in frames]
    for c, plane in enumerate(frames[0]):
        np.testing.assert_array_equal(expected[0][c], tables[c % len(tables)][plane - x.lo])
    ports = run_frames(block, frames, expected, x=x, y=y, lanes=(lanes, lanes), seed=seed)
    if seed is None:
        taken, given_ = ports["i"].cycles, ports["o"].cycles
        assert {b - a for a, b in zip(taken, given_, strict=True)} == {block.latency}
        assert taken[-1] - taken[0] == len(taken) - 1


def test_rom_of_a_file_is_an_instance_with_the_same_words() -> None:
    rom = Rom(words=[5, 0, 15], width=4, file="rom/a.hex")
    text = to_verilog(rom)
    assert "intaglio_rom" in text
    assert '"rom/a.hex"' in text
    assert hex_text(rom.words, 4) == "5\n0\nf\n"
    assert rom.model([2, 0]) == [15, 5]
    with pytest.raises(BuildError, match="must hold at least one word, all of 4 bits"):
        Rom(words=[16], width=4)


def test_axis_marks_the_last_beat_of_each_frame() -> None:
    block = AxisSender(width=5, beats=3)
    seen = []

    async def bench(ctx):  # type: ignore[no-untyped-def]  # Amaranth's context has no type
        ctx.set(block.o.tready, 1)
        for value in range(7):
            ctx.set(block.i.payload, value)
            ctx.set(block.i.valid, 1)
            assert ctx.get(block.i.ready)
            seen.append((ctx.get(block.o.tdata), ctx.get(block.o.tlast)))
            await ctx.tick()

    simulator = Simulator(block)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen == block.model(range(7)) == [(k, k % 3 == 2) for k in range(7)]


def test_axis_is_not_valid_in_reset() -> None:
    """AXI4-Stream asks for it; a border is valid before any input."""
    block = AxisSender(width=5, beats=3)
    m = Module()
    m.domains.sync = domain = ClockDomain()
    m.submodules.block = block
    seen = []

    async def bench(ctx):  # type: ignore[no-untyped-def]  # Amaranth's context has no type
        ctx.set(block.i.valid, 1)
        for reset in (1, 0, 1):
            ctx.set(domain.rst, reset)
            await ctx.delay(1e-7)
            seen.append(ctx.get(block.o.tvalid))

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen == [0, 1, 0]


@pytest.mark.parametrize(
    "block",
    [
        Fifo(width=8, depth=1),
        Fifo(width=8, depth=40),
        Fork(width=8, n=3),
        LevelMux(frames=[Frame(2, 2, 2), Frame(2, 1, 1)], lanes=2, bits=4),
        LevelDemux(frames=[Frame(2, 2, 2), Frame(2, 1, 1)], lanes=2, bits=4),
        Concat(channels=[2, 4], lanes=2, bits=4),
        Repack(channels=5, bits=4, lanes_in=3, lanes_out=2),
        Pad(frame=Frame(2, 2, 2), padding=(1, 0, 0, 1), value=3, x=IntType(4, False), lanes=1),
        Lookup(tables=[range(16)], x=IntType(4, False), y=IntType(4, False), lanes=2),
        AxisReceiver(width=9, beats=4),
        AxisSender(width=9, beats=4),
    ],
    ids=lambda block: type(block).__name__,
)
def test_verilog_names_have_no_brackets(block: object) -> None:
    assert not bracketed_names(to_verilog(block))
