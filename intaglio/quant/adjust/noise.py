"""Factors of channels by the noise that reaches the results: equalisation that knows what for.

Equal ranges on both sides of a tensor are a rule of thumb. What rounding costs can be said: of a
tensor with the step s, s^2 / 12 in each channel c times what a variance of 1 there costs at the
results, over f_c^2; of a row of weights with the step s, s^2 / 12 times the variances of all that
it multiplies, times what the row's result costs. Steps are set by the largest channel, so the sum
of all costs has a minimum in the factors f, which Adam goes down to from f = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import numpy as np
import torch

from intaglio.quant.adjust.links import LIMIT, Link
from intaglio.quant.adjust.sensitivity import Sensitivity
from intaglio.quant.capture.graph import Conv, FloatGraph, Floats
from intaglio.quant.ranges.grids import HEADROOM_BITS
from intaglio.quant.ranges.groups import Group, groups, weight_bits
from intaglio.quant.settings.config import QuantConfig
from intaglio.system.steps import Tell, quiet

STEPS = 200
RATE = 0.05  # of the logarithms, at first
COMPENSATED = 0.5  # of the weights' noise is left where they are rounded with compensation


def factors_by_noise(
    graph: FloatGraph,
    found: Sequence[Link],
    measured: Sensitivity,
    config: QuantConfig,
    tell: Tell = quiet,
) -> dict[Link, Floats]:
    """Factors (size,) of each link, 1/16 to 16, with the least noise at the results.

    A channel that the images never show keeps its factor.
    """
    noise = Noise(graph, found, measured, config)
    adam = torch.optim.Adam(noise.logs, lr=RATE)
    for step in range(STEPS):
        tell("factors", step, STEPS)
        for group in adam.param_groups:
            group["lr"] = RATE * (1.02 - step / STEPS)
        adam.zero_grad()
        noise.total().log().backward()  # type: ignore[no-untyped-call]  # torch's
        for values, shown in zip(noise.logs, noise.shown, strict=True):
            values.grad = values.grad * shown  # type: ignore[operator]  # backward gave it
        adam.step()
        noise.confine()
    return noise.factors()


class Noise:
    """What rounding costs, as a function of the links' factors."""

    def __init__(
        self,
        graph: FloatGraph,
        found: Sequence[Link],
        measured: Sensitivity,
        config: QuantConfig,
    ) -> None:
        self.graph, self.found, self.config = graph, found, config
        self.logs = [torch.zeros(n.size, dtype=torch.float64, requires_grad=True) for n in found]
        self.places = {
            name: (number, torch.from_numpy(places))
            for number, link in enumerate(found)
            for name, places in link.places.items()
        }
        self.costs, self.ends, self.powers = (
            {name: torch.from_numpy(values) for name, values in part.items()}
            for part in (measured.costs, measured.ends, measured.powers)
        )
        self.shown = [self.is_shown(link) for link in found]
        self.groups = [g for g in groups(graph, config) if g.bits < HEADROOM_BITS]
        self.sizes = {
            name: torch.from_numpy(np.abs(w).max(axis=(2, 3))) for name, w in graph.weights.items()
        }
        self.taps = {name: w[0, 0].size for name, w in graph.weights.items()}
        self.levels = {n: 2.0 ** weight_bits(graph, config, n) for n in graph.weights}
        self.inside = {name for link in found for name in link.weights}

    def is_shown(self, link: Link) -> torch.Tensor:
        """Of each factor (size,): whether a channel that takes it is not 0 on the images."""
        shown = torch.zeros(link.size + 1, dtype=torch.float64)
        for name in link.makers:
            places = torch.from_numpy(link.places[name])
            seen = self.ends[name].sum(dim=0) > 0
            shown[places[seen]] = 1.0
        return shown[:-1]

    def factor(self, tensor: str) -> torch.Tensor:
        """Of a tensor's channels (C,)."""
        if tensor not in self.places:
            return torch.ones(self.graph.producer[tensor].shape[0], dtype=torch.float64)
        number, places = self.places[tensor]
        log_of = torch.cat([self.logs[number], torch.zeros(1, dtype=torch.float64)])
        found: torch.Tensor = log_of[places].exp()
        return found

    def total(self) -> torch.Tensor:
        """The squared error of the results, relative to them and summed, to first order."""
        weights = COMPENSATED if self.config.compensate else 1.0
        parts = [self.of_group(group) for group in self.groups]
        parts += [weights * self.of_weight(n) for n in self.graph.nodes if isinstance(n, Conv)]
        return torch.stack(parts).sum() + 1e-30

    def of_group(self, group: Group) -> torch.Tensor:
        """What the codes of tensors of one scale cost."""
        made = [name for name in group.tensors if name in self.costs]
        if not made:
            return torch.zeros((), dtype=torch.float64)
        factors = torch.cat([self.factor(name) for name in made])
        ends = torch.cat([self.ends[name] for name in made], dim=1) * factors
        low, high = ends.amax(dim=1)
        if group.unsigned:
            span = high
        else:
            span = 2 * torch.maximum(low, high) if self.config.symmetric else low + high
        cost = torch.cat([self.costs[name] for name in made]) / factors.square()
        found: torch.Tensor = (span / 2.0**group.bits) ** 2 / 12 * cost.sum()
        return found

    def of_weight(self, node: Conv) -> torch.Tensor:
        """What the codes of a convolution's weights cost."""
        size = self.sizes[node.weight]
        rows, f = size.shape[0] // node.groups, self.factor(node.input)
        each, power = (
            values.reshape(node.groups, -1).repeat_interleave(rows, dim=0)
            for values in (f, self.powers[node.input])
        )
        out = torch.ones(len(size), dtype=torch.float64)
        if node.weight in self.inside:
            out = self.factor(node.output)
        largest = (size / each).amax(dim=1) * out
        if not self.config.by_channel:
            largest = largest.amax().expand_as(out)
        variance = (2 * largest / self.levels[node.weight]) ** 2 / 12
        summed = (each.square() * power).sum(dim=1) * self.taps[node.weight]
        error = variance / out.square() * summed * torch.from_numpy(node.scale).square()
        found: torch.Tensor = (error * self.costs[node.output]).sum()
        return found

    def confine(self) -> None:
        """Bring factors back within their limits."""
        with torch.no_grad():
            for values in self.logs:
                values.clamp_(-log(LIMIT), log(LIMIT))

    def factors(self) -> dict[Link, Floats]:
        """As they are now."""
        return {
            link: values.detach().exp().numpy()
            for link, values in zip(self.found, self.logs, strict=True)
        }
