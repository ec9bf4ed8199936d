"""Cases of profiles that round once: an oracle is told scales that are M / 2^S exactly.

A float32 holds an M of 24 bits or fewer, so that a program that derives a multiplier and a shift of
its own from the scale computes with the Program's M / 2^S. TFLite's kernels of 16-bit activations
round once, halves up, and keep 15 bits of a multiplier; its FULLY_CONNECTED of 8-bit ones rounds
once too, halves away from zero.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from conformance_cases import I8, Array, Case, codes, pair_images, picked, zero

from intaglio.fixed import Arithmetic, IntType, preset
from intaglio.forms import Real, quantized_multiplier
from intaglio.ops import Add, Conv2d, Input, Output, Requant
from intaglio.program import Builder

BITS = 15  # of a multiplier that 16-bit kernels keep


def once_cases(profile: str, count: int, seed: int, type: IntType) -> Iterator[Case]:
    """1x1 convolutions of `type`, i8 or i16 (with zero points 0), with a factor for each channel
    (for `dpu` one). Of four cases one has factors of two bits and a short shift (ties), one the
    longest shift, with biases of 30 bits that bring its sums into the range. Every third channel
    has M and weights negated, where the profile lets channels differ: its value is the same."""
    rng = np.random.default_rng([seed, 13, len(profile), count])
    arithmetic = preset(profile)
    for n in range(count):
        cin, cout = int(rng.integers(1, 9)), 16
        weight = codes(rng, (cout, cin, 1, 1), n // 3)
        weight[weight == -128] = -127
        images = codes(rng, (1, cin, 224, 224), n)
        x, y = Real(1.0, zero(rng, n)), Real(1.0, zero(rng, n + 1))
        if type.bits == 16:  # the extremes stay, others get eight bits more
            low = rng.integers(0, 256, images.shape, dtype=np.int16)
            low = np.where(np.abs(images + 0.5) > 127, np.where(images > 0, 255, 0), low)
            images = (images.astype(np.int16) << 8) | low.astype(np.int16)
            x = y = Real(1.0, 0)
        m, s, bias = scalings(rng, arithmetic, n % 4, cin, cout, type.bits)
        factors = np.ldexp(m.astype(np.float64), -s).astype(np.float32)
        sign = np.where((np.arange(cout) % 3 == 0) & (not arithmetic.per_layer), -1, 1)
        wide = weight.astype(np.int64)
        b = Builder(arithmetic)
        b.add(Input(output="x", shape=images.shape[1:], type=type))
        name = b.constant("w", wide * sign[:, None, None, None])
        b.add(Conv2d(output="acc", input="x", weight=name, pad_value=(x.zero,)))
        addend = (bias - x.zero * wide.sum(axis=(1, 2, 3))) * m
        op = Requant(
            output="q", input="acc", multiplier=b.constant("m", m * sign),
            bias=b.constant("b", addend), shift=tuple(int(v) for v in s), lo=type.lo, hi=type.hi,
            offset=y.zero,
        )  # fmt: skip
        b.add(op, type)
        b.add(Output(output="y", input="q"))
        yield Case(b.build(), images, (x, y), weight, bias, factors)


def scalings(
    rng: np.random.Generator, arithmetic: Arithmetic, kind: int, cin: int, cout: int, width: int
) -> tuple[Array, Array, Array]:
    """M and S of each channel (S of one entry where channels share it), and biases."""
    high = arithmetic.shift_range[1]
    reach = 5 + width + cin.bit_length()  # bits of a usual sum
    bits = min(arithmetic.multiplier_bits - 1, BITS)
    bias = rng.integers(-(1 << reach - 1), 1 << reach - 1, cout)
    if kind == 2:  # few bits and a short shift
        m, s = rng.integers(1, 4, cout), np.array([reach + 1 - width])
    elif kind == 3:
        s = np.array([min(high, bits + 29)])
        m = rng.integers(1 << (bits - 1), 1 << bits, cout)
        bias = rng.integers(-(1 << 29), 1 << 29, cout)
    else:
        s = np.array([min(high, bits + reach - width)])
        m = rng.integers(1 << (bits - 2), 1 << bits, cout)
    if arithmetic.power_of_two:
        m = 1 << np.floor(np.log2(m)).astype(np.int64)
    if arithmetic.per_layer:
        s = np.array([min(high, reach + 1 - width + kind)])
        m[:] = 1 << int(rng.integers(0, 3))
    if arithmetic.name == "tosa":  # multipliers of 31 bits, as their owners derive them
        factors = np.ldexp(m.astype(np.float64), -s)
        m, s = (np.array(v) for v in zip(*map(quantized_multiplier, factors), strict=True))
    return m.astype(np.int64), s, bias.astype(np.int64)


def once_adds(profile: str, count: int, seed: int) -> Iterator[Case]:
    """Sums of all pairs of codes, rounded once; factors from 2^-9 to 2^6."""
    rng = np.random.default_rng([seed, 17, len(profile), count])
    arithmetic, images = preset(profile), pair_images()
    bits = min(arithmetic.multiplier_bits - 1, 17)
    for n in range(count):
        if arithmetic.power_of_two:
            ma, mb = (1 << int(v) for v in rng.integers(0, 8, 2))
            shift = int(rng.integers(3, 9))
        elif n % 3 == 0:  # ties
            (ma, mb), shift = (int(v) for v in rng.integers(1, 4, 2)), int(rng.integers(1, 4))
        else:
            ma, mb = (int(v) for v in rng.integers(1 << (bits - 4), 1 << bits, 2))
            shift = bits + int(rng.integers(-2, 4))
        one = float(1 << shift)
        a, c, y = (Real(s, zero(rng, n + i)) for i, s in enumerate((ma / one, mb / one, 1.0)))
        b = Builder(arithmetic)
        b.add(Input(output="x", shape=(2, 256, 256), type=I8))
        for channel, name in enumerate("ab"):
            picked(b, name, channel)
        op = Add(
            output="q", a="a", b="b", multiplier_a=ma, multiplier_b=mb,
            bias=(y.zero << shift) - a.zero * ma - c.zero * mb, shift=shift, lo=-128, hi=127,
        )  # fmt: skip
        b.add(op, I8)
        b.add(Output(output="y", input="q"))
        yield Case(b.build(), images, (a, c, y))
