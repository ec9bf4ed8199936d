"""Sums and averages as other systems compute them, written in the operations of a Program.

Each function appends to a `Builder` and returns the name of the result. What is added are ordinary
operations, so that every execution has these forms, hardware too. The builder's arithmetic must
round as the system does: "tflite" or "cmsis-nn" for gemmlowp's, "tosa" for XNNPACK's and TOSA's
(all round halves up once), "nvdla" for NVDLA's; a table is of any arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import floor, frexp

import numpy as np
from numpy.typing import NDArray

from intaglio.errors import ProgramError
from intaglio.fixed import IntType, double
from intaglio.multiplier import float32_parts
from intaglio.ops import Add, Interpolate, Lookup, Pair, Requant, SumPool2d, Tap, Tensor
from intaglio.program import Builder

PRE_SHIFT, WIDE_SHIFT = 20, 15  # of TFLite's addition of 8 bits, and of 16
WIDE = 1 << 44  # more than a product of bytes in float32, whole
RESIZE_BITS = 10  # of TFLite's weights of a row or column
XNNPACK_BITS = 22  # signed, of the multipliers of XNNPACK's addition
XNNPACK_RATIOS = (2.0**-10, 2.0**8)  # of its larger operand's scale to the result's


@dataclass(frozen=True)
class Real:
    """What a code stands for: scale * (q - zero)."""

    scale: float
    zero: int


def quantized_multiplier(factor: float) -> tuple[int, int]:
    """(m, S) with factor ~ m / 2^S and m in [2^30, 2^31): TFLite's QuantizeMultiplier, which keeps
    S = 31 - exponent. Factors below 2^-32 are 0. Raises ProgramError unless factor > 0."""
    if not factor > 0:
        raise ProgramError(f"A factor must be above 0, not {factor}.")
    mantissa, exponent = frexp(factor)
    m = floor(mantissa * (1 << 31) + 0.5)
    if m == 1 << 31:
        m, exponent = m >> 1, exponent + 1
    return (0, 31) if exponent < -31 else (m, 31 - exponent)


def tflite_product(a: float, b: float, made: float) -> float:
    """The factor of a product of two maps, sa * sb / sy, which TFLite computes in float32."""
    return float(np.float32(a) * np.float32(b) / np.float32(made))


def onnxruntime_product(
    products: NDArray[np.int64], ratio: np.float32, zero: int
) -> NDArray[np.float32]:
    """QLinearMul of onnxruntime before its clamp: an exact product times a ratio of scales, plus
    the zero point, each in float32, and only then rounded, ties to even."""
    made: NDArray[np.float32] = np.rint(products.astype(np.float32) * ratio + np.float32(zero))
    return made


def onnxruntime_gate(
    builder: Builder, name: str, product: str, ratio: np.float32, grid: Real, lo: int, hi: int,
    origin: str = "", type: IntType | None = None,
) -> str:  # fmt: skip
    """QLinearMul behind a Multiply, in an arithmetic of products in float32: `onnxruntime_product`
    of a ratio above 0, clamped to [lo, hi]. The product in float32, as it is, and a sum that adds
    the zero point to it and rounds both."""
    m, s = float32_parts(Fraction(float(ratio)))
    scaled = Requant(
        output=f"{name}.scaled", input=product, origin=origin,
        multiplier=builder.constant(f"{name}.M", [m]), bias=builder.constant(f"{name}.B", [0]),
        shift=(0,), lo=-WIDE, hi=WIDE,
    )  # fmt: skip
    wide = builder.add(scaled)
    op = Add(output=name, a=wide, b=wide, origin=origin, multiplier_a=0, multiplier_b=1,
             bias=grid.zero << s, shift=s, lo=lo, hi=hi)  # fmt: skip
    return builder.add(op, type, grid.scale, (grid.zero,))


def gemmlowp_add(
    builder: Builder, name: str, a: str, b: str, reals: tuple[Real, Real, Real], lo: int, hi: int,
    origin: str = "", type: IntType | None = None, sign: int = 1,
) -> str:  # fmt: skip
    """TFLite's and CMSIS-NN's addition of 8-bit codes to [lo, hi]; `reals` of a, b and the result.
    With a `sign` of -1 its subtraction, which adds the negative of v.

    u = DOUBLE((q - z) * 2^20 * s / t) of each operand with t = 2 * max(s), which is a table of its
    code; then DOUBLE((u + v) * t / (2^20 * s_out)) + z_out. Of 16-bit codes 2^15 is in the place of
    2^20.
    """
    x, y, out = reals
    pre = WIDE_SHIFT if builder.tensors[a].type.bits > 8 else PRE_SHIFT
    twice = 2 * max(x.scale, y.scale)
    parts = []
    for side, tensor, real in (("a", a, x), ("b", b, y)):
        table = gemmlowp_table(builder.tensors[tensor].type, real, twice, pre)
        constant = builder.constant(f"{name}.{side}.table", table)
        lookup = Lookup(output=f"{name}.{side}", input=tensor, table=constant, origin=origin)
        parts.append(builder.add(lookup, scale=twice / (1 << pre), zero_point=(0,)))
    m, shift = quantized_multiplier(twice / ((1 << pre) * out.scale))
    op = Add(
        output=name, a=parts[0], b=parts[1], multiplier_a=m, multiplier_b=sign * m, bias=0,
        shift=shift, lo=lo, hi=hi, offset=out.zero, origin=origin,
    )  # fmt: skip
    return builder.add(op, type, out.scale, (out.zero,))


def gemmlowp_table(type: IntType, real: Real, twice: float, pre: int = PRE_SHIFT) -> list[int]:
    """u of every code of an operand of that addition."""
    m, shift = quantized_multiplier(real.scale / twice)
    codes = range(type.lo, type.hi + 1)
    return [double(((q - real.zero) << pre) * m, shift) for q in codes]


def xnnpack_add(
    builder: Builder, name: str, a: str, b: str, reals: tuple[Real, Real, Real], lo: int, hi: int,
    origin: str = "", type: IntType | None = None,
) -> str:  # fmt: skip
    """XNNPACK's addition: multipliers of 21 bits of the float32 ratios, rounded once, halves up."""
    out = reals[2]
    ma, mb, bias, shift = xnnpack_factors(*reals)
    op = Add(
        output=name, a=a, b=b, multiplier_a=ma, multiplier_b=mb, bias=bias, shift=shift, lo=lo,
        hi=hi, offset=out.zero, origin=origin,
    )  # fmt: skip
    return builder.add(op, type, out.scale, (out.zero,))


