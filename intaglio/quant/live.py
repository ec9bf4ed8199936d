"""Batch norms in place of a network's constants, for as long as the network is trained.

A channel's factor and shift are right for the products of the codes that they were found for. Codes
that move fast leave them behind, and all layers after them too. While norms are live, each batch is
normalised by its own statistics, as in AQD's training; at the end those of some images, measured
once, are constants again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

SOFTENED = 1e-3  # of the mean variance of channels is added to each
SMALLEST = 1e-12  # for products that are all alike


@dataclass(frozen=True, eq=False)
class Moments:
    """Means and variances of channels, (C,), of so many values of each."""

    mean: torch.Tensor
    variance: torch.Tensor
    count: int


@dataclass(frozen=True, eq=False)
class Norm:
    """Products to values: (z - mean) / deviation * factor + summand, with a batch's mean and
    deviation; `factor` and `summand` are (C,)."""

    factor: torch.Tensor
    summand: torch.Tensor
    softening: float

    def __call__(
        self, products: torch.Tensor, gain: torch.Tensor, shift: torch.Tensor
    ) -> torch.Tensor:
        """The values (N, C, H, W), with a gain and a shift (C,) more."""
        return functional.batch_norm(
            products, None, None, self.factor * gain, self.summand + shift,
            training=True, eps=self.softening,
        )  # fmt: skip

    def fixed(
        self, gain: torch.Tensor, shift: torch.Tensor, at: Moments
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Factor and summand (C,) that do the same to products with these moments."""
        factor = self.factor * gain / torch.sqrt(at.variance + self.softening)
        return factor, self.summand + shift - factor * at.mean


def norm(factor: torch.Tensor, summand: torch.Tensor, at: Moments) -> Norm:
    """The norm that is `factor * z + summand` where products have these moments."""
    softening = max(SOFTENED * float(at.variance.mean()), SMALLEST)
    deviation = torch.sqrt(at.variance + softening)
    return Norm(factor * deviation, summand + factor * at.mean, softening)


def moments(products: torch.Tensor) -> Moments:
    """Over images and positions of (N, C, H, W)."""
    count = products[:, 0].numel()
    return Moments(products.mean(dim=(0, 2, 3)), products.var(dim=(0, 2, 3), correction=0), count)


def joined(parts: Sequence[Moments]) -> Moments:
    """Of all parts together."""
    count = sum(part.count for part in parts)
    mean = torch.stack([part.mean * (part.count / count) for part in parts]).sum(0)
    apart = [part.variance + (part.mean - mean).square() for part in parts]
    variance = torch.stack([v * (p.count / count) for v, p in zip(apart, parts, strict=True)])
    return Moments(mean, variance.sum(0), count)
