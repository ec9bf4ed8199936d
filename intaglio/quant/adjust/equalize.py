"""Cross-layer equalisation: factors moved from one side of a tensor to the other.

Where a tensor is made by layers that pass a positive factor per channel on, and read by layers that
can divide by it, both may be rescaled without changing the network: relu(f * z) = f * relu(z). The
formula is that of Nagel et al., "Data-Free Quantization" (2019): f = sqrt(r2 / r1) makes the range
r1 of each channel on the makers' side equal to its range r2 on the readers' side.

What r1 is depends on where the factor goes. Into weights with one scale for all: r1 is the range of
a channel's weights, as in the paper. Into a table that has an entry for each channel anyway (of
weights with a scale per channel, of a level under a shared weight, of a norm or a pool by itself):
that costs nothing, and r1 is the range of the tensor's channel on the images, because the tensor
has one scale for all channels and the small ones lose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray

from intaglio.quant.capture.execute import run
from intaglio.quant.capture.graph import (
    Conv,
    FloatGraph,
    Floats,
    Lookup,
    MaxPool,
    Multiply,
    Node,
    Pad,
    Scaled,
    Upsample,
)
from intaglio.quant.capture.passes import per_input
from intaglio.quant.ranges.observe import batches, check_finite
from intaglio.quant.settings.config import QuantConfig

SWEEPS = 50  # over all links; most networks settle in a few
SETTLED = 1.01  # the largest factor of a sweep that is not worth another
LIMIT = 16.0  # of a channel's factor: one S must serve all channels, and leave M some bits


@dataclass(frozen=True)
class Link:
    """Tensors of which each channel takes one factor: a map, what MaxPool, Upsample and zero
    borders make of it, and what the other call sites of its readers' weights read.

    `makers` and `readers` are outputs of the `Scaled` nodes on either side; `weights` are those
    into whose rows the factor goes, because all their call sites make tensors of this link. Other
    makers take it into their `scale`.
    """

    tensors: tuple[str, ...]
    makers: tuple[str, ...]
    readers: tuple[str, ...]
    weights: tuple[str, ...]


def equalized(graph: FloatGraph, images: NDArray[np.uint8], config: QuantConfig) -> FloatGraph:
    """A simplified graph of the same function, whose channels need more equal ranges.

    `images` are uint8 (N, C, H, W). With scales that are powers of two, factors that go into a
    `scale` are powers of two as well. Factors are 1/16 to 16 and their geometric mean is 1.
    """
    found = links(graph, config.equalize_tables)
    if not found:
        return graph
    balance = Balance(graph, found, channel_ranges(graph, found, images), config)
    for _ in range(SWEEPS):
        if max([balance.step(link) for link in found]) < SETTLED:
            break
    factors = balance.factors
    if config.power_of_two:
        factors = {
            link: np.exp2(np.round(np.log2(f))) if into_tables(graph, link) else f
            for link, f in factors.items()
        }
    return rescaled(graph, factors)


# --- where factors can move ---------------------------------------------------------------------


def links(graph: FloatGraph, tables: bool = False) -> tuple[Link, ...]:
    """Every set of tensors that can be rescaled, in the order of their first tensors; with `tables`
    those too that a table makes, which becomes one for each channel."""
    parent = {node.output: node.output for node in graph.nodes}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for node in graph.nodes:
        if passes_factors(node):
            parent[root(node.output)] = root(node.inputs[0])
    for sites in graph.call_sites.values():
        for site in sites[1:]:
            parent[root(site.input)] = root(sites[0].input)
    members: dict[str, list[str]] = {}
    for name in parent:
        members.setdefault(root(name), []).append(name)
    fixed = {root(name) for name in immovable(graph, tables)}
    return tuple(link(graph, names) for key, names in members.items() if key not in fixed)


def link(graph: FloatGraph, tensors: list[str]) -> Link:
    """The link of these tensors."""
    makers = [graph.producer[t] for t in tensors]
    readers = [r for t in tensors for r in graph.readers[t] if isinstance(r, Scaled)]
    weights = {n.weight for n in makers if isinstance(n, Conv)}
    inside = [w for w in weights if all(s.output in tensors for s in graph.call_sites[w])]
    return Link(
        tuple(tensors),
        tuple(n.output for n in makers if isinstance(n, (Scaled, Lookup))),
        tuple(dict.fromkeys(r.output for r in readers)),
        tuple(sorted(inside)),
    )


def passes_factors(node: Node) -> bool:
    """Whether a factor of a channel goes through, to the same channel."""
    return isinstance(node, (MaxPool, Upsample)) or (isinstance(node, Pad) and node.value == 0)


def immovable(graph: FloatGraph, tables: bool = False) -> set[str]:
    """Tensors whose values must stay: of the image, results, and those that a node makes or reads
    which does not pass a factor on or cannot divide by it: sums, products, tables, joined channels,
    borders and clamps at other values than 0."""
    found = set(graph.outputs.values())
    for node in graph.nodes:
        if isinstance(node, Scaled):
            if not {node.lo, node.hi} <= {-inf, 0.0, inf}:
                found.add(node.output)
            if isinstance(node, Conv) and (node.pad_value is not None or mixed_groups(graph, node)):
                found.add(node.input)
            if isinstance(node, Multiply):  # both may be of one link
                found.update(node.inputs)
        elif tables and isinstance(node, Lookup):
            found.add(node.input)
        elif not passes_factors(node):
            found.update((node.output, *node.inputs))
    return found


def mixed_groups(graph: FloatGraph, node: Conv) -> bool:
    """Whether a weight's columns are other input channels in another of its call sites."""
    return len({site.groups for site in graph.call_sites[node.weight]}) > 1


