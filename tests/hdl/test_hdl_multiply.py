# amaranth: UnusedElaboratable=no
"""Products of two streams under any stalls, gates that are read once and kept among them."""

from __future__ import annotations

import numpy as np
import pytest
from hdl_bench import bracketed_names, random_frames, run, to_verilog, with_noise
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.errors import BuildError
from intaglio.fixed import ROUNDINGS, IntType
from intaglio.hdl.multiply import Multiply
from intaglio.hdl.pack import beats_frame, frame_beats
from intaglio.hdl.requant import Scaling
from intaglio.hdl.stream import Frame

pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
A, B, Y = IntType(4, True), IntType(5, False), IntType(6, True)
X = IntType(11, True)
seeds = st.one_of(st.none(), st.integers(0, 999))
FRAMES = 3


@st.composite
def products(draw: st.DrawFn) -> Multiply:
    frame = Frame(*draw(st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 4))))
    one_channel, one_pixel = draw(st.booleans()), draw(st.booleans())
    size = (1, 1) if one_pixel else (frame.height, frame.width)
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    channels = frame.channels if draw(st.booleans()) else 1
    scaling = Scaling(
        tuple(rng.integers(-9, 10, channels).tolist()),
        tuple(rng.integers(-200, 200, channels).tolist()),
        tuple(rng.choice([3, 5], channels if draw(st.booleans()) else 1).tolist()),
        Y.lo + 1, Y.hi, int(rng.integers(-2, 3)),
    )  # fmt: skip
    return Multiply(
        frame=frame, gate=Frame(1 if one_channel else frame.channels, *size),
        lanes=draw(st.integers(1, frame.channels)), a_type=A, b_type=B,
        zeros=(draw(st.integers(A.lo, A.hi)), draw(st.integers(B.lo, B.hi))), x=X, y=Y,
        scaling=scaling, rounding=draw(st.sampled_from(sorted(ROUNDINGS))),
    )  # fmt: skip


@given(products(), seeds)
@settings(max_examples=15, deadline=None)
def test_products_are_exact_and_keep_their_time(block: Multiply, seed: int | None) -> None:
    rng = np.random.default_rng(1)
    left = random_frames(rng, [block.frame], A, FRAMES)
    right = random_frames(rng, [block.gate], B, FRAMES)
    inputs = {
        name: [beat for frame in frames
               for beat in frame_beats(with_noise(rng, frame, lanes, type), lanes, type.bits)]
        for name, frames, lanes, type in (
            ("a", left, block.lanes, A), ("b", right, block.gate_lanes, B),
        )
    }  # fmt: skip
    n = block.frame.beats(block.lanes)
    ports = run(block, inputs, {"o": FRAMES * n}, seed=seed)
    for k in range(FRAMES):
        beats = ports["o"].beats[k * n : (k + 1) * n]
        got = beats_frame(beats, left[k].shape, block.lanes, Y.bits, Y.signed)
        np.testing.assert_array_equal(got, block.model(left[k], right[k]))
    if seed is None:
        assert ports["a"].cycles == list(range(FRAMES * n))
        assert ports["o"].cycles == [k + block.latency for k in range(FRAMES * n)]
        due = [k for k in range(FRAMES * n) if k % block.period < block.fresh]
        assert ports["b"].cycles == due


@pytest.mark.parametrize(
    ("gate", "fresh", "period"),
    [
        (Frame(4, 3, 5), 2, 2),  # the same shape: nothing is kept
        (Frame(4, 1, 1), 2, 30),  # with the first pixel
        (Frame(1, 3, 5), 1, 2),  # with each pixel's first beat
        (Frame(1, 1, 1), 1, 30),
    ],
)
def test_what_is_kept_is_what_comes_again(gate: Frame, fresh: int, period: int) -> None:
    scaling = Scaling((1,), (0,), (0,), Y.lo, Y.hi)
    block = Multiply(
        frame=Frame(4, 3, 5), gate=gate, lanes=2, a_type=A, b_type=B, zeros=(0, 0), x=X, y=Y,
        scaling=scaling,
    )  # fmt: skip
    assert (block.fresh, block.period) == (fresh, period)
    assert not bracketed_names(to_verilog(block))


def test_another_shape_is_refused() -> None:
    with pytest.raises(BuildError, match="or have 1 channel or 1 pixel"):
        Multiply(
            frame=Frame(4, 3, 5), gate=Frame(4, 3, 1), lanes=2, a_type=A, b_type=B, zeros=(0, 0),
            x=X, y=Y, scaling=Scaling((1,), (0,), (0,), Y.lo, Y.hi),
        )  # fmt: skip
