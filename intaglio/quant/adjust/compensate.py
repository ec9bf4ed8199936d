"""Rounding weights one input at a time, each error made up for by the weights not yet rounded.

Nearest rounding minimises the error of the weights. What matters is the error of their product
with the inputs the layer really sees, e C e^T for a row's error e and the inputs' covariance C.
This is the greedy solution of Frantar et al., "GPTQ" (2022), with two choices of ours: the inputs
are the quantised ones, and C is centred, because `correct` restores the mean afterwards.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from intaglio.errors import CalibrationWarning
from intaglio.fixed import IntType
from intaglio.quant.capture.execute import padded, run
from intaglio.quant.capture.graph import Conv, FloatGraph, Node
from intaglio.quant.ranges.fake import FakeQuant
from intaglio.quant.ranges.grids import WeightCodes
from intaglio.quant.ranges.observe import batches
from intaglio.quant.ranges.scales import Scales
from intaglio.system.steps import Tell, quiet

LARGEST = 4608  # inputs of one output (512 channels, 3x3): beyond it, C alone is hundreds of MB
POSITIONS = 512  # windows of an image that are looked at
BLOCK = 64  # inputs whose errors reach the weights beyond the block in one product
DAMPING = 0.01  # of the mean variance, added to every input's, so that C can be inverted
STRONGER = (1, 10, 100, 1000)  # times that, where rounding leaves C without an inverse
CONSTANT = 1e-12  # of the mean square: a variance that rounding alone can make


def compensated(
    graph: FloatGraph, scales: Scales, images: NDArray[np.uint8], tell: Tell = quiet
) -> Scales:
    """`scales` with the same grids and weight scales, and weight codes rounded with compensation.

    All call sites of a shared weight count alike. A weight with more than 4608 inputs to an output
    keeps its nearest codes.
    """
    moments = observe_inputs(graph, scales, images, tell)
    weights = dict(scales.weights)
    for number, (name, groups) in enumerate(moments.items()):
        tell("weights", number, len(moments))
        codes = weights[name]
        weights[name] = replace(codes, codes=rounded(graph.weights[name], codes, groups))
    return replace(scales, weights=weights)


@dataclass
class Moments:
    """Sums over windows of the inputs x (K,) of one group: how many, x, and x x^T."""

    count: int = 0
    total: Any = 0.0
    square: Any = 0.0

    def add(self, x: torch.Tensor) -> None:
        """Windows (n, K)."""
        self.__dict__.pop("factored", None)
        self.count += len(x)
        self.total = self.total + x.sum(dim=0)
        self.square = self.square + x.T @ x

    @property
    def covariance(self) -> torch.Tensor:
        """(K, K); exactly 0 for inputs that are constant, of which rounding alone is left."""
        mean = self.total / self.count
        covariance: torch.Tensor = self.square / self.count - torch.outer(mean, mean)
        constant = self.constant
        covariance[constant] = covariance[:, constant] = 0.0
        return covariance

    @cached_property
    def factored(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`factored` of the covariance, which all candidates of a weight share."""
        return factored(self.covariance)

    def __getstate__(self) -> dict[str, Any]:
        """What others can compute is not handed to them."""
        return {name: value for name, value in self.__dict__.items() if name != "factored"}

    @property
    def constant(self) -> torch.Tensor:
        """Which inputs (K,) have one value in all windows."""
        mean, square = self.total / self.count, self.square.diagonal() / self.count
        constant: torch.Tensor = square - mean * mean <= CONSTANT * square
        return constant


