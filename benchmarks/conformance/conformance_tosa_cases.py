"""Cases that TOSA defines and no other program here does; and bundled detectors, quantised."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from conformance_cases import I8, Array, Case, codes, zero
from conformance_maps import begun, every_code, finished
from conformance_tosa import flat

from intaglio.fixed import Arithmetic, IntType, preset
from intaglio.forms import Real, tosa_average
from intaglio.ops import Input, Lookup, Requant, SumPool2d, Upsample
from intaglio.program import Builder
from intaglio.sim.engine import Simulator

CHANNELS = 16


def rescale_cases(profile: str, count: int, seed: int) -> Iterator[Case]:
    """Integers of 2 to 30 bits, as wide as M and S allow, to int8, int16 and int32. Of four cases
    one has an M of two bits (ties at every step), one the longest shift and one the shortest."""
    rng = np.random.default_rng([seed, 47, len(profile), count])
    arithmetic = preset(profile)
    for n in range(count):
        m, s = factors(rng, arithmetic, n % 4)
        top = int(m.max()).bit_length()
        room = 31 if arithmetic.rounding == "DOUBLE" else 62  # to which a shift may be raised
        least = int(s.min())
        bits = max(2, min(30, 60 - top, least + min(31 - top, max(0, room - least))))
        type = I8 if n % 5 == 0 and bits >= 9 else IntType(bits, True)
        images = values(rng, type, (1, CHANNELS, 160, 160), n)
        x = Real(1.0, zero(rng, n) if type == I8 else 0)
        to = (I8, IntType(16, True), IntType(32, True))[n % 3]
        y = Real(1.0, zero(rng, n + 1) if to == I8 else 0)
        b = Builder(arithmetic)
        b.add(Input(output="x", shape=images.shape[1:], type=type))
        op = Requant(
            output="q", input="x", multiplier=b.constant("m", m), shift=tuple(s.tolist()),
            bias=b.constant("b", -x.zero * m), lo=to.lo, hi=to.hi, offset=y.zero,
        )  # fmt: skip
        b.add(op, to)
        yield finished(b, images, x, y)


def factors(rng: np.random.Generator, a: Arithmetic, kind: int) -> tuple[Array, Array]:
    """(M, S) of each channel, or one for all."""
    low, high = a.shift_range
    width = a.multiplier_bits - 1
    count = 1 if a.per_layer or kind == 0 else CHANNELS
    m = rng.integers(1 << (width - 1), 1 << width, count)
    s = rng.integers(max(low, width - 8), min(high, width + 16) + 1, count)
    if kind == 1:
        m, s = rng.integers(1, 4, count), rng.integers(max(low, 1), 12, count)
    if kind == 2:
        s[:] = high
    if kind == 3:
        m, s = rng.integers(1, 1 << min(width, 20), count), np.full(count, max(low, 2))
    if a.power_of_two:
        m = 1 << np.floor(np.log2(m)).astype(np.int64)
    return m.astype(np.int64), s[:1] if not a.per_channel_shift else s


def values(rng: np.random.Generator, type: IntType, shape: tuple[int, ...], kind: int) -> Array:
    """Uniform; of every magnitude; all extremes; all of one sign."""
    if kind % 4 == 1:
        return rng.choice(np.array([type.lo, type.lo + 1, type.hi - 1, type.hi]), shape)
    found = rng.integers(type.lo, type.hi, shape, endpoint=True)
    if kind % 4 == 2:
        return found >> rng.integers(0, type.bits, shape)
    return np.abs(found + (found < 0)) * rng.choice([-1, 1]) if kind % 4 == 3 else found


def average_cases(count: int, seed: int) -> Iterator[Case]:
    """Averages in TOSA's form, from one zero point to another."""
    rng = np.random.default_rng([seed, 53, count])
    for n in range(count):
        kernel = (int(rng.integers(1, 9)), int(rng.integers(1, 9)))
        stride = (int(rng.integers(1, 3)), 1)
        images = codes(rng, (1, 16, 160, 160), n)
        x, y = Real(0.1, zero(rng, n)), Real(0.1, zero(rng, n + 1))
        b = begun("tosa", images)
        pool = SumPool2d(output="sum", input="x", kernel=kernel, stride=stride)
        tosa_average(b, "q", pool, x.zero, y.zero)
        yield finished(b, images, x, y, kernel=kernel, stride=stride)


def table_cases(count: int, seed: int) -> Iterator[Case]:
    """Random tables of all codes."""
    rng = np.random.default_rng([seed, 59, count])
    images = every_code()
    for n in range(count):
        b = begun("tosa", images)
        entries = b.constant("t", codes(rng, (256,), n).astype(np.int64), I8)
        b.add(Lookup(output="q", input="x", table=entries), I8)
        yield finished(b, images, Real(0.1, 0))


def enlarge_cases(count: int, seed: int) -> Iterator[Case]:
    """Nearest neighbour to any size."""
    rng = np.random.default_rng([seed, 61, count])
    for n in range(count):
        h, w = (int(v) for v in rng.integers(1, 64, 2))
        size = (int(rng.integers(h, 5 * h + 1)), int(rng.integers(w, 5 * w + 1)))
        images = codes(rng, (1, 8, h, w), n)
        b = begun("tosa", images)
        b.add(Upsample(output="q", input="x", size=size))
        yield finished(b, images, Real(0.1, 0))


@dataclass
class Detector(Case):
    """A whole network of several results."""

    def ours(self) -> Array:
        """The simulator's integers, one map after the other."""
        return flat(Simulator(self.program)(self.images))


def detector_cases(profile: str, count: int, seed: int) -> Iterator[Case]:
    """The bundled detectors, of 4 and of 8 bits, on scenes and on random pixels; `count` images
    of either kind."""
    from intaglio.detect.scenes import make_scene
    from intaglio.detect.zoo import BUNDLED, CALIBRATION_SEED, HELD_OUT_SEED, load
    from intaglio.quant import QuantConfig, quantize

    rng = np.random.default_rng([seed, 67, count])

    def scenes(many: int, start: int, split: str) -> Array:
        found = (make_scene(i, size=96, seed=start, split=split) for i in range(many))  # type: ignore[arg-type]  # a name of its tuple
        return np.stack([scene.image for scene in found])

    for name in BUNDLED:
        for bits in (4, 8):
            config = QuantConfig(
                wbits=bits, abits=bits, method="minmax", arithmetic=preset(profile)
            )
            model = load(name).eval()
            program = quantize(model, scenes(8, CALIBRATION_SEED, "train"), config).program
            noise = rng.integers(0, 256, (count, 3, 96, 96), dtype=np.uint8)
            images = np.concatenate([scenes(count, HELD_OUT_SEED + seed, "held-out"), noise])
            yield Detector(program, images, ())
