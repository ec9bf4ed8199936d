"""What noise in each channel of each tensor costs at the results, by gradients of random signs.

Rounding adds an error of variance s^2 / 12 to every value. To first order the error of a result is
the sum of these, each through its derivative: for random signs v the mean of (d v.y / d x)^2 is the
sum over the result's values y of (dy / dx)^2 (Hutchinson's estimate). No label is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from intaglio.quant.capture.execute import compute, tensors
from intaglio.quant.capture.graph import Add, FloatGraph, Floats, Image, Lookup, Node, Scaled
from intaglio.quant.ranges.observe import check_finite
from intaglio.system.steps import Tell, quiet

PARTS = (1.0, 0.8, 0.64, 0.5, 0.4, 0.32, 0.25, 0.2)  # of the largest |x|: ends that are tried
LEVELS = 256.0  # of the codes for which these ends are chosen


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """What is seen of tensors on the images.

    costs   of those that are rounded, (C,): the relative squared error of the results, summed over
            them, by a variance of 1 in every value of the channel;
    ends    of the same, (2, C): how far codes of the channel's own would best reach below 0 and
            above, with the least squared error (of what a table makes of them, where a table alone
            reads them);
    powers  of all, (C,): variances over images and positions.
    """

    costs: Mapping[str, Floats]
    ends: Mapping[str, Floats]
    powers: Mapping[str, Floats]


def is_rounded(node: Node) -> bool:
    """Whether a node makes codes of its own."""
    return isinstance(node, (Scaled, Add, Lookup))


def sensitivity(graph: FloatGraph, images: NDArray[np.uint8], tell: Tell = quiet) -> Sensitivity:
    """Measured on uint8 images (N, C, H, W), one by one, each twice."""
    seen = Seen(graph)
    for visit in (seen.gradients, seen.clipping):
        for number, image in enumerate(images):
            tell("observing images", number, len(images))
            visit(torch.from_numpy(image[None]).float())
    return seen.found(len(images))


class Seen:
    """Sums over images."""

    def __init__(self, graph: FloatGraph) -> None:
        self.graph = graph
        self.weights = tensors(graph, torch.float32)
        self.generator = torch.Generator().manual_seed(0)
        self.names = [node.output for node in graph.nodes if is_rounded(node)]
        sizes = {node.output: node.shape[0] for node in graph.nodes}
        self.costs = {name: np.zeros(sizes[name]) for name in self.names}
        self.largest = {name: np.zeros((2, sizes[name])) for name in self.names}
        self.clipped = {name: np.zeros((2, len(PARTS), sizes[name])) for name in self.names}
        self.moments = {name: np.zeros((2, count)) for name, count in sizes.items()}

    def gradients(self, pixels: torch.Tensor) -> None:
        """One image's, and how far values reach."""
        values = self.forward(pixels)
        total = torch.zeros(())
        for tensor in self.graph.outputs.values():
            y = values[tensor]
            sign = torch.randint(0, 2, y.shape, generator=self.generator).float() * 2 - 1
            total = total + (sign * y).sum() / y.detach().norm().clamp(min=1e-6)
        kept = [values[name] for name in self.names]
        found = torch.autograd.grad(total, kept, allow_unused=True)
        for name, value, gradient in zip(self.names, kept, found, strict=True):
            if gradient is not None:
                self.costs[name] += per_channel(gradient.double().square().sum(dim=(0, 2, 3)))
            low, high = (per_channel(end) for end in ends(value.detach()))
            check_finite(self.graph.producer[name], float(-low.max()), float(high.max()))
            self.largest[name] = np.maximum(self.largest[name], np.stack([low, high]))
        for name, value in values.items():
            x = value.detach().double()
            self.moments[name] += [per_channel(v.mean(dim=(0, 2, 3))) for v in (x, x.square())]

    @torch.no_grad()
    def clipping(self, pixels: torch.Tensor) -> None:
        """What is lost on one image by codes that do not reach so far."""
        values = self.forward(pixels)
        for name in self.names:
            reader = self.graph.only_reader(name)
            through = reader.function if isinstance(reader, Lookup) else None
            x, reach = values[name], torch.from_numpy(self.largest[name]).float()
            exact = x if through is None else through(x)
            for side, end in enumerate(reach[:, :, None, None]):
                for n, part in enumerate(PARTS):
                    near = x.clamp(min=-part * end) if side == 0 else x.clamp(max=part * end)
                    near = near if through is None else through(near)
                    error = (exact - near).double().square().mean(dim=(0, 2, 3))
                    self.clipped[name][side, n] += per_channel(error)

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every tensor of one image, with a gradient to follow from the first rounded one on."""
        values: dict[str, torch.Tensor] = {}
        for node in self.graph.nodes:
            if isinstance(node, Image):
                values[node.output] = pixels
                continue
            value = compute(node, [values[name] for name in node.inputs], self.weights)
            if torch.is_grad_enabled() and is_rounded(node) and not value.requires_grad:
                value = value.detach().requires_grad_()
            values[node.output] = value
        return values

    def found(self, count: int) -> Sensitivity:
        """Of so many images."""
        best = {}
        for name, reach in self.largest.items():
            parts = np.array(PARTS)[None, :, None] * reach[:, None]
            # Both ends by themselves: the step is what the one end, and all of the other, take.
            spans = parts + reach[::-1, None]
            error = self.clipped[name] / count + (spans / LEVELS) ** 2 / 12
            best[name] = reach * np.array(PARTS)[error.argmin(axis=1)]
        costs = {name: total / count for name, total in self.costs.items()}
        powers = {
            name: np.maximum(square / count - (mean / count) ** 2, 0.0)
            for name, (mean, square) in self.moments.items()
        }
        return Sensitivity(costs, best, powers)


def ends(value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How far a map's channels reach below 0 and above: (C,) each, from 0 on."""
    low, high = value.amin(dim=(0, 2, 3)), value.amax(dim=(0, 2, 3))
    return (-low).clamp(min=0), high.clamp(min=0)


def per_channel(values: torch.Tensor) -> Floats:
    """As an array of float64."""
    found: Floats = values.double().numpy()
    return found