def xnnpack_factors(x: Real, y: Real, out: Real) -> tuple[int, int, int, int]:
    """(Ma, Mb, B, S) of that addition."""
    ratios = [np.float32(np.float32(r.scale) / np.float32(out.scale)) for r in (x, y)]
    shift = 20 - (frexp(float(max(ratios)))[1] - 1)
    ma, mb = (round(float(r) * 2.0**shift) for r in ratios)  # lrintf: ties to even
    return ma, mb, -(x.zero * ma + y.zero * mb), shift


def scaled_sum(
    builder: Builder, name: str, input: str, m: int, b: int, shift: int, offset: int = 0
) -> str:
    """One Requant by one multiplier, to the type and range of the pool's input."""
    op = builder.ops[-1]
    source = builder.tensors[op.inputs[0] if isinstance(op, SumPool2d) else input]
    requant = Requant(
        output=name, input=input, multiplier=builder.constant(f"{name}.m", [m]),
        bias=builder.constant(f"{name}.b", [b]), shift=(shift,), lo=source.type.lo,
        hi=source.type.hi, offset=offset, origin=op.origin,
    )  # fmt: skip
    return builder.add(requant, source.type, source.scale, source.zero_point)


def tflite_average(builder: Builder, name: str, pool: SumPool2d) -> str:
    """TFLite's average: the sum of raw codes over n, halves away from zero, in the input's grid.

    M = floor(2^31 / n) + 1 is above 2^31 / n, which takes ties away from zero, by so little that
    nothing else changes while n^2 * |code| < 2^30. Raises ProgramError beyond that, and for windows
    that leave the image, which TFLite divides by fewer.
    """
    n = pool.kernel[0] * pool.kernel[1]
    x = builder.tensors[pool.input]
    if any(pool.padding):
        raise pool.refuse("its windows must lie within the image in TFLite's form.")
    if not tflite_divides(x, n):
        raise pool.refuse(f"its window must be smaller in TFLite's form, not of {n} pixels.")
    m, shift = ((1 << 31) // n + 1, 31) if n > 1 else (1 << 30, 30)
    return scaled_sum(builder, name, builder.add(pool), m, 0, shift)


def tflite_divides(x: Tensor, n: int) -> bool:
    """Whether `tflite_average` is exact for windows of n codes of x."""
    return n * n * max(abs(x.lo), abs(x.hi)) < 1 << 30


def tflite_mean(m: int, shift: int, n: int) -> tuple[int, int]:
    """(M', S') by which TFLite's MEAN scales a sum of n codes, of (M, S) of sx / sy: (M << k) // n
    and S + k, where 2^k is the largest power in n."""
    k = min(n.bit_length() - 1, 32, 62 - shift)
    return (m << k) // n, shift + k


def tosa_reciprocal(n: int) -> tuple[int, int]:
    """(M, S) by which TOSA's average divides a sum of n codes."""
    k = (n - 1).bit_length()
    return (((1 << 30) + 1) << k) // n, 30 + k


def tosa_average(builder: Builder, name: str, pool: SumPool2d, zero_in: int, zero_out: int) -> str:
    """TOSA's average: (sum - n * zero_in) * M / 2^(30 + k) + zero_out with
    M = ((2^30 + 1) << k) / n and k the bits of n - 1; windows within the image."""
    n = pool.kernel[0] * pool.kernel[1]
    if any(pool.padding):
        raise pool.refuse("its windows must lie within the image in TOSA's form.")
    m, shift = tosa_reciprocal(n)
    return scaled_sum(builder, name, builder.add(pool), m, -zero_in * n * m, shift, zero_out)


def onnxruntime_average(
    builder: Builder, name: str, pool: SumPool2d, reals: tuple[Real, Real], type: IntType
) -> str:
    """onnxruntime's QLinearAveragePool, as a table of the sum: in float32, the sum times its scale,
    over n, over the result's scale, plus the zero point, and only then rounded, ties to even.

    The runtime adds reals, not codes; where its scale is no power of two its sum may be the next
    float32. Raises ProgramError for a sum of more than 16 bits.
    """
    x, y = reals
    n = pool.kernel[0] * pool.kernel[1]
    total = builder.tensors[builder.add(pool)]
    if total.type.bits > 16:
        raise pool.refuse(f"its window must be smaller in onnxruntime's form, not of {n} pixels.")
    sums = np.arange(total.type.lo, total.type.hi + 1, dtype=np.int64) - n * x.zero
    mean = sums.astype(np.float32) * np.float32(x.scale) / np.float32(n)
    table = onnxruntime_rounded(mean, y.scale, y.zero, type)
    op = Lookup(output=name, input=total.name, table=builder.constant(f"{name}.t", table, type))
    return builder.add(op, type, y.scale, (y.zero,))


def onnxruntime_rounded(
    mean: NDArray[np.float32], scale: float, zero: int, type: IntType
) -> NDArray[np.int64]:
    """Codes of averages as that operator rounds them: the zero point is added first."""
    near = np.rint(mean / np.float32(scale) + np.float32(zero))
    codes: NDArray[np.int64] = np.clip(near, type.lo, type.hi).astype(np.int64)
    return codes


def nvdla_average(builder: Builder, name: str, pool: SumPool2d) -> str:
    """NVDLA's planar average: times 2^16 / width, then times 2^16 / height, each nearest and each
    rounded by 16 bits, halves away from zero."""
    total = builder.add(pool)
    wide, x = builder.tensors[total].type, builder.tensors[pool.input]
    for step, side, type in (
        (f"{name}.rows", pool.kernel[1], wide),
        (name, pool.kernel[0], x.type),
    ):
        m, shift = (2 * (1 << 16) // side + 1) >> 1, 16
        while m % 2 == 0:  # the same factor in the profile's width
            m, shift = m >> 1, shift - 1
        op = Requant(
            output=step, input=total, multiplier=builder.constant(f"{step}.m", [m]),
            bias=builder.constant(f"{step}.b", [0]), shift=(shift,), lo=type.lo, hi=type.hi,
        )  # fmt: skip
        total = builder.add(op, type, x.scale, x.zero_point)
    return total


def tflite_taps(old: int, new: int, *, aligned: bool, half: bool) -> tuple[Tap, ...]:
    """Rows or columns of TFLite's RESIZE_BILINEAR of int8 and int16, in 1024ths of a pixel; `half`:
    pixels are counted by their middles. Raises ProgramError where its kernel would read behind the
    last pixel."""
    unit = 1 << RESIZE_BITS
    step = (unit * old + new // 2) // new
    if aligned and new > 1:
        step = (unit * (old - 1) + (new - 1) // 2) // (new - 1)
    found = []
    for i in range(new):
        at = i * step + (step // 2 - unit // 2 if half else 0)
        first = max(at, 0) // unit
        if first >= old:
            raise ProgramError(
                f"TFLite's steps of {step} / {unit} pixel lead behind the last of {old} pixels;"
                f" make less than {new} of them."
            )
        last = min(max(at + unit - 1, 0) // unit, old - 1)
        ahead = at - unit * first if last > first else 0
        found.append((first, unit - ahead, ahead))
    return tuple(found)


def tflite_interpolation(
    builder: Builder, name: str, input: str, size: Pair, aligned: bool, half: bool, origin: str = ""
) -> str:
    """TFLite's RESIZE_BILINEAR: the sum over 2^20, halves away from zero, in the input's grid. Of
    at most 8 bits its codes are int8, the largest 127, and it is their zero that counts."""
    x = builder.tensors[input]
    rows, columns = (
        tflite_taps(old, new, aligned=aligned, half=half)
        for old, new in zip(x.shape[1:], size, strict=True)
    )
    op = Interpolate(output=f"{name}.acc", input=input, rows=rows, columns=columns, origin=origin)
    less, shift = x.type.hi - 127 if x.type.bits <= 8 else 0, 2 * RESIZE_BITS
    requant = Requant(
        output=name, input=builder.add(op), multiplier=builder.constant(f"{name}.m", [1]),
        bias=builder.constant(f"{name}.b", [-less << shift]), shift=(shift,), lo=x.type.lo,
        hi=x.type.hi, offset=less, rounding="RND_INF", origin=origin,
    )  # fmt: skip
    return builder.add(requant, x.type, x.scale, x.zero_point)
