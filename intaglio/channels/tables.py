"""M, B and S of all channels of a layer, so that no channel takes another's bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from intaglio.channels.constants import constant_code, standing
from intaglio.channels.losses import Loss, is_thin, lost
from intaglio.fixed import (
    Arithmetic,
    clamp,
    nearest,
    nearest_by,
)
from intaglio.multiplier import Scaling, Term, offset, scaling, short
from intaglio.program import Builder

LARGEST = 1 << 20  # ratio with an S of its own; what is larger is a step in all that can be coded


@dataclass(frozen=True)
class Tables:
    """Of every channel: M, B and S; `offset` of all; and what that loses."""

    multipliers: tuple[int, ...]
    bias: tuple[int, ...]
    shifts: tuple[int, ...]
    offset: int
    losses: tuple[Loss, ...] = ()

    def of_requant(self, builder: Builder, name: str) -> dict[str, Any]:
        """The fields of the `ops.Requant` that makes `name`; its tables go into the Program."""
        if len(set(self.shifts)) > 1:
            builder.arithmetic = replace(builder.arithmetic, per_channel_shift=True)
        return {
            "multiplier": builder.table(f"{name}.M", self.multipliers),
            "bias": builder.table(f"{name}.B", self.bias),
            "shift": tuple(short(self.shifts)),
            "offset": self.offset,
        }


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
        value = nearest_by(term.at(at), arithmetic.rounding) + zero_point
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
