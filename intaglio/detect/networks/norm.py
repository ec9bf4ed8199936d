"""Normalisation of a head that is shared by the levels of a feature pyramid."""

from typing import Literal

import torch
from torch import nn

NormKind = Literal["multi", "shared", "group", "none"]


class MultiLevelNorm(nn.Module):
    """One batch norm per pyramid level after one convolution that all levels share (AQD).

    The level is an argument and no state is kept between calls, so a traced or exported graph
    names the batch norm that each level uses.
    """

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(levels))

    def forward(self, x: torch.Tensor, level: int) -> torch.Tensor:
        """(N, C, H, W) of pyramid level `level` (0 = finest) to the same shape."""
        normalised: torch.Tensor = self.levels[level](x)
        return normalised


def head_norm(kind: NormKind, channels: int, levels: int) -> nn.Module | None:
    """The norm after a shared head convolution; None where there is none.

    `shared` is a single batch norm for all levels; `group` (32 groups) exists to load
    torchvision's FCOS and has no integer form.
    """
    match kind:
        case "multi":
            return MultiLevelNorm(channels, levels)
        case "shared":
            return nn.BatchNorm2d(channels)
        case "group":
            return nn.GroupNorm(32, channels)
        case "none":
            return None


def at_level(module: nn.Module, x: torch.Tensor, level: int) -> torch.Tensor:
    """`module`, or each module of a list in turn, on the map of pyramid level `level`."""
    if isinstance(module, nn.ModuleList):
        for part in module:
            x = at_level(part, x, level)
        return x
    y: torch.Tensor = module(x, level) if isinstance(module, MultiLevelNorm) else module(x)
    return y
