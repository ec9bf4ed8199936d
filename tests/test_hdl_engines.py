"""Engines and pools against their models: any geometry, folding, levels, arithmetic and stalls."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hdl_bench import bracketed_names, random_frames, run_frames, to_verilog
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from intaglio.errors import BuildError
from intaglio.fixed import ROUNDINGS, IntType
from intaglio.hdl.accumulator import Accumulator
from intaglio.hdl.conv import ConvEngine
from intaglio.hdl.depthwise import DepthwiseEngine
from intaglio.hdl.geometry import Geometry
from intaglio.hdl.pack import Ints
from intaglio.hdl.pool import MaxPool, SumPool
from intaglio.hdl.requant import Scaling
from intaglio.hdl.stream import Frame, ceil_div
from intaglio.hdl.upsample import Upsample

pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
seeds = st.one_of(st.none(), st.integers(0, 999))
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
small = st.tuples(st.integers(1, 2), st.integers(1, 2))
paddings = st.tuples(*[st.integers(0, 2)] * 4)
sizes = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=3)
geometries = st.builds(Geometry, pairs, pairs, small, paddings)
W = IntType(3, True)
Y = IntType(5, True)


def divisors(n: int) -> st.SearchStrategy[int]:
    return st.sampled_from([d for d in range(1, n + 1) if n % d == 0])


def outputs(results: int, cycles: int) -> st.SearchStrategy[int]:
    """Output lanes that divide the results and drain them in time."""
    possible = [d for d in range(1, results + 1) if results % d == 0 and results // d <= cycles]
    return st.sampled_from(possible)


def fitting(geometry: Geometry, frames: Sequence[Frame]) -> bool:
    try:
        return all(geometry.out(f, 1) for f in frames)
    except BuildError:
        return False


def proved_bits(weights: Ints, x: IntType) -> int:
    """Width of the worst sum, also of any part of it."""
    most = np.abs(weights).sum(axis=(1, 2, 3)).max() * max(abs(x.lo), x.hi)
    return IntType.spanning(-int(most) - 1, int(most)).bits


def scalings(
    rng: np.random.Generator, levels: int, channels: int, sum_bits: int, y: IntType = Y
) -> list[Scaling]:
    """Multipliers of both signs, with shifts that use the output's range."""
    shift = max(0, sum_bits + 1 - y.bits)
    return [
        Scaling(
            tuple(rng.integers(-7, 8, channels).tolist()),
            tuple(rng.integers(-50, 50, channels).tolist()),
            (shift,),
            y.lo,
            y.hi - k,
        )
        for k in range(levels)
    ]


def feed(
    block: Any,
    rng: np.random.Generator,
    frames: Sequence[Frame],
    x: IntType,
    y: IntType,
    **kind: Any,
) -> dict[str, Any]:
    images = random_frames(rng, frames, x, 2)
    return run_frames(block, images, block.model(images), x=x, y=y, eager=True, **kind)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[ConvEngine, Sequence[Frame], IntType, tuple[int, int]]:
    """An engine, its input frames, input type and (lanes in, lanes out)."""
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    geometry = draw(geometries)
    groups = draw(st.integers(1, 3))
    cin, cout = (draw(st.integers(1, 7 if groups == 1 else 3)) for _ in range(2))
    simd = draw(divisors(cin) if groups > 1 else st.integers(1, cin + 1))
    pe = draw(divisors(cout) if groups > 1 else st.integers(1, cout + 1))
    cycles = geometry.kernel[0] * geometry.kernel[1] * ceil_div(cin, simd)
    out_lanes = draw(outputs(pe, cycles))
    frames = [Frame(cin * groups, *size) for size in draw(sizes)]
    assume(fitting(geometry, frames))
    x = IntType(3, draw(st.booleans()))
    pad_shape = (draw(st.sampled_from((1, len(frames)))), draw(st.sampled_from((1, cin * groups))))
    weights = rng.integers(W.lo, W.hi + 1, (cout * groups, cin, *geometry.kernel), dtype=np.int64)
    bits = proved_bits(weights, x)
    accumulator = Accumulator(
        bits,
        draw(st.sampled_from((None, bits, max(2, bits - 2)))),
        draw(st.sampled_from(("wrap", "saturate"))),
        draw(st.sampled_from(("end", "mac"))) if simd == 1 else "end",
    )
    engine = ConvEngine(
        frames=frames,
        weights=weights,
        x=x,
        w=W,
        y=Y,
        accumulator=accumulator,
        scalings=scalings(rng, len(frames), cout * groups, accumulator.type.bits),
        rounding=draw(st.sampled_from(sorted(ROUNDINGS))),
        simd=simd,
        pe=pe,
        out_lanes=out_lanes,
        groups=groups,
        stride=geometry.stride,
        dilation=geometry.dilation,
        padding=geometry.padding,
        pad_values=rng.integers(x.lo, x.hi + 1, pad_shape).tolist(),
        rows=draw(st.sampled_from((None, geometry.span[0]))),
    )
    return engine, frames, x, (simd, out_lanes)


