"""Feature pyramid network, with torchvision's parameter names."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from intaglio.detect.networks.resnet import ResNet

ExtraSource = Literal["c5", "p5"]


class ExtraLevels(nn.Module):
    """P6 and P7: 3x3 convolutions of stride 2 on top of the pyramid."""

    def __init__(self, inputs: int, channels: int, count: int, *, norm: bool) -> None:
        super().__init__()
        self.names = [f"p{6 + i}" for i in range(count)]
        self.norm = norm
        for i, name in enumerate(self.names):
            source = inputs if i == 0 else channels
            self.add_module(name, nn.Conv2d(source, channels, 3, 2, 1, bias=not norm))
            if norm:
                self.add_module(f"{name}_bn", nn.BatchNorm2d(channels))
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(N, inputs, H, W) to `count` maps, each half the size of the one before, rounded up."""
        maps: list[torch.Tensor] = []
        for name in self.names:
            # Without a norm the map itself is not rectified, but what the next level reads is.
            source = self.relu(maps[-1]) if maps and not self.norm else x
            x = self.get_submodule(name)(source)
            if self.norm:
                x = self.relu(self.get_submodule(f"{name}_bn")(x))
            maps.append(x)
        return maps


class FeaturePyramid(nn.Module):
    """Lateral 1x1 convolutions, nearest upsampling and sums, 3x3 convolutions, extra levels.

    With `norm` every convolution is followed by batch norm and ReLU (AQD), so that all maps are
    non-negative; without it the parameters are torchvision's. `extra` is the number of levels
    above P5, made from `extra_source`.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        channels: int,
        *,
        norm: bool,
        extra: int = 0,
        extra_source: ExtraSource = "p5",
    ) -> None:
        super().__init__()
        self.inner_blocks = nn.ModuleList(_conv(c, channels, 1, norm) for c in inputs)
        self.layer_blocks = nn.ModuleList(_conv(channels, channels, 3, norm) for _ in inputs)
        self.extra_source = extra_source
        source = inputs[-1] if extra_source == "c5" else channels
        self.extra_blocks = ExtraLevels(source, channels, extra, norm=norm) if extra else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Backbone maps, finest first, to pyramid maps (N, channels, H_i, W_i), finest first."""
        top = self.inner_blocks[-1](maps[-1])
        pyramid = [self.layer_blocks[-1](top)]
        for i in range(len(maps) - 2, -1, -1):
            lateral = self.inner_blocks[i](maps[i])
            top = lateral + functional.interpolate(top, size=lateral.shape[-2:], mode="nearest")
            pyramid.insert(0, self.layer_blocks[i](top))
        if self.extra_blocks is not None:
            pyramid += self.extra_blocks(maps[-1] if self.extra_source == "c5" else pyramid[-1])
        return pyramid


class Backbone(nn.Module):
    """`body` (ResNet) and `fpn`, named as torchvision names them."""

    def __init__(self, body: ResNet, fpn: FeaturePyramid) -> None:
        super().__init__()
        self.body = body
        self.fpn = fpn

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Normalised images (N, 3, H, W) to pyramid maps, finest first."""
        pyramid: list[torch.Tensor] = self.fpn(self.body(images))
        return pyramid


def _conv(inputs: int, outputs: int, kernel: int, norm: bool) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=not norm)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU()) if norm else nn.Sequential(conv)
