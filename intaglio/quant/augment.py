"""Random variants of images: there are few of them, and the real-valued network labels any."""

from __future__ import annotations

from math import pi

import torch
from torch.nn import functional

GROW = 0.25  # up to exp(+-GROW) times as large
SQUEEZE = 0.12  # up to exp(+-SQUEEZE) times as wide, and as much less high
TURN = 0.08 * pi
MOVE = 0.18  # of the side
CONTRAST = 0.2
BRIGHTNESS = 20.0  # of 255, for each channel apart
NOISE = 6.0  # of 255, largest standard deviation


def variants(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """One variant of each uint8 image (N, C, H, W), uint8 as well.

    A rectangle of another image is pasted into half of them; then each is scaled, turned and
    moved, with its mirror image beyond the borders; channels change places in half of them;
    contrast, brightness and noise change.
    """
    x = warped(pasted(images, generator).float(), generator)
    return recoloured(x, generator).round_().clamp_(0, 255).to(torch.uint8)


def pasted(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Half of the images with a rectangle of another, 0.3 to 0.8 of each side."""
    count, _, height, width = images.shape
    made = images.clone()
    other = torch.randint(count, (count,), generator=generator).tolist()
    drawn = torch.rand(count, 7, generator=generator, dtype=torch.float64).tolist()
    for n, (chance, *part) in enumerate(drawn):
        if chance < 0.5:
            h, w = int(height * (0.3 + 0.5 * part[0])), int(width * (0.3 + 0.5 * part[1]))
            y0, y1 = (int(p * (height - h + 1)) for p in part[2:4])
            x0, x1 = (int(p * (width - w + 1)) for p in part[4:6])
            made[n, :, y0 : y0 + h, x0 : x0 + w] = images[other[n], :, y1 : y1 + h, x1 : x1 + w]
    return made


def warped(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Scaled, squeezed, turned and moved at random, each image in its own way."""
    count = len(x)

    def spread(*shape: int) -> torch.Tensor:
        return torch.rand(count, *shape, generator=generator) * 2 - 1

    size, squeeze = torch.exp(GROW * spread()), torch.exp(SQUEEZE * spread())
    angle = TURN * spread()
    sine, cosine = torch.sin(angle) * size, torch.cos(angle) * size
    rows = [torch.stack([cosine * squeeze, -sine], 1), torch.stack([sine, cosine / squeeze], 1)]
    matrix = torch.cat([torch.stack(rows, 1), 2 * MOVE * spread(2, 1)], 2)
    where = functional.affine_grid(matrix, list(x.shape), align_corners=False)
    return functional.grid_sample(x, where, padding_mode="reflection", align_corners=False)


def recoloured(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Channels exchanged in half of the images; contrast, brightness and noise in all."""
    count, channels = x.shape[:2]

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(count, *shape, generator=generator)

    order = torch.argsort(draw(channels), dim=1)
    order = torch.where(draw(1) < 0.5, order, torch.arange(channels))
    x = torch.gather(x, 1, order[:, :, None, None].expand_as(x))
    x = x * (1 + CONTRAST * (draw(1, 1, 1) * 2 - 1))
    x = x + BRIGHTNESS * (draw(channels, 1, 1) * 2 - 1)
    noise = torch.randn(x.shape, generator=generator)
    return x + noise * (NOISE * draw(1, 1, 1))
