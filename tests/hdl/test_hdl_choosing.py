# amaranth: UnusedElaboratable=no
"""Blocks that choose channels and pixels: every beat under any stalls, and the cycles promised."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hdl_bench import bracketed_names, random_frames, run_frames, to_verilog
from hdl_cases import seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.errors import BuildError
from intaglio.fixed import IntType
from intaglio.hdl.crop import Crop
from intaglio.hdl.depth import DepthToSpace, SpaceToDepth
from intaglio.hdl.select import DROP, FILL, PASS, Select, cycles_of, fits
from intaglio.hdl.stream import Frame, ceil_div

pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
X = IntType(4, True)
few = settings(max_examples=25, deadline=None)


def feed(block: Any, frame: Frame, lanes: tuple[int, int], seed: int | None) -> dict[str, Any]:
    """Three frames through a block, beside its model."""
    images = random_frames(np.random.default_rng(3), [frame], X, 3)
    made = [block.model(image) for image in images]
    assert made[0].shape == tuple(vars(block.out_frame).values())
    return run_frames(block, images, made, x=X, y=X, lanes=lanes, seed=seed, eager=True)


def interval(ports: dict[str, Any], beats: int) -> int:
    """Cycles from the end of the second frame to that of the third."""
    ends = ports["o"].cycles[beats - 1 :: beats]
    return int(ends[2] - ends[1])


@st.composite
def selections(draw: st.DrawFn) -> Select:
    given_ = draw(st.integers(1, 8))
    lanes = draw(st.sampled_from([n for n in range(1, given_ + 1) if given_ % n == 0]))
    words = given_ // lanes
    chosen = draw(st.lists(st.integers(-1, words - 1), min_size=1, max_size=6))
    if draw(st.booleans()):
        own = [w for w in chosen if w >= 0]
        ordered = iter(sorted(set(own)))
        chosen = [w if w < 0 else next(ordered, -1) for w in chosen]
    channels = [c for w in chosen for c in
                ([-1] * lanes if w < 0 else range(w * lanes, (w + 1) * lanes))]  # fmt: skip
    frame = Frame(given_, *draw(st.tuples(st.integers(1, 3), st.integers(1, 4))))
    return Select(frame=frame, channels=channels, value=-7, x=X, lanes=lanes)


@few
@given(selections(), seeds)
def test_selection_is_exact_and_keeps_its_time(block: Select, seed: int | None) -> None:
    ports = feed(block, block.frame, (block.lanes, block.out_lanes), seed)
    if seed is None:
        cycles = cycles_of(block.channels, block.frame.channels, block.lanes)
        beats = block.out_frame.beats(block.out_lanes)
        assert interval(ports, beats) == block.frame.pixels * cycles


@pytest.mark.parametrize(
    ("channels", "lanes", "steps"),
    [
        ((2, 3), 1, (DROP, DROP, PASS, PASS)),
        ((0, -1, 3), 1, (PASS, FILL, DROP, DROP, PASS)),
        ((2, 3), 2, (DROP, PASS)),
        ((3, 0, 1), 4, (PASS,)),
        ((1, 0, 2, 3), 1, ()),
        ((2, 3, 0, 1), 2, ()),
    ],
)
def test_what_keeps_the_order_holds_nothing(
    channels: tuple[int, ...], lanes: int, steps: tuple[int, ...]
) -> None:
    block = Select(frame=Frame(4, 2, 2), channels=channels, value=0, x=X, lanes=lanes)
    assert block.steps == steps
    assert (block.buffer is None) == bool(steps)


def test_lanes_are_whole_beats_of_both_sides() -> None:
    assert [n for n in range(1, 5) if fits((2, 3, 0, 1), 4, n)] == [1, 2, 4]
    with pytest.raises(BuildError, match="whole beats of both sides, not 2"):
        Select(frame=Frame(4, 1, 1), channels=(1, 2), value=0, x=X, lanes=2)
    with pytest.raises(BuildError, match="must divide the 3 channels of a pixel, not be 2"):
        SpaceToDepth(frame=Frame(3, 2, 2), block=(2, 2), x=X, lanes=2)


spans = st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(1, 3)).map(
    lambda t: (t[0], t[0] + t[1], t[2])
)


@few
@given(spans, spans, st.tuples(*[st.integers(0, 2)] * 2), st.integers(1, 3), seeds)
def test_crop_is_exact_and_keeps_its_time(
    rows: Any, columns: Any, more: tuple[int, int], lanes: int, seed: int | None
) -> None:
    frame = Frame(3, rows[1] + more[0], columns[1] + more[1])
    block = Crop(frame=frame, rows=rows, columns=columns, lanes=lanes, bits=X.bits)
    ports = feed(block, frame, (lanes, lanes), seed)
    if seed is None:
        assert interval(ports, block.out_frame.beats(lanes)) == frame.beats(lanes)


blocks = st.tuples(st.integers(1, 3), st.integers(1, 3))


@few
@given(blocks, st.sampled_from([(1, 1), (2, 1), (2, 2), (3, 1)]), blocks, st.booleans(), seeds)
def test_depth_and_space_are_exact_and_keep_their_time(
    block: tuple[int, int], lanes: tuple[int, int], size: tuple[int, int], deepens: bool,
    seed: int | None,
) -> None:  # fmt: skip
    channels, width = lanes
    bh, bw = block
    made: Any
    if deepens:
        frame = Frame(channels, size[0] * bh, size[1] * bw)
        made = SpaceToDepth(frame=frame, block=block, x=X, lanes=width)
    else:
        frame = Frame(channels * bh * bw, *size)
        made = DepthToSpace(frame=frame, block=block, lanes=width, bits=X.bits)
    ports = feed(made, frame, (width, width), seed)
    if seed is None:
        beats = frame.beats(width)
        assert beats == made.out_frame.beats(width)
        # A row of one pixel may be read faster than its place is filled anew, and a row of one
        # block waits for its own: until it is let in, and until it is known to be there.
        slow = not deepens and frame.width == 1
        alone = deepens and made.out_frame.width == 1
        waits = made.out_frame.height * made.window.arrives if alone else 0
        assert beats <= interval(ports, beats) <= beats * (1 + slow) + waits
        if not deepens:
            words = ceil_div(frame.channels, width)
            assert ports["o"].cycles[0] - ports["i"].cycles[words - 1] == made.latency


def test_depth_to_space_undoes_space_to_depth() -> None:
    frame = Frame(2, 4, 6)
    there = SpaceToDepth(frame=frame, block=(2, 3), x=X, lanes=1)
    back = DepthToSpace(frame=there.out_frame, block=(2, 3), lanes=1, bits=X.bits)
    (image,) = random_frames(np.random.default_rng(1), [frame], X, 1)
    np.testing.assert_array_equal(back.model(there.model(image)), image)


@pytest.mark.parametrize(
    "block",
    [
        Select(frame=Frame(4, 2, 2), channels=(1, 0, -1), value=1, x=X, lanes=1),
        Select(frame=Frame(4, 2, 2), channels=(1, -1), value=1, x=X, lanes=1),
        Select(frame=Frame(4, 2, 2), channels=(1, 0), value=1, x=X, lanes=4),
        Crop(frame=Frame(4, 5, 5), rows=(1, 5, 2), columns=(0, 4, 3), lanes=2, bits=4),
        SpaceToDepth(frame=Frame(4, 4, 4), block=(2, 2), x=X, lanes=2),
        DepthToSpace(frame=Frame(8, 4, 4), block=(2, 2), lanes=2, bits=4),
    ],
    ids=lambda block: type(block).__name__,
)
def test_verilog_names_have_no_brackets(block: object) -> None:
    assert not bracketed_names(to_verilog(block))
