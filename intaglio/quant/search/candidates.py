"""What DetPTQ chooses, and from what: its steps, and the codes that each p makes in each."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from intaglio.quant.adjust.compensate import Moments, observe_inputs, rounded
from intaglio.quant.capture.graph import Conv, FloatGraph, Image
from intaglio.quant.ranges.grids import HEADROOM_BITS, WeightCodes, activation_grid, weight_codes
from intaglio.quant.ranges.groups import Group, weight_bits
from intaglio.quant.ranges.scales import Calibration, Scales, choose
from intaglio.quant.settings.config import QuantConfig

Kind = Literal["weights", "codes"]
Powers = tuple[float, ...]


@dataclass(frozen=True)
class Step:
    """One choice: the weight called `name`, or the grid of a group whose first tensor it is."""

    kind: Kind
    name: str
    group: Group | None = None


def plan(graph: FloatGraph, calibration: Calibration) -> tuple[Step, ...]:
    """Every weight and every group of tensors, in the network's order: a weight at the first of its
    call sites. Groups whose codes are so wide that no range is searched are left out."""
    group_of = {tensor: group for group in calibration.groups for tensor in group.tensors}
    steps: dict[tuple[Kind, str], Step] = {}
    for node in graph.nodes:
        if isinstance(node, Conv):
            steps.setdefault(("weights", node.weight), Step("weights", node.weight))
        group = group_of.get(node.output)
        if group is not None and group.bits < HEADROOM_BITS:
            name = group.tensors[0]
            steps.setdefault(("codes", name), Step("codes", name, group))
    return tuple(steps.values())


class Candidates:
    """The scales that each of `powers` gives, from one calibration.

    `start` is the whole network's with `config.p`. With `config.compensate` weights are rounded for
    the inputs seen in the start's network, so that a scale has one set of codes throughout.
    """

    def __init__(
        self,
        graph: FloatGraph,
        calibration: Calibration,
        config: QuantConfig,
        images: NDArray[np.uint8],
    ) -> None:
        self.graph = graph
        self.calibration = calibration
        self.config = config
        self.powers: Powers = tuple(sorted({*config.powers, config.p}))
        self.moments: dict[str, list[Moments]] = {}
        self.start = choose(graph, calibration, self.plain(config.p))
        if config.compensate:
            self.moments = observe_inputs(graph, self.start, images)
            self.start = self.compensated(self.start)

    def plain(self, p: float) -> QuantConfig:
        """The settings of a search by one p."""
        return replace(self.config, method="lp", p=p)

    def untouched(self) -> Scales:
        """The scales that are the same whatever p: of the image and of the widest tensors."""
        image = next(node.output for node in self.graph.nodes if isinstance(node, Image))
        wide = [g.tensors for g in self.calibration.groups if g.bits >= HEADROOM_BITS]
        names = [image, *(name for names in wide for name in names)]
        return Scales({name: self.start.grids[name] for name in names}, {})

    def change(self, step: Step, p: float) -> Scales:
        """What one p makes of a step."""
        return self.compensated(self.nearest(step, p))

    def distinct(self, step: Step) -> dict[Powers, Scales]:
        """The different ones, each under all the p that make it."""
        found: dict[Hashable, tuple[Powers, Scales]] = {}
        for p in self.powers:
            scales = self.nearest(step, p)
            key = (
                *scales.grids.values(),
                *((c.codes.tobytes(), c.scale.tobytes()) for c in scales.weights.values()),
            )
            powers, _ = found.get(key, ((), scales))
            found[key] = ((*powers, p), scales)
        return {powers: self.compensated(scales) for powers, scales in found.values()}

    def nearest(self, step: Step, p: float) -> Scales:
        """Scales of a step, with weights rounded to the nearest code."""
        config = self.plain(p)
        if step.group is None:
            bits = weight_bits(self.graph, config, step.name)
            return Scales(
                {}, {step.name: weight_codes(self.graph.weights[step.name], bits, config)}
            )
        seen = self.calibration.seen[step.name]
        grid = activation_grid(seen, step.group.bits, step.group.unsigned, config)
        return Scales(dict.fromkeys(step.group.tensors, grid), {})

    def compensated(self, scales: Scales) -> Scales:
        """With weights rounded anew for the inputs seen."""

        def anew(name: str, codes: WeightCodes) -> WeightCodes:
            moments = self.moments.get(name)
            if moments is None:
                return codes
            return replace(codes, codes=rounded(self.graph.weights[name], codes, moments))

        return replace(scales, weights={n: anew(n, codes) for n, codes in scales.weights.items()})
