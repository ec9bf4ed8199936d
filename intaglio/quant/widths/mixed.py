"""Mixed precision: each layer's widths, by what they do to a detector's outputs.

Every item is quantised alone at every width, all else real-valued: its sensitivity is the mean ODOL
of a part of the calibration images. `allocate` then chooses widths of the least sum of
sensitivities under the budgets. Adding them up takes errors to be small and independent, which two
bits are not; that is the method's approximation, not the solver's.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor, isfinite
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from intaglio.detect.own import Head
from intaglio.errors import ModelError
from intaglio.quant.adjust.compensate import Moments, observe_inputs, rounded
from intaglio.quant.capture.graph import Conv, FloatGraph, Image
from intaglio.quant.ranges.grids import Grid, activation_grid, weight_codes
from intaglio.quant.ranges.groups import Group, groups, overriding, weight_bits
from intaglio.quant.ranges.scales import PIXELS, Calibration, Scales, choose
from intaglio.quant.search.candidates import Kind
from intaglio.quant.search.detptq import Progress, torch_device
from intaglio.quant.search.found import loss_of
from intaglio.quant.search.odol import nothing_found
from intaglio.quant.search.partial import Partial, Values, macs
from intaglio.quant.settings.budget import Budget, BudgetKind, Widths
from intaglio.quant.settings.config import QuantConfig
from intaglio.quant.widths.allocate import Limit, Load, Sensitivities, allocate

WIDTHS = (2, 3, 4, 6, 8)  # of weights and codes; 5 and 7 pack no better and cost two fifths more
SHARE = 4  # one in so many images is looked at,
FEWEST = 8  # but at least so many


@dataclass(frozen=True)
class Item:
    """What has one width: the weight called `name`, or groups of tensors that shared weights bind
    to one type, of which `name` is the first tensor. `count` is weights, or codes of an image."""

    kind: Kind
    name: str
    count: int
    groups: tuple[Group, ...] = ()


@dataclass(frozen=True)
class Chosen:
    """An item's width, and {bits: ODOL} of it alone at each width."""

    item: Item
    bits: int
    sensitivity: Mapping[int, float]

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "kind": self.item.kind,
            "name": self.item.name,
            "tensors": [name for group in self.item.groups for name in group.tensors],
            "count": self.item.count,
            "bits": self.bits,
            "sensitivity": {str(bits): odol for bits, odol in self.sensitivity.items()},
        }


@dataclass(frozen=True)
class Spending:
    """A budget and the average that the widths come to."""

    budget: Budget
    used: Fraction


@dataclass(frozen=True, eq=False)
class Mixed:
    """Widths under budgets. `total` is the sum of the chosen sensitivities and `gap` the share of
    it that the solver could not rule out; `forwards` are full-network forwards of one image."""

    chosen: tuple[Chosen, ...]
    spending: tuple[Spending, ...]
    total: float
    gap: float
    images: int
    forwards: float
    seconds: float

    @property
    def widths(self) -> Widths:
        """By name, as `QuantConfig` takes them."""
        weights = {c.item.name: c.bits for c in self.chosen if c.item.kind == "weights"}
        tensors = {group.tensors[0]: c.bits for c in self.chosen for group in c.item.groups}
        return Widths(weights, tensors)

    def sentence(self) -> str:
        """One line for people."""
        used = ", ".join(
            f"{s.budget.kind} {float(s.used):.3f} of {float(s.budget.average):g}"
            for s in self.spending
        )
        parts = []
        for kind in ("weights", "codes"):
            bits = sorted(c.bits for c in self.chosen if c.item.kind == kind)
            counts = ", ".join(f"{bits.count(b)} at {b} bits" for b in sorted(set(bits)))
            if counts:
                parts.append(f"{kind}: {counts}")
        return (
            f"{used}; {'; '.join(parts)}; ODOL of all alone {self.total:.4f}, gap"
            f" {100 * self.gap:.3f} %; {self.forwards:,.0f} full-network forwards"
        )

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "budgets": [
                {"kind": s.budget.kind, "asked": float(s.budget.average), "used": float(s.used)}
                for s in self.spending
            ],
            "items": [chosen.to_json() for chosen in self.chosen],
            "total": self.total,
            "gap": self.gap,
            "images": self.images,
            "forwards": self.forwards,
            "seconds": self.seconds,
        }


