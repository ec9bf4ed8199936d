"""A weight whose interval is learned, on the odd-multiple or the symmetric grid."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np
import torch
from torch import nn

from intaglio.fixed import IntType
from intaglio.quant.capture.graph import Floats
from intaglio.quant.learn.learned import HALF, quantise
from intaglio.quant.ranges.grids import CANDIDATES, WeightCodes

SMALLEST = 2.0**-60  # factor that is told from 0


@dataclass(frozen=True, kw_only=True)
class WeightGrid:
    """How weights are rounded in training.

    odd           codes are the odd integers 2q + 1 - 2^bits, without a zero (AQD), or else
                  [-2^(bits-1), 2^(bits-1) - 1].
    standardise   weights are brought to mean 0, all filters together, and each filter to variance
                  1 before they are rounded, where a batch norm follows and makes up for it.
    """

    odd: bool = True
    standardise: bool = False


class LearnedWeight(nn.Module):
    """A weight (Cout, Cin / groups, Kh, Kw) with a learned interval for all filters together.

    `gain` (Cout, 1, 1, 1) restores the filters' own scale; it is trained where no norm follows.
    With `power_of_two` gain times step is rounded to a power of two there, and exported so for
    every weight: the norm after it makes up for the difference.
    """

    gain: torch.Tensor

    def __init__(
        self, weight: Floats, bits: int, grid: WeightGrid, *, normed: bool,
        power_of_two: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.normed, self.power_of_two = normed, power_of_two
        values = torch.from_numpy(weight).float()
        gain = deviation(values)
        self.standardise = grid.standardise and normed and values[0].numel() > 1
        self.odd = grid.odd and bits < 8
        self.codes = IntType(bits, signed=True)
        self.latent = nn.Parameter(values / gain)
        if normed:
            self.register_buffer("gain", gain)
        else:
            self.gain = nn.Parameter(gain)
        self.log_step = nn.Parameter(torch.tensor(log(self.best_step())))

    @property
    def offset(self) -> float:
        """Of the grid; a step of the odd one is two units of its codes."""
        return HALF if self.odd else 0.0

    def standard(self) -> torch.Tensor:
        """The latent weight as it is rounded."""
        if not self.standardise:
            return self.latent
        centred = self.latent - self.latent.mean()
        return centred / deviation(centred)

    def forward(self) -> torch.Tensor:
        """The rounded weight."""
        rounded: torch.Tensor = quantise(
            self.standard(), torch.exp(self.log_step), self.codes, self.offset
        )
        if self.power_of_two and not self.normed:
            with torch.no_grad():
                factor = nearest_powers(self.scale()) / self.scale()
            return rounded * (self.gain * factor)
        return rounded * self.gain

    def scale(self) -> torch.Tensor:
        """Each filter's step (Cout, 1, 1, 1)."""
        return self.gain * torch.exp(self.log_step)

    @torch.no_grad()
    def best_step(self) -> float:
        """The step with the least squared error."""
        values = self.standard()
        widest = float(values.abs().max().clamp(min=1e-8)) / max(self.codes.hi, 1)
        steps = [widest * part / CANDIDATES for part in range(CANDIDATES, 0, -1)]

        def error(step: float) -> float:
            rounded: torch.Tensor = quantise(values, torch.tensor(step), self.codes, self.offset)
            return float((values - rounded).square().sum())

        return min(steps, key=error)

    @torch.no_grad()
    def learned(self) -> tuple[Floats, WeightCodes]:
        """The real-valued weight and its codes."""
        values, step = self.standard(), torch.exp(self.log_step)
        q = torch.floor(values / step - self.offset + 0.5).clamp(self.codes.lo, self.codes.hi)
        gain, each = self.gain, self.scale()
        if self.power_of_two:
            each = nearest_powers(each)
            gain = each / step
        scale = each.double().reshape(-1).cpu().numpy()
        real = (values * gain).double().cpu().numpy()
        codes = q.cpu().numpy().astype(np.int64)
        if not self.odd:
            return real, WeightCodes(codes, scale, self.codes)
        type = IntType(self.codes.bits + 1, signed=True)
        return real, WeightCodes(2 * codes + 1, scale / 2, type, odd=True)


def deviation(weight: torch.Tensor) -> torch.Tensor:
    """The standard deviation of each filter (Cout, 1, 1, 1); its size where it has one weight."""
    if weight[0].numel() == 1:
        return weight.abs().clamp(min=1e-8)
    return weight.std(dim=(1, 2, 3), keepdim=True, correction=0).clamp(min=1e-8)


def nearest_powers(factor: torch.Tensor) -> torch.Tensor:
    """Each factor's nearest power of two on a logarithmic scale, with its sign; 0 stays 0."""
    powers = torch.exp2(torch.floor(torch.log2(factor.abs().clamp(min=SMALLEST)) + 0.5))
    return torch.where(factor == 0, factor, powers.copysign(factor))
