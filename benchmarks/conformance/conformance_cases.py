"""Programs of one operation with operands that hurt, as an oracle needs them told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from intaglio import forms
from intaglio.fixed import IntType, preset
from intaglio.forms import Real, quantized_multiplier
from intaglio.multiplier import float32_parts
from intaglio.ops import Conv2d, Input, Output, Padding, Requant, SumPool2d, window_shape
from intaglio.program import Builder, Program
from intaglio.sim.engine import Simulator

I8 = IntType(8, True)
LEAK = 0.1  # LeakyReLU's factor below 0
Array = np.ndarray[Any, Any]


@dataclass
class Case:
    """A Program and its images, and what an oracle is told: scales and zero points of the operands
    and result (`x`, `y` and for sums `z`), int8 `weight`, int32 `bias`, scale of each channel."""

    program: Program
    images: Array
    reals: tuple[Real, ...]
    weight: Array | None = None
    bias: Array | None = None
    scales: Array | None = None
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: Padding = (0, 0, 0, 0)  # top, bottom, left, right, by the zero point
    groups: int = 1
    expected: Array | None = None  # where the oracle's answer comes with the case

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the result of a window."""
        return window_shape(
            self.program.inputs[0].shape, self.kernel, self.stride, (1, 1), self.padding
        )

    def ours(self) -> Array:
        """The simulator's integers (N, C, H, W)."""
        (result,) = Simulator(self.program)(self.images).values()
        return result


def codes(rng: np.random.Generator, shape: tuple[int, ...], kind: int) -> Array:
    """int8: uniform; all extremes; all of one sign."""
    if kind % 3 == 1:
        return rng.choice(np.array([-128, 127], np.int8), shape)
    if kind % 3 == 2:
        return rng.integers(64, 128, shape, dtype=np.int8)
    return rng.integers(-128, 128, shape, dtype=np.int8)


def zero(rng: np.random.Generator, n: int) -> int:
    """A zero point; now and then an end of the type."""
    return int(rng.choice([-128, 127, 0])) if n % 4 == 0 else int(rng.integers(-128, 128))