def observe_inputs(
    graph: FloatGraph, scales: Scales, images: NDArray[np.uint8], tell: Tell = quiet
) -> dict[str, list[Moments]]:
    """Moments of each weight's inputs, one per group of the convolution, in the network whose
    activations are rounded and whose weights are not."""
    fake = FakeQuant(graph, scales)
    chosen = torch.Generator().manual_seed(0)
    found: dict[str, list[Moments]] = {}
    values: dict[str, torch.Tensor] = {}

    def visit(node: Node, value: torch.Tensor) -> torch.Tensor:
        value = fake.rounded(node, value)
        values[node.output] = value
        if isinstance(node, Conv) and graph.weights[node.weight][0].size <= LARGEST:
            kernel = graph.weights[node.weight].shape[2:]
            windows = functional.unfold(
                padded(node, values[node.input]), kernel, node.dilation, 0, node.stride
            )
            rows = windows.transpose(1, 2)
            rows = rows.reshape(-1, node.groups, rows.shape[2] // node.groups)
            some = torch.randperm(len(rows), generator=chosen)[: POSITIONS * len(value)]
            groups = found.setdefault(node.weight, [Moments() for _ in range(node.groups)])
            for group, moments in enumerate(groups):
                moments.add(rows[some, group].double())
        return value

    with torch.no_grad():
        for number, pixels in enumerate(batches(images, torch.float32)):
            tell("observing images", number * len(pixels), len(images))
            run(graph, pixels, visit=visit)
            values.clear()
    for name, groups in found.items():
        if all(moments.constant.all() for moments in groups):
            warnings.warn(collapsed(graph, name), CalibrationWarning, stacklevel=1)
    return found


def collapsed(graph: FloatGraph, weight: str) -> str:
    """What to say of a weight whose inputs never vary."""
    layer = graph.call_sites[weight][0].output
    return (
        f"What layer {layer!r} reads must vary over the calibration images, not be constant: its"
        " weights are rounded to the nearest codes alone; give other images or more bits, or prune"
        " the layer."
    )


def rounded(
    weight: NDArray[np.float64], nearest: WeightCodes, groups: Sequence[Moments]
) -> NDArray[np.int64]:
    """Codes (Cout, Cin / groups, Kh, Kw) of a weight."""
    rows = torch.from_numpy(weight.reshape(len(groups), -1, weight[0].size))
    scale = torch.from_numpy(nearest.scale).reshape(len(groups), -1)
    codes = [
        rounded_by(rows[g], scale[g], *moments.factored, nearest.type)
        for g, moments in enumerate(groups)
    ]
    return torch.cat(codes).reshape(weight.shape).numpy().astype(np.int64)


def round_rows(
    rows: torch.Tensor, scale: torch.Tensor, covariance: torch.Tensor, type: IntType
) -> torch.Tensor:
    """Codes of `rows` (R, K) with a scale each (R,), for inputs of this covariance (K, K)."""
    return rounded_by(rows, scale, *factored(covariance), type)


def factored(covariance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The order in which inputs of this covariance (K, K) are rounded, those that vary most first,
    while most weights are left to make up for them; and `inverse_factor` in that order."""
    order = torch.argsort(covariance.diagonal(), descending=True, stable=True)
    return order, inverse_factor(covariance[order][:, order])


def rounded_by(
    rows: torch.Tensor,
    scale: torch.Tensor,
    order: torch.Tensor,
    inverse: torch.Tensor | None,
    type: IntType,
) -> torch.Tensor:
    """`round_rows` by what `factored` gives. Where no input varies there is nothing to make up for,
    and all are rounded to the nearest code."""
    size = len(order)
    if inverse is None:
        return torch.floor(rows / scale[:, None] + 0.5).clamp(type.lo, type.hi)
    left = rows[:, order].clone()
    codes, errors = torch.empty_like(left), torch.empty_like(left)
    for first in range(0, size, BLOCK):
        last = min(first + BLOCK, size)
        for k in range(first, last):
            codes[:, k] = torch.floor(left[:, k] / scale + 0.5).clamp(type.lo, type.hi)
            errors[:, k] = (left[:, k] - codes[:, k] * scale) / inverse[k, k]
            left[:, k:last] -= errors[:, k, None] * inverse[k, k:last]
        left[:, last:] -= errors[:, first:last] @ inverse[first:last, last:]
    return codes[:, torch.argsort(order)]


def inverse_factor(covariance: torch.Tensor) -> torch.Tensor | None:
    """The upper Cholesky factor (K, K) of the inverse of a damped covariance; None where there is
    none, as no input varies."""
    if not covariance.any():
        return None
    eye = torch.eye(len(covariance), dtype=covariance.dtype)
    damping = DAMPING * covariance.diagonal().mean().clamp(min=1e-12)
    for times in STRONGER:
        inverse, singular = torch.linalg.inv_ex(covariance + eye * (times * damping))
        factor: torch.Tensor
        factor, indefinite = torch.linalg.cholesky_ex(inverse, upper=True)
        if not (singular or indefinite) and factor.isfinite().all():
            found: torch.Tensor = factor
            return found
    return None
