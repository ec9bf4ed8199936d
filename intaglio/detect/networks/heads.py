"""What FCOS and RetinaNet have in common: body, pyramid, towers and class logits."""

import math
from typing import Any

import torch
from torch import nn

from intaglio.detect.networks.fpn import Backbone, ExtraSource, FeaturePyramid
from intaglio.detect.networks.norm import NormKind, at_level, head_norm
from intaglio.detect.networks.resnet import IMAGENET_MEAN, IMAGENET_STD, ResNet
from intaglio.detect.networks.spec import HeadSpec

Maps = tuple[torch.Tensor, ...]


class Detector(nn.Module):
    """Normalised images (N, 3, H, W) to the raw maps of `head`, one set per pyramid level, finest
    first. `decode.decode` makes boxes of them.

    Normalised means (pixel / 255 - image_mean) / image_std. `input_size` (H, W) is None where the
    detector was not made for one size.
    """

    input_size: tuple[int, int] | None = None

    def __init__(
        self,
        body: ResNet,
        spec: HeadSpec,
        *,
        channels: int,
        fpn_norm: bool,
        extra_source: ExtraSource = "p5",
    ) -> None:
        super().__init__()
        extra = spec.levels - len(body.channels)
        fpn = FeaturePyramid(
            body.channels, channels, norm=fpn_norm, extra=extra, extra_source=extra_source
        )
        self.backbone = Backbone(body, fpn)
        self.head: nn.Module
        self.head_spec = spec
        self.image_mean = IMAGENET_MEAN
        self.image_std = IMAGENET_STD

    def forward(self, images: torch.Tensor) -> Any:
        """Raw maps of a batch; see the class."""
        return self.head(self.backbone(images))


class Classification(nn.Module):
    """Tower and class logits of every location, or of each of its anchors, shared by the levels."""

    def __init__(
        self, channels: int, spec: HeadSpec, convs: int, norm: NormKind, *, nested: bool = False
    ) -> None:
        super().__init__()
        self.conv = tower(channels, spec.levels, convs, norm, nested=nested)
        self.cls_logits = nn.Conv2d(channels, spec.anchors_at(0) * len(spec.classes), 3, padding=1)
        init_head(self.conv, self.cls_logits)
        set_prior(self.cls_logits, 0.01)

    def forward(self, x: torch.Tensor, level: int) -> torch.Tensor:
        """(N, channels, h, w) to (N, A * classes, h, w)."""
        logits: torch.Tensor = self.cls_logits(at_level(self.conv, x, level))
        return logits


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
