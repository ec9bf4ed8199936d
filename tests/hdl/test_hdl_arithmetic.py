"""Blocks that compute on a beat: requantisation and addition, bit for bit."""

import numpy as np
import pytest
from hdl_bench import bracketed_names, random_frames, run, run_frames, to_verilog
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.errors import BuildError
from intaglio.fixed import ROUNDINGS, IntType, Rounding
from intaglio.hdl.add import Add
from intaglio.hdl.hard import Hard
from intaglio.hdl.pack import beats_frame, frame_beats
from intaglio.hdl.requant import Scale, Scaling
from intaglio.hdl.stream import Frame

pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
few = settings(max_examples=15, deadline=None)
seeds = st.one_of(st.none(), st.integers(0, 999))
roundings = st.sampled_from(sorted(ROUNDINGS))


def scaling(
    rng: np.random.Generator, channels: int, y: IntType, shifts: list[int], m_bits: int = 8
) -> Scaling:
    """Random parameters of one level; results mostly inside the clamp."""
    limit = 1 << (m_bits - 1)
    return Scaling(
        multiplier=tuple(rng.integers(-limit + 1, limit, channels).tolist()),
        bias=tuple(rng.integers(-100, 100, channels).tolist()),
        shift=tuple(rng.choice(shifts, channels if len(shifts) > 1 else 1).tolist()),
        lo=y.lo + 1,
        hi=y.hi - int(rng.integers(0, 2)),
        offset=int(rng.integers(-2, 3)),
    )


@pytest.mark.parametrize("rounding", sorted(ROUNDINGS))
@pytest.mark.parametrize("shifts", [[0], [5], [0, 1, 7], [33], [30, 31, 32, 36]])
@pytest.mark.parametrize("operand", [0, 3, 18])
def test_scale_is_exact_in_every_rounding(
    rounding: Rounding, shifts: list[int], operand: int
) -> None:
    rng = np.random.default_rng(len(rounding) + sum(shifts))
    x, y = IntType(7, True), IntType(6, True)
    levels = [Frame(5, 2, 3), Frame(5, 1, 2)]
    bits = 8 if max(shifts) < 20 else 32
    scalings = [scaling(rng, 5, y, shifts, bits) for _ in levels]
    hard = Hard(operand=operand)
    block = Scale(frames=levels, lanes=2, x=x, y=y, scalings=scalings, rounding=rounding, hard=hard)
    frames = random_frames(rng, levels, x, 3)
    ports = run_frames(block, frames, block.model(frames), x=x, y=y, lanes=(2, 2))
    taken, given_ = ports["i"].cycles, ports["o"].cycles
    assert {b - a for a, b in zip(taken, given_, strict=True)} == {block.latency}
    assert taken[-1] - taken[0] == len(taken) - 1


@pytest.mark.parametrize("operand", [0, 18])
def test_scale_computes_beyond_64_bits(operand: int) -> None:
    x, y = IntType(40, True), IntType(8, True)
    wide = Scaling((2**31 - 1, -(2**31) + 1), (2**61, -(2**61)), (61,), -128, 127)
    frame = Frame(2, 3, 3)
    hard = Hard(operand=operand)
    block = Scale(frames=[frame], lanes=1, x=x, y=y, scalings=[wide], hard=hard)
    frames = random_frames(np.random.default_rng(8), [frame], x, 1)
    run_frames(block, frames, block.model(frames), x=x, y=y, lanes=(1, 1))


@few
@given(roundings, st.integers(1, 5), st.integers(1, 4), st.booleans(), seeds, st.integers(2, 9))
def test_scale_survives_stalls(
    rounding: Rounding, channels: int, lanes: int, signed: bool, seed: int | None, operand: int
) -> None:
    rng = np.random.default_rng(channels)
    x, y = IntType(5, signed), IntType(4, not signed)
    levels = [Frame(channels, 1, 2), Frame(channels, 2, 2)]
    scalings = [scaling(rng, channels, y, [3]) for _ in levels]
    hard = Hard(operand=operand)
    block = Scale(
        frames=levels, lanes=lanes, x=x, y=y, scalings=scalings, rounding=rounding, hard=hard
    )
    frames = random_frames(rng, levels, x, 2)
    run_frames(block, frames, block.model(frames), x=x, y=y, lanes=(lanes, lanes), seed=seed)


def test_a_ROM_is_made_only_of_what_differs() -> None:  # noqa: N802 - ROM is a name
    frame, y = Frame(4, 1, 1), IntType(8, False)
    same = Scaling((3,), (0,), (2,), 0, 255)
    other = Scaling((3, 3, 3, 4), (0,), (2,), 0, 255)
    kinds = {"frames": [frame], "lanes": 2, "x": y, "y": y}
    assert Scale(**kinds, scalings=[same]).roms == ()
    (rom,) = Scale(**kinds, scalings=[other]).roms
    assert (rom.depth, rom.width) == (2, 2 * 4)  # two beats, two multipliers below 8, signed


def test_scale_wants_a_scaling_for_every_level() -> None:
    y = IntType(8, False)
    with pytest.raises(BuildError, match="one scaling per level, not 1 for 2"):
        Scale(
            frames=[Frame(1, 1, 1)] * 2,
            lanes=1,
            x=y,
            y=y,
            scalings=[Scaling((1,), (0,), (0,), 0, 9)],
        )


@settings(max_examples=30, deadline=None)
@given(roundings, st.integers(0, 8), st.integers(1, 3), st.booleans(), seeds)
def test_add_is_exact(
    rounding: Rounding, shift: int, lanes: int, signed: bool, seed: int | None
) -> None:
    rng = np.random.default_rng(shift)
    a, b, y = IntType(4, signed), IntType(6, not signed), IntType(5, True)
    ma, mb, bias = (int(v) for v in rng.integers(-30, 30, 3))
    block = Add(
        lanes=lanes,
        a_type=a,
        b_type=b,
        y=y,
        multiplier_a=ma,
        multiplier_b=mb,
        bias=bias,
        shift=shift,
        lo=-15,
        hi=14,
        offset=int(rng.integers(-2, 3)),
        rounding=rounding,
    )
    frame = Frame(5, 2, 3)
    (left,), (right,) = random_frames(rng, [frame], a, 1), random_frames(rng, [frame], b, 1)
    inputs = {"a": frame_beats(left, lanes, 4), "b": frame_beats(right, lanes, 6)}
    n = frame.beats(lanes)
    ports = run(block, inputs, {"o": n}, seed=seed)
    got = beats_frame(ports["o"].beats, left.shape, lanes, 5, True)
    np.testing.assert_array_equal(got, block.model(left, right))
    if seed is None:
        assert ports["o"].cycles == [k + block.latency for k in range(n)]


def test_verilog_names_have_no_brackets() -> None:
    x = IntType(5, True)
    scaled = Scaling((1, 2, -3), (4, 5, 6), (1, 2, 3), -9, 9)
    scale = Scale(frames=[Frame(3, 1, 1)], lanes=2, x=x, y=x, scalings=[scaled], rom="rom/s")
    text = to_verilog(scale)
    assert not bracketed_names(text)
    assert '"rom/s_tables.hex"' in text