def into_tables(graph: FloatGraph, link: Link) -> bool:
    """Whether a factor of the link goes into the `scale` of a node, on either side."""
    nodes = [graph.producer[name] for name in (*link.makers, *link.readers)]
    convs = [graph.producer[name] for name in link.makers]
    shared = any(isinstance(n, Conv) and n.weight not in link.weights for n in convs)
    return shared or not all(isinstance(n, Conv) for n in nodes)


def rescaled(graph: FloatGraph, factors: Mapping[Link, Floats]) -> FloatGraph:
    """The graph with every tensor of a link multiplied by its factors (C,), and the layers that
    read it dividing by them."""
    weights, nodes = dict(graph.weights), dict(graph.producer)
    for link, f in factors.items():
        for name in link.weights:
            weights[name] = weights[name] * f[:, None, None, None]
        for name in link.makers:
            node = nodes[name]
            if isinstance(node, Lookup):
                nodes[name] = multiplied(node, f)
                continue
            assert isinstance(node, Scaled)
            inside = isinstance(node, Conv) and node.weight in link.weights
            scale = node.scale if inside else node.scale * f
            nodes[name] = replace(node, scale=scale, shift=node.shift * f)
        for name in link.readers:
            node = nodes[name]
            assert isinstance(node, Scaled)
            if not isinstance(node, Conv):
                nodes[name] = replace(node, scale=node.scale / f)
        for conv in one_site_each(graph, link):
            weights[conv.weight] = weights[conv.weight] / per_input(
                f, weights[conv.weight], conv.groups
            )
    return replace(graph, nodes=tuple(nodes[n.output] for n in graph.nodes), weights=weights)


def multiplied(node: Lookup, f: Floats) -> Lookup:
    """A table times (C,) factors: one for each channel."""
    function, each = node.function, torch.from_numpy(f)[:, None, None]
    return replace(node, function=lambda x: function(x) * each.to(x), by_channel=True)


def one_site_each(graph: FloatGraph, link: Link) -> Iterable[Conv]:
    """A call site of each weight that reads the link."""
    readers = [graph.producer[name] for name in link.readers]
    return {node.weight: node for node in readers if isinstance(node, Conv)}.values()


# --- how much is moved --------------------------------------------------------------------------


