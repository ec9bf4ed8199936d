"""Folding as optimisation: of every convolution one candidate, so that all of them fit the target.

A mixed-integer program, solved by HiGHS: one variable of 0 or 1 for each candidate, one of each
layer chosen, and what they take of each resource below the budget. The other blocks have lanes
alone, of which the fewest that are fast enough are best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import LinearConstraint, milp
from scipy.sparse import csr_matrix

from intaglio.codegen.area.devices import Device
from intaglio.codegen.area.limits import routable, usable
from intaglio.codegen.area.mapping import Need
from intaglio.codegen.folding.candidates import Candidate, candidates
from intaglio.codegen.folding.estimate import LIMITED, RESOURCES
from intaglio.codegen.structure.fold import (
    Folding,
    Plan,
    choose,
    fewest_cycles,
    options,
    routed,
)
from intaglio.codegen.structure.graph import HardwareGraph
from intaglio.errors import FitError
from intaglio.system.copies import Copies
from intaglio.system.disk import hushed
from intaglio.system.threads import most

GAP = 1e-4  # of the optimum
MANY = 1000  # foldings that are worth being judged by several processes


@dataclass(frozen=True)
class Merge:
    """An engine for one or more convolutions: their blocks, by index, and its candidates."""

    blocks: tuple[int, ...]
    candidates: tuple[Candidate, ...]

    def frugal(self, cycles: int) -> list[Candidate]:
        """Of those that take at most `cycles` all of which none takes as little of everything."""
        left = np.flatnonzero(self._numbers[:, 0] <= cycles)
        takes = self._numbers[left, 1:]
        order = np.argsort(takes.sum(axis=1), kind="stable")  # whoever beats one comes before it
        left, takes, kept = left[order], takes[order], []
        while len(left):
            kept.append(int(left[0]))
            others = ~(takes[0] <= takes).all(axis=1)
            left, takes = left[others], takes[others]
        return [self.candidates[k] for k in sorted(kept)]

    @cached_property
    def _numbers(self) -> NDArray[np.float64]:
        """Cycles and what is taken, a row a candidate."""
        names = [name for name, _ in LIMITED]
        rows = [(c.folding.cycles, *(getattr(c.need, n) for n in names)) for c in self.candidates]
        return np.array(rows, float).reshape(-1, 1 + len(names))


@dataclass(frozen=True)
class Problem:
    """The choices of each block, None for those without; what the target has left for them; a
    plan whose foldings are fixed, or None.

    own     engines of one convolution: the choices, by themselves.
    merges  engines that several convolutions may share; then there must be `fewer` engines less.
    """

    graph: HardwareGraph
    chip: Device
    choices: tuple[tuple[Candidate, ...] | None, ...]
    budget: Need
    fixed: Plan | None = None
    own: tuple[Merge, ...] = ()
    merges: tuple[Merge, ...] = ()
    fewer: int = 0

    @staticmethod
    def of(graph: HardwareGraph, chip: Device, fixed: Plan | None = None) -> Problem:
        """With the foldings of a plan, or free ones."""
        convs = [k for k, b in enumerate(graph.blocks) if b.kind == "conv"]

        def offered(k: int) -> tuple[Candidate, ...]:
            given = () if fixed is None else (fixed.foldings[k],)
            return tuple(candidates(graph, graph.blocks[k], chip, given))

        free = sum(len(options(graph, graph.blocks[k])) for k in convs if fixed is None)
        found = Copies(most() if free > MANY else 1).map(offered, convs)
        known = dict(zip(convs, found, strict=True))
        choices = tuple(known.get(k) for k in range(len(graph.blocks)))
        own = tuple(Merge((k,), c) for k, c in enumerate(choices) if c is not None)
        return Problem(graph, chip, choices, routable(chip), fixed, own)

    def within(self, limits: Need, extra: Need) -> Problem:
        """With those limits, of which the rest of the design takes `extra`."""
        return replace(self, budget=limits - extra)

    def solve(self, cycles: int | None) -> tuple[Plan, tuple[Candidate, ...]]:
        """The cheapest plan that takes at most `cycles` (where the foldings are free), or the
        fastest. Raises FitError when nothing fits."""
        if cycles is None:
            cycles, chosen = self.fastest()
            return self.plan(cycles, chosen), chosen
        limit = cycles if self.fixed is None else 1 << 62
        found = self.cheapest(limit)
        if found is None:
            raise FitError(self.refusal(limit))
        return self.plan(cycles, found), found

    def cheapest(self, cycles: int) -> tuple[Candidate, ...] | None:
        """Of each convolution in turn a candidate that takes at most `cycles`, so that all take the
        least part of the target, and then those of shared engines; None when the budget is too
        small for that."""
        return self._chosen(self._offers(cycles), priced=True)

    def possible(self, cycles: int) -> bool:
        """Whether there are such: the first that fit will do."""
        return self._chosen(self._offers(cycles), priced=False) is not None

    def _offers(self, cycles: int) -> dict[tuple[int, ...], list[Candidate]]:
        """By blocks, those that take at most `cycles`, but where another takes as little of
        everything: the cheapest are among them."""
        return {m.blocks: m.frugal(cycles) for m in self._engines}

    @property
    def _engines(self) -> tuple[Merge, ...]:
        """Those of one convolution, and those that several may share."""
        return (*self.own, *self.merges)

    def _chosen(
        self, found: Mapping[tuple[int, ...], Sequence[Candidate]], *, priced: bool
    ) -> tuple[Candidate, ...] | None:
        """Of these the cheapest that fit, or any; None where there are none."""
        convs = [k for k, choice in enumerate(self.choices) if choice is not None]
        offers = [(blocks, c) for blocks, several in found.items() for c in several]
        if {k for blocks, _ in offers for k in blocks} != set(convs):
            return None
        if not offers:
            return ()
        flat = [c for _, c in offers]
        size = np.array([len(blocks) for blocks, _ in offers])
        owner = np.searchsorted(convs, [k for blocks, _ in offers for k in blocks])
        one = csr_matrix((np.ones(len(owner)), (owner, np.repeat(np.arange(len(flat)), size))))
        names = [name for name, _ in LIMITED if getattr(self.chip, name)]
        takes = np.array([[getattr(c.need, name) for c in flat] for name in names], float)
        has = np.array([getattr(self.chip, name) for name in names], float)
        limits = np.array([getattr(self.budget, name) for name in names], float)
        if (limits < 0).any():
            return None
        with hushed():  # HiGHS leaves a trace of itself there now and then
            solution = milp(
                [price(c.need, self.chip) if priced else 0.0 for c in flat],
                integrality=np.ones(len(flat)),
                bounds=(0, 1),
                constraints=[
                    LinearConstraint(one, 1, 1),
                    LinearConstraint(takes / has[:, None], -np.inf, limits / has),
                    *([LinearConstraint(size - 1, self.fewer, self.fewer)] if self.merges else ()),
                ],
                options={"mip_rel_gap": GAP},
            )
        if solution.x is None:
            return None
        return tuple(flat[k] for k in np.flatnonzero(solution.x > 0.5))

    def fastest(self) -> tuple[int, tuple[Candidate, ...]]:
        """The fewest cycles of the slowest block that the budget allows, and the cheapest
        candidates for that. Raises FitError when nothing fits."""
        others = [min(f.cycles for f in options(self.graph, b))
                  for b in self.graph.blocks if b.kind != "conv"]  # fmt: skip
        least = max([*others, *(c[0].folding.cycles for c in self.choices if c is not None)])
        layers = [*(layer for layer in self.choices if layer), *(m.candidates for m in self.merges)]
        times = sorted({c.folding.cycles for layer in layers for c in layer} | {least})
        times = [t for t in times if t >= least]
        if not self.possible(times[-1]):
            raise FitError(self.refusal(times[-1]))
        low, high = -1, len(times) - 1
        while high - low > 1:
            middle = (low + high) // 2
            if self.possible(times[middle]):
                high = middle
            else:
                low = middle
        for time in times[high:]:  # the first, unless it fits by a hair
            chosen = self.cheapest(time)
            if chosen is not None:
                return time, chosen
        raise FitError(self.refusal(times[-1]))

    def plan(self, cycles: int, chosen: Sequence[Candidate]) -> Plan:
        """With the other blocks as narrow as `cycles` allow."""
        graph, rest = self.graph, iter(chosen)
        foldings: list[Folding] = [
            next(rest).folding
            if b.kind == "conv"
            else choose(options(graph, b), cycles)
            if self.fixed is None
            else self.fixed.foldings[k]
            for k, b in enumerate(graph.blocks)
        ]
        return routed(graph, foldings, cycles)

    def refusal(self, cycles: int) -> str:
        """Why not even the smallest candidates fit: the resource that is furthest beyond its
        budget, and the layer that takes most of it."""
        worst: tuple[float, str] = (-np.inf, "")
        for name, said in LIMITED:
            least = [
                (min(float(getattr(c.need, name)) for c in choice if c.folding.cycles <= cycles),
                 self.graph.blocks[k].origin)
                for k, choice in enumerate(self.choices) if choice is not None
            ]  # fmt: skip
            needed, has = sum(n for n, _ in least), float(getattr(self.budget, name))
            most = max(least)
            text = (
                f"{self.chip.name} must have at least {needed:,.0f} {said} free for the"
                f" convolutions, not {max(0.0, has):,.0f}: layer {most[1]!r} takes {most[0]:,.0f}."
            )
            if needed > has:
                worst = max(worst, (needed / max(1.0, has), text))
        return worst[1] or (
            f"{self.chip.name} must have more LUTs, block RAMs and multipliers together for this"
            " design, though each alone would do."
        )


def price(need: Need, chip: Device) -> float:
    """The parts of the target's resources, added: what is to be as little as it can be."""
    parts = ((float(getattr(need, name)), float(getattr(chip, name))) for name, _ in RESOURCES)
    return sum(taken / (total or 1.0) for taken, total in parts)


def taken(chosen: Sequence[Candidate]) -> Need:
    """By all of them."""
    return sum((c.need for c in chosen), Need())


def advice(graph: HardwareGraph, plan: Plan, chip: Device, used: Need) -> str:
    """What to change for more frames a second."""
    slowest = graph.blocks[plan.slowest]
    fewest = fewest_cycles(graph, slowest)
    if plan.foldings[plan.slowest].cycles <= fewest:
        return (
            f"{slowest.origin} takes {fewest:,} cycles however many multipliers it gets: a smaller"
            " input or a faster clock would help."
        )
    if chip.family == "generic":
        return f"More multipliers for {slowest.origin}, with --multipliers, would help."
    limits = usable(chip)
    shares = [
        (float(getattr(used, n)) / float(getattr(limits, n)), said)
        for n, said in LIMITED
        if getattr(limits, n)
    ]
    share, said = max(shares)
    if share < 0.9:
        return "There is room for more: a higher --fps, or --target alone, would use it."
    return (
        f"The {said} are the limit ({share:.0%} of what routes with ease): a larger target, or"
        f" fewer channels in {slowest.origin}, would help."
    )