def conv_cases(profile: str, count: int, seed: int, depthwise: bool = False) -> Iterator[Case]:
    """Convolutions 1x1 (many outputs) and 3x3, dense and strided, one scale a channel; of 3x3,
    every second pair padded. `depthwise`: 3x3 alone, one input channel a group."""
    rng = np.random.default_rng([seed, len(profile), count])
    for n in range(count):
        k = 3 if depthwise or n % 3 == 0 else 1
        cin, cout = (16, 16) if depthwise else (int(rng.integers(1, 9)), 16)
        size = 112 if depthwise else 48 if k == 3 else 224
        stride = (1, 1) if n % 4 else (2, 2)
        padding = (
            {1: (1, 1, 1, 1), 2: (0, 1, 0, 1)}[stride[0]]
            if k == 3 and n // 6 % 2 == 0
            else (0,) * 4
        )
        groups = cin if depthwise else 1
        weight = codes(rng, (cout, cin // groups, k, k), n // 3)
        weight[weight == -128] = -127  # symmetric weights, as TFLite wants them
        images = codes(rng, (1, cin, size, size), n)
        symmetric = profile in ("nvdla", "dpu")
        zx, zy = (0, 0) if symmetric else (zero(rng, n), zero(rng, n + 1))
        # Sums reach about 2^14 sqrt(k k cin); scales bring them to some codes, or to many clamps.
        spread = 2.0 ** rng.uniform(-1.5, 1.5)
        ws = rng.uniform(0.5, 1.0, cout) * spread / (60 * np.sqrt(k * k * cin / groups))
        if n % 2:  # ties: powers of two
            ws = 2.0 ** np.round(np.log2(ws))
        xs = np.float32(2.0 ** rng.integers(-6, 1)) if n % 2 else np.float32(rng.uniform(0.01, 1))
        ys = np.float32(xs) if n % 2 else np.float32(xs * rng.uniform(0.5, 2))
        scales = ws.astype(np.float32)
        bias = rng.integers(-(1 << 13), 1 << 13, cout).astype(np.int32)
        reals = (Real(float(xs), zx), Real(float(ys), zy))
        case = Case(
            program=None, images=images, reals=reals, weight=weight, bias=bias,  # type: ignore[arg-type]  # made below
            scales=scales, kernel=(k, k), stride=stride, padding=padding, groups=groups,
        )  # fmt: skip
        case.program = conv_program(profile, case, symmetric)
        yield case


def conv_program(profile: str, case: Case, symmetric: bool) -> Program:
    """Conv2d and Requant in a profile: "xnnpack" is onnxruntime's."""
    arithmetic = preset("onnxruntime" if profile == "xnnpack" else profile)
    x, y = case.reals
    assert case.weight is not None
    assert case.bias is not None
    assert case.scales is not None
    b = Builder(arithmetic)
    b.add(Input(output="x", shape=case.images.shape[1:], type=I8))
    weight = b.constant("w", case.weight.astype(np.int64))
    conv = Conv2d(
        output="acc", input="x", weight=weight, stride=case.stride, padding=case.padding,
        groups=case.groups, pad_value=(x.zero,),
    )  # fmt: skip
    b.add(conv)
    addend = case.bias.astype(np.int64) - x.zero * case.weight.astype(np.int64).sum(axis=(1, 2, 3))
    m, s = zip(*(parts(profile, x.scale, w, y.scale) for w in case.scales), strict=True)
    if profile in ("nvdla", "dpu"):  # one shift for the layer
        s = (min(16 if profile == "dpu" else 14, *s),)
        if profile == "dpu":  # and one scale
            m = (1,) * len(m)
        else:
            ratio = case.scales.astype(np.float64) * x.scale / y.scale
            m = tuple(int(v) for v in np.minimum(np.round(np.ldexp(ratio, s[0])), (1 << 15) - 1))
    table = np.array(m, dtype=np.int64)
    bias = addend if arithmetic.product == "single" else addend * table
    b.add(
        Requant(
            output="q", input="acc", multiplier=b.constant("m", table), bias=b.constant("b", bias),
            shift=s, lo=-128, hi=127, offset=y.zero,
        ),
        I8,
    )  # fmt: skip
    b.add(Output(output="y", input="q"))
    return b.build()


def parts(profile: str, xs: float, ws: np.float32, ys: float) -> tuple[int, int]:
    """(M, S) as the owner of the profile derives them from scales."""
    if profile in ("onnxruntime", "xnnpack"):  # in float32 throughout
        scale = np.float32(np.float32(xs) * ws) / np.float32(ys)
        return float32_parts(Fraction(float(scale)))
    if profile == "dpu":
        return 1, int(np.clip(-np.round(np.log2(float(ws) * xs / ys)), 0, 16))
    return quantized_multiplier(xs * float(ws) / ys)


def pair_images() -> Array:
    """Every pair of int8 codes: channel 0 the one operand, channel 1 the other."""
    a, b = np.meshgrid(np.arange(-128, 128), np.arange(-128, 128))
    return np.stack([a, b]).astype(np.int8)[None]


def add_cases(profile: str, count: int, seed: int) -> Iterator[Case]:
    """Sums of all 65,536 pairs; the operands are two channels, each picked by a convolution."""
    from intaglio.multiplier import Term, exact, scaling
    from intaglio.ops import Add

    rng = np.random.default_rng([seed, 7, count])
    images = pair_images()
    for n in range(count):
        power = n % 3 == 0
        scales = 2.0 ** rng.integers(-8, -2, 3) if power else rng.uniform(0.004, 0.3, 3)
        a, c, y = (Real(float(np.float32(s)), zero(rng, n + i)) for i, s in enumerate(scales))
        arithmetic = {"tflite": "tflite", "xnnpack": "tosa"}.get(profile, profile)
        b = Builder(preset(arithmetic))
        b.add(Input(output="x", shape=(2, 256, 256), type=I8))
        for channel, name in enumerate("ab"):
            picked(b, name, channel)
        if profile in ("tflite", "cmsis-nn"):
            forms.gemmlowp_add(b, "q", "a", "b", (a, c, y), -128, 127)
        elif profile == "xnnpack":
            forms.xnnpack_add(b, "q", "a", "b", (a, c, y), -128, 127)
        else:
            ratios = (exact(float(np.float32(r.scale) / np.float32(y.scale))) for r in (a, c))
            term = Term(tuple(ratios), (a.zero, c.zero), (128, 128), Fraction(0))
            found = scaling([term], y.zero, b.arithmetic, "q")
            op = Add(
                output="q", a="a", b="b", multiplier_a=found.multipliers[0],
                multiplier_b=found.multipliers[1], bias=found.bias[0], shift=found.shift, lo=-128,
                hi=127, offset=found.offset,
            )  # fmt: skip
            b.add(op, I8)
        b.add(Output(output="y", input="q"))
        yield Case(b.build(), images, (a, c, y))


def picked(b: Builder, name: str, channel: int) -> None:
    """One of two channels, unchanged: a convolution by 0 and 1 and a Requant by 1."""
    one_hot = np.eye(2, dtype=np.int64)[channel].reshape(1, 2, 1, 1)
    b.add(Conv2d(output=f"{name}.acc", input="x", weight=b.constant(f"{name}.w", one_hot)))
    low = b.arithmetic.shift_range[0]
    op = Requant(
        output=name, input=f"{name}.acc", multiplier=b.constant(f"{name}.m", [1 << low]),
        bias=b.constant(f"{name}.b", [0]), shift=(low,), lo=-128, hi=127,
    )  # fmt: skip
    b.add(op, I8)


def pool_cases(profile: str, count: int, seed: int) -> Iterator[Case]:
    """Averages over windows within the image."""
    rng = np.random.default_rng([seed, 11, count])
    form = forms.nvdla_average if profile == "nvdla" else forms.tflite_average
    for n in range(count):
        kernel = (int(rng.integers(1, 9)), int(rng.integers(1, 9)))
        images = codes(rng, (1, 16, 160, 160), n)
        b = Builder(preset(profile))
        b.add(Input(output="x", shape=images.shape[1:], type=I8))
        stride = (int(rng.integers(1, 3)), 1)
        form(b, "q", SumPool2d(output="sum", input="x", kernel=kernel, stride=stride))
        b.add(Output(output="y", input="q"))
        real = Real(0.1, -3)
        yield Case(b.build(), images, (real, real), kernel=kernel, stride=stride)
