"""Laws of the arithmetic in fixed.py."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import oracles
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import int_types

from intaglio.errors import ProgramError
from intaglio.fixed import (
    PRESETS,
    ROUNDINGS,
    Arithmetic,
    IntType,
    clamp,
    code_bits,
    double,
    nearest_by,
    odd_code,
    odd_value,
    overflow_to,
    preset,
    requantise,
    round_shift,
    scaled_single,
    single,
    wrap,
)

RULES = st.sampled_from(sorted(ROUNDINGS))
SHIFTS = st.integers(0, 62)
WIDE = st.integers(-(2**61), 2**61 - 1)


@st.composite
def near_ties(draw: st.DrawFn) -> tuple[int, int]:
    """(t, s) with t within 1 of a multiple of half of 2^s: where the rules part."""
    s = draw(SHIFTS)
    half = (1 << s) >> 1 or 1
    bound = 2**61 // half
    return half * draw(st.integers(-bound, bound)) + draw(st.integers(-1, 1)), s


@given(
    st.sampled_from(["RND", "RND_INF", "RND_CONV"]), st.one_of(st.tuples(WIDE, SHIFTS), near_ties())
)
def test_rationals_are_rounded_as_shifted_integers_are(rule: str, case: tuple[int, int]) -> None:
    t, s = case
    found = nearest_by(Fraction(t, 1 << s), rule)  # type: ignore[arg-type]  # one of its names
    assert found == ROUNDINGS[rule](t, s)


@given(RULES, st.one_of(st.tuples(WIDE, SHIFTS), near_ties()))
def test_rounding_is_what_rational_arithmetic_says(rule: str, case: tuple[int, int]) -> None:
    t, s = case
    assert round_shift(t, s, rule) == oracles.rounded(t, s, rule)


@given(RULES, st.integers(), st.integers(0, 200))
def test_rounding_is_exact_for_integers_of_any_size(rule: str, t: int, s: int) -> None:
    t *= 2**120
    assert round_shift(t, s, rule) == oracles.rounded(t, s, rule)


@given(RULES, st.lists(near_ties(), min_size=1))
def test_arrays_round_like_integers(rule: str, cases: list[tuple[int, int]]) -> None:
    s = cases[0][1]
    values = np.array([t for t, _ in cases], dtype=np.int64)
    rounded = ROUNDINGS[rule](values, s)
    assert rounded.dtype == np.int64
    assert rounded.tolist() == [round_shift(int(t), s, rule) for t in values]


@given(RULES, near_ties(), st.integers(0, 2**20))
def test_rounding_never_falls(rule: str, case: tuple[int, int], step: int) -> None:
    t, s = case
    assert round_shift(t, s, rule) <= round_shift(t + step, s, rule)


@given(st.sampled_from(["RND_INF", "RND_CONV"]), near_ties())
def test_these_rules_do_not_prefer_a_sign(rule: str, case: tuple[int, int]) -> None:
    t, s = case
    assert round_shift(-t, s, rule) == -round_shift(t, s, rule)


def srdhm(a: int, b: int) -> int:
    """gemmlowp's SaturatingRoundingDoublingHighMul: a nudge by sign, then C's division."""
    product = a * b
    nudge = 1 << 30 if product >= 0 else 1 - (1 << 30)
    total = product + nudge
    return total // 2**31 if total >= 0 else -(-total // 2**31)


def rdivbypot(x: int, exponent: int) -> int:
    """gemmlowp's RoundingDivideByPOT: the remainder against a threshold."""
    mask = (1 << exponent) - 1
    return (x >> exponent) + ((x & mask) > (mask >> 1) + (x < 0))


@given(st.integers(-(2**31), 2**31 - 1), st.integers(2**30, 2**31 - 1), st.integers(-30, 30))
def test_double_is_gemmlowp_in_two_steps(x: int, m: int, exponent: int) -> None:
    left, right = max(exponent, 0), max(-exponent, 0)
    x >>= left  # x << left must stay within int32
    assert double(x * m, 31 - left + right) == rdivbypot(srdhm(x << left, m), right)


@given(WIDE, SHIFTS)
def test_double_differs_from_one_step_by_at_most_one(t: int, s: int) -> None:
    assert abs(round_shift(t, s, "DOUBLE") - round_shift(t, s, "RND")) <= 1


@given(st.integers(-(2**62), 2**62), int_types(48))
def test_wrapping_keeps_the_residue_and_lands_in_the_type(x: int, type: IntType) -> None:
    y = overflow_to(x, type, "wrap")
    assert type.holds(y, y)
    assert (x - y) % (1 << type.bits) == 0
    assert int(wrap(np.array([x]), type.bits, type.signed)[0]) == y


