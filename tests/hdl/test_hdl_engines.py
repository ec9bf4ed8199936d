# amaranth: UnusedElaboratable=no
"""Engines and pools against their models: any geometry, folding, levels, arithmetic and stalls."""

from typing import Any

import numpy as np
import pytest
from hdl_bench import bracketed_names, random_frames, run_frames, to_verilog
from hdl_cases import (
    W,
    Y,
    convolutions,
    engine,
    feed,
    lane_blocks,
    proved_bits,
    random_weights,
    scalings,
    seeds,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.errors import BuildError
from intaglio.fixed import IntType
from intaglio.hdl.accumulator import Accumulator
from intaglio.hdl.conv import ConvEngine
from intaglio.hdl.depthwise import DepthwiseEngine
from intaglio.hdl.pool import MaxPool, SumPool
from intaglio.hdl.requant import Scaling
from intaglio.hdl.stream import Frame, ceil_div
from intaglio.hdl.upsample import Upsample

pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")


@settings(max_examples=40, deadline=None)
@given(convolutions(), seeds)
def test_convolution_is_exact(case: Any, seed: int | None) -> None:
    engine, frames, x, lanes = case
    feed(engine, np.random.default_rng(1), frames, x, Y, lanes=lanes, seed=seed)


@settings(max_examples=40, deadline=None)
@given(lane_blocks(), seeds)
def test_depthwise_and_pools_are_exact(case: Any, seed: int | None) -> None:
    block, frames, x, y, lanes = case
    feed(block, np.random.default_rng(2), frames, x, y, lanes=lanes, seed=seed)


@pytest.mark.parametrize("at", ["end", "mac"])
@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
@pytest.mark.parametrize("kind", ["conv", "depthwise"])
def test_a_narrow_accumulator_overflows_as_declared(kind: str, overflow: Any, at: Any) -> None:
    rng = np.random.default_rng(7)
    frame, x = Frame(3, 4, 4), IntType(4, False)
    less = Scaling((1,), (-8,), (0,), -16, 15)  # so that the clamp does not hide a saturation
    common: dict[str, Any] = {"frames": [frame], "x": x, "w": W, "y": Y, "scalings": [less]}
    shape = (4, 3, 2, 2) if kind == "conv" else (3, 1, 2, 2)
    common["weights"] = rng.integers(W.lo, W.hi + 1, shape)
    images = random_frames(rng, [frame], x, 1)

    def block(accumulator: Accumulator) -> Any:
        if kind == "depthwise":
            return DepthwiseEngine(accumulator=accumulator, lanes=2, out_lanes=1, **common)
        return ConvEngine(accumulator=accumulator, simd=1, pe=2, out_lanes=1, **common)

    narrow = block(Accumulator(10, 5, overflow, at))
    (expected,) = narrow.model(images)
    (exact,) = block(Accumulator(10)).model(images)
    assert (expected != exact).any()
    lanes = (narrow.window.lanes, 1)
    run_frames(narrow, images, [expected], x=x, y=Y, lanes=lanes, seed=1)


@pytest.mark.parametrize(
    ("wbits", "cin", "cout", "simd", "pe"),
    [(1, 3, 1, 3, 1), (2, 5, 7, 2, 3), (3, 5, 7, 3, 2), (4, 7, 5, 4, 3), (8, 2, 2, 3, 3)],
)
@pytest.mark.parametrize("seed", [None, 4])
def test_odd_weights_fold_unevenly(
    wbits: int, cin: int, cout: int, simd: int, pe: int, seed: int | None
) -> None:
    """No odd code stands for 0, and the lanes of missing channels hold noise (`run_frames`)."""
    rng = np.random.default_rng(cin)
    frames, x, w = [Frame(cin, 4, 3), Frame(cin, 2, 2)], IntType(4, True), IntType(wbits + 1, True)
    weights = random_weights(rng, (cout, cin, 2, 2), odd=True, type=w)
    bits = proved_bits(weights, x)
    block = ConvEngine(
        frames=frames,
        weights=weights,
        x=x,
        w=w,
        odd=True,
        y=IntType(bits, True),
        accumulator=Accumulator(bits),
        scalings=[Scaling((1,), (0,), (0,), -(1 << bits - 1), (1 << bits - 1) - 1)] * 2,
        simd=simd,
        pe=pe,
        out_lanes=1,
        padding=(1, 0, 0, 1),
        pad_values=(tuple(range(1, cin + 1)),),
    )
    assert block.roms[0].width == pe * simd * wbits
    feed(block, rng, frames, x, IntType(bits, True), lanes=(simd, 1), seed=seed)


def test_one_set_of_weights_is_the_engine_without_sets() -> None:
    rng = np.random.default_rng(1)
    frames, weights = [Frame(4, 4, 3), Frame(4, 2, 2)], random_weights(rng, (3, 4, 2, 2))
    common = {
        "frames": frames, "x": IntType(4, False), "w": W, "y": Y, "accumulator": Accumulator(12),
        "scalings": scalings(rng, 2, 3, 12), "simd": 2, "pe": 3, "out_lanes": 1,
    }  # fmt: skip
    texts = [to_verilog(ConvEngine(weights=w, **common)) for w in (weights, weights[None])]
    assert texts[0] == texts[1]
    twice = ConvEngine(weights=np.stack([weights, -weights - 1]), sets=(1, 0), **common)
    assert twice.weights is not None
    assert twice.weights.depth == 2 * twice.cycles_per_pixel
    for sets in ((0, 0), (0, 2), (0,)):
        with pytest.raises(BuildError) as error:
            ConvEngine(weights=np.stack([weights, weights]), sets=sets, **common)
        assert str(error.value) == (
            f"Every level must have one of 2 sets of weights, and every set a level, not {sets}."
        )


def test_several_pixels_need_all_channels_and_a_kernel() -> None:
    rng = np.random.default_rng(1)
    common = {
        "frames": [Frame(4, 4, 4)], "x": IntType(4, False), "w": W, "y": Y,
        "accumulator": Accumulator(12), "scalings": scalings(rng, 1, 6, 12), "simd": 4,
        "out_lanes": 3, "pixels": 2,
    }  # fmt: skip
    with pytest.raises(BuildError) as error:
        ConvEngine(weights=random_weights(rng, (6, 4, 2, 2)), pe=3, **common)
    assert str(error.value) == (
        "The sums of pixels side by side must be those of all 6 channels, not of 3."
    )
    with pytest.raises(BuildError) as error:
        ConvEngine(weights=random_weights(rng, (6, 4, 1, 1)), pe=6, **common)
    assert str(error.value) == (
        "A window that is just its pixel must be walked one pixel at a time, not 2: more lanes do"
        " the same."
    )


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
        # A row of one pixel may be read faster than its place is filled anew.
        assert ends[2] - ends[1] == beats or (large[1] == 1 and ends[2] - ends[1] <= 2 * beats)


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
