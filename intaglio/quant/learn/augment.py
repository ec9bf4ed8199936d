"""Random variants of images: there are few of them, and the real-valued network labels any."""

from __future__ import annotations

from math import pi

import torch
from torch.nn import functional

PASTED = 0.5  # share of images with a part of another
GROW = 0.3  # up to exp(+-GROW) times as large
SQUEEZE = 0.15  # up to exp(+-SQUEEZE) times as wide, and as much less high
TURN = 0.08 * pi
MOVE = 0.18  # of the side
BEND = 0.05  # of the side, largest displacement of the points of a coarse grid
POINTS = 5  # of that grid, on a side
CONTRAST = 0.3
BRIGHTNESS = 25.0  # of 255, for each channel apart
NOISE = 8.0  # of 255, largest standard deviation


def variants(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """One variant of each uint8 image (N, C, H, W), uint8 as well.

    A rectangle of another image is pasted into half of them; then each is scaled, turned, moved and
    bent, with its mirror image beyond the borders, and half of them are mirrored; channels change
    places in half of them; contrast, brightness and noise change.
    """
    x = warped(pasted(images, generator).float(), generator)
    return recoloured(x, generator).round_().clamp_(0, 255).to(torch.uint8)


def pasted(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Some of the images with a rectangle of another, 0.3 to 0.8 of each side."""
    count, _, height, width = images.shape
    made = images.clone()
    other = torch.randint(count, (count,), generator=generator).tolist()
    drawn = torch.rand(count, 7, generator=generator, dtype=torch.float64).tolist()
    for n, (chance, *part) in enumerate(drawn):
        if chance < PASTED:
            h, w = int(height * (0.3 + 0.5 * part[0])), int(width * (0.3 + 0.5 * part[1]))
            y0, y1 = (int(p * (height - h + 1)) for p in part[2:4])
            x0, x1 = (int(p * (width - w + 1)) for p in part[4:6])
            made[n, :, y0 : y0 + h, x0 : x0 + w] = images[other[n], :, y1 : y1 + h, x1 : x1 + w]
    return made


def warped(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Scaled, squeezed, turned, moved, mirrored and bent at random, each image in its own way."""
    count, _, height, width = x.shape

    def spread(*shape: int) -> torch.Tensor:
        return torch.rand(count, *shape, generator=generator) * 2 - 1

    size, squeeze = torch.exp(GROW * spread()), torch.exp(SQUEEZE * spread())
    angle, mirror = TURN * spread(), torch.sign(spread())
    sine, cosine = torch.sin(angle) * size, torch.cos(angle) * size
    across = torch.stack([cosine * squeeze * mirror, -sine], 1)
    down = torch.stack([sine * mirror, cosine / squeeze], 1)
    matrix = torch.cat([torch.stack([across, down], 1), 2 * MOVE * spread(2, 1)], 2)
    where = functional.affine_grid(matrix, list(x.shape), align_corners=False)
    bend = 2 * BEND * spread(2, POINTS, POINTS)
    bend = functional.interpolate(bend, (height, width), mode="bicubic", align_corners=True)
    where = where + bend.permute(0, 2, 3, 1)
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
