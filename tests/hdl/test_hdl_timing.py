"""Engines and pools in cycles: what their docstrings promise is what the hardware does, exactly."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hdl_bench import random_frames, run_frames
from hdl_cases import Y, convolutions, engine, feed, lane_blocks
from hypothesis import given, settings

from intaglio.fixed import IntType
from intaglio.hdl.conv import ConvEngine
from intaglio.hdl.hard import Hard
from intaglio.hdl.stream import Frame, ceil_div

pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")


class Timetable:
    """When every beat passes if nobody outside stalls: what the docstrings of `Window`, `Drain`
    and `LineBuffer` say, in cycles, without hardware."""

    def __init__(self, block: Any, images: int) -> None:
        window = block.window
        self.window, self.block = window, block
        self.frames = list(window.frames) * images
        self.walked = list(window.walked) * images
        self.starts = [sum(f.height for f in self.frames[:k]) for k in range(len(self.frames) + 1)]
        self.taken: dict[tuple[int, int], int] = {}  # (row of all frames, x) -> its last beat
        self.freed: list[tuple[int, int]] = [(0, 0)]  # (row still kept, from this cycle on)
        self.at = (0, 0)
        self.clock = -1

    def frame_of(self, row: int) -> Frame:
        return self.frames[max(k for k, start in enumerate(self.starts[:-1]) if start <= row)]

    def arrival(self, row: int, x: int) -> int:
        """The cycle in which the last beat of a pixel is taken; -1 for one before the first."""
        if x < 0:
            row, x = row - 1, 1 << 30
        if row < 0:
            return -1
        x = min(x, self.frame_of(row).width - 1)
        while (row, x) not in self.taken:
            r, c = self.at
            free = min(cycle for keep, cycle in self.freed if r < keep + self.window.rows)
            self.clock = max(self.clock, free - 1) + self.window.buffer.words
            self.taken[self.at] = self.clock
            self.at = (r, c + 1) if c + 1 < self.frame_of(r).width else (r + 1, 0)
        return self.taken[row, x]

    def beats(self, passes: int, full: int, last: int) -> list[int]:
        """The cycle of every output beat; of a pixel's `passes` all but the last have `full`."""
        geometry, out, free = self.window.geometry, [], 0
        (sy, sx), (top, _, left, _) = geometry.stride, geometry.padding
        at_once, arrives = self.window.pixels, self.window.arrives
        for k, (frame, walked) in enumerate(zip(self.frames, self.walked, strict=True)):
            for oy in range(walked.height):
                need_y = min(oy * sy - top + geometry.span[0], frame.height) - 1
                for ox in range(0, walked.width, at_once):
                    need_x = (ox + at_once - 1) * sx - left + geometry.span[1] - 1
                    start = max(free, self.arrival(self.starts[k] + need_y, need_x) + arrives)
                    for p in range(passes):
                        issued = start + (p + 1) * self.window.pass_cycles - 1
                        n = last * min(at_once, walked.width - ox) if p == passes - 1 else full
                        out += [issued + self.block.latency + j for j in range(n)]
                    free = start + self.block.cycles_per_pixel
                following = (oy + 1) * sy - top if oy + 1 < walked.height else frame.height
                keep = self.starts[k] + min(max(following, 0), frame.height)
                self.freed.append((keep, free + 1 + (at_once > 1)))
        return out


def check_timetable(
    block: Any, frames: Sequence[Frame], x: IntType, y: IntType, lanes: Any
) -> None:
    ports = feed(block, np.random.default_rng(4), frames, x, y, lanes=lanes)
    drain = getattr(block, "drain", None)
    words = block.window.buffer.words
    passes = (drain.passes, drain.beats, drain.last_beats) if drain else (words, 1, 1)
    expected = Timetable(block, 2).beats(*passes)
    assert ports["o"].cycles[: len(expected)] == expected


@settings(max_examples=40, deadline=None)
@given(convolutions())
def test_convolution_keeps_its_timetable(case: Any) -> None:
    engine, frames, x, lanes = case
    check_timetable(engine, frames, x, Y, lanes)


@settings(max_examples=40, deadline=None)
@given(lane_blocks())
def test_depthwise_and_pools_keep_their_timetable(case: Any) -> None:
    check_timetable(*case)


@pytest.mark.parametrize(
    "block",
    [
        engine([Frame(4, 6, 6)], 6, 3, simd=4, pe=6, out=6),
        engine([Frame(4, 6, 6)], 6, 3, simd=2, pe=3, out=1),
        engine([Frame(4, 6, 6)], 5, 3, simd=4, pe=2, out=2, stride=(2, 2)),
        engine([Frame(8, 5, 7)], 5, 1, simd=8, pe=5, out=5),
        engine([Frame(8, 5, 7)], 5, 1, simd=4, pe=5, out=5),
        engine([Frame(4, 6, 6), Frame(4, 3, 3), Frame(4, 1, 2)], 3, 3, simd=4, pe=3, out=1),
        engine([Frame(3, 4, 4), Frame(3, 2, 2)], 7, 1, simd=1, pe=4, out=2),
        engine([Frame(4, 6, 6)], 6, 3, simd=4, pe=6, out=6, pixels=2),
        engine([Frame(4, 6, 8)], 6, 3, simd=4, pe=6, out=3, pixels=3),
        engine([Frame(3, 10, 10)], 5, 3, simd=3, pe=5, out=5, stride=(2, 2), pixels=2),
    ],
    ids=lambda b: f"{b.kernels.shape[1:]}x{len(b.scalings)}x{b.window.pixels}",
)
def test_steady_state_has_no_lost_cycle(block: ConvEngine) -> None:
    frames, lanes = block.window.in_frames, (block.window.lanes, block.drain.out_lanes)
    images = random_frames(np.random.default_rng(6), frames, block.window.x, 4)
    ports = run_frames(block, images, block.model(images), x=block.window.x, y=Y, lanes=lanes)
    per_image = sum(f.beats(lanes[1]) for f in block.out_frames)
    ends = ports["o"].cycles[per_image - 1 :: per_image]
    at_once = block.window.pixels
    walked = sum(f.height * ceil_div(f.width, at_once) for f in block.out_frames)
    expected = walked * block.cycles_per_pixel
    assert np.diff(ends[1:]).tolist() == [expected] * 2


@pytest.mark.parametrize("pixels", [1, 2])
def test_a_register_behind_the_memories_costs_one_cycle_once(pixels: int) -> None:
    plain, late = (
        engine([Frame(4, 6, 6)], 6, 3, simd=4, pe=6, out=6, pixels=pixels, hard=Hard(late))
        for late in (False, True)
    )
    assert late.latency == plain.latency + 1
    assert late.cycles_per_pixel == plain.cycles_per_pixel
