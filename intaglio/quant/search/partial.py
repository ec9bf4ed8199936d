"""A network that is quantised step by step, of which a step re-runs only what depends on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray

from intaglio.quant.capture.execute import clamped, compute, tensors
from intaglio.quant.capture.graph import Conv, FloatGraph, Image, Node
from intaglio.quant.ranges.fake import rounded
from intaglio.quant.ranges.grids import Grid, WeightCodes
from intaglio.quant.ranges.scales import Scales

BATCH = 4  # images that are run, and whose means are corrected, together

Values = dict[str, torch.Tensor]
Loss = Callable[[Sequence[torch.Tensor]], torch.Tensor]
MakeLoss = Callable[[Sequence[torch.Tensor]], Loss]


@dataclass(frozen=True, eq=False)
class Batch:
    """Some images: `means` of the real-valued convolutions before their clamps, the `loss` of
    result maps, and those `values` of the network that are up to date."""

    size: int
    means: Values
    loss: Loss
    values: Values


class Partial:
    """The network of `graph` on uint8 images (N, C, H, W), in float32; real-valued at first.

    What has a grid or weight codes is quantised, the rest real. `make_loss` turns the real-valued
    network's result maps of a batch into its loss: result maps in, one number per image out. With
    `correct_bias` every convolution's mean is restored on each batch, as `correct` does for the
    Program on all images.

    `forwards` counts what was run: multiply-accumulates over those of the whole network, times
    images.
    """

    def __init__(
        self,
        graph: FloatGraph,
        images: NDArray[np.uint8],
        make_loss: MakeLoss,
        *,
        correct_bias: bool,
        device: torch.device,
    ) -> None:
        self.graph = graph
        self.correct_bias = correct_bias
        self.device = device
        self.real = {n: w.to(device) for n, w in tensors(graph, torch.float32).items()}
        self.weights = dict(self.real)
        self.grids: dict[str, Grid] = {}
        self.macs = {node.output: macs(graph, node) for node in graph.nodes}
        self.forwards = 0.0
        self.batches = [
            self.start(images[first : first + BATCH], make_loss)
            for first in range(0, len(images), BATCH)
        ]

    def start(self, images: NDArray[np.uint8], make_loss: MakeLoss) -> Batch:
        """Run the real-valued network for its means and result maps."""
        pixels = torch.from_numpy(np.ascontiguousarray(images)).float().to(self.device)
        values: Values = {}
        means: Values = {}
        for node in self.graph.nodes:
            if isinstance(node, Image):
                values[node.output] = pixels
                continue
            value = compute(opened(node), [values[name] for name in node.inputs], self.real)
            if isinstance(node, Conv):
                means[node.output] = mean(value)
                value = clamped(node, value)
            values[node.output] = value
        self.count(self.graph.nodes, len(pixels))
        loss = make_loss([values[t] for t in self.graph.outputs.values()])
        return Batch(len(pixels), means, loss, values)

    def become(self, scales: Scales) -> None:
        """Quantise what has scales, and nothing else."""
        self.grids = dict(scales.grids)
        self.weights = {**self.real, **self.tensors(scales.weights)}
        for batch in self.batches:
            self.forget(batch, self.graph.nodes)

    def accept(self, change: Scales) -> None:
        """Quantise what a change has scales for as well."""
        self.grids.update(change.grids)
        self.weights.update(self.tensors(change.weights))
        for batch in self.batches:
            self.forget(batch, self.after(change))

    def losses(self) -> torch.Tensor:
        """(N,) of the network as it is."""
        return torch.cat([self.run(batch, (), Scales({}, {}), {}) for batch in self.batches])

    def after(self, change: Scales) -> tuple[Node, ...]:
        """The nodes whose value a change alters, in order."""
        altered = set(change.grids)
        found = []
        for node in self.graph.nodes:
            own = isinstance(node, Conv) and node.weight in change.weights
            if own or node.output in altered or any(name in altered for name in node.inputs):
                altered.add(node.output)
                found.append(node)
        return tuple(found)

    def run(
        self, batch: Batch, nodes: Sequence[Node], change: Scales, kept: Values
    ) -> torch.Tensor:
        """The losses (n,) with a change that alters `nodes`.

        `kept` holds, from one change of the same grids to the next, the values that are rounded to
        them: these differ in nothing else.
        """
        altered = {node.output for node in nodes}
        results = self.graph.outputs.values()
        read = [name for node in nodes for name in node.inputs]
        self.fill(batch, {name for name in (*read, *results) if name not in altered})
        grids = {**self.grids, **change.grids}
        weights = {**self.weights, **self.tensors(change.weights)}
        values = {n: v for n, v in batch.values.items() if n not in altered}
        for node in nodes:
            first = node.output in change.grids and altered.isdisjoint(node.inputs)
            if first and node.output in kept:
                value = kept[node.output]
            else:
                value = self.value(node, values, weights, batch.means)
                self.count([node], batch.size)
            if first:
                kept[node.output] = value
            values[node.output] = on_grid(node, value, grids)
        return batch.loss([values[t] for t in results])

    def fill(self, batch: Batch, names: set[str]) -> None:
        """Bring the values called `names` up to date."""
        needed: list[Node] = []
        missing = names - batch.values.keys()
        for node in reversed(self.graph.nodes):
            if node.output in missing:
                needed.append(node)
                missing.update(set(node.inputs) - batch.values.keys())
        for node in reversed(needed):
            value = self.value(node, batch.values, self.weights, batch.means)
            batch.values[node.output] = on_grid(node, value, self.grids)
        self.count(needed, batch.size)

    def value(
        self, node: Node, values: Values, weights: Mapping[str, torch.Tensor], means: Values
    ) -> torch.Tensor:
        """A node's value before it is rounded."""
        inputs = [values[name] for name in node.inputs]
        if not (self.correct_bias and isinstance(node, Conv)):
            return compute(node, inputs, weights)
        value = compute(opened(node), inputs, weights)
        return clamped(node, value + (means[node.output] - mean(value)))

    def forget(self, batch: Batch, nodes: Iterable[Node]) -> None:
        """Drop values that are out of date."""
        for node in nodes:
            if not isinstance(node, Image):
                batch.values.pop(node.output, None)

    def tensors(self, weights: Mapping[str, WeightCodes]) -> Values:
        """What weights' codes stand for."""
        return {n: torch.from_numpy(c.real).float().to(self.device) for n, c in weights.items()}

    def count(self, nodes: Iterable[Node], images: int) -> None:
        """Add to `forwards`."""
        done = sum(self.macs[node.output] for node in nodes)
        self.forwards += images * done / max(sum(self.macs.values()), 1)


def macs(graph: FloatGraph, node: Node) -> int:
    """Multiply-accumulates of a convolution on one image; other nodes count for nothing."""
    if not isinstance(node, Conv):
        return 0
    _, h, w = node.shape
    return graph.weights[node.weight].size * h * w


def on_grid(node: Node, value: torch.Tensor, grids: Mapping[str, Grid]) -> torch.Tensor:
    """A node's value rounded, if it has a grid yet."""
    return rounded(node, value, grids) if node.output in grids else value


def opened(node: Node) -> Node:
    """A convolution without its clamp; any other node as it is."""
    return replace(node, lo=-inf, hi=inf) if isinstance(node, Conv) else node


def mean(value: torch.Tensor) -> torch.Tensor:
    """Each channel's mean (1, C, 1, 1)."""
    return value.double().mean(dim=(0, 2, 3), keepdim=True).to(value.dtype)
