"""M, B and S of all channels of a layer, so that no channel takes another's bits.

A channel whose result is one code for every sum that it can reach is a constant: it has M = 0 and
does not take part in the choice of S. Of the others the largest ratio chooses S; in a profile with
`Arithmetic.split_shift` those to which that leaves too few bits of M have a larger S of their own.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

from intaglio.errors import ModelError, PrecisionWarning
from intaglio.fixed import Arithmetic, IntType, Rounding, clamp, requantise, scaled_single
from intaglio.multiplier import Scaling, Term, float32_parts, nearest, scaling
from intaglio.spans import Span

LEAST_BITS = 10  # of |M|, so that it is within 2^-10 of its ratio
LARGEST = 1 << 20  # ratio with an S of its own; what is larger is a step in all that can be coded
FELT = Fraction(1, 16)  # of a code; what moves a result by less needs no bits


@dataclass(frozen=True)
class Loss:
    """Channels of a layer that M cannot serve: what it would have to be, and by how many codes a
    result can be wrong at most; `beside` is the channel whose ratio chose their S."""

    layer: str
    channels: tuple[int, ...]
    must: str
    codes: float
    beside: int
    arithmetic: str

    def sentence(self) -> str:
        """For people."""
        names = ", ".join(map(str, self.channels[:8]))
        names += f" and {len(self.channels) - 8} more" if len(self.channels) > 8 else ""
        return (
            f"Layer {self.layer!r}, channel{'s' * (len(self.channels) > 1)} {names}:"
            f" {self.must}, or codes move by up to {self.codes:.2g}; arithmetic"
            f" {self.arithmetic!r} has one S for a layer, and channel {self.beside} chooses it: use"
            " arithmetic 'intaglio' or 'tosa'."
        )

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Tables:
    """Of every channel: M, B and S; `offset` of all; and what that loses."""

    multipliers: tuple[int, ...]
    bias: tuple[int, ...]
    shifts: tuple[int, ...]
    offset: int
    losses: tuple[Loss, ...] = ()


def tables(
    terms: Sequence[Term], zero_point: int, ends: tuple[int, int], arithmetic: Arithmetic,
    layer: str,
) -> Tables:  # fmt: skip
    """Tables of a requantisation to codes within `ends`, of one term of one ratio a channel.

    What `scaling` says of each channel holds here. Besides, for a channel that is no constant,
    either M has LEAST_BITS significant bits, so that the value before rounding is within 2^-10 of
    what the ratio makes of it, or its rounding moves the result by less than FELT codes, or a Loss
    names it. More than one S stands in a layer only where `arithmetic` has one for each channel, or
    `split_shift`. Raises ModelError where the ratios of channels that are no constants do not fit.
    """
    codes = [constant_code(term, zero_point, ends, arithmetic) for term in terms]
    live = {
        n: stepped(term, zero_point, ends, arithmetic)
        for n, term in enumerate(terms)
        if codes[n] is None
    }
    still = {n: code for n, code in enumerate(codes) if code is not None}
    found: dict[int, Scaling] = {}
    losses: list[Loss] = []
    if arithmetic.per_channel_shift:
        groups = [{n: term} for n, term in live.items()]
    else:
        groups = [live] if live else []
    for group in groups:  # which grows by what the ones before it leave thin
        made = together(group, {} if found else still, terms, zero_point, arithmetic, layer)
        thin = {n: t for n, t in group.items() if is_thin(t, made[n], zero_point, ends)}
        found |= made
        if thin and arithmetic.split_shift and len(thin) < len(group):
            groups.append(thin)
        elif thin:
            losses.append(lost(thin, group, made, zero_point, ends, arithmetic, layer))
    narrow = ends[1] - ends[0] - step_of(ends, arithmetic)
    cut = tuple(n for n in live if narrow > 0 and live[n] is not terms[n])
    if cut:
        must = f"M must be up to {ends[1] - ends[0]}, not {step_of(ends, arithmetic)}"
        losses.append(Loss(layer, cut, must, float(narrow), cut[0], arithmetic.name))
    for n, code in still.items():
        beside = [found[i] for i in live]
        found[n] = standing(terms[n], code, zero_point, ends, beside, arithmetic, layer)
    ordered = [found[n] for n in range(len(terms))]
    return Tables(
        tuple(s.multipliers[0] for s in ordered),
        tuple(s.bias[0] for s in ordered),
        tuple(s.shift for s in ordered),
        offset(zero_point, arithmetic),
        tuple(losses),
    )


def offset(zero_point: int, arithmetic: Arithmetic) -> int:
    """What is added after rounding: the zero point, where B cannot hold it."""
    return 0 if arithmetic.rounding in ("RND", "TRN") else zero_point


def together(
    group: Mapping[int, Term], still: Mapping[int, int], terms: Sequence[Term], zero_point: int,
    arithmetic: Arithmetic, layer: str,
) -> dict[int, Scaling]:  # fmt: skip
    """The group's channels at one S, at which the constants fit too."""
    held = [
        replace(terms[n], ratios=(Fraction(0),), zeros=(0,), addend=Fraction(code - zero_point))
        for n, code in still.items()
        if not arithmetic.per_channel_shift
    ]
    made = scaling([*group.values(), *held], zero_point, arithmetic, layer)
    return {
        n: Scaling((m,), (b,), made.shift, made.offset)
        for n, m, b in zip(group, made.multipliers, made.bias, strict=False)
    }


