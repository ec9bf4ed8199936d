"""Random engines and pools for the tests of `hdl`, with the frames they take."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from hdl_bench import random_frames, run_frames
from hypothesis import assume
from hypothesis import strategies as st

from intaglio.errors import BuildError
from intaglio.fixed import ROUNDINGS, IntType, code_bits, odd_value
from intaglio.hdl.accumulator import Accumulator
from intaglio.hdl.conv import ConvEngine
from intaglio.hdl.depthwise import DepthwiseEngine
from intaglio.hdl.geometry import Geometry
from intaglio.hdl.hard import Hard
from intaglio.hdl.pack import Ints
from intaglio.hdl.pool import MaxPool, SumPool
from intaglio.hdl.requant import Scaling
from intaglio.hdl.rom import Rom
from intaglio.hdl.stream import Frame, ceil_div

seeds = st.one_of(st.none(), st.integers(0, 999))
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
small = st.tuples(st.integers(1, 2), st.integers(1, 2))
paddings = st.tuples(*[st.integers(0, 2)] * 4)
sizes = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=3)
geometries = st.builds(Geometry, pairs, pairs, small, paddings)
W = IntType(3, True)
Y = IntType(5, True)


def random_weights(
    rng: np.random.Generator, shape: Sequence[int], odd: bool = False, type: IntType = W
) -> Ints:
    """Weights of a type: any, or odd ones."""
    if odd:
        bits = code_bits(type, odd)
        return np.asarray(odd_value(rng.integers(0, 1 << bits, shape, dtype=np.int64), bits))
    return rng.integers(type.lo, type.hi + 1, shape, dtype=np.int64)


def divisors(n: int) -> st.SearchStrategy[int]:
    return st.sampled_from([d for d in range(1, n + 1) if n % d == 0])


def outputs(results: int, cycles: int, pixels: int = 1) -> st.SearchStrategy[int]:
    """Output lanes that divide the results and drain them, of all pixels, in time."""
    possible = [
        d for d in range(1, results + 1) if results % d == 0 and pixels * results // d <= cycles
    ]
    return st.sampled_from(possible)


def neighbours(geometry: Geometry, cycles: int) -> st.SearchStrategy[int]:
    """Pixels at once that can leave in time."""
    return st.integers(1, 1 if geometry.pointwise else min(4, cycles))


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


families = st.builds(Hard, st.booleans(), st.sampled_from((0, 3, 5)))


def come_round(draw: st.DrawFn, block: Any) -> None:
    """Give half of the line buffers a power of two words."""
    if draw(st.booleans()):
        block.window.buffer.round_up()


def in_banks(draw: st.DrawFn, rom: Rom) -> None:
    """Cut the weights into banks, if there are registers behind them."""
    if rom.late:
        rom.bank = draw(st.sampled_from((0, 1, 2, 8)))


def level_sets(draw: st.DrawFn, levels: int) -> list[int]:
    """Which set of weights each level has: one for all, or any number of them in any order."""
    drawn = draw(st.lists(st.integers(0, 2), min_size=levels, max_size=levels))
    return [sorted(set(drawn)).index(k) for k in drawn]


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[ConvEngine, Sequence[Frame], IntType, tuple[int, int]]:
    """An engine, its input frames, input type and (lanes in, lanes out)."""
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    geometry = draw(geometries)
    groups = draw(st.integers(1, 3))
    cin, cout = (draw(st.integers(1, 7 if groups == 1 else 3)) for _ in range(2))
    simd = draw(divisors(cin) if groups > 1 else st.integers(1, cin + 1))
    cycles = geometry.kernel[0] * geometry.kernel[1] * ceil_div(cin, simd)
    pixels = draw(neighbours(geometry, cycles)) if groups == 1 else 1
    pe = draw(divisors(cout) if groups > 1 else st.integers(1, cout + 1)) if pixels == 1 else cout
    out_lanes = draw(outputs(pe, cycles, pixels))
    frames = [Frame(cin * groups, *size) for size in draw(sizes)]
    assume(fitting(geometry, frames))
    x = IntType(3, draw(st.booleans()))
    pad_shape = (draw(st.sampled_from((1, len(frames)))), draw(st.sampled_from((1, cin * groups))))
    odd = draw(st.booleans())
    sets = level_sets(draw, len(frames))
    kernels = [random_weights(rng, (cout * groups, cin, *geometry.kernel), odd) for _ in set(sets)]
    bits = max(proved_bits(kernel, x) for kernel in kernels)
    accumulator = Accumulator(
        bits,
        draw(st.sampled_from((None, bits, max(2, bits - 2)))),
        draw(st.sampled_from(("wrap", "saturate"))),
        draw(st.sampled_from(("end", "mac"))) if simd == 1 else "end",
    )
    engine = ConvEngine(
        frames=frames,
        weights=np.stack(kernels) if len(kernels) > 1 else kernels[0],
        sets=sets,
        x=x,
        w=W,
        odd=odd,
        form=draw(st.sampled_from(("dsp", "packed", "lut"))),
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
        pixels=pixels,
        hard=draw(families),
    )
    come_round(draw, engine)
    in_banks(draw, engine.weights)
    return engine, frames, x, (simd, out_lanes)


@st.composite
def lane_blocks(draw: st.DrawFn, kinds: Sequence[str] = ("depthwise", "max", "sum")) -> Any:
    """A depthwise engine or a pool, its input frames and (lanes in, lanes out)."""
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    geometry = draw(geometries)
    channels = draw(st.integers(1, 7))
    frames = [Frame(channels, *size) for size in draw(sizes)]
    assume(fitting(geometry, frames))
    x = IntType(4, draw(st.booleans()))
    kind = draw(st.sampled_from(kinds))
    cycles = geometry.kernel[0] * geometry.kernel[1]
    pixels = draw(neighbours(geometry, cycles)) if kind == "depthwise" else 1
    lanes = draw(st.integers(1, channels + 1)) if pixels == 1 else channels
    out_lanes = draw(outputs(lanes, cycles, pixels))
    common = {
        "frames": frames,
        "x": x,
        "lanes": lanes,
        "stride": geometry.stride,
        "dilation": geometry.dilation,
        "padding": geometry.padding,
        "rows": draw(st.sampled_from((None, geometry.span[0]))),
    }
    if kind == "max":
        block = MaxPool(kernel=geometry.kernel, **common)
        come_round(draw, block)
        return block, frames, x, x, (lanes, lanes)
    odd = draw(st.booleans())
    sets = level_sets(draw, len(frames))
    weights = np.stack(
        [random_weights(rng, (channels, 1, *geometry.kernel), odd) for _ in set(sets)]
    )
    bits = max(proved_bits(w, x) for w in weights) if kind == "depthwise" else 8
    common["scalings"] = scalings(rng, len(frames), channels, bits)
    common["rounding"] = draw(st.sampled_from(sorted(ROUNDINGS)))
    common["out_lanes"] = out_lanes
    if kind == "sum":
        pad = int(rng.integers(x.lo, x.hi + 1))
        block = SumPool(kernel=geometry.kernel, y=Y, pad_value=pad, hard=draw(families), **common)
    else:
        narrow = draw(st.sampled_from((None, max(2, bits - 2))))
        overflow = draw(st.sampled_from(("wrap", "saturate")))
        at = draw(st.sampled_from(("end", "mac")))
        pads = rng.integers(x.lo, x.hi + 1, (len(frames), channels)).tolist()
        block = DepthwiseEngine(
            weights=weights,
            sets=sets,
            w=W,
            odd=odd,
            form=draw(st.sampled_from(("dsp", "lut"))),
            y=Y,
            accumulator=Accumulator(bits, narrow, overflow, at),
            pad_values=pads,
            pixels=pixels,
            hard=draw(families),
            **common,
        )
        in_banks(draw, block.weights)
    come_round(draw, block)
    return block, frames, x, Y, (lanes, out_lanes)


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