@settings(max_examples=60, deadline=None)
@given(convolutions(), seeds)
def test_convolution_is_exact(case: Any, seed: int | None) -> None:
    engine, frames, x, lanes = case
    feed(engine, np.random.default_rng(1), frames, x, Y, lanes=lanes, seed=seed)


@st.composite
def lane_blocks(draw: st.DrawFn, kinds: Sequence[str] = ("depthwise", "max", "sum")) -> Any:
    """A depthwise engine or a pool, its input frames and (lanes in, lanes out)."""
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    geometry = draw(geometries)
    channels = draw(st.integers(1, 7))
    frames = [Frame(channels, *size) for size in draw(sizes)]
    assume(fitting(geometry, frames))
    x = IntType(4, draw(st.booleans()))
    lanes = draw(st.integers(1, channels + 1))
    cycles = geometry.kernel[0] * geometry.kernel[1]
    out_lanes = draw(outputs(lanes, cycles))
    common = {
        "frames": frames,
        "x": x,
        "lanes": lanes,
        "stride": geometry.stride,
        "dilation": geometry.dilation,
        "padding": geometry.padding,
        "rows": draw(st.sampled_from((None, geometry.span[0]))),
    }
    kind = draw(st.sampled_from(kinds))
    if kind == "max":
        return MaxPool(kernel=geometry.kernel, **common), frames, x, x, (lanes, lanes)
    weights = rng.integers(W.lo, W.hi + 1, (channels, 1, *geometry.kernel), dtype=np.int64)
    bits = proved_bits(weights, x) if kind == "depthwise" else 8
    common["scalings"] = scalings(rng, len(frames), channels, bits)
    common["rounding"] = draw(st.sampled_from(sorted(ROUNDINGS)))
    common["out_lanes"] = out_lanes
    if kind == "sum":
        pad = int(rng.integers(x.lo, x.hi + 1))
        block = SumPool(kernel=geometry.kernel, y=Y, pad_value=pad, **common)
    else:
        narrow = draw(st.sampled_from((None, max(2, bits - 2))))
        overflow = draw(st.sampled_from(("wrap", "saturate")))
        at = draw(st.sampled_from(("end", "mac")))
        pads = rng.integers(x.lo, x.hi + 1, (len(frames), channels)).tolist()
        block = DepthwiseEngine(
            weights=weights,
            w=W,
            y=Y,
            accumulator=Accumulator(bits, narrow, overflow, at),
            pad_values=pads,
            **common,
        )
    return block, frames, x, Y, (lanes, out_lanes)


@settings(max_examples=50, deadline=None)
@given(lane_blocks(), seeds)
def test_depthwise_and_pools_are_exact(case: Any, seed: int | None) -> None:
    block, frames, x, y, lanes = case
    feed(block, np.random.default_rng(2), frames, x, y, lanes=lanes, seed=seed)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(0, 6), st.integers(0, 6)),
    seeds,
)
def test_upsample_repeats_the_nearest(
    channels: int, lanes: int, size: tuple[int, int], more: tuple[int, int], seed: int | None
) -> None:
    x, frame = IntType(4, True), Frame(channels, *size)
    large = (size[0] + more[0], size[1] + more[1])
    block = Upsample(frame=frame, size=large, lanes=lanes, bits=4)
    images = random_frames(np.random.default_rng(3), [frame], x, 3)
    expected = [block.model(image) for image in images]
    ports = run_frames(block, images, expected, x=x, y=x, lanes=(lanes, lanes), seed=seed)
    if seed is None:
        words = ceil_div(channels, lanes)
        assert ports["o"].cycles[0] - ports["i"].cycles[words - 1] == block.latency
        beats = block.out_frame.beats(lanes)
        ends = ports["o"].cycles[beats - 1 :: beats]
        assert ends[2] - ends[1] == beats


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
        for k, (frame, walked) in enumerate(zip(self.frames, self.walked, strict=True)):
            for oy in range(walked.height):
                need_y = min(oy * sy - top + geometry.span[0], frame.height) - 1
                for ox in range(walked.width):
                    need_x = ox * sx - left + geometry.span[1] - 1
                    start = max(free, self.arrival(self.starts[k] + need_y, need_x) + 1)
                    for p in range(passes):
                        issued = start + (p + 1) * self.window.pass_cycles - 1
                        n = last if p == passes - 1 else full
                        out += [issued + self.block.latency + j for j in range(n)]
                    free = start + self.block.cycles_per_pixel
                following = (oy + 1) * sy - top if oy + 1 < walked.height else frame.height
                keep = self.starts[k] + min(max(following, 0), frame.height)
                self.freed.append((keep, free))
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


@settings(max_examples=50, deadline=None)
@given(convolutions())
def test_convolution_keeps_its_timetable(case: Any) -> None:
    engine, frames, x, lanes = case
    check_timetable(engine, frames, x, Y, lanes)


@settings(max_examples=40, deadline=None)
@given(lane_blocks())
def test_depthwise_and_pools_keep_their_timetable(case: Any) -> None:
    check_timetable(*case)


