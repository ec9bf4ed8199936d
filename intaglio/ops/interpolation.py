"""Resizing by two taps: every value of the result is a sum over two rows and two columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor, lcm

import numpy as np

from intaglio.fixed import EXACT_LIMIT
from intaglio.ops.base import SIDE, Context, Inferred, Ints, Pair, Tensor, Unary

Tap = tuple[int, int, int]  # a row or column, its weight, and that of the next one


@dataclass(frozen=True, kw_only=True)
class Interpolate(Unary):
    """Exact sum of two rows and two columns, by the weights of both:

        y[c, i, j] = sum over (a, u) of rows[i], (b, v) of columns[j] of u * v * x[c, a, b]

    A tap (r, u, v) is row r by u > 0 and row r + 1 by v >= 0; behind the last row is the last row
    again. All taps of an axis have one sum of weights, so that y is `unit` times a mean of x. Taps
    go forward: r never falls. With a `unit` of 1 every value is a code of x: a nearest neighbour,
    at any ratio.
    """

    rows: tuple[Tap, ...]
    columns: tuple[Tap, ...]

    @property
    def size(self) -> Pair:
        """Output (H, W)."""
        return len(self.rows), len(self.columns)

    @property
    def units(self) -> Pair:
        """Sums of the weights of a row and of a column."""
        return sum(self.rows[0][1:]), sum(self.columns[0][1:])

    @property
    def unit(self) -> int:
        """What a constant map is multiplied by."""
        return self.units[0] * self.units[1]

    def infer(self, inputs: Sequence[Tensor], context: Context) -> Inferred:
        (x,) = inputs
        for name, side, taps in (
            ("rows", x.shape[1], self.rows),
            ("columns", x.shape[2], self.columns),
        ):
            if not 1 <= len(taps) <= SIDE:
                raise self.refuse(f"{name} must be 1 to {SIDE}, not {len(taps)}.")
            places = [place for place, _, _ in taps]
            if places != sorted(places) or not 0 <= places[0] <= places[-1] < side:
                raise self.refuse(f"{name} must read 0 to {side - 1} and never go back.")
            if min(min(u - 1, v) for _, u, v in taps) < 0 or len({u + v for _, u, v in taps}) > 1:
                raise self.refuse(
                    f"{name} must have a first weight above 0 and a second of 0 or more, and one"
                    " sum."
                )
        if max(-x.lo, x.hi) * self.unit >= EXACT_LIMIT:
            raise self.refuse("its sums must stay below 2^62; use smaller weights.")
        return (x.shape[0], *self.size), x.lo * self.unit, x.hi * self.unit

    def zeros(self, zero: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(value * self.unit for value in zero)

    def step(self, scale: float) -> float:
        return scale / self.unit


def both(taps: Sequence[Tap], side: int) -> Ints:
    """Every tap as (first place, second place, their weights): (n, 4)."""
    first, u, v = np.array(taps, dtype=np.int64).reshape(-1, 3).T
    return np.stack([first, np.minimum(first + 1, side - 1), u, v], axis=1)


def nearest(places: Sequence[int] | Ints) -> tuple[Tap, ...]:
    """Taps that read one place each, and compute nothing."""
    return tuple((int(place), 1, 0) for place in places)


def between(places: Sequence[Fraction], side: int) -> tuple[Tap, ...]:
    """Taps with the exact weights of the pixels around rational places, which count from the middle
    of the first pixel and are moved into the image; no smaller whole weights have these ratios."""
    clamped = [min(max(place, Fraction(0)), Fraction(side - 1)) for place in places]
    unit = lcm(*(place.denominator for place in clamped))
    found = []
    for place in clamped:
        first = floor(place)
        ahead = int((place - first) * unit)
        found.append((first, unit - ahead, ahead))
    return tuple(found)


def half_pixel(old: int, new: int, ratio: Fraction | None = None) -> list[Fraction]:
    """Where the middles of `new` pixels lie among `old` ones, `ratio` old pixels from each to the
    next (default: old / new)."""
    ratio, half = Fraction(old, new) if ratio is None else ratio, Fraction(1, 2)
    return [(i + half) * ratio - half for i in range(new)]


def asymmetric(old: int, new: int, ratio: Fraction | None = None) -> list[Fraction]:
    """The same of pixels that are counted by their upper left corners."""
    ratio = Fraction(old, new) if ratio is None else ratio
    return [i * ratio for i in range(new)]


def align_corners(old: int, new: int) -> list[Fraction]:
    """Where the first of `new` pixels is the first of `old` ones and the last the last."""
    return [Fraction(i * (old - 1), max(1, new - 1)) for i in range(new)]
