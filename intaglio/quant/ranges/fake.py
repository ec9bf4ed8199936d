"""The fake-quantised network: real numbers, rounded where the Program rounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from intaglio.fixed import Rounding
from intaglio.quant.capture.execute import Visit, run
from intaglio.quant.capture.graph import PASSING, Add, FloatGraph, Image, Node, Scaled
from intaglio.quant.ranges.grids import Grid
from intaglio.quant.ranges.observe import batches
from intaglio.quant.ranges.scales import Scales


@dataclass(frozen=True)
class Rules:
    """How a Program rounds. DOUBLE rounds first at bit 31 of the product, which leaves
    `rests`[name] bits behind the point, one value for each channel or one for all."""

    rounding: Rounding = "RND"
    rests: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    def applied(self, name: str, value: torch.Tensor, grid: Grid) -> torch.Tensor:
        """The value on its grid, by a rule that minds signs or parity: before the zero point."""
        codes = value / grid.scale
        if self.rounding == "RND_CONV":
            near = torch.round(codes.float()).to(value)  # a product in float32 rests on its ties
        else:
            if self.rounding == "DOUBLE":
                one = torch.from_numpy(np.ldexp(1.0, self.rests[name])).to(value)[:, None, None]
                codes = torch.floor(codes * one + 0.5) / one
            near = torch.sign(codes) * torch.floor(codes.abs() + 0.5)
        return grid.real((near + grid.zero_point).clamp(grid.type.lo, grid.type.hi))


class FakeQuant:
    """uint8 images (N, C, H, W) to real-valued result maps (N, c, h, w), in the graph's order.

    Weights are codes times scale and every tensor is rounded to its grid at exactly the points
    where the Program requantises, by `rules`: halves up without. Between them the arithmetic is
    torch's in `dtype`, where the Program has integers and multipliers M / 2^S; a code can differ
    where the real value lies within that difference of a tie.
    """

    def __init__(
        self,
        graph: FloatGraph,
        scales: Scales,
        dtype: torch.dtype = torch.float32,
        rules: Rules | None = None,
    ) -> None:
        self.graph = graph
        self.scales = scales
        self.dtype = dtype
        self.rules = rules or Rules()
        self.weights = {n: torch.from_numpy(w.real).to(dtype) for n, w in scales.weights.items()}

    def __call__(self, images: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
        """Results of all images."""
        parts = []
        with torch.no_grad():
            for pixels in batches(images, self.dtype):
                parts.append([r.numpy() for r in self.run(pixels).values()])
        return [np.concatenate(maps).astype(np.float64) for maps in zip(*parts, strict=True)]

    def run(self, pixels: torch.Tensor, visit: Visit | None = None) -> dict[str, torch.Tensor]:
        """Results by name; `visit` sees each value after it was rounded."""

        def on_grid(node: Node, value: torch.Tensor) -> torch.Tensor:
            value = self.rounded(node, value)
            return value if visit is None else visit(node, value)

        return run(self.graph, pixels, weights=self.weights, visit=on_grid)

    def rounded(self, node: Node, value: torch.Tensor) -> torch.Tensor:
        """The value brought to its grid."""
        if not isinstance(node, Scaled | Add) or self.rules.rounding in ("RND", "TRN"):
            return rounded(node, value, self.scales.grids)
        return self.rules.applied(node.output, value, self.scales.grids[node.output])

    def codes(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.int64]]:
        """Integer codes (N, C, H, W) of every tensor, by the name it has in the Program."""
        return self.codes_given(images, {})

    def codes_given(
        self, images: NDArray[np.uint8], given: Mapping[str, NDArray[np.integer[Any]]]
    ) -> dict[str, NDArray[np.int64]]:
        """As `codes`, but a tensor in `given` reads as those codes for the nodes after it."""
        found: dict[str, list[NDArray[np.int64]]] = {}
        first = 0

        def keep(node: Node, value: torch.Tensor) -> torch.Tensor:
            grid = self.scales.grids[node.output]
            codes = grid.codes(value).to(torch.int64).numpy()
            found.setdefault(node.output, []).append(codes)
            if node.output not in given:
                return value
            part = given[node.output][first : first + len(codes)]
            return grid.real(torch.from_numpy(part).to(value.dtype))

        with torch.no_grad():
            for pixels in batches(images, self.dtype):
                self.run(pixels, keep)
                first += len(pixels)
        return {name: np.concatenate(parts) for name, parts in found.items()}


def rounded(node: Node, value: torch.Tensor, grids: Mapping[str, Grid]) -> torch.Tensor:
    """The value of a node brought to its grid; nodes that pass codes on leave it there."""
    if isinstance(node, (Image, *PASSING)):
        return value
    grid = grids[node.output]
    return grid.real(grid.codes(value))
