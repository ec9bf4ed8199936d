"""What M cannot serve: channels left with too few bits, and how people are told."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from intaglio.errors import PrecisionWarning
from intaglio.fixed import (
    Arithmetic,
)
from intaglio.multiplier import Scaling, Term

LEAST_BITS = 10  # of |M|, so that it is within 2^-10 of its ratio
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
