"""The arithmetic of the hardware, for every input there is at small widths: beside `fixed`."""

from itertools import product

import numpy as np
import pytest
from hdl_bench import run, run_frames

from intaglio.fixed import ROUNDINGS, IntType, Rounding, SaturateAt, overflow_to, requantise
from intaglio.hdl.accumulator import Accumulator
from intaglio.hdl.add import Add
from intaglio.hdl.conv import ConvEngine
from intaglio.hdl.pack import Ints, unpack_word
from intaglio.hdl.requant import Scale, Scaling
from intaglio.hdl.stream import Frame

pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
X, Y = IntType(5, True), IntType(4, True)


def every_code(type: IntType, channels: int) -> Ints:
    """A frame (C, 1, W) with every code of the type in every channel."""
    codes = np.arange(type.lo, type.hi + 1, dtype=np.int64)
    return np.broadcast_to(codes, (channels, 1, len(codes))).copy()


@pytest.mark.parametrize("rounding", sorted(ROUNDINGS))
@pytest.mark.parametrize("wide", [False, True], ids=["narrow", "beyond 31"])
@pytest.mark.parametrize(("offset", "lo", "hi"), [(0, -8, 7), (-3, -2, 5)])
def test_requantisation(rounding: Rounding, wide: bool, offset: int, lo: int, hi: int) -> None:
    """Every code, multiplier -4..3, shift and bias (ties, and beside them), a channel for each;
    `wide` scales them all so that the second step of DOUBLE takes part."""
    up = 30 if wide else 0
    rows = [
        (m << up, (b << up) - (s * up & 1), s + up)
        for m, b, s in product(range(-4, 4), (-1, 0, 2), range(4))
    ]
    multipliers, biases, shifts = zip(*rows, strict=True)
    scaling = Scaling(multipliers, biases, shifts, lo, hi, offset)
    frame = Frame(len(rows), 1, 1 << X.bits)
    block = Scale(frames=[frame], lanes=4, x=X, y=Y, scalings=[scaling], rounding=rounding)
    image = every_code(X, len(rows))
    want = np.array(
        [
            [[requantise(int(v) * m + b, s, offset, lo, hi, rounding) for v in image[c, 0]]]
            for c, (m, b, s) in enumerate(rows)
        ]
    )
    run_frames(block, [image], [want], x=X, y=Y, lanes=(4, 4))


@pytest.mark.parametrize("rounding", sorted(ROUNDINGS))
@pytest.mark.parametrize(("a_signed", "b_signed"), [(True, True), (True, False), (False, False)])
def test_addition(rounding: Rounding, a_signed: bool, b_signed: bool) -> None:
    """Every pair of codes, for some multipliers and every shift to 3."""
    a_type, b_type = IntType(3, a_signed), IntType(3, b_signed)
    pairs = list(product(range(8), range(8)))
    for shift, (ma, mb, bias) in product(range(4), ((3, -2, 1), (-5, 7, -4))):
        block = Add(
            lanes=1,
            a_type=a_type,
            b_type=b_type,
            y=Y,
            multiplier_a=ma,
            multiplier_b=mb,
            bias=bias,
            shift=shift,
            lo=-7,
            hi=6,
            offset=1,
            rounding=rounding,
        )
        inputs = {"a": [a for a, _ in pairs], "b": [b for _, b in pairs]}
        beats = run(block, inputs, {"o": len(pairs)})["o"].beats
        got = [unpack_word(beat, 1, Y.bits, True)[0] for beat in beats]
        want = []
        for raw_a, raw_b in pairs:
            (a,) = unpack_word(raw_a, 1, 3, a_signed)
            (b,) = unpack_word(raw_b, 1, 3, b_signed)
            want.append(requantise(a * ma + b * mb + bias, shift, 1, -7, 6, rounding))
        assert got == want


@pytest.mark.parametrize(
    ("overflow", "at"), [("wrap", "end"), ("saturate", "end"), ("saturate", "mac")]
)
@pytest.mark.parametrize("forced", [3, 4])
def test_narrow_accumulators(overflow: str, at: SaturateAt, forced: int) -> None:
    """Three products of 2 bits: every pixel and every weight, in the declared order."""
    type = IntType(2, True)
    codes = range(type.lo, type.hi + 1)
    weights = np.array(list(product(codes, repeat=3)), dtype=np.int64).reshape(-1, 1, 1, 3)
    walk = list(product(codes, repeat=3))
    image = np.array(walk, dtype=np.int64).reshape(1, len(walk), 3)
    sums = IntType(forced, True)
    block = ConvEngine(
        frames=[Frame(1, len(walk), 3)],
        weights=weights,
        x=type,
        w=type,
        y=sums,
        accumulator=Accumulator(5, forced, overflow, at),  # type: ignore[arg-type]  # a parameter, one of two
        scalings=[Scaling((1,), (0,), (0,), sums.lo, sums.hi)],
        simd=1,
        pe=8,
        out_lanes=4,
    )
    want = np.empty((len(weights), len(walk), 1), dtype=np.int64)
    for c, kernel in enumerate(weights[:, 0, 0].tolist()):
        for y, pixels in enumerate(walk):
            total = 0
            for x, w in zip(pixels, kernel, strict=True):
                total += x * w
                if at == "mac":
                    total = overflow_to(total, sums, "saturate")
            want[c, y, 0] = overflow_to(total, sums, overflow)  # type: ignore[arg-type]  # a parameter, one of two
    run_frames(block, [image], [want], x=type, y=sums, lanes=(1, 4))
