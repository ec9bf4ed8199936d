"""Small torch models as other people write them, and random ones."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from intaglio.detect.decode import HeadSpec
from intaglio.detect.networks.fcos import Fcos
from intaglio.detect.networks.resnet import BasicBlock, ResNet
from intaglio.detect.scenes import CLASSES


def pixels(shape: tuple[int, int, int], count: int = 4, seed: int = 0) -> NDArray[np.uint8]:
    """Random images (N, C, H, W) with some structure, so that maps are not all noise."""
    rng = np.random.default_rng(seed)
    c, h, w = shape
    coarse = rng.integers(0, 256, (count, c, -(-h // 4), -(-w // 4)))
    smooth = coarse.repeat(4, axis=2).repeat(4, axis=3)[:, :, :h, :w]
    noise = rng.integers(-30, 31, (count, c, h, w))
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


def trained(model: nn.Module, seed: int = 0) -> nn.Module:
    """In eval mode, with norms that look trained: statistics and factors away from 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features, generator=generator) * 0.3
            module.running_var = torch.rand(module.num_features, generator=generator) + 0.5
            module.weight.data = torch.rand(module.num_features, generator=generator) + 0.5
            module.bias.data = torch.randn(module.num_features, generator=generator) * 0.3
    return model.eval()


def tiny_detector() -> Fcos:
    """Random weights, three levels."""
    torch.manual_seed(1)
    spec = HeadSpec("fcos", CLASSES, strides=(8, 16, 32), nms_iou=0.6, score_threshold=0)
    body = ResNet(BasicBlock, (1, 1, 1, 1), (4, 4, 6, 6), stem_kernel=3)
    model = Fcos(body, spec, channels=4, convs=1)
    model.input_size = (32, 32)
    return model.eval()


def conv_norm(inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """3x3 convolution, norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Modules(nn.Module):
    """A classifier in module form: 5 and 7 channels, a depthwise layer, ceil_mode, Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 5, stride=2)
        self.depthwise = conv_norm(5, 5, groups=5)
        self.pool = nn.MaxPool2d(3, 2, 1, ceil_mode=True)
        self.wide = conv_norm(5, 7)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.flat = nn.Flatten()
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(7, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.wide(self.pool(self.depthwise(self.stem(x))))
        return self.fc(self.drop(self.flat(self.mean(x))))


class Functional(nn.Module):
    """The same function, written with torch.nn.functional and in-place calls."""

    def __init__(self, source: Modules) -> None:
        super().__init__()
        self.source = source

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        m = self.source
        for block, stride, groups in ((m.stem, 2, 1), (m.depthwise, 1, 5)):
            x = self.block(x, block, stride, groups)
        x = functional.max_pool2d(x, 3, 2, 1, ceil_mode=True)
        x = self.block(x, m.wide, 1, 1)
        x = functional.dropout(x.mean((2, 3)), 0.5, training=False)
        return functional.linear(x, m.fc.weight, m.fc.bias)

    @staticmethod
    def block(x: torch.Tensor, layers: nn.Sequential, stride: int, groups: int) -> torch.Tensor:
        conv, norm, _ = layers
        x = functional.conv2d(x, conv.weight, None, stride, 1, groups=groups)
        x = functional.batch_norm(
            x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        )
        return functional.relu_(x)


class Pyramid(nn.Module):
    """A skip, a lateral sum of two sizes, and a head shared by two levels with a norm for each."""

    def __init__(self, channels: int = 6, shared_norm: bool = False) -> None:
        super().__init__()
        self.image_mean = (0.485, 0.456, 0.406)
        self.image_std = (0.229, 0.224, 0.225)
        self.stem = conv_norm(3, channels, stride=2)
        self.body = conv_norm(channels, channels)
        self.down = conv_norm(channels, channels, stride=2)
        self.lateral = nn.Conv2d(channels, channels, 1)
        self.head = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        count = 1 if shared_norm else 2
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(count))
        self.logits = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        x = self.stem(x)
        fine = torch.relu(x + self.body(x))
        coarse = self.down(fine)
        fine = self.lateral(fine) + functional.interpolate(coarse, size=fine.shape[-2:])
        maps = []
        for level, x in enumerate((fine, coarse)):
            norm = self.norms[level % len(self.norms)]
            maps.append(self.logits(functional.relu(norm(self.head(x)))))
        return {"cls": maps}


