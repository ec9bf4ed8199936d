"""The quantised network with variables in place of its constants, in real numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from intaglio.quant.capture.execute import clamped, compute, linear
from intaglio.quant.capture.graph import PASSING, Conv, FloatGraph, Image, Node
from intaglio.quant.learn.learned import LearnedGrids, straight
from intaglio.quant.ranges.grids import HEADROOM_BITS, WeightCodes
from intaglio.quant.ranges.groups import PIXEL_BITS, Group
from intaglio.quant.ranges.scales import Scales

CELL = 0.45  # of a code: how near its edge a weight may start

Values = dict[str, torch.Tensor]


class Learner(nn.Module):
    """`graph` with `scales`, as `FakeQuant` runs it, to start from. Trainable are

    codes   of every weight, rounded straight through; each ends within `reach` of where it began;
    steps   of every grid with fewer than 12 bits, as `LearnedGrids`;
    gains   of each convolution's channels, at each call site: they end in `Conv.scale` (none where
            scales must be powers of two);
    shifts  of the same, in units of a tenth of the output's spread: they end in `Conv.shift`.

    `spread` is the standard deviation of each convolution's real-valued output. From the first
    `tighten` on, weights that it has not rounded are real.
    """

    def __init__(
        self,
        graph: FloatGraph,
        scales: Scales,
        groups: Iterable[Group],
        spread: dict[str, float],
        *,
        power_of_two: bool,
        reach: int | None = None,
    ) -> None:
        super().__init__()
        self.graph, self.scales, self.reach = graph, scales, reach
        names = {t: group.tensors[0] for group in groups for t in group.tensors}
        self.grids = LearnedGrids(scales.grids, names, power_of_two=power_of_two)
        for name, log in zip(self.grids.grids, self.grids.logs, strict=True):
            log.requires_grad_(self.grids.grids[name].type.bits < HEADROOM_BITS)
        self.weight_index = {name: n for n, name in enumerate(scales.weights)}
        self.codes = nn.ParameterList(
            inside_cells(graph.weights[name], codes) for name, codes in scales.weights.items()
        )
        self.begun = [torch.from_numpy(c.codes).float() for c in scales.weights.values()]
        self.weight_scales = [per_channel(c.scale)[:, None] for c in scales.weights.values()]
        sites = [node for node in graph.nodes if isinstance(node, Conv)]
        self.site_index = {site.output: n for n, site in enumerate(sites)}
        self.units = [0.1 * spread[site.output] for site in sites]
        self.gains = nn.ParameterList(torch.zeros(site.shape[0], 1, 1) for site in sites)
        self.shifts = nn.ParameterList(torch.zeros(site.shape[0], 1, 1) for site in sites)
        for gain in self.gains:
            gain.requires_grad_(not power_of_two)
        self.factors = [per_channel(site.scale) for site in sites]
        self.summands = [per_channel(site.shift) for site in sites]
        self.tight: dict[int, torch.Tensor] = {}  # which weights are rounded for good

    def weight(self, name: str) -> torch.Tensor:
        """What the codes stand for: rounded, straight through, or those that are tight alone."""
        n = self.weight_index[name]
        free, type = self.codes[n], self.scales.weights[name].type
        q = torch.floor(free.detach() + 0.5).clamp_(type.lo, type.hi)
        found = torch.where(self.tight[n], q, free) if n in self.tight else straight(free, q)
        return found * self.weight_scales[n]

    def run(
        self,
        nodes: Sequence[Node],
        values: Values,
        drop: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        """Add the values of `nodes` to those of the tensors they read.

        Each element keeps its real value with probability `drop`, instead of being rounded. What
        `multiply` found is not computed again.
        """
        used = dict.fromkeys(node.weight for node in nodes if isinstance(node, Conv))
        weights = {name: self.weight(name) for name in used}
        for node in nodes:
            inputs = [values[name] for name in node.inputs]
            if isinstance(node, Conv):
                known = values.get(product(node))
                value = self.convolution(
                    node, linear(node, inputs[0], weights) if known is None else known
                )
            else:
                value = compute(node, inputs, weights)
            if not isinstance(node, (Image, *PASSING)):
                value = mixed(self.grids.round(node.output, value), value, drop, generator)
            values[node.output] = value

    def multiply(self, nodes: Iterable[Conv], values: Values) -> None:
        """Add each convolution's products, before its factor, to the values it reads."""
        for node in nodes:
            weights = {node.weight: self.weight(node.weight)}
            values[product(node)] = linear(node, values[node.input], weights)

    def convolution(self, node: Conv, products: torch.Tensor) -> torch.Tensor:
        """A convolution's products with its gains and shifts."""
        n = self.site_index[node.output]
        gain, shift = torch.exp(self.gains[n]), self.shifts[n] * self.units[n]
        value = torch.addcmul(self.summands[n] + shift, products, self.factors[n] * gain)
        return clamped(node, value)

    # --- rounding few at a time -------------------------------------------------------------

    @torch.no_grad()
    def unround(self) -> None:
        """Codes as near to the real weights as `reach` lets them be; those of `PIXEL_BITS` stay."""
        for name in self.narrow():
            exact = in_codes(self.graph.weights[name], self.scales.weights[name])
            self.codes[self.weight_index[name]].copy_(torch.from_numpy(exact))
        self.confine()

    @torch.no_grad()
    def tighten(self, share: float) -> None:
        """Round such a share of each weight for good, those nearest to a code first. The others are
        real from now on."""
        for name in self.narrow():
            n = self.weight_index[name]
            free = self.codes[n]
            tight = self.tight.setdefault(n, torch.zeros_like(free, dtype=torch.bool))
            count = round(share * free.numel())
            if count > 0:
                far = (free - torch.floor(free + 0.5)).abs_().masked_fill_(tight, -1.0)
                tight |= far <= far.flatten().kthvalue(count).values
        self.confine()

    def narrow(self) -> list[str]:
        """Weights of less than `PIXEL_BITS`."""
        return [n for n, codes in self.scales.weights.items() if codes.type.bits < PIXEL_BITS]

    def variables(self, nodes: Iterable[Node], fixed: Iterable[str] = ()) -> dict[str, list[Any]]:
        """The variables of some nodes by kind, without the steps of the tensors `fixed`."""
        found: dict[str, dict[int, Any]] = {k: {} for k in ("codes", "steps", "gains", "shifts")}
        firm = {self.grids.names[t] for t in fixed if t in self.grids}
        for node in nodes:
            if isinstance(node, Conv):
                weight, site = self.weight_index[node.weight], self.site_index[node.output]
                found["codes"][weight] = self.codes[weight]
                found["gains"][site] = self.gains[site]
                found["shifts"][site] = self.shifts[site]
            first = self.grids.names.get(node.output)
            if first is not None and first not in firm:
                step = self.grids.index[first]
                found["steps"][step] = self.grids.logs[step]
        return {k: [p for p in v.values() if p.requires_grad] for k, v in found.items()}

    def confine(self) -> None:
        """Bring codes back within `reach`, into their type, and tight ones to a code."""
        with torch.no_grad():
            for free, begun, codes in zip(
                self.codes, self.begun, self.scales.weights.values(), strict=True
            ):
                if self.reach is not None:
                    reach = self.reach + CELL
                    torch.clamp(free, begun - reach, begun + reach, out=free)
                free.clamp_(codes.type.lo - CELL, codes.type.hi + CELL)
            for n, tight in self.tight.items():
                free = self.codes[n]
                free.copy_(torch.where(tight, torch.floor(free + 0.5), free))

    def learned(self) -> tuple[FloatGraph, Scales]:
        """The graph and scales as they are now."""
        weights = {}
        nodes: list[Node] = []
        with torch.no_grad():
            for name, n in self.weight_index.items():
                start = self.scales.weights[name]
                codes = torch.floor(self.codes[n] + 0.5).clamp(start.type.lo, start.type.hi)
                weights[name] = replace(start, codes=codes.numpy().astype(np.int64))
            for node in self.graph.nodes:
                if isinstance(node, Conv):
                    n = self.site_index[node.output]
                    gain = self.gains[n].double().numpy().reshape(-1)
                    shift = self.shifts[n].double().numpy().reshape(-1)
                    node = replace(
                        node,
                        scale=node.scale * np.exp(gain),
                        shift=node.shift + shift * self.units[n],
                    )
                nodes.append(node)
            grids = {
                tensor: self.grids.learned(tensor) if self.trained(tensor) else grid
                for tensor, grid in self.scales.grids.items()
            }
        return replace(self.graph, nodes=tuple(nodes)), Scales(grids, weights)

    def trained(self, tensor: str) -> bool:
        """Whether a tensor's step can change."""
        return tensor in self.grids and bool(
            self.grids.logs[self.grids.index[self.grids.names[tensor]]].requires_grad
        )


def product(node: Conv) -> str:
    """The name of a convolution's products among values."""
    return f"{node.output}.product"


def inside_cells(weight: Any, codes: WeightCodes) -> nn.Parameter:
    """Weights in units of their scale, moved into the cells of their codes."""
    inside = np.clip(in_codes(weight, codes), codes.codes - CELL, codes.codes + CELL)
    return nn.Parameter(torch.from_numpy(inside).float())


def in_codes(weight: Any, codes: WeightCodes) -> Any:
    """Weights in units of their scale."""
    return weight / codes.scale[:, None, None, None]


def per_channel(values: Any) -> torch.Tensor:
    """(C,) as (C, 1, 1) of float32."""
    return torch.from_numpy(values).float()[:, None, None]


def mixed(
    x: torch.Tensor, y: torch.Tensor, share: float, generator: torch.Generator | None
) -> torch.Tensor:
    """x, with each element replaced by that of y with probability `share`."""
    if share == 0:
        return x
    return torch.where(torch.rand(x.shape, generator=generator) < share, y, x)
