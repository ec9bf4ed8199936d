"""The same codes from smaller constants: a requantisation's M, B and S, replaced for the hardware.

y = clamp(round((x * M + B) / 2^S) + offset, lo, hi) never falls, or never rises, as x grows. So all
that it does to the x that can come is where each code begins: at most hi - lo places. An 18-bit M
and a 24-bit B say much more than that. Here S is made less by one as long as there are M' and B'
with which floor((x * M' + B') / 2^S') begins every code of every channel at the same x. With M'
and S' given, B' may be anything from

    max over codes c of  c * 2^S' - M' * first(c)   to   min of  c * 2^S' - M' * (first(c) - 1) - 1.

Nothing is approximate: a place that cannot be had is a code that would differ. What an accumulator
cannot reach (its proved range) asks for nothing. Every rounding becomes a floor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from intaglio.fixed import ROUNDINGS, Rounding
from intaglio.hdl.requant import Scaling, column_bits

Ints = NDArray[np.int64]
Ranges = tuple[tuple[int, ...], tuple[int, ...]]  # least and greatest x of each channel

EXACT = 1 << 60  # products and sums below it are exact in int64
CODES = 1 << 10  # more of them need about as many bits as there are
NEAR = np.arange(-2, 3)  # multipliers tried about M * 2^(S' - S)


@dataclass(frozen=True)
class Steps:
    """Of the channels of all levels: `first` (channels, codes) the least x that gives at least code
    lo + 1 + k, from `low` to `high` + 1; `code` lo + 1 + k - offset; `slope` M / 2^S."""

    first: Ints
    code: Ints
    low: Ints
    high: Ints
    slope: NDArray[np.float64]


@lru_cache(maxsize=512)
def smaller(
    scalings: tuple[Scaling, ...], ranges: tuple[Ranges, ...], rounding: Rounding
) -> tuple[tuple[Scaling, ...], Rounding]:
    """Scalings of the levels of one block that give the same codes for every x in the ranges, and
    their rounding; as they are where int64 cannot show that, or it gains nothing."""
    rows = [row for pair in zip(scalings, ranges, strict=True) for row in rows_of(*pair)]
    if len({row[:3] for row in rows}) == 1:  # what is wired stays wired
        low, high = min(row[-2] for row in rows), max(row[-1] for row in rows)
        rows = [(*row[:-2], low, high) for row in rows]
    if not all(fits(*row) for row in rows):
        return scalings, rounding
    steps, found = steps_of(rows, rounding), None
    shift = max(row[2] for row in rows)
    while shift and (less := constants(steps, shift - 1)) is not None:
        shift, found = shift - 1, less
    if found is None:
        return scalings, rounding
    m, lowest, highest = found
    made = split(scalings, ranges, m, roundest(lowest, highest), shift)
    return (made, "TRN") if table_bits(made) <= table_bits(scalings) else (scalings, rounding)


def table_bits(scalings: Sequence[Scaling]) -> int:
    """Of what differs between channels or levels, for one of them."""
    columns = [
        [v for s in scalings for v in getattr(s, n)] for n in ("multiplier", "bias", "shift")
    ]
    return sum(column_bits(column) for column in columns if len({*column}) > 1)


Row = tuple[int, int, int, int, int, int, int, int]


def rows_of(scaling: Scaling, ranges: Ranges) -> list[Row]:
    """(M, B, S, offset, lo, hi, least x, greatest x) of every channel, x turned round where M is
    negative."""
    found: list[Row] = []
    for channel, (low, high) in enumerate(zip(*ranges, strict=True)):
        m, b, s, offset, lo, hi = scaling.of(channel)
        ends = (low, high) if m >= 0 else (-high, -low)
        found.append((abs(m), b, s, offset, lo, hi, *ends))
    return found


def fits(m: int, b: int, s: int, offset: int, lo: int, hi: int, low: int, high: int) -> bool:
    """Whether int64 holds all that is computed of a channel."""
    reach = max(abs(low), abs(high)) + 1
    codes = hi - lo <= CODES and (abs(lo) + abs(hi) + abs(offset) + 2) << s < EXACT
    return low <= high and codes and reach * (m + 3) + abs(b) < EXACT


def steps_of(rows: Sequence[Row], rounding: Rounding) -> Steps:
    """By halving."""
    m, b, s, offset, lo, hi, low, high = (
        np.array(c, np.int64)[:, None] for c in zip(*rows, strict=True)
    )
    codes = lo + np.arange(1, int((hi - lo).max()) + 1)
    codes = np.minimum(codes, hi)  # a channel with fewer repeats its last
    least, most = np.broadcast_to(low, codes.shape).copy(), np.broadcast_to(high + 1, codes.shape)
    most = most.copy()  # the answer is in [least, most]
    while (least < most).any():
        middle = least + (most - least) // 2
        enough = shifted(np.minimum(middle, high) * m + b, s, rounding) + offset >= codes
        enough |= middle > high
        most = np.where(enough, middle, most)
        least = np.where(enough, least, np.minimum(middle + 1, most))
    slope = (m / np.exp2(s))[:, 0]
    return Steps(least, codes - offset, low, high, slope)


def shifted(total: Ints, shift: Ints, rounding: Rounding) -> Ints:
    """Every row by its own shift, with the arithmetic of the Program itself."""
    found = np.empty_like(total)
    for s in np.unique(shift).tolist():
        rows = shift[:, 0] == s
        found[rows] = ROUNDINGS[rounding](total[rows], s)
    return found


def constants(steps: Steps, shift: int) -> tuple[Ints, Ints, Ints] | None:
    """M' of every channel with a shift, and the least and greatest B'; None where a channel has
    none."""
    near = np.rint(np.ldexp(steps.slope, shift)).astype(np.int64)
    edge = steps.code << shift
    reached, begins = steps.first <= steps.high, steps.first > steps.low
    ended = ~(reached & begins).any(axis=1)  # of one code, which M = 0 gives as well
    usual = near[~ended][0] if not ended.all() else 0
    free = usual * (steps.high - steps.low)[:, 0] < 1 << shift
    near = np.where(ended, np.where(free, usual, 0), near)
    found = np.zeros((3, len(near)), np.int64)
    closed = np.zeros(len(near), bool)
    for m in (np.maximum(near + step, 0) for step in sorted(NEAR, key=abs)):
        at = edge - m[:, None] * steps.first
        low = np.where(reached, at, -EXACT).max(1, initial=-EXACT)
        high = np.where(begins, at + m[:, None], EXACT).min(1, initial=EXACT) - 1
        good = low <= high
        if good.all():  # equal multipliers stay equal
            return m, low, high
        found = np.where(good & ~closed, (m, low, high), found)
        closed |= good
    if not closed.all() or len({*near.tolist()}) == 1:
        return None
    m, low, high = found
    return m, low, high


def roundest(low: Ints, high: Ints) -> Ints:
    """Of the numbers from `low` to `high` those with the most zeros at their end."""
    found = high.copy()
    for zeros in range(1, 60):
        cut = (high >> zeros) << zeros
        found = np.where(cut >= low, cut, found)
    return found


def split(
    scalings: Sequence[Scaling], ranges: Sequence[Ranges], m: Ints, b: Ints, shift: int
) -> tuple[Scaling, ...]:
    """The constants as scalings of the levels."""
    found, at = [], 0
    for scaling, (low, _) in zip(scalings, ranges, strict=True):
        end = at + len(low)
        signs = [-1 if scaling.of(channel)[0] < 0 else 1 for channel in range(len(low))]
        factors = tuple(sign * value for sign, value in zip(signs, m[at:end].tolist(), strict=True))
        found.append(
            Scaling(factors, tuple(b[at:end].tolist()), (shift,), scaling.lo, scaling.hi,
                    scaling.offset)
        )  # fmt: skip
        at = end
    return tuple(found)
