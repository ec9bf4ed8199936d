"""Detectors that benchmarks of the simulator run: bundled ones, ResNet18-RetinaNet, and two of the
kinds that people bring, with the operations that the others lack.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from intaglio.detect import zoo
from intaglio.detect.decode import HeadSpec
from intaglio.detect.networks.retinanet import retinanet_resnet

SIZES = {"retinanet-r18": 512, "yolo-like": 320, "ssd-like": 320}


def find(name: str) -> tuple[Any, int]:
    """A network by NAME, or NAME:SIZE, and the side of its images."""
    net, _, size = name.partition(":")
    made = {"retinanet-r18": retinanet, "yolo-like": YoloLike, "ssd-like": SsdLike}.get(net)
    if made is None:
        return zoo.load(net), zoo.find(net).size[0]
    torch.manual_seed(0)
    side = int(size or SIZES[net])
    model = made()
    return (model if net == "retinanet-r18" else settled(model, side)), side


def retinanet() -> nn.Module:
    """ResNet18-FPN-RetinaNet of 80 classes with random weights."""
    strides = (8, 16, 32, 64, 128)
    sizes = tuple(tuple(4.0 * s * 2 ** (i / 3) for i in range(3)) for s in strides)
    classes = tuple(str(i) for i in range(80))
    spec = HeadSpec("retinanet", classes, strides, anchor_sizes=sizes, anchor_ratios=(0.5, 1, 2))
    return retinanet_resnet(18, spec).eval()


def settled(model: nn.Module, side: int) -> nn.Module:
    """With norms that have seen some noise."""
    model.train()
    with torch.no_grad():
        for _ in range(4):
            model(torch.randn(2, 3, side, side))
    return model.eval()


def unit(cin: int, cout: int, side: int, stride: int, act: nn.Module, groups: int = 1) -> nn.Module:
    """Convolution, norm, activation."""
    conv = nn.Conv2d(cin, cout, side, stride, side // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout), act)


def silu(cin: int, cout: int, side: int = 1, stride: int = 1) -> nn.Module:
    """`unit` with SiLU, which integers look up."""
    return unit(cin, cout, side, stride, nn.SiLU())


class Split(nn.Module):
    """Two halves, a residual block in one of them, joined again."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        half = cout // 2
        self.left, self.right = silu(cin, half), silu(cin, half)
        self.inner = nn.Sequential(silu(half, half), silu(half, half, 3))
        self.join = silu(2 * half, cout)

    def forward(self, x: Tensor) -> Tensor:
        left = self.left(x)
        made: Tensor = self.join(torch.cat((left + self.inner(left), self.right(x)), 1))
        return made


class YoloLike(nn.Module):
    """Stages of `Split`, a pyramid of pools, a neck of upsampled maps, predictors of 1x1."""

    def __init__(self, values: int = 24) -> None:
        super().__init__()
        widths = (8, 16, 32, 48, 64)
        self.stem = silu(3, widths[0], 3, 2)
        self.stages = nn.ModuleList(
            nn.Sequential(silu(a, b, 3, 2), Split(b, b)) for a, b in pairwise(widths)
        )
        self.before, self.behind = silu(64, 32), silu(128, 64)
        self.lateral = nn.ModuleList((silu(64, 48), silu(48, 32)))
        self.neck = nn.ModuleList((Split(96, 48), Split(64, 32)))
        self.heads = nn.ModuleList(nn.Conv2d(c, values, 1) for c in (32, 48, 64))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        pools = [self.before(x)]
        for _ in range(3):
            pools.append(functional.max_pool2d(pools[-1], 5, 1, 2))
        tops = [self.behind(torch.cat(pools, 1))]
        for lateral, neck, low in zip(self.lateral, self.neck, maps[2:0:-1], strict=True):
            up = functional.interpolate(lateral(tops[-1]), scale_factor=2.0, mode="nearest")
            tops.append(neck(torch.cat((up, low), 1)))
        return [head(top) for head, top in zip(self.heads, reversed(tops), strict=True)]


class Inverted(nn.Module):
    """1x1 to many channels, 3x3 of each by itself, 1x1 back."""

    def __init__(self, cin: int, cout: int, stride: int, times: int = 4) -> None:
        super().__init__()
        wide = cin * times
        self.inner = nn.Sequential(
            unit(cin, wide, 1, 1, nn.ReLU6()),
            unit(wide, wide, 3, stride, nn.ReLU6(), wide),
            unit(wide, cout, 1, 1, nn.Identity()),
        )
        self.residual = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.inner(x)
        return x + made if self.residual else made


class SsdLike(nn.Module):
    """A stem, `Inverted` blocks, and predictors of 1x1 behind depthwise ones on three maps."""

    def __init__(self, values: int = 32) -> None:
        super().__init__()
        self.stem = unit(3, 8, 3, 2, nn.ReLU6())
        widths = (8, 16, 24, 40, 48)
        self.stages = nn.ModuleList(
            nn.Sequential(Inverted(a, b, 2), Inverted(b, b, 1)) for a, b in pairwise(widths)
        )
        self.heads = nn.ModuleList(
            nn.Sequential(unit(c, c, 3, 1, nn.ReLU6(), c), nn.Conv2d(c, values, 1))
            for c in widths[2:]
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return [head(m) for head, m in zip(self.heads, maps[1:], strict=True)]
