"""Integer arithmetic, defined once.

Every rule that turns integers into integers is written here in plain Python operators, so that the
same functions serve Python ints, NumPy int64 arrays and (compiled by Numba) the fast simulator.
`docs/arithmetic.md` is the normative text; the hardware blocks are tested against these functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import floor
from typing import Any, Literal

import numpy as np

from intaglio.errors import ProgramError

Rounding = Literal["TRN", "RND", "RND_INF", "RND_CONV", "DOUBLE"]
Overflow = Literal["wrap", "saturate"]
SaturateAt = Literal["mac", "end"]
Product = Literal["exact", "single"]
Forms = Literal["own", "tosa", "tflite"]


EXACT_LIMIT = 1 << 62  # sums below this, a rounding constant included, are exact in int64


@dataclass(frozen=True, order=True)
class IntType:
    """A `bits`-wide integer: [0, 2^bits - 1], or [-2^(bits-1), 2^(bits-1) - 1] when signed."""

    bits: int
    signed: bool

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 63:
            raise ProgramError(f"An integer type must have 1 to 63 bits, not {self.bits}.")

    @property
    def lo(self) -> int:
        """Smallest value."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def hi(self) -> int:
        """Largest value."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    def holds(self, lo: int, hi: int) -> bool:
        """Whether every value of [lo, hi] is representable."""
        return self.lo <= lo and hi <= self.hi

    def __str__(self) -> str:
        return f"{'i' if self.signed else 'u'}{self.bits}"

    @staticmethod
    def parse(text: str) -> IntType:
        """The inverse of `str`: `u4`, `i18`."""
        if text[:1] not in ("i", "u") or not text[1:].isdecimal():
            raise ProgramError(f"An integer type must be written like u8 or i18, not {text!r}.")
        return IntType(int(text[1:]), text[0] == "i")

    @staticmethod
    def spanning(lo: int, hi: int) -> IntType:
        """The narrowest type that holds [lo, hi]; signed only when lo < 0."""
        if lo >= 0:
            return IntType(max(1, hi.bit_length()), False)
        return IntType(1 + max((-lo - 1).bit_length(), max(hi, 0).bit_length()), True)

    @staticmethod
    def accumulating(lo: int, hi: int) -> IntType:
        """The narrowest signed type that holds [lo, hi]: what an accumulator is made of."""
        return IntType.spanning(min(lo, -1), hi)


# --- odd weights: the odd integers of a signed type, stored without their lowest bit --------------


def code_bits(type: IntType, odd: bool) -> int:
    """Bits that a value of `type` is stored in: odd ones are stored one bit narrower."""
    return type.bits - 1 if odd else type.bits


def odd_value(code: Any, bits: int) -> Any:
    """2q + 1 - 2^bits, the odd integer of code q in [0, 2^bits - 1]: of bits + 1 signed bits, the
    top one is not q's top bit, then come q's others, and last a 1."""
    return 2 * code + 1 - (1 << bits)


def odd_code(value: Any, bits: int) -> Any:
    """The inverse of `odd_value`, for odd values of bits + 1 signed bits."""
    return (value + (1 << bits) - 1) >> 1


# --- rounding shifts: t / 2^s, 0 <= s -----------------------------------------------------------
# `(1 << s) >> 1` is the half, and is 0 when s is 0.


def trn(t: Any, s: Any) -> Any:
    """Floor: truncate the low s bits."""
    return t >> s


def rnd(t: Any, s: Any) -> Any:
    """Nearest; ties toward plus infinity."""
    return (t + ((1 << s) >> 1)) >> s


def rnd_inf(t: Any, s: Any) -> Any:
    """Nearest; ties away from zero."""
    return (t + ((1 << s) >> 1) - ((t < 0) & (s > 0))) >> s


def rnd_conv(t: Any, s: Any) -> Any:
    """Nearest; ties to even."""
    if s == 0:
        return t
    return (t + ((1 << s) >> 1) - 1 + ((t >> s) & 1)) >> s


def double(t: Any, s: Any) -> Any:
    """Two steps, as gemmlowp: ties up at bit 31, then ties away from zero for the remaining shift.

    With t = x * m this is SaturatingRoundingDoublingHighMul followed by RoundingDivideByPOT.
    """
    if s <= 31:
        return (t + ((1 << s) >> 1)) >> s
    u = (t + (1 << 30)) >> 31
    r = s - 31
    return (u + ((1 << r) >> 1) - (u < 0)) >> r


def nearest(x: Fraction) -> int:
    """The nearest integer to a rational number; ties toward plus infinity."""
    return floor(x + Fraction(1, 2))


def nearest_by(x: Fraction, rounding: Rounding) -> int:
    """The same with the ties of a rounding, of DOUBLE those of its second step; for TRN, whose B
    holds the half that makes it round to nearest, toward plus infinity."""
    if rounding == "RND_CONV":
        return round(x)
    if rounding in ("RND_INF", "DOUBLE") and x < 0:
        return -nearest(-x)
    return nearest(x)


ROUNDINGS: dict[str, Callable[[Any, Any], Any]] = {
    "TRN": trn,
    "RND": rnd,
    "RND_INF": rnd_inf,
    "RND_CONV": rnd_conv,
    "DOUBLE": double,
}


def round_shift(t: int, s: int, rounding: Rounding) -> int:
    """t / 2^s rounded by the named rule. `s` >= 0; exact for any size of `t`."""
    return int(ROUNDINGS[rounding](t, s))


# --- overflow -----------------------------------------------------------------------------------


def clamp(x: int, lo: int, hi: int) -> int:
    """x limited to [lo, hi]."""
    return lo if x < lo else hi if x > hi else x


def wrap(x: Any, bits: int, signed: bool) -> Any:
    """x modulo 2^bits, read as a signed or unsigned integer of that width."""
    bias = 1 << (bits - 1) if signed else 0
    return ((x + bias) & ((1 << bits) - 1)) - bias


def overflow_to(x: int, type: IntType, overflow: Overflow) -> int:
    """x forced into `type` by wrapping or saturating."""
    return clamp(x, type.lo, type.hi) if overflow == "saturate" else wrap(x, type.bits, type.signed)


def requantise(t: int, s: int, offset: int, lo: int, hi: int, rounding: Rounding) -> int:
    """clamp(round_shift(t, s) + offset, lo, hi): the one way back from a wide to a narrow integer.

    `t` is acc * M + B for `Requant` and a * Ma + b * Mb + B for `Add`.
    """
    return clamp(round_shift(t, s, rounding) + offset, lo, hi)


# --- products in float32 -------------------------------------------------------------------------
# A float32 is an integer of at most 24 significant bits times a power of two. The power stays in S,
# so that float32 arithmetic is integers too: exact products and sums, each brought to 24 bits.


def single(t: Any) -> Any:
    """t with 24 significant bits, ties to even: the integer that float32 makes of it."""
    return np.int64(np.float32(np.int64(t)))


def scaled_single(x: Any, m: Any, b: Any) -> Any:
    """float32(x + b) * m in float32, where m has at most 24 significant bits.

    Divided by 2^S, rounded to even, with the zero point added and clamped, this is the
    requantisation of onnxruntime's MLAS and of XNNPACK:
    RNE(clamp(float32(acc + bias) * scale, lo - zp, hi - zp)) + zp with scale = m / 2^S. To clamp
    before or after rounding is the same, as the ends are integers.
    """
    return single(single(x + b) * m)


def summed_single(a: Any, b: Any, ma: Any, mb: Any, bias: Any) -> Any:
    """fma(a, ma, fma(b, mb, bias)) in float32: onnxruntime's QLinearAdd where the processor has
    AVX2 and FMA; ma, mb and bias have at most 24 significant bits."""
    return single(single(b * mb + bias) + a * ma)


# --- the arithmetic profile ---------------------------------------------------------------------


@dataclass(frozen=True)
class Arithmetic:
    """The datapath a `Program` is meant for, as a value.

    multiplier_bits  signed width of M: |M| < 2^(multiplier_bits - 1).
    power_of_two     M must be 0 or +-2^k (a shifter instead of a multiplier).
    per_channel_shift  whether S may differ between the channels of a layer.
    shift_range      smallest and largest S, inclusive.
    bias_bits        signed width of B, the addend at the scale of acc * M.
    acc_bits         accumulator width; None means the width proved from weights and input range.
    overflow         what an accumulator narrower than proved does.
    saturate_at      "mac": after every product, in the order (ky, kx, input channel);
                     "end": once, after the exact sum.
    product          "exact": t = x * M + B. "single": t = `scaled_single`, in float32, B being at
                     the scale of x, and `summed_single` for sums.
    per_layer        M must be one value for all channels of a layer, and so the weights' scale.
    forms            whose biases, sums and averages quantising writes (see docs/arithmetic.md);
                     "own" are the most exact. The tables say what is computed, so that no
                     execution reads this.
    split_shift      whether quantising may give a layer a second S, and more, for channels to which
                     one would leave too few bits of M (`channels.tables`); its Program then has
                     `per_channel_shift`. Tables say which, and a Program does not keep this.
    """

    name: str = "intaglio"
    rounding: Rounding = "RND"
    multiplier_bits: int = 18
    power_of_two: bool = False
    per_channel_shift: bool = False
    shift_range: tuple[int, int] = (0, 40)
    bias_bits: int = 48
    acc_bits: int | None = None
    overflow: Overflow = "wrap"
    saturate_at: SaturateAt = "end"
    product: Product = "exact"
    per_layer: bool = False
    forms: Forms = field(default="own", repr=False)
    split_shift: bool = field(default=True, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.rounding not in ROUNDINGS:
            names = ", ".join(ROUNDINGS)
            raise ProgramError(f"Rounding must be one of {names}, not {self.rounding!r}.")
        if not 2 <= self.multiplier_bits <= 33:
            raise ProgramError(f"multiplier_bits must be 2 to 33, not {self.multiplier_bits}.")
        if self.acc_bits is not None and not 2 <= self.acc_bits <= 48:
            raise ProgramError(f"acc_bits must be 2 to 48, or None, not {self.acc_bits}.")
        if not 2 <= self.bias_bits <= 63:
            raise ProgramError(f"bias_bits must be 2 to 63, not {self.bias_bits}.")
        if self.overflow not in ("wrap", "saturate"):
            raise ProgramError(f"overflow must be wrap or saturate, not {self.overflow!r}.")
        if self.saturate_at not in ("mac", "end"):
            raise ProgramError(f"saturate_at must be mac or end, not {self.saturate_at!r}.")
        if self.product not in ("exact", "single"):
            raise ProgramError(f"product must be exact or single, not {self.product!r}.")
        if self.product == "single" and (self.multiplier_bits > 25 or self.bias_bits > 32):
            raise ProgramError(
                "A product in float32 must have at most 25 multiplier_bits and 32 bias_bits, not"
                f" {self.multiplier_bits} and {self.bias_bits}."
            )
        low, high = self.shift_range
        if not 0 <= low <= high <= 62:
            raise ProgramError(f"shift_range must lie within 0 to 62, not {self.shift_range}.")

    @property
    def multiplier_max(self) -> int:
        """Largest |M|."""
        return (1 << (self.multiplier_bits - 1)) - 1


TFLITE = Arithmetic(
    name="tflite",
    rounding="DOUBLE",
    multiplier_bits=32,
    per_channel_shift=True,
    shift_range=(1, 62),
    bias_bits=63,
    forms="tflite",
)

PRESETS: dict[str, Arithmetic] = {
    "intaglio": Arithmetic(),
    "shift-only": Arithmetic(name="shift-only", power_of_two=True, multiplier_bits=26),
    "tosa": Arithmetic(
        name="tosa",
        multiplier_bits=32,
        per_channel_shift=True,
        shift_range=(2, 62),
        bias_bits=63,
        forms="tosa",
    ),
    "tflite": TFLITE,
    "cmsis-nn": replace(TFLITE, name="cmsis-nn"),
    "nvdla": Arithmetic(
        name="nvdla",
        rounding="RND_INF",
        multiplier_bits=16,
        shift_range=(0, 62),
        bias_bits=49,
        split_shift=False,
    ),
    "onnxruntime": Arithmetic(
        name="onnxruntime",
        rounding="RND_CONV",
        multiplier_bits=25,
        per_channel_shift=True,
        shift_range=(0, 62),
        bias_bits=32,
        product="single",
    ),
    "dpu": Arithmetic(
        name="dpu",
        multiplier_bits=17,
        power_of_two=True,
        shift_range=(0, 16),
        bias_bits=40,
        per_layer=True,
        split_shift=False,
    ),
}


def preset(name: str, multiplier_bits: int | None = None) -> Arithmetic:
    """The named `Arithmetic`, if asked for with another width of its multipliers.

    Raises ProgramError with the list of names, or for a width that it cannot have.
    """
    if name not in PRESETS:
        raise ProgramError(f"Arithmetic must be one of {', '.join(PRESETS)}, not {name!r}.")
    found = PRESETS[name]
    return found if multiplier_bits is None else replace(found, multiplier_bits=multiplier_bits)