@given(st.integers(), int_types(63))
def test_saturating_lands_on_the_nearest_value(x: int, type: IntType) -> None:
    y = overflow_to(x, type, "saturate")
    assert type.holds(y, y)
    assert abs(x - y) == max(x - type.hi, type.lo - x, 0)


@given(int_types(63), st.data(), st.sampled_from(["wrap", "saturate"]))
def test_values_of_the_type_do_not_overflow(type: IntType, data: st.DataObject, how: str) -> None:
    x = data.draw(st.integers(type.lo, type.hi))
    assert overflow_to(x, type, how) == x


@given(WIDE, SHIFTS, st.integers(-300, 300), st.integers(-300, 300), st.integers(0, 300), RULES)
def test_requantise_rounds_then_shifts_the_zero_then_clamps(
    t: int, s: int, offset: int, lo: int, width: int, rule: str
) -> None:
    hi = lo + width
    y = oracles.rounded(t, s, rule) + offset
    assert requantise(t, s, offset, lo, hi, rule) == max(lo, min(hi, y))
    assert lo <= requantise(t, s, offset, lo, hi, rule) <= hi


@given(st.integers(), st.integers(), st.integers())
def test_clamp_is_the_median(x: int, lo: int, hi: int) -> None:
    assume(lo <= hi)
    assert clamp(x, lo, hi) == sorted((x, lo, hi))[1]


# --- types --------------------------------------------------------------------------------------


@given(int_types(63))
def test_types_print_and_parse(type: IntType) -> None:
    assert IntType.parse(str(type)) == type
    assert type.hi - type.lo + 1 == 1 << type.bits
    assert (type.lo < 0) == type.signed


@given(st.integers(-(2**62), 2**62 - 1), st.integers(0, 2**61))
def test_spanning_is_the_narrowest_type(lo: int, width: int) -> None:
    hi = lo + width
    assume(hi < 2**62)
    type = IntType.spanning(lo, hi)
    assert type.holds(lo, hi)
    assert type.signed == (lo < 0)
    assert type.bits == 1 or not IntType(type.bits - 1, type.signed).holds(lo, hi)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: IntType(0, False), "An integer type must have 1 to 63 bits, not 0."),
        (lambda: IntType(64, True), "An integer type must have 1 to 63 bits, not 64."),
        (
            lambda: IntType.parse("int8"),
            "An integer type must be written like u8 or i18, not 'int8'.",
        ),
        (
            lambda: Arithmetic(rounding="HALF_UP"),
            "Rounding must be one of TRN, RND, RND_INF, RND_CONV, DOUBLE, not 'HALF_UP'.",
        ),
        (lambda: Arithmetic(multiplier_bits=34), "multiplier_bits must be 2 to 33, not 34."),
        (lambda: Arithmetic(acc_bits=1), "acc_bits must be 2 to 48, or None, not 1."),
        (
            lambda: Arithmetic(shift_range=(0, 63)),
            "shift_range must lie within 0 to 62, not (0, 63).",
        ),
        (
            lambda: preset("tensorrt"),
            f"Arithmetic must be one of {', '.join(PRESETS)}, not 'tensorrt'.",
        ),
    ],
)
def test_refusals(make: object, words: str) -> None:
    with pytest.raises(ProgramError) as refused:
        make()  # type: ignore[operator]  # a lambda
    assert str(refused.value) == words


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_know_their_names(name: str) -> None:
    assert preset(name).name == name
    assert preset(name).multiplier_max == 2 ** (preset(name).multiplier_bits - 1) - 1


@pytest.mark.parametrize("bits", range(1, 9))
def test_odd_codes_count_the_odd_values_of_a_type_and_decode_by_wiring(bits: int) -> None:
    type = IntType(bits + 1, True)
    codes = np.arange(1 << bits)
    values = odd_value(codes, bits)
    assert values.tolist() == [v for v in range(type.lo, type.hi + 1) if v % 2]
    assert odd_code(values, bits).tolist() == codes.tolist()
    assert code_bits(type, odd=True) == bits
    for code, value in zip(codes.tolist(), values.tolist(), strict=True):
        digits = f"{code:0{bits}b}"
        inverted = "10"[int(digits[0])]
        assert f"{value & (1 << bits + 1) - 1:0{bits + 1}b}" == f"{inverted}{digits[1:]}1"


