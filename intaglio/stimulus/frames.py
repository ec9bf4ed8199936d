"""Pictures of many kinds, drawn by a seed: noise, blobs, shapes, boards, points, one colour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from intaglio.ops import Ints, Tensor

Reals = NDArray[np.float64]  # (C, H, W) from 0 to 1


def drawn(x: Tensor, count: int, seed: int = 0) -> Ints:
    """`count` pictures (N, C, H, W) of an input's codes, the kinds by turns; shapes are most like
    what detectors were trained on."""
    rng = np.random.default_rng((seed, *x.shape, x.type.bits))
    kinds = (shapes, noise, blobs, shapes, board, constant, sparse)
    made = [kinds[n % len(kinds)](rng, x.shape) for n in range(count)]
    return codes(np.stack(made), x)


def codes(pictures: Reals, x: Tensor) -> Ints:
    """From 0 to 1 to the least and the greatest code."""
    scaled = x.lo + np.clip(pictures, 0, 1) * (x.hi - x.lo)
    return np.rint(scaled).astype(np.int64)


def noise(rng: np.random.Generator, shape: tuple[int, int, int]) -> Reals:
    """Every code as likely."""
    return rng.random(shape)


def blobs(rng: np.random.Generator, shape: tuple[int, int, int]) -> Reals:
    """Waves of a few lengths, each channel its own, as far as both ends."""
    c, h, w = shape
    y, x = np.arange(h)[:, None], np.arange(w)
    found = np.zeros(shape)
    for _ in range(4):
        fy, fx = rng.uniform(-0.5, 0.5, 2)
        found += np.sin(fy * y + fx * x + rng.uniform(0, 7, (c, 1, 1)))
    return found / 4 + 0.5


def shapes(rng: np.random.Generator, shape: tuple[int, int, int]) -> Reals:
    """Boxes and strokes before a slope of light."""
    c, h, w = shape
    y, x = np.linspace(-0.5, 0.5, h)[:, None], np.linspace(-0.5, 0.5, w)
    found = rng.random((c, 1, 1)) + rng.uniform(-1, 1, (c, 1, 1)) * (y + x)
    for _ in range(12):
        high, wide = rng.integers(1, max(2, h // 3 + 1)), rng.integers(1, max(2, w // 3 + 1))
        top, left = rng.integers(0, h), rng.integers(0, w)
        found[:, top : top + high, left : left + wide] = rng.random((c, 1, 1)) * 1.5 - 0.25
    return np.asarray(found)


def board(rng: np.random.Generator, shape: tuple[int, int, int]) -> Reals:
    """Both ends by turns, in squares."""
    c, h, w = shape
    side = rng.integers(1, 5)
    fields = np.arange(h)[:, None] // side + np.arange(w) // side
    return ((fields + rng.integers(0, 2, (c, 1, 1))) % 2).astype(np.float64)


def constant(rng: np.random.Generator, shape: tuple[int, int, int]) -> Reals:
    """One end in each channel."""
    return np.broadcast_to(rng.integers(0, 2, (shape[0], 1, 1)), shape).astype(np.float64)


def sparse(rng: np.random.Generator, shape: tuple[int, int, int]) -> Reals:
    """Single pixels at one end among the other."""
    points = rng.random(shape) < 0.02
    return (points ^ bool(rng.integers(0, 2))).astype(np.float64)