def mix(
    graph: FloatGraph,
    calibration: Calibration,
    images: NDArray[np.uint8],
    config: QuantConfig,
    spec: Head,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Mixed:
    """Choose widths within `config.budgets` on uint8 images (N, C, H, W).

    Every weight is an item, the stem's and the predictors' too, but those that `config.overrides`
    names; with a budget of bops so is every group of tensors that a convolution reads, but for
    pixels, indices of tables and final maps. What no budget counts keeps its width.

    Raises ModelError for a budget that the least widths exceed, DataError for images on which the
    real-valued network finds nothing.
    """
    start = time.perf_counter()
    if not graph.weights:
        raise ModelError(
            "A model for a budget must have convolutions or linear layers, not none; leave the"
            " budget out."
        )
    items = items_of(graph, config)
    limits = {b: limit(graph, config, items, b) for b in config.budgets}
    for budget, (found, total) in limits.items():
        check_least(budget, found, total)
    every = min(len(images), max(ceil(len(images) / SHARE), FEWEST))
    some = images[np.linspace(0, len(images), every, endpoint=False).astype(int)]
    exact = torch.backends.cudnn.flags(deterministic=True, allow_tf32=False)
    with torch.no_grad(), exact:
        loss = loss_of(spec, config.odol, (images.shape[2], images.shape[3]))
        network = Partial(
            graph, some, loss, correct_bias=config.correct_bias, device=torch_device(device)
        )  # fmt: skip
        costs = Sensitivity(graph, calibration, images, config, network).of(items, progress)
    if items and not any(odol for each in costs.values() for odol in each.values()):
        raise nothing_found(config.odol)
    solution = allocate(costs, [found for found, _ in limits.values()])
    return Mixed(
        tuple(Chosen(i, solution.widths[key(i)], costs[key(i)]) for i in items),
        tuple(
            Spending(budget, Fraction(found.at(solution.widths), total))
            for budget, (found, total) in limits.items()
        ),
        solution.total,
        solution.gap,
        len(some),
        network.forwards,
        time.perf_counter() - start,
    )


# --- items and what they cost ---------------------------------------------------------------------


def key(item: Item) -> str:
    """A name that no other item has: a weight and a tensor could have one."""
    return f"{item.kind}:{item.name}"


def items_of(graph: FloatGraph, config: QuantConfig) -> tuple[Item, ...]:
    """What has a width to choose, weights first, each in the network's order."""
    found = [
        Item("weights", name, weight.size)
        for name, weight in graph.weights.items()
        if overriding(config, graph.call_sites[name][0].origin) is None
    ]
    if any(budget.kind == "bops" for budget in config.budgets):
        found += [
            Item("codes", bound[0].tensors[0], sum(codes(graph, g) for g in bound), bound)
            for bound in bundles(graph, config)
            if all(group.why in ("", "shared weight") for group in bound)
            and any(is_multiplied(graph, group) for group in bound)
        ]
    return tuple(found)


def is_multiplied(graph: FloatGraph, group: Group) -> bool:
    """Whether a convolution reads a tensor of the group."""
    return any(isinstance(r, Conv) for tensor in group.tensors for r in graph.readers[tensor])


def codes(graph: FloatGraph, group: Group) -> int:
    """Codes of a group's tensors, of one image."""
    return sum(int(np.prod(graph.producer[tensor].shape)) for tensor in group.tensors)


def bundles(graph: FloatGraph, config: QuantConfig) -> list[tuple[Group, ...]]:
    """Groups that `alike_under_shared_weights` gives one type, together, in order."""
    found = groups(graph, replace(config, sum_bits=None, widths=Widths()))
    at = {tensor: n for n, group in enumerate(found) for tensor in group.tensors}
    bundle = list(range(len(found)))
    for sites in graph.call_sites.values():
        for names in ([site.input for site in sites], [site.output for site in sites]):
            which = {bundle[at[name]] for name in names if name in at}
            bundle = [min(which) if b in which else b for b in bundle]
    return [
        tuple(g for g, b in zip(found, bundle, strict=True) if b == n) for n in sorted(set(bundle))
    ]


def limit(
    graph: FloatGraph, config: QuantConfig, items: Sequence[Item], budget: Budget
) -> tuple[Limit, int]:
    """A budget in integers, and the number of weights or products that its average is over."""
    loads = tuple(loads_of(graph, config, items, budget.kind))
    total = sum(load.count for load in loads)
    return Limit(loads, floor(budget.average * total)), total


def loads_of(
    graph: FloatGraph, config: QuantConfig, items: Sequence[Item], kind: BudgetKind
) -> Iterable[Load]:
    """What each weight adds to a budget."""
    of_weight = {item.name: key(item) for item in items if item.kind == "weights"}
    of_tensor = {t: key(item) for item in items for g in item.groups for t in g.tensors}
    fixed = {tensor: g.bits for g in groups(graph, config) for tensor in g.tensors}
    fixed |= {n.output: PIXELS.type.bits for n in graph.nodes if isinstance(n, Image)}
    for name, weight in graph.weights.items():
        own = of_weight.get(name) or weight_bits(graph, config, name)
        if kind == "weight-bits":
            yield Load(weight.size, (own,))
            continue
        for site in graph.call_sites[name]:
            read = of_tensor.get(site.input) or fixed[site.input]
            yield Load(macs(graph, site), (own, read))


def check_least(budget: Budget, found: Limit, total: int) -> None:
    """Refuse a budget that the least widths exceed."""
    names = {f for load in found.loads for f in load.factors if isinstance(f, str)}
    least = Fraction(found.at(dict.fromkeys(names, min(WIDTHS))), total)
    if least > budget.average:
        thousandths = Fraction(ceil(least * 1000), 1000)
        raise ModelError(
            f"Budget {budget} must be at least {float(thousandths):g}, which every layer at"
            f" {min(WIDTHS)} bits takes; raise it, or narrow what overrides keep."
        )


# --- sensitivity ----------------------------------------------------------------------------------


class Sensitivity:
    """ODOL of items alone, in a real-valued `network`."""

    def __init__(
        self,
        graph: FloatGraph,
        calibration: Calibration,
        images: NDArray[np.uint8],
        config: QuantConfig,
        network: Partial,
    ) -> None:
        self.graph = graph
        self.calibration = calibration
        self.network = network
        self.config = replace(config, method="lp") if config.method == "detptq" else config
        self.moments: dict[str, list[Moments]] = {}
        if config.compensate:
            self.moments = observe_inputs(graph, self.nearly_real(), images)

    def nearly_real(self) -> Scales:
        """Everything at the largest width."""
        wide = max(WIDTHS)
        config = replace(self.config, wbits=wide, abits=wide, sum_bits=None, overrides={})
        found = groups(self.graph, config)
        return choose(self.graph, replace(self.calibration, groups=found), config)

    def of(self, items: Sequence[Item], progress: Progress | None) -> Sensitivities:
        """{item: {bits: mean ODOL of an image}}."""
        costs = {}
        for number, item in enumerate(items, start=1):
            costs[key(item)] = self.curve(item)
            if progress is not None:
                progress(number, len(items))
        return costs

    def curve(self, item: Item) -> dict[int, float]:
        """{bits: ODOL} of one."""
        changes = {bits: self.change(item, bits) for bits in WIDTHS}
        nodes = self.network.after(changes[WIDTHS[0]])
        sums = dict.fromkeys(WIDTHS, 0.0)
        for batch in self.network.batches:
            kept: Values = {}
            for bits, change in changes.items():
                sums[bits] += float(self.network.run(batch, nodes, change, kept).sum())
        count = sum(batch.size for batch in self.network.batches)
        for bits, total in sums.items():
            if not isfinite(total):
                raise ModelError(
                    f"{item.name!r} at {bits} bits must leave the results finite on the calibration"
                    f" images, not {total}; give its layer smaller weights, or an override."
                )
        return {bits: total / count for bits, total in sums.items()}

    def change(self, item: Item, bits: int) -> Scales:
        """An item's codes at a width."""
        if item.kind == "weights":
            weight = self.graph.weights[item.name]
            found = weight_codes(weight, bits, self.config)
            if item.name in self.moments:
                better = rounded(weight, found, self.moments[item.name])
                found = replace(found, codes=better)
            return Scales({}, {item.name: found})
        grids: dict[str, Grid] = {}
        for group in item.groups:
            seen = self.calibration.seen[group.tensors[0]]
            grid = activation_grid(seen, bits, group.unsigned, self.config)
            grids |= dict.fromkeys(group.tensors, grid)
        return Scales(grids, {})
