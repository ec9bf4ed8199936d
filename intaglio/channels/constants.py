"""Channels whose result is one code for every sum that they can reach, and their M, B and S."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from intaglio.channels.spans import Span
from intaglio.errors import ModelError
from intaglio.fixed import (
    Arithmetic,
    IntType,
    clamp,
    nearest,
    nearest_by,
    requantise,
    scaled_single,
)
from intaglio.multiplier import Scaling, Term, float32_parts, offset, scaling


def constant_code(
    term: Term, zero_point: int, ends: tuple[int, int], arithmetic: Arithmetic
) -> int | None:
    """The code of every sum that the channel can reach, where it is one and the same."""
    if arithmetic.product == "single":
        return constant_single(term, zero_point, ends)
    found = {
        clamp(nearest_by(term.at(code), arithmetic.rounding) + zero_point, *ends)
        for code in term.codes
    }
    if arithmetic.rounding == "DOUBLE" and term.codes[0] < term.codes[1] and len(found) == 1:
        found = in_two_steps(term, zero_point, ends, arithmetic)
    return found.pop() if len(found) == 1 else None


def in_two_steps(
    term: Term, zero_point: int, ends: tuple[int, int], arithmetic: Arithmetic
) -> set[int]:
    """The codes of both ends by the channel's own M and S, as the first rounding may lift a value
    to a tie of the second. A ratio beyond all M is a step, whose ends are what they are."""
    try:
        made = scaling([term], zero_point, arithmetic, "")
    except ModelError:
        return {clamp(nearest_by(term.at(term.codes[0]), "DOUBLE") + zero_point, *ends)}
    (m,), (b,) = made.multipliers, made.bias
    totals = [code * m + b for code in term.codes]
    return {requantise(t, made.shift, made.offset, *ends, "DOUBLE") for t in totals}


def constant_single(term: Term, zero_point: int, ends: tuple[int, int]) -> int | None:
    """As `constant_code`, by products in float32, whatever the width of B. A sum that never changes
    may have any ratio, so that only an addend of whole sums is taken to be a runtime's bias."""
    m, shift = float32_parts(term.ratios[0])
    bias = nearest(term.addend / term.ratios[0]) if m else 0
    apart = abs(bias * term.ratios[0] - term.addend)
    loose = term.codes[0] == term.codes[1] and apart > abs(term.addend) / (1 << 20)
    if m == 0 or loose or abs(bias) >= 1 << 36:
        codes = {clamp(round(term.at(code)) + zero_point, *ends) for code in term.codes}
    else:
        sums = [int(scaled_single(code, m, bias - term.zeros[0])) for code in term.codes]
        codes = {requantise(t, shift, zero_point, *ends, "RND_CONV") for t in sums}
    return codes.pop() if len(codes) == 1 else None


def standing(
    term: Term, code: int, zero_point: int, ends: tuple[int, int], live: Sequence[Scaling],
    arithmetic: Arithmetic, layer: str,
) -> Scaling:  # fmt: skip
    """M, B and S that give `code` for every sum that the channel can reach: M = 0 where the
    datapath allows, and the S of a channel beside it. Raises ModelError where none do."""
    after = offset(zero_point, arithmetic)
    shifts = [min((s.shift for s in live), default=arithmetic.shift_range[0])]
    shifts.append(arithmetic.shift_range[0])
    fixed = live[0].multipliers if arithmetic.per_layer and live else None
    for m, b, s in attempts(term, code - after, shifts, fixed, arithmetic):
        made = Scaling((m,), (b,), s, after)
        if gives(made, term, code, ends, arithmetic):
            return made
    raise ModelError(
        f"Layer {layer!r} must have constants that arithmetic {arithmetic.name!r} can hold beside"
        f" sums of {term.codes[0]} to {term.codes[1]}, not {code}; give that channel weights of 0."
    )


def attempts(
    term: Term, value: int, shifts: Sequence[int], fixed: tuple[int, ...] | None,
    arithmetic: Arithmetic,
) -> Iterator[tuple[int, int, int]]:  # fmt: skip
    """(M, B, S) to try, the simplest first. In float32 a B with M = 0 is nothing, so that the own
    ratio is tried, and 2^-S; where M is the layer's, B makes up for the sums, from below, above or
    the middle."""
    lo, hi = term.codes
    for s in shifts:
        half = (1 << s) >> 1 if arithmetic.rounding == "TRN" else 0
        if fixed is None:
            yield 0, (value << s) + half, s
            continue
        (m,) = fixed
        low, high = sorted((m * lo, m * hi))
        for moved in (low, high, (low + high) >> 1):
            yield m, (value << s) + half - moved, s
    if arithmetic.product == "single":
        m, s = float32_parts(term.ratios[0])
        if m:
            yield m, nearest(term.addend / term.ratios[0]) - term.zeros[0], s
        yield from ((1, value << s, s) for s in range(31))


def gives(
    made: Scaling, term: Term, code: int, ends: tuple[int, int], arithmetic: Arithmetic
) -> bool:
    """Whether these tables are allowed, and every reachable sum is `code` by them."""
    (m,), (b,) = made.multipliers, made.bias
    single = arithmetic.product == "single"
    room = term.reach[0] if single else 0
    if not IntType(arithmetic.bias_bits, True).holds(b - room, b + room):
        return False
    totals = [int(scaled_single(x, m, b)) if single else x * m + b for x in term.codes]
    got = {requantise(t, made.shift, made.offset, *ends, arithmetic.rounding) for t in totals}
    return got == {code}


def without_constants(term: Term, spans: Sequence[Span], arithmetic: Arithmetic) -> Term:
    """A sum's term whose constant operands are part of the addend, so that their ratios choose no
    S. Products in float32 and other systems' sums stay as those have them."""
    if arithmetic.product == "single" or arithmetic.forms != "own":
        return term
    ratios, zeros, addend = list(term.ratios), list(term.zeros), term.addend
    for n, span in enumerate(spans):
        if span.constant is not None:
            addend += ratios[n] * (span.constant - zeros[n])
            ratios[n], zeros[n] = Fraction(0), 0
    return replace(term, ratios=tuple(ratios), zeros=tuple(zeros), addend=addend)