def engine(
    frames: Sequence[Frame], cout: int, kernel: int, simd: int, pe: int, out: int, **more: Any
) -> ConvEngine:
    rng = np.random.default_rng(5)
    x = IntType(4, False)
    weights = rng.integers(W.lo, W.hi + 1, (cout, frames[0].channels, kernel, kernel))
    bits = proved_bits(weights, x)
    return ConvEngine(
        frames=frames,
        weights=weights,
        x=x,
        w=W,
        y=Y,
        accumulator=Accumulator(bits),
        scalings=scalings(rng, len(frames), cout, bits),
        simd=simd,
        pe=pe,
        out_lanes=out,
        padding=(kernel // 2,) * 4,
        **more,
    )


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
    ],
    ids=lambda b: f"{b.kernel.shape}x{len(b.scalings)}",
)
def test_steady_state_has_no_lost_cycle(block: ConvEngine) -> None:
    frames, lanes = block.window.in_frames, (block.window.lanes, block.drain.out_lanes)
    images = random_frames(np.random.default_rng(6), frames, block.window.x, 4)
    ports = run_frames(block, images, block.model(images), x=block.window.x, y=Y, lanes=lanes)
    per_image = sum(f.beats(lanes[1]) for f in block.out_frames)
    ends = ports["o"].cycles[per_image - 1 :: per_image]
    expected = sum(f.pixels for f in block.out_frames) * block.cycles_per_pixel
    assert np.diff(ends[1:]).tolist() == [expected] * 2


def test_refusals_say_what_must_change() -> None:
    frame = Frame(4, 3, 3)
    with pytest.raises(BuildError, match="drain them in 9 cycles, not be 3"):
        engine([frame], 4, 3, simd=4, pe=4, out=3)
    with pytest.raises(BuildError, match="drain them in 1 cycles, not be 1"):
        engine([frame], 4, 1, simd=4, pe=4, out=1)
    with pytest.raises(BuildError, match="at least the 3 rows of a window, not 2"):
        engine([frame], 4, 3, simd=4, pe=1, out=1, rows=2)
    with pytest.raises(BuildError, match="must match the frames' channels, not 4"):
        engine([frame], 4, 3, simd=4, pe=1, out=1, groups=2)
    with pytest.raises(BuildError, match="for one or every level, not 2"):
        engine([frame], 4, 3, simd=4, pe=1, out=1, pad_values=((1,), (2,)))
    with pytest.raises(BuildError, match="must be 1 or 4 a level, not 2"):
        engine([frame], 4, 3, simd=4, pe=1, out=1, pad_values=((1, 2),))
    with pytest.raises(BuildError, match="must fit into the padded"):
        MaxPool(frames=[frame], kernel=(4, 4), x=IntType(4, False), lanes=1)
    with pytest.raises(BuildError, match="must not be smaller"):
        Upsample(frame=frame, size=(2, 3), lanes=1, bits=4)
    with pytest.raises(BuildError, match="SIMD must be 1 where every step may saturate, not 2"):
        ConvEngine(
            frames=[frame],
            weights=np.ones((1, 4, 1, 1), np.int64),
            x=IntType(4, False),
            w=W,
            y=Y,
            accumulator=Accumulator(9, 4, "saturate", "mac"),
            scalings=[Scaling((1,), (0,), (0,), 0, 9)],
            simd=2,
            pe=1,
            out_lanes=1,
        )


def test_verilog_has_its_files_and_no_brackets() -> None:
    block = engine(
        [Frame(4, 5, 5), Frame(4, 2, 2)],
        6,
        3,
        simd=2,
        pe=3,
        out=3,
        pad_values=((1, 2, 3, 4), (5, 6, 7, 8)),
        rom="rom/head",
    )
    text = to_verilog(block)
    assert not bracketed_names(text)
    names = [f'"rom/head_{kind}.hex"' for kind in ("weights", "tables", "pads")]
    assert [rom.file for rom in block.roms] == [name.strip('"') for name in names]
    assert all(name in text for name in names)


@pytest.mark.parametrize("kind", ["depthwise", "max", "sum", "upsample"])
def test_verilog_of_the_others_has_no_brackets(kind: str) -> None:
    frame, x = Frame(5, 4, 4), IntType(4, False)
    pool = {"frames": [frame], "kernel": (2, 2), "x": x, "lanes": 2}
    scaling = Scaling((1, 2, 3, 4, 5), (0,), (2,), 0, 15)
    block: Any = {
        "max": lambda: MaxPool(**pool),
        "sum": lambda: SumPool(**pool, y=x, scalings=[scaling], out_lanes=1),
        "upsample": lambda: Upsample(frame=frame, size=(8, 9), lanes=2, bits=4),
        "depthwise": lambda: DepthwiseEngine(
            frames=[frame],
            weights=np.ones((5, 1, 3, 3), np.int64),
            x=x,
            w=W,
            y=x,
            accumulator=Accumulator(9),
            scalings=[scaling],
            lanes=2,
            out_lanes=2,
        ),
    }[kind]()
    assert not bracketed_names(to_verilog(block))
