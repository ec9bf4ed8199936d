"""Cases of operations without weights: pools, resizing, tables, codes to other codes."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from conformance_cases import I8, LEAK, Array, Case, codes, zero

from intaglio.fixed import clamp, double, preset
from intaglio.forms import Real, onnxruntime_average, quantized_multiplier
from intaglio.multiplier import float32_parts
from intaglio.ops import Input, Lookup, MaxPool2d, Output, Requant, SumPool2d, Upsample
from intaglio.program import Builder


def begun(profile: str, images: Array) -> Builder:
    """A Program with its input."""
    b = Builder(preset(profile))
    b.add(Input(output="x", shape=images.shape[1:], type=I8))
    return b


def finished(b: Builder, images: Array, *reals: Real, **fields: object) -> Case:
    """The case of a Program whose result is the last operation's."""
    b.add(Output(output="y", input=b.ops[-1].output))
    return Case(b.build(), images, reals, **fields)  # type: ignore[arg-type]  # fields of a Case


def max_cases(profile: str, count: int, seed: int) -> Iterator[Case]:
    """Windows of 2 and 3, strides of 1 and 2, every second one with a border that counts for
    nothing."""
    rng = np.random.default_rng([seed, 19, count])
    for n in range(count):
        k, stride = 2 + n % 2, 1 + n // 2 % 2
        padding = {1: (k // 2 - (k == 2), k // 2, k // 2 - (k == 2), k // 2), 2: (0, k - 2) * 2}
        images = codes(rng, (1, 16, 160, 160), n)
        b = begun(profile, images)
        op = MaxPool2d(
            output="q", input="x", kernel=(k, k), stride=(stride, stride),
            padding=padding[stride] if n // 4 % 2 == 0 else (0, 0, 0, 0),
        )  # fmt: skip
        b.add(op)
        real = Real(0.1, zero(rng, n))
        yield finished(
            b, images, real, real, kernel=op.kernel, stride=op.stride, padding=op.padding
        )


def resize_cases(profile: str, count: int, seed: int) -> Iterator[Case]:
    """Nearest neighbour to a multiple of the size, and to any larger one for which runtimes, which
    divide in float32, read pixel floor(i * in / out)."""
    rng = np.random.default_rng([seed, 23, count])
    for n in range(count):
        h, w = (int(v) for v in rng.integers(3, 64, 2))
        size = (2 * h, 3 * w)
        while n % 2 == 0:
            size = int(rng.integers(h, 4 * h)), int(rng.integers(w, 4 * w))
            if plain(h, size[0]) and plain(w, size[1]):
                break
        images = codes(rng, (1, 8, h, w), n)
        b = begun(profile, images)
        b.add(Upsample(output="q", input="x", size=size))
        real = Real(0.1, 0)
        yield finished(b, images, real, real)


def plain(old: int, new: int) -> bool:
    """Whether float32 divides by new / old, and multiplies by old / new, to the right pixels."""
    i, one = np.arange(new), np.float32(1)
    floats = i.astype(np.float32)
    ratios = floats / (one * new / old), floats * (one * old / new)
    return all(bool((np.floor(r) == i * old // new).all()) for r in ratios)


def every_code() -> Array:
    """All int8 codes."""
    return np.arange(-128, 128, dtype=np.int8).reshape(1, 1, 16, 16)


def requantize_cases(profile: str, count: int, seed: int) -> Iterator[Case]:
    """All codes of one grid on another."""
    rng = np.random.default_rng([seed, 29, count])
    images = every_code()
    for n in range(count):
        scales = 2.0 ** rng.integers(-6, 2, 2) if n % 3 == 0 else rng.uniform(0.004, 0.3, 2)
        x, y = (Real(float(np.float32(s)), zero(rng, n + i)) for i, s in enumerate(scales))
        b = begun(profile, images)
        if profile == "onnxruntime":
            m, s = float32_parts(Fraction(float(np.float32(x.scale) / np.float32(y.scale))))
            addend = -x.zero
        else:
            m, s = quantized_multiplier(x.scale / y.scale)
            addend = -x.zero * m
        op = Requant(
            output="q", input="x", multiplier=b.constant("m", [m]), bias=b.constant("b", [addend]),
            shift=(s,), lo=-128, hi=127, offset=y.zero,
        )  # fmt: skip
        b.add(op, I8)
        yield finished(b, images, x, y)


def leaky_cases(count: int, seed: int) -> Iterator[Case]:
    """Tables of LeakyReLU in TFLite's arithmetic: two factors, each rounded twice."""
    rng = np.random.default_rng([seed, 31, count])
    images = every_code()
    for n in range(count):
        x, y = (Real(float(np.float32(rng.uniform(0.004, 0.3))), zero(rng, n + i)) for i in (0, 1))
        factors = [x.scale * float(np.float32(LEAK)) / y.scale, x.scale / y.scale]
        below, above = map(quantized_multiplier, factors)
        table = []
        for q in range(-128, 128):
            v = q - x.zero
            m, s = above if v >= 0 else below
            table.append(clamp(double(v * m, s) + y.zero, -128, 127))
        b = begun("tflite", images)
        b.add(Lookup(output="q", input="x", table=b.constant("t", table, I8)), I8)
        yield finished(b, images, x, y)


def mean_cases(count: int, seed: int, whole: bool) -> Iterator[Case]:
    """Averages from one grid to another, powers of two among them (ties): of windows, in
    onnxruntime's form; `whole`, of the whole map, as the importer has it: a sum and one Requant."""
    rng = np.random.default_rng([seed, 37, count])
    for n in range(count):
        images = codes(rng, (1, 512, 7, 7) if whole else (1, 16, 96, 96), n)
        kernel = (7, 7) if whole else (int(rng.integers(1, 6)), int(rng.integers(1, 6)))
        stride = (1, 1) if whole else (int(rng.integers(1, 3)), 1)
        scales = 2.0 ** rng.integers(-6, 2, 2) if n % 2 == 0 else rng.uniform(0.05, 0.1, 2)
        x, y = (Real(float(np.float32(s)), zero(rng, n + i)) for i, s in enumerate(scales))
        size = kernel[0] * kernel[1]
        b = begun("onnxruntime", images)
        pool = SumPool2d(output="sum", input="x", kernel=kernel, stride=stride)
        if whole:
            b.add(pool)
            factor = np.float32(x.scale) / np.float32(np.float32(y.scale) * np.float32(size))
            m, s = float32_parts(Fraction(float(factor)))
            op = Requant(
                output="q", input="sum", multiplier=b.constant("m", [m]), shift=(s,), lo=-128,
                bias=b.constant("b", [-x.zero * size]), hi=127, offset=y.zero,
            )  # fmt: skip
            b.add(op, I8)
        else:
            onnxruntime_average(b, "q", pool, (x, y), I8)
        yield finished(b, images, x, y, kernel=kernel, stride=stride)


def sigmoid_cases(count: int, seed: int) -> Iterator[Case]:
    """Tables of 1 / (1 + e^-x) on TFLite's fixed result grid, 1/256 and -128, from float64."""
    rng = np.random.default_rng([seed, 43, count])
    images = every_code()
    for n in range(count):
        x, y = Real(float(np.float32(rng.uniform(0.004, 0.3))), zero(rng, n)), Real(1 / 256, -128)
        reals = x.scale * (np.arange(-128, 128) - x.zero)
        table = np.clip(np.rint(256 / (1 + np.exp(-reals))) - 128, -128, 127).astype(np.int64)
        b = begun("tflite", images)
        b.add(Lookup(output="q", input="x", table=b.constant("t", table, I8)), I8)
        yield finished(b, images, x, y)
