"""M, B and S: within the profile, as fine as it allows, and as near to the ratio as promised."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import exact_arithmetics

from intaglio.errors import ModelError
from intaglio.fixed import EXACT_LIMIT, PRESETS, Arithmetic, IntType, requantise, scaled_single
from intaglio.multiplier import NEGLIGIBLE, Term, scaling

RATIOS = st.floats(1e-6, 4.0).map(Fraction) | st.floats(-4.0, -1e-6).map(Fraction)


@st.composite
def terms(draw: st.DrawFn, count: int, ratios: st.SearchStrategy[Fraction] = RATIOS) -> Term:
    """Of one (Requant) or two (Add) operands."""
    reach = draw(st.tuples(*[st.integers(1, 1 << 20)] * count))
    return Term(
        draw(st.tuples(*[ratios] * count)),
        draw(st.tuples(*[st.integers(-(1 << 12), 1 << 12)] * count)),
        reach,
        Fraction(draw(st.floats(-100.0, 100.0))),
    )


@given(
    st.integers(1, 2).flatmap(lambda n: st.lists(terms(n), min_size=1, max_size=4)),
    st.integers(0, 15),
    exact_arithmetics(),
    st.data(),
)
def test_the_stated_bound_holds_for_every_code(
    all_terms: list[Term], zero: int, arithmetic: Arithmetic, data: st.DataObject
) -> None:
    assume(not arithmetic.power_of_two and arithmetic.product == "exact")
    try:
        found = scaling(all_terms, zero, arithmetic, "layer")
    except ModelError:
        assume(False)
    low, high = arithmetic.shift_range
    assert low <= found.shift <= high
    assert max(map(abs, found.multipliers)) <= arithmetic.multiplier_max
    one = 1 << found.shift
    inside = arithmetic.rounding in ("RND", "TRN")
    assert found.offset == (0 if inside else zero)
    for n, term in enumerate(all_terms):
        width = len(term.ratios)
        m, b = found.multipliers[n * width : (n + 1) * width], found.bias[n]
        assert IntType(arithmetic.bias_bits, True).holds(b, b)
        codes = [data.draw(st.integers(-r, r)) for r in term.reach]
        t = sum(c * mi for c, mi in zip(codes, m, strict=True)) + b
        assert abs(t) + one // 2 < EXACT_LIMIT
        real = term.addend + sum(
            r * (c - z) for r, c, z in zip(term.ratios, codes, term.zeros, strict=True)
        )
        expected = real + (zero if inside else 0)
        half = Fraction(1, 2) if arithmetic.rounding == "TRN" else 0
        bound = Fraction(sum(r + abs(z) for r, z in zip(term.reach, term.zeros, strict=True)) + 1)
        more = Fraction(0)
        if arithmetic.forms != "own" and width == 1:
            more = Fraction(abs(m[0]), 2 * one) if m[0] else NEGLIGIBLE
        assert abs(Fraction(t, one) - half - expected) <= bound / (2 * one) + more


@given(terms(1), st.integers(0, 15))
def test_a_larger_shift_would_not_fit(term: Term, zero: int) -> None:
    arithmetic = Arithmetic()
    found = scaling([term], zero, arithmetic, "layer")
    if found.shift < arithmetic.shift_range[1]:
        ratio = abs(term.ratios[0])
        finer = ratio * (2 << found.shift) + Fraction(1, 2)
        bias = abs(found.bias[0]) * 2
        assert finer > arithmetic.multiplier_max or bias >= 1 << (arithmetic.bias_bits - 1) - 1


@given(st.integers(-6, 6), st.integers(-6, 6), st.integers(1, 1 << 12))
def test_powers_of_two_stay_powers_of_two(first: int, second: int, reach: int) -> None:
    ratios = [Fraction(2) ** first, -(Fraction(2) ** second)]
    found = scaling(
        [Term((r,), (0,), (reach,), Fraction(0)) for r in ratios], 0, PRESETS["shift-only"], "x"
    )
    assert [Fraction(m, 1 << found.shift) for m in found.multipliers] == ratios


@given(st.floats(1e-4, 1.0), st.integers(-2000, 2000))
def test_truncation_is_made_to_round_to_nearest(ratio: float, code: int) -> None:
    term = Term((Fraction(ratio),), (0,), (2000,), Fraction(0))
    results = []
    for rounding in ("TRN", "RND"):
        arithmetic = Arithmetic(rounding=rounding)  # type: ignore[arg-type]  # a name of the tuple
        found = scaling([term], 3, arithmetic, "layer")
        t = code * found.multipliers[0] + found.bias[0]
        results.append(requantise(t, found.shift, found.offset, -4096, 4096, rounding))  # type: ignore[arg-type]  # as above
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("ratio", "arithmetic", "words"),
    [
        (
            1e9,
            Arithmetic(),
            "Layer 'head.0' must scale by at most 131071 with S in 0 to 40 and B in 48 bits, not by"
            " 1e+09; use another arithmetic or wider activations.",
        ),
        (
            0.3,
            PRESETS["shift-only"],
            "Layer 'head.0' must scale by powers of two in this arithmetic, not by 0.3; use"
            " arithmetic 'intaglio', or give the layer weights of its own so that its norm can be"
            " folded into them.",
        ),
        (
            2.0**-17,
            PRESETS["dpu"],
            "Layer 'head.0' must scale by at least 2^-16 in this arithmetic, not by 7.63e-06; use"
            " wider activations or another arithmetic.",
        ),
        (
            2.0**25,
            PRESETS["onnxruntime"],
            "Layer 'head.0' must scale by a float32 from 2^-62 to 2^24, not by 3.36e+07; use"
            " another arithmetic.",
        ),
    ],
)
def test_what_no_multiplier_can_express(ratio: float, arithmetic: Arithmetic, words: str) -> None:
    term = Term((Fraction(ratio),), (0,), (1000,), Fraction(0))
    with pytest.raises(ModelError) as refused:
        scaling([term], 0, arithmetic, "head.0")
    assert str(refused.value) == words


def test_an_operand_too_small_for_a_power_of_two_is_left_out() -> None:
    """Where it moves the sum by less than 1/256 code."""
    ratios = (Fraction(1, 2), Fraction(1, 1 << 20))
    found = scaling([Term(ratios, (0, 0), (255, 255), Fraction(0))], 0, PRESETS["dpu"], "skip")
    assert Fraction(found.multipliers[0], 1 << found.shift) == ratios[0]
    assert found.multipliers[1] == 0


@given(terms(1), st.integers(-128, 127), st.data())
def test_floating_scales_are_within_three_roundings(
    term: Term, zero: int, data: st.DataObject
) -> None:
    found = scaling([term], zero, PRESETS["onnxruntime"], "layer")
    (m,), (b,) = found.multipliers, found.bias
    ratio = Fraction(float(np.float32(float(term.ratios[0]))))
    assert (Fraction(m, 1 << found.shift), found.offset) == (ratio, zero)
    code = data.draw(st.integers(-term.reach[0], term.reach[0]))
    real = term.addend + term.ratios[0] * (code - term.zeros[0])
    got = Fraction(int(scaled_single(code, m, b)), 1 << found.shift)
    size = abs(ratio) * (abs(code + b) + abs(term.zeros[0]) + 1)
    assert abs(got - real) <= abs(ratio) / 2 + 4 * size / 2**24


def test_a_bias_before_the_product_is_whole_sums() -> None:
    """B / M is an integer beside the zero point; a channel that does nothing becomes constant."""
    term = Term((Fraction(3, 700),), (17,), (1 << 14,), Fraction(23, 10))
    for name, inside in (("tosa", 9), ("tflite", 0)):
        found = scaling([term], 9, PRESETS[name], "layer")
        (m,), (b,) = found.multipliers, found.bias
        assert (b - (inside << found.shift)) % m == 0
        assert (b - (inside << found.shift)) // m == round(Fraction(23, 10) / term.ratios[0]) - 17
        assert scaling([term], 9, PRESETS["intaglio"], "layer").bias[0] % m
        dead = scaling([replace(term, ratios=(Fraction(1, 10**12),))], 9, PRESETS[name], "layer")
        assert dead.multipliers == (0,)
        total = Fraction(dead.bias[0], 1 << dead.shift) + dead.offset
        assert abs(total - Fraction(113, 10)) < NEGLIGIBLE
