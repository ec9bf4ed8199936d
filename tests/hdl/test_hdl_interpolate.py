# amaranth: UnusedElaboratable=no
"""Interpolate in RTL: every sum under any stalls, and the cycles promised."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hdl_bench import bracketed_names, random_frames, run_frames, to_verilog
from hdl_cases import seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.fixed import IntType
from intaglio.hdl.interpolate import Interpolate
from intaglio.hdl.stream import Frame, ceil_div
from intaglio.ops import Tap
from intaglio.ops.interpolation import align_corners, between, half_pixel, nearest

pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
X = IntType(4, True)
few = settings(max_examples=40, deadline=None)


def taps_of(draw: st.DrawFn, side: int) -> tuple[Tap, ...]:
    """Any that go forward, of one sum; a good part of them read a single place."""
    unit = draw(st.sampled_from((1, 2, 5, 1024)))
    places = sorted(draw(st.lists(st.integers(0, side - 1), min_size=1, max_size=5)))
    ahead = st.sampled_from((0, 0, unit // 2, unit - 1))
    weights = [draw(ahead) for _ in places]
    return tuple((place, unit - v, v) for place, v in zip(places, weights, strict=True))


@st.composite
def resizes(draw: st.DrawFn) -> Interpolate:
    channels, height, width = draw(st.tuples(st.integers(1, 3), *[st.integers(1, 5)] * 2))
    return block(
        Frame(channels, height, width), taps_of(draw, height), taps_of(draw, width),
        draw(st.integers(1, 3)), draw(st.sampled_from((X, IntType(3, False)))),
    )  # fmt: skip


def block(frame: Frame, rows: Any, columns: Any, lanes: int = 1, x: IntType = X) -> Interpolate:
    unit = sum(rows[0][1:]) * sum(columns[0][1:])
    y = x if unit == 1 else IntType.accumulating(x.lo * unit, x.hi * unit)
    return Interpolate(frame=frame, rows=rows, columns=columns, x=x, y=y, lanes=lanes)


def feed(made: Interpolate, seed: int | None, images: int = 3) -> dict[str, Any]:
    """Frames through a block, beside its model."""
    frames = random_frames(np.random.default_rng(3), [made.frame], made.x, images)
    return run_frames(
        made, frames, [made.model(frame) for frame in frames], x=made.x, y=made.y,
        lanes=(made.lanes, made.lanes), seed=seed, eager=True,
    )  # fmt: skip


@few
@given(resizes(), seeds)
def test_every_sum_is_exact(made: Interpolate, seed: int | None) -> None:
    feed(made, seed)


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize(
    ("rows", "columns", "taps", "latency"),
    [
        (between(half_pixel(4, 8), 4), between(half_pixel(5, 10), 5), 4, 4),
        (between(align_corners(4, 9), 4), nearest(range(5)), 2, 4),
        (nearest([0, 1, 1, 3, 3, 3, 3, 3]), nearest([0, 0, 1, 3, 4, 4, 4]), 1, 2),
    ],
    ids=["bilinear", "rows", "nearest"],
)
def test_a_word_takes_a_cycle_for_each_tap(
    rows: Any, columns: Any, taps: int, latency: int, lanes: int
) -> None:
    made = block(Frame(3, 4, 5), rows, columns, lanes)
    assert (made.taps, made.latency) == (taps, latency)
    ports = feed(made, None, 4)
    words = ceil_div(3, lanes)
    beats = len(rows) * len(columns) * words
    ends = ports["o"].cycles[beats - 1 :: beats]
    assert ends[3] - ends[2] == taps * beats
    # The first pixel's last place is there when its beat is taken; the walk begins a cycle later.
    row, column = int(made.rows[0, 1]), int(made.columns[0, 1])
    last = ports["i"].cycles[(row * 5 + column + 1) * words - 1]
    assert ports["o"].cycles[0] - last == taps + latency


def test_rows_are_kept_as_long_as_they_are_read() -> None:
    """Two for the sum and one that arrives; when the walk skips rows, those it skips."""
    assert block(Frame(1, 4, 4), between(half_pixel(4, 8), 4), nearest(range(4))).buffer.rows == 3
    assert block(Frame(1, 9, 4), nearest([0, 4, 8]), nearest(range(4))).buffer.rows == 5


def test_verilog_names_have_no_brackets() -> None:
    made = block(Frame(2, 4, 4), between(half_pixel(4, 8), 4), between(half_pixel(4, 8), 4), 2)
    assert not bracketed_names(to_verilog(made))
