"""Rounding that a loss can train: codes straight through, steps by how far they miss."""

from __future__ import annotations

from collections.abc import Mapping
from math import log, log2
from typing import Any

import torch
from torch import nn

from intaglio.fixed import IntType
from intaglio.quant.ranges.grids import Grid

HALF = 0.5  # offset of the odd-multiple grid: the codes' middle lies between two of them


class Quantise(torch.autograd.Function):
    """Values on the grid (q + offset) * step, q = round(x / step - offset) in [lo, hi], halves up.

    `offset` is minus a zero point, or `HALF`. The gradient of x passes where q was not clamped;
    that of `step` (one number, or one that broadcasts) is LSQ's: (q + offset) - x / step inside,
    q + offset outside (Esser et al., "Learned Step Size Quantization", 2020).
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, step: torch.Tensor, lo: int, hi: int, offset: float
    ) -> torch.Tensor:
        """The rounded values."""
        at = x / step
        if offset:
            at -= offset
        q = torch.floor(at + 0.5).clamp_(lo, hi)
        missed = q - at
        ctx.save_for_backward(missed, step)
        ctx.ends = (lo, hi, offset)
        ctx.q = q
        return (q + offset) * step if offset else q * step

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        """Of x and step."""
        (gradient,) = gradients
        missed, step = ctx.saved_tensors
        _, _, offset = ctx.ends
        inside = missed.abs() <= 0.5
        passed = gradient * inside
        by_step = None
        if ctx.needs_input_grad[1]:
            ends = torch.where(inside, missed, ctx.q + offset if offset else ctx.q)
            by_step = reduced(gradient * ends, step.shape)
        return passed, by_step, None, None, None


def quantise(x: torch.Tensor, step: torch.Tensor, type: IntType, offset: float = 0.0) -> Any:
    """`Quantise` to the codes of an integer type."""
    return Quantise.apply(x, step, type.lo, type.hi, offset)  # type: ignore[no-untyped-call]  # torch's


def reduced(gradient: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Summed over the axes along which a tensor of `shape` was broadcast."""
    return gradient.sum_to_size(shape) if shape else gradient.sum()


def straight(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The value of y with the gradient of x."""
    return x + (y - x).detach()


class LearnedGrids(nn.Module):
    """Grids whose steps are trained; `names` maps a tensor to the first of those it shares with.

    The parameters are logarithms of the steps, so that one learning rate suits all of them. Types
    and zero points stay. With `power_of_two` a step is rounded to the nearest power of two in
    forward runs and exported so.
    """

    def __init__(
        self, grids: Mapping[str, Grid], names: Mapping[str, str], *, power_of_two: bool = False
    ) -> None:
        super().__init__()
        self.names = dict(names)
        self.grids = {first: grids[first] for first in dict.fromkeys(names.values())}
        self.power_of_two = power_of_two
        self.index = {first: n for n, first in enumerate(self.grids)}
        self.logs = nn.ParameterList(
            nn.Parameter(torch.tensor(log(grid.scale))) for grid in self.grids.values()
        )

    def __contains__(self, tensor: str) -> bool:
        return tensor in self.names

    def step(self, tensor: str) -> torch.Tensor:
        """The step of a tensor's grid."""
        step = torch.exp(self.logs[self.index[self.names[tensor]]])
        if self.power_of_two:
            nearest = torch.exp2(torch.floor(torch.log2(step.detach()) + 0.5))
            step = step * (nearest / step.detach())  # the logarithm's gradient is the step
        return step

    def round(self, tensor: str, x: torch.Tensor) -> torch.Tensor:
        """x on its grid."""
        grid = self.grids[self.names[tensor]]
        rounded: torch.Tensor = quantise(x, self.step(tensor), grid.type, -grid.zero_point)
        return rounded

    def learned_range(self, tensor: str) -> tuple[float, float]:
        """Smallest and largest code less the zero point, which do not change."""
        grid = self.grids[self.names[tensor]]
        return grid.type.lo - grid.zero_point, grid.type.hi - grid.zero_point

    def learned(self, tensor: str) -> Grid:
        """The grid as it is now; its scale is float32's, so that the Program's is the same."""
        grid = self.grids[self.names[tensor]]
        with torch.no_grad():
            step = float(self.step(tensor))
        if self.power_of_two:
            step = 2.0 ** round(log2(step))  # float32 may be off by its last bit
        return Grid(step, grid.zero_point, grid.type)