# --- constants ------------------------------------------------------------------------------------


def constant_code(
    term: Term, zero_point: int, ends: tuple[int, int], arithmetic: Arithmetic
) -> int | None:
    """The code of every sum that the channel can reach, where it is one and the same."""
    if arithmetic.product == "single":
        return constant_single(term, zero_point, ends)
    found = {
        clamp(whole(term.at(code), arithmetic.rounding) + zero_point, *ends) for code in term.codes
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
        return {clamp(whole(term.at(term.codes[0]), "DOUBLE") + zero_point, *ends)}
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


def stepped(
    term: Term, zero_point: int, ends: tuple[int, int], arithmetic: Arithmetic
) -> Term:  # fmt: skip
    """The same codes by a smaller ratio, where at most one sum lies between the ends of the clamp:
    all that such a channel says is on which side of it a sum is. Where M cannot even be as large as
    the clamp is wide, the sums next to that one are off."""
    step = step_of(ends, arithmetic)
    if abs(term.ratios[0]) <= (max(step, LARGEST) if arithmetic.per_channel_shift else step):
        return term
    up = 1 if term.ratios[0] > 0 else -1

    def code(at: int) -> int:
        value = whole(term.at(at), arithmetic.rounding) + zero_point
        return clamp(value, *ends)

    # the sum next to the one whose value is the lower end, on the side that rises
    turn = term.zeros[0] + nearest((ends[0] - zero_point - term.addend) / term.ratios[0])
    first = next(x for x in range(turn - 2 * up, turn + 3 * up, up) if code(x) > ends[0])
    return replace(
        term, ratios=(Fraction(up * step),), zeros=(first,),
        addend=Fraction(code(first) - zero_point),
    )  # fmt: skip


def step_of(ends: tuple[int, int], arithmetic: Arithmetic) -> int:
    """The power of two that goes from one end of the clamp to the other, if M can be so large."""
    wide = 1 << max(ends[1] - ends[0] - 1, 0).bit_length()
    return min(wide, 1 << arithmetic.multiplier_max.bit_length() - 1)


def whole(x: Fraction, rounding: Rounding) -> int:
    """The nearest integer; ties as the rounding has them, and upward for TRN, whose B makes it
    round to nearest."""
    if rounding == "RND_CONV":
        return round(x)
    if rounding in ("RND_INF", "DOUBLE") and x < 0:
        return -nearest(-x)
    return nearest(x)


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


# --- losses ---------------------------------------------------------------------------------------


def is_thin(term: Term, made: Scaling, zero_point: int, ends: tuple[int, int]) -> bool:
    """Whether M has too few bits for what it does."""
    thin = abs(made.multipliers[0]).bit_length() < LEAST_BITS
    return thin and moved(term, made, zero_point, ends) >= FELT


def moved(term: Term, made: Scaling, zero_point: int, ends: tuple[int, int]) -> Fraction:
    """By how many codes M's rounding can move a result: its relative error times the value that it
    multiplies, which is bounded by the reachable sums and by the clamp."""
    (ratio,), (zero,) = term.ratios, term.zeros
    error = abs(Fraction(made.multipliers[0], 1 << made.shift) - ratio)
    if not error:
        return error
    reach = abs(ratio) * max(abs(code - zero) for code in term.codes)
    room = max(abs(end - zero_point - term.addend) for end in ends) + 1
    return min(error / abs(ratio) * min(reach, room), Fraction(ends[1] - ends[0]))


def lost(
    thin: Mapping[int, Term], group: Mapping[int, Term], made: Mapping[int, Scaling],
    zero_point: int, ends: tuple[int, int], arithmetic: Arithmetic, layer: str,
) -> Loss:  # fmt: skip
    """What the group's thin channels lose."""
    bits = min(abs(made[n].multipliers[0]).bit_length() for n in thin)
    return Loss(
        layer=layer,
        channels=tuple(thin),
        must=f"M must have {LEAST_BITS} significant bits, not {bits}",
        codes=float(max(moved(t, made[n], zero_point, ends) for n, t in thin.items())),
        beside=max(group, key=lambda n: abs(group[n].ratios[0])),
        arithmetic=arithmetic.name,
    )


def with_losses(meta: Mapping[str, Any], losses: Sequence[Loss]) -> dict[str, Any]:
    """`meta` that names what was lost, for `losses_of`; as it is where nothing was."""
    return {**meta, **({"losses": [loss.to_json() for loss in losses]} if losses else {})}


def announce(losses: Sequence[Loss]) -> None:
    """A PrecisionWarning of each, for callers in Python; the command line prints them itself."""
    for loss in losses:
        warnings.warn(loss.sentence(), PrecisionWarning, stacklevel=3)


def losses_of(meta: Mapping[str, Any]) -> tuple[Loss, ...]:
    """What `with_losses` wrote."""
    return tuple(
        Loss(**{**row, "channels": tuple(row["channels"])}) for row in meta.get("losses", ())
    )