def channel_ranges(
    graph: FloatGraph, found: Iterable[Link], images: NDArray[np.uint8]
) -> dict[str, Floats]:
    """The largest |x| (C,) that each maker's tensor has on the images, per channel."""
    wanted = {name for link in found for name in link.makers}
    ranges = {name: np.zeros(graph.producer[name].shape[0]) for name in wanted}

    def visit(node: Node, value: torch.Tensor) -> torch.Tensor:
        if node.output in wanted:
            check_finite(node, float(value.amin()), float(value.amax()))
            largest = value.abs().amax(dim=(0, 2, 3)).double().numpy()
            ranges[node.output] = np.maximum(ranges[node.output], largest)
        return value

    with torch.no_grad():
        for pixels in batches(images, torch.float32):
            run(graph, pixels, visit=visit)
    return ranges


class Balance:
    """The factors of the links as they grow, and the ranges that they leave."""

    def __init__(
        self,
        graph: FloatGraph,
        found: Iterable[Link],
        ranges: Mapping[str, Floats],
        config: QuantConfig,
    ) -> None:
        self.graph = graph
        self.per_channel = config.by_channel
        self.sizes = {name: np.abs(w).max(axis=(2, 3)) for name, w in graph.weights.items()}
        self.ranges = dict(ranges)
        self.factors = {link: np.ones(graph.producer[link.tensors[0]].shape[0]) for link in found}

    def step(self, link: Link) -> float:
        """Equalise one link; how far its largest factor moved, at least 1.

        A channel that is 0 on one side keeps its factor.
        """
        made, read = self.made(link), self.read(link)
        alive = (made > 0) & (read > 0)
        if not alive.any():
            return 1.0
        before = self.factors[link]
        wanted = np.log(before[alive]) + np.log(read[alive] / made[alive]) / 2
        after = before.copy()
        after[alive] = np.exp(wanted - wanted.mean()).clip(1 / LIMIT, LIMIT)
        self.factors[link] = after
        self.rescale(link, after / before)
        return float(np.exp(np.abs(np.log(after / before)).max()))

    def made(self, link: Link) -> Floats:
        """Ranges (C,) on the makers' side, each maker's largest being 1: the worst of them."""
        found = []
        for name in link.makers:
            node = self.graph.producer[name]
            bound = isinstance(node, Conv) and node.weight in link.weights and not self.per_channel
            if isinstance(node, Conv) and bound:
                found.append(relative(self.sizes[node.weight].max(axis=1)))
            else:
                found.append(relative(self.ranges[name]))
        worst: Floats = np.max(found, axis=0)
        return worst

    def read(self, link: Link) -> Floats:
        """Ranges (C,) on the readers' side, each reader's largest being 1: the worst of them.

        With a scale per channel each row counts relative to its own largest weight. What reads one
        channel only and scales it by itself does not care.
        """
        found = []
        for name in link.readers:
            node = self.graph.producer[name]
            if not isinstance(node, Conv):
                found.append(np.ones(self.graph.producer[node.inputs[0]].shape[0]))
                continue
            size = self.sizes[node.weight]
            if self.per_channel:
                size = relative(size, axis=1)
            rows = size.reshape(node.groups, -1, size.shape[1])
            found.append(relative(rows.max(axis=1).reshape(-1)))
        worst: Floats = np.max(found, axis=0)
        return worst

    def rescale(self, link: Link, f: Floats) -> None:
        """What one more factor does to the ranges."""
        for name in link.weights:
            self.sizes[name] = self.sizes[name] * f[:, None]
        for name in link.makers:
            self.ranges[name] = self.ranges[name] * f
        for conv in one_site_each(self.graph, link):
            size = self.sizes[conv.weight]
            columns = per_input(f, size[:, :, None, None], conv.groups)
            self.sizes[conv.weight] = size / columns[:, :, 0, 0]


def relative(ranges: Floats, axis: int | None = None) -> Floats:
    """Over the largest; zeros stay."""
    largest = ranges.max(axis=axis, keepdims=True, initial=0.0)
    return ranges / np.where(largest > 0, largest, 1.0)
