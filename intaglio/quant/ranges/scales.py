"""The quantisation parameters of a whole graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from intaglio.fixed import IntType
from intaglio.quant.capture.graph import FloatGraph, Image, Lookup
from intaglio.quant.ranges.grids import Grid, WeightCodes, activation_grid, weight_codes
from intaglio.quant.ranges.groups import Group, groups, weight_bits
from intaglio.quant.ranges.observe import BINS, Histogram, observe
from intaglio.quant.settings.config import QuantConfig
from intaglio.system.steps import Tell, quiet

PIXELS = Grid(1.0, 0, IntType(8, signed=False))


@dataclass(frozen=True, eq=False)
class Scales:
    """A grid for every tensor and codes for every weight, by name."""

    grids: Mapping[str, Grid]
    weights: Mapping[str, WeightCodes]


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was seen of each group of tensors; enough to choose scales again by other methods."""

    groups: tuple[Group, ...]
    seen: Mapping[str, Histogram]


def calibrate(
    graph: FloatGraph, images: NDArray[np.uint8], config: QuantConfig, tell: Tell = quiet
) -> Calibration:
    """Group the tensors and observe them on uint8 images (N, C, H, W)."""
    found = groups(graph, config)
    group_of = {tensor: group.tensors[0] for group in found for tensor in group.read}
    seen = observe(graph, images, group_of, tell)
    for group in found:
        readers = [r for t in group.read for r in graph.readers[t] if r.output not in group.tensors]
        match readers:
            case [Lookup() as only] if not set(group.tensors) & set(graph.outputs.values()):
                name = group.tensors[0]
                one = averaged(only, seen[name]) if only.by_channel else only.function
                seen[name] = replace(seen[name], through=one)
    return Calibration(found, seen)


def averaged(table: Lookup, seen: Histogram) -> Callable[[torch.Tensor], torch.Tensor]:
    """One function in the place of a table's for each channel: it rises as much as they do on
    average, up or down, so that what lies between two values of it is their mean difference."""
    edges = torch.linspace(seen.lo, seen.hi, BINS + 1, dtype=torch.float64)
    rises = table.tables(edges).diff(dim=1).abs().mean(dim=0)
    heights = torch.cat((torch.zeros(1, dtype=torch.float64), torch.cumsum(rises, 0)))
    step = max((seen.hi - seen.lo) / BINS, 1e-30)

    def through(x: torch.Tensor) -> torch.Tensor:
        place = ((x - seen.lo) / step).clamp(0, BINS)
        at = place.floor().clamp(max=BINS - 1).long()
        found: torch.Tensor = heights[at] + (place - at) * rises[at]
        return found

    return through


def choose(
    graph: FloatGraph, calibration: Calibration, config: QuantConfig, tell: Tell = quiet
) -> Scales:
    """Scales by `config.method`, from one calibration."""
    image = next(node for node in graph.nodes if isinstance(node, Image))
    grids = {image.output: PIXELS}
    for number, group in enumerate(calibration.groups):
        tell("tensors", number, len(calibration.groups))
        seen = calibration.seen[group.tensors[0]]
        grid = activation_grid(seen, group.bits, group.unsigned, config)
        grids |= dict.fromkeys(group.tensors, grid)
    weights = {}
    for number, (name, weight) in enumerate(graph.weights.items()):
        tell("weights", number, len(graph.weights))
        weights[name] = weight_codes(weight, weight_bits(graph, config, name), config)
    return Scales(grids, weights)
