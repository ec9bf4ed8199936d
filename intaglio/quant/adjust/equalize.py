"""Cross-layer equalisation: factors moved from one side of a tensor to the other.

Where they can move, and how the function stays, is said in `links`. The formula is that of Nagel et
al., "Data-Free Quantization" (2019): f = sqrt(r2 / r1) makes the range r1 of each channel on the
makers' side equal to its range r2 on the readers' side. `noise` has another rule, which says what
the factors cost at the results.

What r1 is depends on where the factor goes. Into weights with one scale for all: r1 is the range of
a channel's weights, as in the paper. Into a table that has an entry for each channel anyway (of
weights with a scale per channel, of a level under a shared weight, of a norm or a pool by itself):
that costs nothing, and r1 is the range of the tensor's channel on the images, because the tensor
has one scale for all channels and the small ones lose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from intaglio.quant.adjust.links import (
    LIMIT,
    Link,
    into_tables,
    links,
    one_site_each,
    rescaled,
)
from intaglio.quant.adjust.noise import factors_by_noise
from intaglio.quant.adjust.sensitivity import sensitivity
from intaglio.quant.capture.execute import run
from intaglio.quant.capture.graph import Conv, FloatGraph, Floats, Lookup, Node, Scaled
from intaglio.quant.capture.passes import per_input
from intaglio.quant.ranges.observe import batches, check_finite
from intaglio.quant.settings.config import QuantConfig
from intaglio.system.steps import Tell, quiet

SWEEPS = 50  # over all links; most networks settle in a few
SETTLED = 1.01  # the largest factor of a sweep that is not worth another


def equalized(
    graph: FloatGraph, images: NDArray[np.uint8], config: QuantConfig, tell: Tell = quiet
) -> FloatGraph:
    """A simplified graph of the same function, whose channels need more equal ranges, or which
    rounding costs less.

    `images` are uint8 (N, C, H, W). With scales that are powers of two, factors that go into a
    `scale` are powers of two as well. Factors are 1/16 to 16.
    """
    found = links(graph, config.equalize_tables, joins=config.equalize_noise)
    if not found:
        return graph
    if config.equalize_noise:
        measured = sensitivity(graph, images, tell)
        factors = factors_by_noise(graph, found, measured, config, tell)
    else:
        factors = balanced(graph, found, images, config)
    if config.power_of_two:
        factors = {
            link: np.exp2(np.round(np.log2(f))) if into_tables(graph, link) else f
            for link, f in factors.items()
        }
    return rescaled(graph, factors)


def balanced(
    graph: FloatGraph, found: Iterable[Link], images: NDArray[np.uint8], config: QuantConfig
) -> dict[Link, Floats]:
    """Factors that make ranges equal; their geometric mean in a link is 1."""
    balance = Balance(graph, found, channel_ranges(graph, images), config)
    for _ in range(SWEEPS):
        if max([balance.step(link) for link in found]) < SETTLED:
            break
    return balance.factors


# --- how much is moved --------------------------------------------------------------------------


def channel_ranges(graph: FloatGraph, images: NDArray[np.uint8]) -> dict[str, Floats]:
    """The largest |x| (C,) that each channel of what layers and tables make has on the images."""
    ranges = {
        node.output: np.zeros(node.shape[0])
        for node in graph.nodes
        if isinstance(node, (Scaled, Lookup))
    }

    def visit(node: Node, value: torch.Tensor) -> torch.Tensor:
        if node.output in ranges:
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
        self.factors = {link: np.ones(link.size) for link in found}

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
        """Ranges (size,) on the makers' side, each maker's largest being 1: the worst of them."""
        worst = np.zeros(link.size + 1)
        for name in link.makers:
            node, found = self.graph.producer[name], self.ranges[name]
            if isinstance(node, Conv) and node.weight in link.weights and not self.per_channel:
                found = self.sizes[node.weight].max(axis=1)
            np.maximum.at(worst, link.places[name], relative(found))
        return worst[:-1]

    def read(self, link: Link) -> Floats:
        """Ranges (size,) on the readers' side, each reader's largest being 1: the worst of them.

        With a scale per channel each row counts relative to its own largest weight. What reads one
        channel only and scales it by itself does not care.
        """
        worst = np.zeros(link.size + 1)
        for name in link.readers:
            node = self.graph.producer[name]
            assert isinstance(node, (Scaled, Lookup))
            found = np.ones(self.graph.producer[node.input].shape[0])
            if isinstance(node, Conv):
                size = self.sizes[node.weight]
                if self.per_channel:
                    size = relative(size, axis=1)
                rows = size.reshape(node.groups, -1, size.shape[1])
                found = relative(rows.max(axis=1).reshape(-1))
            np.maximum.at(worst, link.places[node.input], found)
        return worst[:-1]

    def rescale(self, link: Link, factors: Floats) -> None:
        """What one more factor each does to the ranges."""
        for name in link.weights:
            site = self.graph.call_sites[name][0]
            self.sizes[name] = self.sizes[name] * link.of(site.output, factors)[:, None]
        for name in link.makers:
            self.ranges[name] = self.ranges[name] * link.of(name, factors)
        for conv in one_site_each(self.graph, link):
            size = self.sizes[conv.weight]
            f = per_input(link.of(conv.input, factors), size[:, :, None, None], conv.groups)
            self.sizes[conv.weight] = size / f[:, :, 0, 0]


def relative(ranges: Floats, axis: int | None = None) -> Floats:
    """Over the largest; zeros stay."""
    largest = ranges.max(axis=axis, keepdims=True, initial=0.0)
    return ranges / np.where(largest > 0, largest, 1.0)
