"""Random small networks whose channels differ by orders of magnitude, or do nothing at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from models import pixels
from numpy.typing import NDArray
from torch import nn

from intaglio.ops import Shape

Rng = np.random.Generator


class Net(nn.Module):
    """Convolutions with norms, some depthwise, a skip where shapes allow, and a predictor."""

    def __init__(self, rng: Rng) -> None:
        super().__init__()
        width = int(rng.integers(4, 10))
        self.cap = 6.0 if rng.random() < 0.3 else torch.inf
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1, bias=False)]
        for _ in range(int(rng.integers(0, 3))):
            if rng.random() < 0.4:
                layers.append(nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False))
            else:
                side = int(rng.choice((1, 3)))
                layers.append(nn.Conv2d(width, width, side, padding=side // 2, bias=False))
        self.convs = nn.ModuleList(layers)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in layers)
        self.skips = [n > 0 and bool(rng.random() < 0.4) for n in range(len(layers))]
        self.out = nn.Conv2d(width, int(rng.integers(2, 5)), 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                weight = rng.normal(size=module.weight.shape) / np.sqrt(module.weight[0].numel())
                module.weight.data = torch.from_numpy(weight).float()
            if isinstance(module, nn.BatchNorm2d):
                for name, low, high in (
                    ("running_mean", -0.1, 0.1), ("running_var", 0.05, 0.2),
                    ("weight", 0.5, 1.5), ("bias", -0.2, 0.2),
                ):  # fmt: skip
                    getattr(module, name).data = torch.from_numpy(
                        rng.uniform(low, high, width)
                    ).float()
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv, norm, skip in zip(self.convs, self.norms, self.skips, strict=True):
            y = torch.clamp(norm(conv(x)), 0, self.cap)
            x = x + y if skip else y
        return self.out(x)


def zero_norm(net: Net, layer: int, c: int, rng: Rng) -> None:
    """Pruned by its norm, with or without what is left of its shift."""
    net.norms[layer].weight.data[c] = 0
    net.norms[layer].bias.data[c] *= float(rng.integers(0, 2))


def zero_filter(net: Net, layer: int, c: int, rng: Rng) -> None:
    """Pruned by its weights."""
    net.convs[layer].weight.data[c] = 0


def never_fires(net: Net, layer: int, c: int, rng: Rng) -> None:
    """A factor that would take every bit, and a mean that no input reaches."""
    net.norms[layer].weight.data[c] = float(10 ** rng.uniform(2, 6))
    net.norms[layer].running_mean[c] = 1e3


def far_below(net: Net, layer: int, c: int, rng: Rng) -> None:
    """A shift that would take every bit."""
    net.norms[layer].bias.data[c] = -float(10 ** rng.uniform(2, 10))


def collapsed(net: Net, layer: int, c: int, rng: Rng) -> None:
    """A variance next to 0, as behind a filter that was pruned before training went on."""
    net.convs[layer].weight.data[c] *= 1e-9
    net.norms[layer].running_var[c] = 1e-12
    net.norms[layer].running_mean[c] = 0


def extreme(net: Net, layer: int, c: int, rng: Rng) -> None:
    """A factor far above the others' that does fire."""
    net.norms[layer].weight.data[c] = float(10 ** rng.uniform(1, 6))


def faint(net: Net, layer: int, c: int, rng: Rng) -> None:
    """A factor far below the others'."""
    net.norms[layer].weight.data[c] = float(10 ** rng.uniform(-8, -2))


def duplicate(net: Net, layer: int, c: int, rng: Rng) -> None:
    """The same filter and norm as its neighbour's."""
    conv, norm, d = net.convs[layer], net.norms[layer], c - 1
    conv.weight.data[c] = conv.weight.data[d]
    for values in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        values[c] = values[d]


KINDS: tuple[Callable[[Net, int, int, Rng], None], ...] = (
    zero_norm, zero_filter, never_fires, far_below, collapsed, extreme, faint, duplicate,
)  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """A network and its images; `changed` are (kind, layer, channel), none of a plain one."""

    net: Net
    images: NDArray[np.uint8]
    wbits: int
    abits: int
    changed: tuple[tuple[str, int, int], ...]


def drawn(seed: int, plain: bool = False) -> Drawn:
    """Number `seed` of all networks; a `plain` one has no channel that was changed."""
    rng = np.random.default_rng([seed, int(plain)])
    net, changed = Net(rng), []
    for _ in range(0 if plain else int(rng.integers(1, 4))):
        kind = KINDS[int(rng.integers(len(KINDS)))]
        layer, c = int(rng.integers(len(net.convs))), int(rng.integers(len(net.norms[0].weight)))
        with torch.no_grad():
            kind(net, layer, c, rng)
        changed.append((kind.__name__, layer, c))
    wbits, abits = ((4, 4), (8, 8), (8, 16))[int(rng.integers(3))]
    shape: Shape = (3, int(rng.integers(8, 14)), int(rng.integers(8, 14)))
    return Drawn(net, pixels(shape, 6, seed), wbits, abits, tuple(changed))
