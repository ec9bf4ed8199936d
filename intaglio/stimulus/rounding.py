"""Points of what rounds: sums about a step between two codes, and sums that a clamp changes.

A point that the proved range of its channel excludes is no point. For that, and for the step's two
sides, it is enough that rounding never turns back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intaglio.channels.spans import Span
from intaglio.fixed import ROUNDINGS, Arithmetic, Rounding
from intaglio.ops import Add, Conv2d, Ints, Op, Requant, rounding_of
from intaglio.program import Program
from intaglio.sim.reference import added, scaled

Bools = NDArray[np.bool_]
KINDS = ("above a step", "below a step", "clamp low", "clamp high")
PART = 3  # within 2^-3 of a code counts as beside the step


@dataclass(frozen=True)
class Rounded:
    """y = clamp(round(t / 2^shift) + offset, lo, hi) of every channel; `shift` and `beside` (C,).

    beside  how far from a step a total t may be: an eighth of a code, or the distance of two sums
            that the channel can have, if that is more.
    """

    shift: Ints
    beside: Ints
    offset: int
    lo: int
    hi: int
    rounding: Rounding

    def whole(self, t: Ints) -> Ints:
        """Codes of totals (N, C, H, W) before the clamp."""
        rule, shifts = ROUNDINGS[self.rounding], np.unique(self.shift).tolist()
        if len(shifts) == 1:
            return np.asarray(rule(t, shifts[0]) + self.offset)
        found = np.empty_like(t)
        for shift in shifts:
            channels = self.shift == shift
            found[:, channels] = rule(t[:, channels], shift)
        return found + self.offset

    def events(self, least: Ints, most: Ints) -> Bools:
        """Whether some total from `least` to `most` (N, C, H, W) is at each kind of point:
        (N, K, C, H, W). For one total, with both the same, exactly; else where no proof says that
        there is none."""
        beside = self.beside[:, None, None]
        code = self.whole(least)
        other = code if most is least else self.whole(most)
        low, high = np.clip(code, self.lo, self.hi), np.clip(other, self.lo, self.hi)
        under = np.clip(self.whole(least - beside), self.lo, self.hi)
        over = np.clip(self.whole(most + beside), self.lo, self.hi)
        return np.stack([under != high, over != low, code < self.lo, other > self.hi], axis=1)


def requantised(op: Requant, program: Program) -> Rounded:
    """How a Requant rounds."""
    channels = program.tensors[op.input].shape[0]
    shift = np.resize(np.array(op.shift, np.int64), channels)
    m = np.resize(program.constants[op.multiplier].array, channels)
    apart = np.abs(m) * distance(program.producer[op.input], program, channels)
    rounding = rounding_of(op, program.arithmetic)
    return Rounded(shift, beside(apart, shift), op.offset, op.lo, op.hi, rounding)


def summed(op: Add, program: Program) -> Rounded:
    """How an Add rounds."""
    channels = program.tensors[op.a].shape[0]
    shift = np.full(channels, op.shift)
    apart = np.full(channels, np.gcd(op.multiplier_a, op.multiplier_b))
    rounding = rounding_of(op, program.arithmetic)
    return Rounded(shift, beside(apart, shift), op.offset, op.lo, op.hi, rounding)


def beside(apart: Ints, shift: Ints) -> Ints:
    """`Rounded.beside` of totals so far apart."""
    part: Ints = np.maximum(np.maximum(apart, 1), (1 << shift) >> PART)
    return part


def distance(op: Op, program: Program, channels: int) -> Ints:
    """Of two different sums of each channel, at least."""
    if not isinstance(op, Conv2d):
        return np.ones(channels, np.int64)
    weight = program.constants[op.weight].array
    return np.asarray(np.gcd.reduce(weight.reshape(channels, -1), axis=1))


def totals(op: Requant | Add, inputs: Sequence[Ints], program: Program) -> Ints:
    """t of every value."""
    arithmetic: Arithmetic = program.arithmetic
    if isinstance(op, Add):
        return added(op, inputs[0], inputs[1], arithmetic)
    channels = inputs[0].shape[1]
    m, b = (
        np.resize(program.constants[name].array, channels)[:, None, None]
        for name in (op.multiplier, op.bias)
    )
    return scaled(inputs[0], m, b, arithmetic)


def total_ends(op: Requant | Add, spans: Sequence[Span], program: Program) -> tuple[Ints, Ints]:
    """The least and the greatest t of each channel, (1, C, 1, 1)."""
    ends = []
    for channel in range(len(spans[0].lo)):
        sides = [(int(span.lo[channel]), int(span.hi[channel])) for span in spans]
        if isinstance(op, Add):
            ends.append(op.totals(sides[0], sides[1], program.context))
        else:
            found, _ = op.totals(channel, sides[0], program.context)
            ends.append((min(found), max(found)))
    least, most = np.array(ends, np.int64).T
    return least[None, :, None, None], most[None, :, None, None]