class Mixed(nn.Module):
    """Concat, tables, average pools, borders and constants between the layers."""

    def __init__(self, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 5, 3, padding="same", dilation=2)
        self.b = nn.Conv2d(3, 7, (1, 3), padding=(0, 1))
        self.pad = nn.ZeroPad2d((1, 2, 0, 1))
        self.c = nn.Conv2d(12, 8, 3, groups=4)
        self.act = activation or nn.SiLU()
        self.pool = nn.AvgPool2d(3, 2, 1)
        self.d = nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.cat([torch.relu(self.a(x)), self.b(x)], dim=1)
        x = self.act(self.c(self.pad(x)))
        y = self.pool(x) * 0.5 + 0.25
        return torch.sigmoid(self.d(y)), -y


# --- random networks ----------------------------------------------------------------------------


class Skip(nn.Module):
    """x + inner(x)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inner(x)


class Branches(nn.Module):
    """The results of all branches, joined."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class Levels(nn.Module):
    """One convolution on a map and on its pooled half, a norm for each, summed."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(channels, channels, 3, padding=1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = functional.max_pool2d(x, 2, ceil_mode=True)
        fine, coarse = (
            torch.relu(norm(self.head(m))) for norm, m in zip(self.norms, (x, half), strict=True)
        )
        return fine + functional.interpolate(coarse, size=x.shape[-2:])


ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Identity, nn.SiLU, nn.Hardswish, nn.LeakyReLU, nn.Sigmoid)
BLOCKS = ("conv", "skip", "branches", "levels", "maxpool", "avgpool", "upsample", "pad")


@st.composite
def networks(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, int, int]]:
    """A random network and the (C, H, W) it reads; its weights come from one drawn seed."""
    torch.manual_seed(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.sampled_from((1, 3))), draw(st.integers(5, 13)), draw(st.integers(5, 13)))
    channels, size = shape[0], min(shape[1:])
    layers: list[nn.Module] = []
    for kind in ("conv", *draw(st.lists(st.sampled_from(BLOCKS), max_size=4))):
        act = draw(st.sampled_from(ACTIVATIONS))()
        match kind:
            case "conv":
                outputs = draw(st.integers(1, 7))
                stride = draw(st.integers(1, 2))
                groups = draw(st.sampled_from((1, channels)))
                outputs = outputs * groups if groups > 1 else outputs
                dilation = draw(st.integers(1, 2))
                conv = nn.Conv2d(
                    channels, outputs, 3, stride, dilation, dilation=dilation, groups=groups
                )
                layers += [conv, nn.BatchNorm2d(outputs), act]
                channels, size = outputs, -(-size // stride)
            case "skip":
                layers += [Skip(nn.Sequential(nn.Conv2d(channels, channels, 1), act)), nn.ReLU()]
            case "branches":
                outputs = draw(st.integers(1, 4))
                inner = nn.Conv2d(channels, outputs, (1, 3), padding=(0, 1))
                layers.append(Branches(inner, nn.Identity()))
                channels += outputs
            case "levels":
                layers.append(Levels(channels))
            case "maxpool" if size > 2:
                layers.append(nn.MaxPool2d(3, 2, 1, ceil_mode=draw(st.booleans())))
                size = (size + 1) // 2
            case "avgpool" if size > 3:
                layers += [nn.AvgPool2d(draw(st.integers(2, 3)), 2, 1), act]
                size //= 2
            case "upsample":
                layers.append(nn.Upsample(scale_factor=2))
                size *= 2
            case "pad":
                layers.append(nn.ConstantPad2d((0, 1, 2, 1), draw(st.sampled_from((0.0, 0.5)))))
    return trained(nn.Sequential(*layers)), shape
