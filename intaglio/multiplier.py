"""Real factors as M / 2^S: exact, in rational numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor

from intaglio.errors import ModelError
from intaglio.fixed import EXACT_LIMIT, Arithmetic, IntType


@dataclass(frozen=True)
class Scaling:
    """t = sum of codes * multipliers + bias, then / 2^shift; `offset` is added after rounding."""

    multipliers: tuple[int, ...]
    bias: tuple[int, ...]
    shift: int
    offset: int


@dataclass(frozen=True)
class Term:
    """One requantised value: sum of ratios[i] * (codes_i - zeros[i]) + addend, in output codes.

    `reach[i]` is the largest |code_i|. `zeros[i]` may be a sum, as zero point times sum of weights.
    """

    ratios: tuple[Fraction, ...]
    zeros: tuple[int, ...]
    reach: tuple[int, ...]
    addend: Fraction


def exact(*factors: float) -> Fraction:
    """Product of floats without rounding."""
    product = Fraction(1)
    for factor in factors:
        product *= Fraction(factor)
    return product


def nearest(x: Fraction) -> int:
    """Nearest integer, halves up."""
    return floor(x + Fraction(1, 2))


def scaling(terms: Sequence[Term], zero_point: int, arithmetic: Arithmetic, layer: str) -> Scaling:
    """Multipliers of all terms, and one bias per term, at one shift S: the largest for which

        M = nearest(ratio * 2^S)                  |M| <= arithmetic.multiplier_max
        B = nearest(addend' * 2^S) - sum(M * zeros)   fits arithmetic.bias_bits
        |sum of codes * M + B| + 2^(S-1) < 2^62.

    Before the Program rounds, its value then differs from the real one by at most
    (sum of reach + |zeros|) * 2^-(S+1) + 2^-(S+1) codes. `addend'` includes the zero point where
    the rounding allows (RND, TRN), and a half for TRN, so that every profile rounds to nearest.

    Raises ModelError where no S fits, or where M must be a power of two and the ratio is none.
    """
    if arithmetic.power_of_two:
        check_powers(terms, layer)
    inside = arithmetic.rounding in ("RND", "TRN")
    extra = Fraction(zero_point if inside else 0)
    low, high = arithmetic.shift_range
    largest = max((abs(r) for term in terms for r in term.ratios), default=Fraction(0))
    for shift in range(high, low - 1, -1):
        if largest * (1 << shift) > arithmetic.multiplier_max + Fraction(1, 2):
            continue
        found = at_shift(terms, extra, shift, arithmetic)
        if found is not None:
            return Scaling(*found, shift, 0 if inside else zero_point)
    raise ModelError(
        f"Layer {layer!r} must scale by at most {arithmetic.multiplier_max} with S in {low} to"
        f" {high} and B in {arithmetic.bias_bits} bits, not by {float(largest):.3g}; use another"
        " arithmetic or wider activations."
    )


def at_shift(
    terms: Sequence[Term], extra: Fraction, shift: int, arithmetic: Arithmetic
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """(M of all terms, B) at this shift; None if one is out of range."""
    one = 1 << shift
    half = Fraction(one, 2) if arithmetic.rounding == "TRN" else Fraction(0)
    bias_type = IntType(arithmetic.bias_bits, True)
    multipliers, biases = [], []
    for term in terms:
        m = [nearest(ratio * one) for ratio in term.ratios]
        b = nearest((term.addend + extra) * one + half)
        b -= sum(mi * zero for mi, zero in zip(m, term.zeros, strict=True))
        top = abs(b) + sum(abs(mi) * r for mi, r in zip(m, term.reach, strict=True)) + one // 2
        fits = bias_type.holds(b, b) and max(map(abs, m)) <= arithmetic.multiplier_max
        if not fits or top >= EXACT_LIMIT:
            return None
        multipliers += m
        biases.append(b)
    return tuple(multipliers), tuple(biases)


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
