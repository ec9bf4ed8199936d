"""How often values and codes are seen: a layer's weights and results before and after rounding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.quant.ranges.grids import Grid, WeightCodes
from intaglio.quant.ranges.observe import Histogram

PARTS = 64  # bars of a histogram, at most


@dataclass(frozen=True)
class Bars:
    """Counts in equal parts of [lo, hi], in codes."""

    lo: float
    hi: float
    counts: tuple[float, ...]


@dataclass(frozen=True)
class Shares:
    """Real values and their codes, both in codes; the codes that there are, and the real `step`
    from one to the next (of weights with a scale per channel the median). Of the real values of a
    tensor zeros are left out, of which a ReLU makes many."""

    real: Bars
    codes: Bars
    lo: int
    hi: int
    step: float


def of_weights(weight: NDArray[np.float64], found: WeightCodes) -> Shares:
    """A weight (Cout, ...) and its codes."""
    scale = found.scale.reshape(-1, *([1] * (weight.ndim - 1)))
    real = (weight / scale).reshape(-1)
    lo, hi = float(real.min(initial=0.0)), float(real.max(initial=0.0))
    counts, _ = np.histogram(real, PARTS, (lo, hi if hi > lo else lo + 1.0))
    codes = np.asarray(found.codes, dtype=np.int64).reshape(-1)
    least, most = int(codes.min(initial=0)), int(codes.max(initial=0))
    bars = of_codes(np.bincount(codes - least, minlength=most - least + 1), least)
    return Shares(
        Bars(lo, hi, tuple(map(float, counts))), bars, found.type.lo, found.type.hi,
        float(np.median(found.scale)),
    )  # fmt: skip


def of_tensor(seen: Histogram, grid: Grid, counts: NDArray[np.int64]) -> Shares:
    """What calibration saw of a tensor's group, and how often each code from the type's least on
    came out."""
    whole = seen.counts.numpy().reshape(PARTS, -1).sum(axis=1)
    lo, hi = (end / grid.scale + grid.zero_point for end in (seen.lo, seen.hi))
    used = np.flatnonzero(counts)
    first, last = (int(used[0]), int(used[-1])) if len(used) else (0, 0)
    bars = of_codes(counts[first : last + 1], grid.type.lo + first)
    return Shares(
        Bars(float(lo), float(hi), tuple(map(float, whole))), bars, grid.type.lo, grid.type.hi,
        float(grid.scale),
    )  # fmt: skip


def of_codes(counts: NDArray[np.int64], least: int) -> Bars:
    """Bars of the codes from `least` on, several to a bar where they are many."""
    width = -(-len(counts) // PARTS)
    padded = np.zeros(-(-len(counts) // width) * width, dtype=np.int64)
    padded[: len(counts)] = counts
    summed = padded.reshape(-1, width).sum(axis=1)
    return Bars(least - 0.5, least - 0.5 + len(padded), tuple(map(float, summed)))


def to_json(shares: Mapping[str, Shares | None]) -> dict[str, Any]:
    """JSON values of those that are there."""
    return {
        name: {
            "real": vars_of(s.real), "codes": vars_of(s.codes), "lo": s.lo, "hi": s.hi,
            "step": s.step,
        }
        for name, s in shares.items()
        if s is not None
    }  # fmt: skip


def vars_of(bars: Bars) -> dict[str, Any]:
    """JSON values of a histogram."""
    return {"lo": bars.lo, "hi": bars.hi, "counts": list(bars.counts)}
