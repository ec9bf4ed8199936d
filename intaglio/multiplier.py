"""Real factors as M / 2^S: exact, in rational numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor

import numpy as np

from intaglio.errors import ModelError
from intaglio.fixed import EXACT_LIMIT, Arithmetic, IntType, nearest

NEGLIGIBLE = Fraction(1, 256)  # of a code


@dataclass(frozen=True)
class Scaling:
    """t = sum of codes * multipliers + bias, then / 2^shift; `offset` is added after rounding."""

    multipliers: tuple[int, ...]
    bias: tuple[int, ...]
    shift: int
    offset: int

    def of_sum(self) -> dict[str, int]:
        """The fields of an `ops.Add`, for a term of two ratios."""
        (a, b), (bias,) = self.multipliers, self.bias
        return {
            "multiplier_a": a,
            "multiplier_b": b,
            "bias": bias,
            "shift": self.shift,
            "offset": self.offset,
        }


@dataclass(frozen=True)
class Term:
    """One requantised value: sum of ratios[i] * (codes_i - zeros[i]) + addend, in output codes.

    `reach[i]` is the largest |code_i| of all channels, for which the datapath must be wide enough;
    `span` the [lo, hi] that the codes of this channel are proved to lie in, where that is known.
    `zeros[i]` may be a sum, as zero point times sum of weights.
    """

    ratios: tuple[Fraction, ...]
    zeros: tuple[int, ...]
    reach: tuple[int, ...]
    addend: Fraction
    span: tuple[int, int] | None = None

    @property
    def codes(self) -> tuple[int, int]:
        """What the codes of a term of one ratio are proved to lie in."""
        return self.span or (-self.reach[0], self.reach[0])

    def at(self, code: int) -> Fraction:
        """The value of one code, for a term of one ratio, in output codes without zero point."""
        return self.ratios[0] * (code - self.zeros[0]) + self.addend


def exact(*factors: float) -> Fraction:
    """Product of floats without rounding."""
    product = Fraction(1)
    for factor in factors:
        product *= Fraction(factor)
    return product


def scaling(terms: Sequence[Term], zero_point: int, arithmetic: Arithmetic, layer: str) -> Scaling:
    """Multipliers of all terms, and one bias per term, at one shift S: the largest for which

        M = nearest(ratio * 2^S)                  |M| <= arithmetic.multiplier_max
        B = nearest(addend' * 2^S) - sum(M * zeros)   fits arithmetic.bias_bits
        |sum of codes * M + B| + 2^(S-1) < 2^62.

    Before the Program rounds, its value then differs from the real one by at most
    (sum of reach + |zeros|) * 2^-(S+1) + 2^-(S+1) codes. `addend'` includes the zero point where
    the rounding allows (RND, TRN), and a half for TRN, so that every profile rounds to nearest.

    Where `arithmetic.forms` are another system's, which adds a 32-bit bias before it multiplies, a
    term of one ratio has B = bias * M + zero_point * 2^S instead, with

        bias = nearest(addend * 2^S / M) - zeros[0],

    which adds at most ratio / 2 to the difference. A bias of more than 32 bits makes the term
    constant (M = 0) where its codes move it by less than NEGLIGIBLE, and else is left as above.

    Raises ModelError where no S fits, or where M must be a power of two and the ratio is none.
    """
    if arithmetic.product == "single":
        if len(terms) != 1:
            raise TypeError("Products in float32 must be scaled one channel at a time.")
        return scaling_single(terms[0], zero_point, layer)
    if arithmetic.power_of_two:
        check_powers(terms, layer)
        terms = [without_negligible(term, arithmetic) for term in terms]
        check_smallest(terms, arithmetic, layer)
    after = offset(zero_point, arithmetic)
    extra = Fraction(zero_point - after)
    low, high = arithmetic.shift_range
    largest = max((abs(r) for term in terms for r in term.ratios), default=Fraction(0))
    for shift in range(high, low - 1, -1):
        if largest * (1 << shift) > arithmetic.multiplier_max + Fraction(1, 2):
            continue
        found = at_shift(terms, extra, shift, arithmetic)
        if found is not None:
            return Scaling(*found, shift, after)
    raise ModelError(
        f"Layer {layer!r} must scale by at most {arithmetic.multiplier_max} with S in {low} to"
        f" {high} and B in {arithmetic.bias_bits} bits, not by {float(largest):.3g}; use another"
        " arithmetic or wider activations."
    )


def offset(zero_point: int, arithmetic: Arithmetic) -> int:
    """What is added after rounding: the zero point, where B cannot hold it."""
    return 0 if arithmetic.rounding in ("RND", "TRN") else zero_point


def at_shift(
    terms: Sequence[Term], extra: Fraction, shift: int, arithmetic: Arithmetic
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """(M of all terms, B) at this shift; None if one is out of range."""
    one = 1 << shift
    half = Fraction(one, 2) if arithmetic.rounding == "TRN" else Fraction(0)
    bias_type = IntType(arithmetic.bias_bits, True)
    multipliers, biases = [], []
    before = arithmetic.forms != "own"
    for term in terms:
        m = [nearest(ratio * one) for ratio in term.ratios]
        b = nearest((term.addend + extra) * one + half)
        b -= sum(mi * zero for mi, zero in zip(m, term.zeros, strict=True))
        if before and len(m) == 1 and m[0]:
            bias = nearest(term.addend * one / m[0]) - term.zeros[0]
            if abs(bias) + term.reach[0] < 1 << 31:
                b = bias * m[0] + floor(extra * one + half)
            elif abs(term.ratios[0]) * term.reach[0] < NEGLIGIBLE:
                m = [0]
        top = abs(b) + sum(abs(mi) * r for mi, r in zip(m, term.reach, strict=True)) + one // 2
        fits = bias_type.holds(b, b) and max(map(abs, m)) <= arithmetic.multiplier_max
        if not fits or top >= EXACT_LIMIT:
            return None
        multipliers += m
        biases.append(b)
    return tuple(multipliers), tuple(biases)


def scaling_single(term: Term, zero_point: int, layer: str) -> Scaling:
    """M / 2^S for products in float32. Of one ratio, the nearest float32, with B at the scale of
    the codes:

        B = nearest(addend / ratio) - zero.

    Of two, as onnxruntime prepares its sums, rounding to float32 at each step:
    B = zero_point - fma(ratio 0, zero 0, ratio 1 * zero 1). Raises ModelError where the ratio is
    too large, or where it is 0 and the result is not.
    """
    if len(term.ratios) == 1:
        m, s = float32_parts(term.ratios[0])
        if abs(m) >= 1 << 24 or (m == 0 and nearest(term.addend) != 0):
            raise ModelError(
                f"Layer {layer!r} must scale by a float32 from 2^-62 to 2^24, not by"
                f" {float(term.ratios[0]):.3g}; use another arithmetic."
            )
        bias = 0 if m == 0 else nearest(term.addend / term.ratios[0]) - term.zeros[0]
        return Scaling((m,), (bias,), s, zero_point)
    ratios = [float32(ratio) for ratio in term.ratios]
    moved = np.float32(np.float64(ratios[0]) * term.zeros[0] + ratios[1] * float32(term.zeros[1]))
    fixed = np.float32(float32(zero_point) - moved) + float32(term.addend)
    parts = [float32_parts(Fraction(float(v))) for v in (*ratios, fixed)]
    shift = max(s for _, s in parts)
    a, b, bias = (m << (shift - s) for m, s in parts)
    top = abs(a) * term.reach[0] + abs(b) * term.reach[1] + abs(bias) + (1 << shift)
    if top >= EXACT_LIMIT:
        raise ModelError(
            f"Layer {layer!r} must add operands of similar scales, not of"
            f" {float(ratios[0]):.3g} and {float(ratios[1]):.3g} output codes; use another"
            " arithmetic."
        )
    return Scaling((a, b), (bias,), shift, 0)


def float32(x: Fraction | int) -> np.float32:
    """The nearest float32."""
    return np.float32(float(x))


def float32_parts(x: Fraction) -> tuple[int, int]:
    """(m, s) with m / 2^s the nearest float32 of x, and the smallest s that leaves m whole; at most
    62, which a smaller x is rounded to."""
    exactly = Fraction(float(float32(x)))
    s = exactly.denominator.bit_length() - 1
    return (exactly.numerator, s) if s <= 62 else (nearest(exactly * (1 << 62)), 62)


def without_negligible(term: Term, arithmetic: Arithmetic) -> Term:
    """Ratios below the smallest power of two are 0, where they move the result by less than
    NEGLIGIBLE: one operand of a sum may be far smaller than the other."""
    finest = Fraction(1, 1 << arithmetic.shift_range[1])
    ratios = tuple(
        Fraction(0) if abs(r) < finest and abs(r) * (reach + abs(z)) < NEGLIGIBLE else r
        for r, z, reach in zip(term.ratios, term.zeros, term.reach, strict=True)
    )
    return replace(term, ratios=ratios)


def check_smallest(terms: Sequence[Term], arithmetic: Arithmetic, layer: str) -> None:
    """No ratio may be so small that M would be rounded to a power of two that it is not."""
    finest = Fraction(1, 1 << arithmetic.shift_range[1])
    for term in terms:
        for ratio in term.ratios:
            if 0 < abs(ratio) < finest:
                raise ModelError(
                    f"Layer {layer!r} must scale by at least 2^-{arithmetic.shift_range[1]} in this"
                    f" arithmetic, not by {float(ratio):.3g}; use wider activations or another"
                    " arithmetic."
                )


def check_powers(terms: Sequence[Term], layer: str) -> None:
    """Every ratio must be 0 or +-2^k."""
    for term in terms:
        for ratio in term.ratios:
            up, down = abs(ratio.numerator), ratio.denominator
            if up.bit_count() > 1 or (up and down.bit_count() > 1):
                raise ModelError(
                    f"Layer {layer!r} must scale by powers of two in this arithmetic, not by"
                    f" {float(ratio):.4g}; use arithmetic 'intaglio', or give the layer weights of"
                    " its own so that its norm can be folded into them."
                )


def short(values: Sequence[int]) -> Sequence[int]:
    """One entry instead of many equal ones."""
    return values[:1] if len(set(values)) == 1 else values