# --- the requantise steps of other systems, in the words of their definitions ---------------------


def cmsis_requantize(x: int, m: int, exponent: int) -> int:
    """CMSIS-NN's default: the high half of 2 * x * m without saturation, then the remainder of a
    division by 2^-exponent against a threshold."""
    wide = (x << max(exponent, 0)) * m + (1 << 30)
    high = wide // (1 << 31)
    mask = (1 << max(-exponent, 0)) - 1
    quotient, remainder = divmod(high, mask + 1)
    threshold = mask // 2 + (1 if quotient < 0 else 0)
    return quotient + (1 if remainder > threshold else 0)


def extreme(bits: int) -> st.SearchStrategy[int]:
    """Signed integers of that width; the ends and their neighbours often."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return st.one_of(st.sampled_from([low, low + 1, -1, 0, 1, high]), st.integers(low, high))


@given(extreme(32), st.integers(1 << 30, (1 << 31) - 1), st.integers(-31, 30), extreme(8))
@settings(max_examples=2000)
def test_cmsis_nn_is_its_two_step_requantisation(x: int, m: int, exponent: int, zero: int) -> None:
    arithmetic = PRESETS["cmsis-nn"]
    low, high = arithmetic.shift_range
    shift = 31 - exponent
    assert low <= shift <= high
    assert m <= arithmetic.multiplier_max
    expected = min(max(cmsis_requantize(x, m, exponent) + zero, -128), 127)
    assert requantise(x * m, shift, zero, -128, 127, arithmetic.rounding) == expected


MULTIPLIERS_16 = st.integers(-32767, 32767)


def nvdla_converter(x: int, offset: int, scale: int, shift: int, bits: int) -> int:
    """NVDLA's output converter: subtract, scale, round half away, saturate to 17 and to `bits`."""
    product = (x - offset) * scale
    magnitude = (abs(product) + ((1 << shift) >> 1)) >> shift
    value = magnitude if product >= 0 else -magnitude
    for width in (17, bits):
        value = min(max(value, -(1 << (width - 1))), (1 << (width - 1)) - 1)
    return value


@given(
    extreme(32),
    extreme(32),
    st.integers(-32767, 32767),
    st.integers(0, 62),
    st.sampled_from([8, 16]),
)
@settings(max_examples=2000)
def test_nvdla_is_its_output_converter(
    x: int, offset: int, scale: int, shift: int, bits: int
) -> None:
    arithmetic, type = PRESETS["nvdla"], IntType(bits, True)
    bias = -offset * scale
    assert IntType(arithmetic.bias_bits, True).holds(bias, bias)
    expected = nvdla_converter(x, offset, scale, shift, bits)
    t = x * scale + bias
    assert requantise(t, shift, 0, type.lo, type.hi, arithmetic.rounding) == expected


def float32(t: int | Fraction) -> Fraction:
    """The nearest float32 by its definition: 24 significant bits, ties to even."""
    if t == 0:
        return Fraction(0)
    unit = Fraction(1)
    while abs(t) / unit >= 1 << 24:
        unit *= 2
    while abs(t) / unit < 1 << 23:
        unit /= 2
    return round(t / unit) * unit


INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
MANTISSAS = st.integers(-(1 << 24) + 1, (1 << 24) - 1)


TIES = st.builds(lambda m, k: (2 * m + 1) << k, MANTISSAS, st.integers(0, 36))


@given(INT32 | st.integers(-(1 << 61), 1 << 61) | TIES)
def test_single_is_float32_of_ints_and_of_arrays(t: int) -> None:
    expected = float32(t)
    assert int(single(t)) == int(single(np.array([t]))[0]) == expected


@given(INT32, MANTISSAS, st.integers(0, 62), st.integers(-128, 127), st.booleans())
def test_a_product_in_float32_is_what_onnxruntime_computes(
    acc: int, m: int, s: int, zero: int, signed: bool
) -> None:
    """RNE(clamp(float32(acc) * scale, lo - zp, hi - zp)) + zp, by the processor's own float32."""
    lo, hi = (-128, 127) if signed else (0, 255)
    scale = np.float32(np.ldexp(np.float64(m), -s))
    product = np.float32(np.int64(acc)) * scale
    clamped = min(max(product, np.float32(lo - zero)), np.float32(hi - zero))
    expected = int(np.rint(clamped)) + zero
    t = int(scaled_single(acc, m, 0))
    assert requantise(t, s, zero, lo, hi, "RND_CONV") == expected
    assert t == float32(float32(acc) * m)
