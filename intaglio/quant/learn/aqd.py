"""A network that is trained with the Program's roundings in it (AQD, arXiv 2007.06919).

Weights are standardised, clipped to a learned interval and rounded to the odd-multiple or the
symmetric grid; tensors have learned intervals; gradients pass straight through. A norm after a
convolution keeps its batch statistics, one norm for each call site of a shared convolution if the
model has them (multi-level batch norm). The factor of every norm and every sum is M / 2^S, as in
the Program. docs/aqd.md says what is the paper's and what is ours.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from intaglio.errors import ModelError
from intaglio.fixed import Arithmetic
from intaglio.quant.capture.execute import compute, convolved, run, tensors
from intaglio.quant.capture.export import capture
from intaglio.quant.capture.graph import PASSING, Add, Conv, FloatGraph, Image, Node
from intaglio.quant.capture.passes import TRAINING_PASSES, simplify
from intaglio.quant.learn.learned import LearnedGrids, straight
from intaglio.quant.learn.learned_weight import SMALLEST, LearnedWeight, WeightGrid, nearest_powers
from intaglio.quant.learn.norms import momentum, norm_paths, restored_norms
from intaglio.quant.ranges.grids import HEADROOM_BITS
from intaglio.quant.ranges.groups import weight_bits
from intaglio.quant.ranges.observe import check_images
from intaglio.quant.ranges.scales import Scales, calibrate, choose
from intaglio.quant.settings.config import QuantConfig

MOMENTUM = 0.1


class TrainedNetwork(nn.Module):
    """Pixels (N, C, H, W) of 0 to 255 to real-valued result maps, rounded where the Program rounds.

    Made of `model` in its present state, at widths and with ranges by `config`, from uint8
    `images`. Final maps are not rounded while training: `exported` gives them their 16 bits.
    `replacements` gives other norms to call sites, by tensor name.
    """

    def __init__(
        self,
        model: nn.Module,
        images: NDArray[np.uint8],
        config: QuantConfig,
        grid: WeightGrid | None = None,
        replacements: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        grid = grid or WeightGrid()
        raw = capture(model, check_images(images))
        self.graph = simplify(raw, TRAINING_PASSES)
        self.config = config
        self.started: list[torch.Tensor] = []
        paths = norm_paths(raw, self.graph, model)
        self.site_norm, norms = restored_norms(self.graph, images, paths, replacements or {})
        self.norms = nn.ModuleList(norms)
        calibration = calibrate(self.graph, images, config)
        grids = choose(self.graph, calibration, config).grids
        self.wide = {t for g in calibration.groups if g.bits >= HEADROOM_BITS for t in g.tensors}
        names = {t: g.tensors[0] for g in calibration.groups for t in g.tensors}
        narrow = {t: first for t, first in names.items() if t not in self.wide}
        self.grids = LearnedGrids(grids, narrow, power_of_two=config.power_of_two)
        self.calibration = calibration
        self.rounders = nn.ModuleList()
        self.at: dict[str, int] = {}
        for name, weight in self.graph.weights.items():
            sites = self.graph.call_sites[name]
            normed = all(site.output in self.site_norm for site in sites)
            self.at[name] = len(self.rounders)
            bits = weight_bits(self.graph, config, name)
            power_of_two = config.arithmetic.power_of_two
            self.rounders.append(
                LearnedWeight(weight, bits, grid, normed=normed, power_of_two=power_of_two)
            )
        convolutions = [node for node in self.graph.nodes if isinstance(node, Conv)]
        plain = [node for node in convolutions if node.output not in self.site_norm]
        self.shift_of = {node.output: k for k, node in enumerate(plain)}
        self.shifts = nn.ParameterList(
            nn.Parameter(torch.from_numpy(node.shift).float()) for node in plain
        )

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """Result maps in the graph's order."""
        weights = {name: self.rounders[k]() for name, k in self.at.items()}
        values: dict[str, torch.Tensor] = {}
        for node in self.graph.nodes:
            inputs = [values[name] for name in node.inputs]
            values[node.output] = self.value(node, inputs, weights) if inputs else pixels
        return [values[tensor] for tensor in self.graph.outputs.values()]

    @torch.no_grad()
    def real(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """Result maps of the real-valued network that training started from."""
        if not self.started or self.started[0].device != pixels.device:
            self.started = [
                w.to(pixels.device) for w in tensors(self.graph, torch.float32).values()
            ]
        weights = dict(zip(self.graph.weights, self.started, strict=True))
        return list(run(self.graph, pixels, weights=weights).values())

    def value(
        self, node: Node, inputs: list[torch.Tensor], weights: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """A node's value, rounded."""
        match node:
            case Conv():
                value = self.convolution(node, inputs[0], weights[node.weight])
            case Add():
                value = compute(self.fixed_sum(node), inputs, weights)
            case _:
                value = compute(node, inputs, weights)
        if node.output not in self.grids or isinstance(node, PASSING):
            return value
        return self.grids.round(node.output, value)

    def convolution(self, node: Conv, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Convolution, norm and clamp."""
        z = convolved(node, x, weight)
        if node.output in self.site_norm:
            y = self.normalised(node, self.norms[self.site_norm[node.output]], z)
        else:
            scale = torch.from_numpy(node.scale).to(z)
            y = z * scale[:, None, None] + self.shifts[self.shift_of[node.output]][:, None, None]
        return self.clamped(node, y)

    def clamped(self, node: Conv, y: torch.Tensor) -> torch.Tensor:
        """The clamp of a node, where its grid does not do the same."""
        done = node.lo == 0 and node.hi == inf and node.output in self.grids
        if done and self.grids.learned_range(node.output)[0] == 0:
            return y
        return y.clamp(node.lo, node.hi) if node.clamped else y

    def normalised(self, node: Conv, norm: nn.Module, z: torch.Tensor) -> torch.Tensor:
        """The norm, whose factor is the Program's: M / 2^S of codes, by the running variance."""
        if not isinstance(norm, nn.BatchNorm2d):
            replaced: torch.Tensor = norm(z)
            return replaced
        assert norm.running_var is not None
        if self.training and z.numel() == z.shape[1]:
            raise ModelError(
                f"A batch must hold more than one value of each channel of {node.output!r} to train"
                " its norm, not one; give a larger batch, or larger images."
            )
        gamma: torch.Tensor = norm.weight
        if node.output in self.grids:
            with torch.no_grad():
                unit = self.unit(node) * torch.rsqrt(norm.running_var + norm.eps)
                rounded = fixed_factor(gamma * unit, self.config.arithmetic) / unit
            gamma = straight(gamma, rounded)
        return functional.batch_norm(
            z, norm.running_mean, norm.running_var, gamma, norm.bias,
            self.training, momentum(norm) if self.training else 0.0, norm.eps,
        )  # fmt: skip

    def unit(self, node: Conv) -> torch.Tensor:
        """Output codes for one product of codes (C,), before the norm's factor."""
        rounder = self.rounders[self.at[node.weight]]
        assert isinstance(rounder, LearnedWeight)
        return rounder.scale().reshape(-1) * self.steps(node)

    def steps(self, node: Conv) -> torch.Tensor:
        """The input's step over the output's."""
        x = self.grids.step(node.input) if node.input in self.grids else 1.0
        return x / self.grids.step(node.output)

    @torch.no_grad()
    def fixed_sum(self, node: Add) -> Add:
        """A sum with the Program's factors."""
        if node.output not in self.grids:
            return node
        y = self.grids.step(node.output)
        units = torch.stack([self.grids.step(name) / y for name in node.inputs])
        factors = torch.tensor([node.alpha, node.beta]).to(units) * units
        alpha, beta = (fixed_factor(factors, self.config.arithmetic) / units).tolist()
        return replace(node, alpha=alpha, beta=beta)

    @torch.no_grad()
    def exported(self, images: NDArray[np.uint8]) -> tuple[FloatGraph, Scales]:
        """The graph with the norms folded into its factors, and its codes; the ranges of the final
        maps are those seen on uint8 images (N, C, H, W)."""
        network = copy.deepcopy(self).cpu().eval()
        weights, codes = {}, {}
        for name, k in network.at.items():
            rounder = network.rounders[k]
            assert isinstance(rounder, LearnedWeight)
            weights[name], codes[name] = rounder.learned()
        nodes = tuple(network.folded(node) for node in network.graph.nodes)
        graph = replace(network.graph, nodes=nodes, weights=weights)
        grids = {t: network.grids.learned(t) for t in network.names() if t not in network.wide}
        wide = choose(graph, calibrate(graph, images, self.config), self.config).grids
        grids |= {name: grid for name, grid in wide.items() if name not in grids}
        return graph, Scales(grids, codes)

    def names(self) -> list[str]:
        """Tensors that are rounded."""
        return [n.output for n in self.graph.nodes if not isinstance(n, Image)]

    def folded(self, node: Node) -> Node:
        """A convolution with its norm, or its trained shift, in `scale` and `shift`."""
        if not isinstance(node, Conv):
            return node
        if node.output not in self.site_norm:
            shift = self.shifts[self.shift_of[node.output]].double().numpy()
            return replace(node, shift=shift)
        norm = self.norms[self.site_norm[node.output]]
        assert isinstance(norm, nn.BatchNorm2d)
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None
        assert variance is not None
        if self.config.arithmetic.power_of_two and node.output in self.grids:
            return self.shifting(node, norm)
        scale = norm.weight.double() / torch.sqrt(variance.double() + norm.eps)
        shift = norm.bias.double() - mean.double() * scale
        return replace(node, scale=scale.numpy(), shift=shift.numpy())

    def shifting(self, node: Conv, norm: nn.BatchNorm2d) -> Node:
        """A convolution with its norm in it, whose factors are the powers of two that training
        rounded them to."""
        assert norm.running_mean is not None
        assert norm.running_var is not None
        unit = self.unit(node)
        gamma = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        factor = fixed_factor(gamma * unit, self.config.arithmetic)
        shift = norm.bias.double() - norm.running_mean.double() * (factor / unit).double()
        rounder = self.rounders[self.at[node.weight]]
        assert isinstance(rounder, LearnedWeight)
        codes = nearest_powers(rounder.scale()).reshape(-1)  # as `learned` exports them
        scale = nearest_powers(factor / (codes * self.steps(node)))
        return replace(node, scale=scale.double().numpy(), shift=shift.numpy())

    @torch.no_grad()
    def settle(self, pixels: Iterable[torch.Tensor]) -> None:
        """Measure the norms' statistics anew, as plain means over batches of pixels."""
        norms = [norm for norm in self.norms if isinstance(norm, nn.BatchNorm2d)]
        kept = self.training
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        self.train()
        for batch in pixels:
            self(batch)
        self.train(kept)
        for norm in norms:
            norm.momentum = MOMENTUM


def fixed_factor(factor: torch.Tensor, arithmetic: Arithmetic) -> torch.Tensor:
    """Factors rounded to M / 2^S with the largest S at which every |M| fits the multiplier, or each
    to its nearest power of two."""
    largest = float(factor.abs().max())
    if largest < SMALLEST:
        return torch.zeros_like(factor)
    if arithmetic.power_of_two:
        return nearest_powers(factor)
    low, high = arithmetic.shift_range
    shift = min(high, int(np.floor(np.log2(arithmetic.multiplier_max / largest))))
    one = 2.0 ** max(shift, low)
    return torch.floor(factor * one + 0.5) / one
