"""What the heads of FCOS and RetinaNet have in common."""

import math

import torch
from torch import nn

from intaglio.detect.networks.norm import NormKind, head_norm

Maps = tuple[torch.Tensor, ...]


def tower(
    channels: int, levels: int, convs: int, norm: NormKind, *, nested: bool = False
) -> nn.ModuleList:
    """`convs` times 3x3 convolution, norm, ReLU, all shared by the levels; see `norm.at_level`.

    torchvision names the modules 0, 1, 2, 3, ... in FCOS and 0.0, 0.1, 0.2, 1.0, ... in RetinaNet
    (`nested`).
    """
    blocks: list[list[nn.Module]] = []
    for _ in range(convs):
        # Before a batch norm a bias would be dead; torchvision's FCOS keeps it before group norm.
        bias = norm == "none" or (norm == "group" and not nested)
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        normalise = head_norm(norm, channels, levels)
        blocks.append([conv, nn.ReLU()] if normalise is None else [conv, normalise, nn.ReLU()])
    if nested:
        return nn.ModuleList(nn.ModuleList(block) for block in blocks)
    return nn.ModuleList(module for block in blocks for module in block)


def init_head(convs: nn.Module, *predictors: nn.Conv2d) -> None:
    """He-normal towers (the papers' 0.01 wants pretrained features); predictors start near zero."""
    for module in convs.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for predictor in predictors:
        nn.init.normal_(predictor.weight, std=0.01)
        if predictor.bias is not None:
            nn.init.zeros_(predictor.bias)


def set_prior(logits: nn.Conv2d, score: float) -> None:
    """Let every location start at `score`, or the background would swamp the first steps."""
    if logits.bias is not None:
        nn.init.constant_(logits.bias, -math.log((1 - score) / score))
