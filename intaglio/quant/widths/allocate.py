"""One width for each item under budgets, by mixed-integer linear programming.

Minimise the sum of the chosen sensitivities. Each item has one binary variable per width, of which
one is 1. A budget is a sum of products of widths; the product of two items' widths is linear in one
further variable per pair of widths, z[i, j], with sum_j z[i, j] = x[i] and sum_i z[i, j] = y[j]:
with x and y binary, z is 1 for the chosen pair and 0 elsewhere, without being binary itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, prod

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from intaglio.errors import ModelError

SECONDS = 300.0  # that the solver may take
TRIES = 4  # to meet a budget that the solver's tolerance exceeded

Sensitivities = Mapping[str, Mapping[int, float]]  # {item: {bits: what they cost}}


@dataclass(frozen=True)
class Load:
    """`count` times the bits of each factor: an item's name, or a number of bits."""

    count: int
    factors: tuple[str | int, ...]

    def at(self, widths: Mapping[str, int]) -> int:
        """Its size with these widths."""
        bits = (f if isinstance(f, int) else widths[f] for f in self.factors)
        return self.count * prod(bits)


@dataclass(frozen=True)
class Limit:
    """The sum of `loads` is at most `most`."""

    loads: tuple[Load, ...]
    most: int

    def at(self, widths: Mapping[str, int]) -> int:
        """The sum with these widths."""
        return sum(load.at(widths) for load in self.loads)


@dataclass(frozen=True)
class Solution:
    """A width for each item; `total` of their sensitivities, at most `gap` times which might be
    saved by another choice."""

    widths: Mapping[str, int]
    total: float
    gap: float


def allocate(items: Sensitivities, limits: Sequence[Limit]) -> Solution:
    """The widths of least total sensitivity within the limits, which the least widths must meet.

    The limits hold exactly, in integers. Raises ModelError where the solver finds nothing in 300
    seconds.
    """
    least = {name: min(costs) for name, costs in items.items()}
    if any(limit.at(least) > limit.most for limit in limits):
        raise ValueError("The least widths must meet every limit.")
    if not items:
        return Solution({}, 0.0, 0.0)
    problem = Problem(items, limits)
    margin = 0.0
    for _ in range(TRIES):
        widths, gap = problem.solved(margin)
        if all(limit.at(widths) <= limit.most for limit in limits):
            break
        margin = max(10 * margin, 1e-7)
    else:
        widths, gap = least, inf
    return Solution(widths, sum(items[name][bits] for name, bits in widths.items()), gap)


class Problem:
    """The variables and rows of one allocation: `x` {(item, bits): column}, then pairs `z`."""

    def __init__(self, items: Sensitivities, limits: Sequence[Limit]) -> None:
        self.items = items
        self.x = {
            key: n for n, key in enumerate((name, b) for name in items for b in sorted(items[name]))
        }
        self.columns = len(self.x)
        self.equal: list[tuple[dict[int, float], float]] = [
            ({self.x[name, b]: 1.0 for b in costs}, 1.0) for name, costs in items.items()
        ]
        self.z: dict[tuple[str, str], dict[tuple[int, int], int]] = {}
        self.below = [self.row(limit) for limit in limits]

    def row(self, limit: Limit) -> tuple[dict[int, float], float]:
        """A limit's coefficients and bound, over its largest coefficient."""
        row: dict[int, float] = {}
        bound = float(limit.most)
        for load in limit.loads:
            names = sorted(f for f in load.factors if isinstance(f, str))
            fixed = load.count * prod(f for f in load.factors if isinstance(f, int))
            if not names:
                bound -= fixed
            elif len(names) == 1:
                for bits in self.items[names[0]]:
                    column = self.x[names[0], bits]
                    row[column] = row.get(column, 0.0) + fixed * bits
            else:
                first, second = names
                for (a, b), column in self.pair(first, second).items():
                    row[column] = row.get(column, 0.0) + fixed * a * b
        largest = max(row.values(), default=1.0)
        return {column: value / largest for column, value in row.items()}, bound / largest

    def pair(self, first: str, second: str) -> dict[tuple[int, int], int]:
        """The columns of two items' pairs of widths, made when first asked for."""
        if (first, second) not in self.z:
            found = {}
            for a in self.items[first]:
                for b in self.items[second]:
                    found[a, b] = self.columns
                    self.columns += 1
            self.z[first, second] = found
            for n, name in enumerate((first, second)):
                for bits in self.items[name]:
                    row = {column: 1.0 for key, column in found.items() if key[n] == bits}
                    self.equal.append((row | {self.x[name, bits]: -1.0}, 0.0))
        return self.z[first, second]

    def solved(self, margin: float) -> tuple[dict[str, int], float]:
        """Widths and the relative gap, with bounds lowered by a share `margin`."""
        cost = np.zeros(self.columns)
        for (name, bits), column in self.x.items():
            cost[column] = self.items[name][bits]
        cost *= 1e3 / max(float(np.abs(cost).max()), 1e-30)
        integral = np.zeros(self.columns)
        integral[: len(self.x)] = 1
        lowered = [(row, bound - margin * abs(bound)) for row, bound in self.below]
        found = milp(
            cost,
            integrality=integral,
            bounds=Bounds(0, 1),
            constraints=[
                constraint(self.equal, self.columns, equal=True),
                constraint(lowered, self.columns, equal=False),
            ],
            options={"mip_rel_gap": 0.0, "time_limit": SECONDS},
        )
        if found.x is None:
            if margin:
                return {name: min(costs) for name, costs in self.items.items()}, inf
            raise ModelError(
                f"Widths under the budget must be found in {SECONDS:g} seconds, not:"
                f" {str(found.message).rstrip('.')}; give another budget."
            )
        widths = {
            name: max(costs, key=lambda b: found.x[self.x[name, b]])
            for name, costs in self.items.items()
        }
        return widths, float(found.mip_gap or 0.0)


def constraint(
    rows: Sequence[tuple[Mapping[int, float], float]], columns: int, *, equal: bool
) -> LinearConstraint:
    """Sparse rows, equal to or at most their bounds."""
    entries = [(n, *entry) for n, (row, _) in enumerate(rows) for entry in row.items()]
    places = np.array(entries, dtype=np.float64).reshape(-1, 3)
    at, column = places[:, :2].astype(np.int64).T
    matrix = coo_array((places[:, 2], (at, column)), shape=(len(rows), columns)).tocsr()
    high = np.array([bound for _, bound in rows])
    return LinearConstraint(matrix, high if equal else -np.inf, high)
