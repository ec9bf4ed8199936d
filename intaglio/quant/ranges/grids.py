"""From what was observed to a grid of codes: the ranges tried and the error each makes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor, log2

import numpy as np
import torch
from numpy.typing import NDArray

from intaglio.fixed import IntType, clamp, code_bits
from intaglio.quant.capture.graph import Floats
from intaglio.quant.ranges.observe import Histogram
from intaglio.quant.settings.config import QuantConfig

CANDIDATES = 100
COARSE = 5  # long searches take steps of 5 / 100 first, then of 1 / 100 around the best
HEADROOM_BITS = 12  # codes this wide take the whole range observed, and once more


@dataclass(frozen=True)
class Grid:
    """Codes q of `type` that stand for scale * (q - zero_point)."""

    scale: float
    zero_point: int
    type: IntType

    def codes(self, x: torch.Tensor) -> torch.Tensor:
        """Nearest codes, halves up, as floating integers."""
        return torch.floor(x / self.scale + self.zero_point + 0.5).clamp(self.type.lo, self.type.hi)

    def real(self, codes: torch.Tensor) -> torch.Tensor:
        """What codes stand for."""
        return (codes - self.zero_point) * self.scale

    def code(self, x: float) -> int:
        """The code of one number; infinities are the ends of the type."""
        if abs(x) == float("inf"):
            return self.type.lo if x < 0 else self.type.hi
        return clamp(floor(x / self.scale + self.zero_point + 0.5), self.type.lo, self.type.hi)

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest value."""
        return (
            self.scale * (self.type.lo - self.zero_point),
            self.scale * (self.type.hi - self.zero_point),
        )


@dataclass(frozen=True, eq=False)
class WeightCodes:
    """`codes` (Cout, Cin / groups, Kh, Kw) of `type`; each channel's stand for scale[c] * q.

    With `odd` they are odd integers, stored at `code_bits`, one bit less than `type` has.
    """

    codes: NDArray[np.int64]
    scale: Floats
    type: IntType
    odd: bool = False

    @property
    def code_bits(self) -> int:
        """Bits that one weight takes in a ROM."""
        return code_bits(self.type, self.odd)

    @property
    def real(self) -> Floats:
        """What the codes stand for."""
        return self.codes * self.scale[:, None, None, None]


# --- activations --------------------------------------------------------------------------------


def activation_grid(seen: Histogram, bits: int, unsigned: bool, config: QuantConfig) -> Grid:
    """The grid with the least error by `config.method`.

    Where one function alone reads the values, of what that function makes of them: a SiLU is next
    to 0 below -8, where its argument need not be exact.

    Unsigned with zero point 0 where values are proved non-negative; else signed with zero point 0,
    or, unless `config.symmetric`, unsigned with any.
    """
    if bits >= HEADROOM_BITS:
        return spanning(2 * seen.lo, 2 * seen.hi, bits, unsigned, config)
    if config.method == "minmax":
        return spanning(seen.lo, seen.hi, bits, unsigned, config)
    if config.method == "percentile":
        return spanning(*seen.percentiles(config.percentile), bits, unsigned, config)
    free = not unsigned and not config.symmetric
    tried = candidates(seen, bits, unsigned, config) if not free else coarse(seen, bits, config)
    best = min(tried, key=lambda part: error(seen, tried[part], config))
    if free:
        tried = around(best, seen, bits, config)
        best = min(tried, key=lambda part: error(seen, tried[part], config))
    return tried[best]


def spanning(lo: float, hi: float, bits: int, unsigned: bool, config: QuantConfig) -> Grid:
    """The grid of a range with lo <= 0 <= hi."""
    free = not unsigned and not config.symmetric
    type = IntType(bits, signed=not unsigned and config.symmetric)
    if free:
        scale = (hi - lo) / type.hi
    else:
        scale = max(hi, -lo) / type.hi
    scale = scale_or_one(scale, config.power_of_two)
    zero_point = clamp(floor(-lo / scale + 0.5), type.lo, type.hi) if free else 0
    return Grid(scale, zero_point, type)


def scale_or_one(scale: float, power_of_two: bool) -> float:
    """The next larger power of two if asked for; 1 for a tensor that is all zero."""
    if scale < 1e-30:
        return 1.0
    return 2.0 ** ceil(log2(scale)) if power_of_two else scale


Parts = tuple[int, int]  # hundredths of lo and hi


def candidates(
    seen: Histogram, bits: int, unsigned: bool, config: QuantConfig
) -> dict[Parts, Grid]:
    """Grids of shrunken ranges, both ends alike."""
    parts = range(CANDIDATES, 0, -1)
    return {(i, i): shrunken((i, i), seen, bits, unsigned, config) for i in parts}


def coarse(seen: Histogram, bits: int, config: QuantConfig) -> dict[Parts, Grid]:
    """Grids of ranges whose ends shrink independently, so that the zero point moves."""
    steps = range(CANDIDATES, 0, -COARSE)
    return {(i, j): shrunken((i, j), seen, bits, False, config) for i in steps for j in steps}


def around(best: Parts, seen: Histogram, bits: int, config: QuantConfig) -> dict[Parts, Grid]:
    """Finer steps about the best of `coarse`."""
    i, j = (range(max(1, b - COARSE), min(CANDIDATES, b + COARSE) + 1) for b in best)
    return {(a, b): shrunken((a, b), seen, bits, False, config) for a in i for b in j}


def shrunken(parts: Parts, seen: Histogram, bits: int, unsigned: bool, config: QuantConfig) -> Grid:
    """The grid of a part of the range."""
    lo, hi = seen.lo * parts[0] / CANDIDATES, seen.hi * parts[1] / CANDIDATES
    return spanning(lo, hi, bits, unsigned, config)


def error(seen: Histogram, grid: Grid, config: QuantConfig) -> float:
    """What `config.method` minimises."""
    if config.method == "kl":
        return divergence(seen, grid)
    return powered(seen.counts, distances(seen, grid), config.p if config.method == "lp" else 2.0)


@lru_cache(CANDIDATES)
def distances(seen: Histogram, grid: Grid) -> torch.Tensor:
    """|x - Q(x)| of the bins' centres, or of what a function makes of both; kept from one p to the
    next."""
    if seen.through is None:
        return distance(seen.centres, grid)
    x = seen.centres
    return (seen.through(x) - seen.through(grid.real(grid.codes(x)))).abs()


def distance(x: torch.Tensor, grid: Grid) -> torch.Tensor:
    """|x - Q(x)|."""
    return (x - grid.real(grid.codes(x))).abs()


def lp_error(centres: torch.Tensor, counts: torch.Tensor, grid: Grid, p: float) -> float:
    """Sum over the values of |x - Q(x)|^p."""
    return powered(counts, distance(centres, grid), p)


def powered(counts: torch.Tensor, distances: torch.Tensor, p: float) -> float:
    """The sum of distances^p, each so many times."""
    return float((counts * distances.pow(p)).sum())


def divergence(seen: Histogram, grid: Grid) -> float:
    """Kullback-Leibler divergence of the quantised from the clipped distribution.

    Values beyond the range count at its ends; within a code the quantised distribution is level
    over the bins that hold anything (as in TensorRT's calibration).
    """
    centres, lo, hi = seen.centres, *grid.range
    inside = (centres >= lo - grid.scale / 2) & (centres <= hi + grid.scale / 2)
    counts = seen.counts[inside]
    if counts.sum() == 0:
        return float("inf")
    index = (grid.codes(centres[inside]) - grid.type.lo).long()
    filled = (counts > 0).double()
    size = 1 << grid.type.bits
    mass = torch.zeros(size, dtype=torch.float64).index_add_(0, index, counts)
    bins = torch.zeros(size, dtype=torch.float64).index_add_(0, index, filled)
    level = (mass / bins.clamp(min=1))[index] * filled
    clipped = counts.clone()
    clipped[0] += seen.counts[centres < lo - grid.scale / 2].sum()
    clipped[-1] += seen.counts[centres > hi + grid.scale / 2].sum()
    p, q = clipped / clipped.sum(), (level / level.sum()).clamp(min=1e-9)
    return float((p * (p.clamp(min=1e-12) / q).log()).sum())


# --- weights ------------------------------------------------------------------------------------


def weight_codes(weight: Floats, bits: int, config: QuantConfig) -> WeightCodes:
    """Signed codes over the whole type, and a scale per output channel (or one for all,
    as the settings or the arithmetic say).

    "minmax" and "percentile" scale by the largest weight; "kl" uses p = 2.
    """
    channels = weight.shape[0]
    type = IntType(bits, signed=True)
    rows = torch.from_numpy(weight.reshape(channels if config.by_channel else 1, -1))
    largest = rows.abs().amax(dim=1, keepdim=True) / type.hi
    largest = torch.where(largest < 1e-30, torch.ones_like(largest), largest)
    scale = weight_scale(largest, CANDIDATES, config)
    if config.method in ("lp", "mse", "kl"):
        scale = weight_scale(largest, best_parts(rows, largest, type, config), config)
    codes = torch.floor(rows / scale + 0.5).clamp(type.lo, type.hi)
    return WeightCodes(
        codes.reshape(weight.shape).numpy().astype(np.int64),
        np.broadcast_to(scale.numpy().reshape(-1), (channels,)).copy(),
        type,
    )


def best_parts(
    rows: torch.Tensor, largest: torch.Tensor, type: IntType, config: QuantConfig
) -> torch.Tensor:
    """Hundredths of `largest` with the least error for each row: coarse steps, then fine ones."""
    p = config.p if config.method == "lp" else 2.0
    values = rows.float()
    best = torch.full_like(largest, torch.inf, dtype=torch.float32)
    parts = torch.full_like(largest, CANDIDATES)

    def attempt(tried: torch.Tensor) -> None:
        nonlocal best, parts
        scale = weight_scale(largest, tried, config).float()
        codes = torch.floor(values / scale + 0.5).clamp_(type.lo, type.hi)
        error = (values - codes * scale).abs_().pow_(p).sum(dim=1, keepdim=True)
        parts = torch.where(error < best, tried, parts)
        best = torch.minimum(error, best)

    for part in range(CANDIDATES, 0, -COARSE):
        attempt(torch.full_like(largest, part))
    middle = parts
    for step in range(1 - COARSE, COARSE):
        attempt((middle + step).clamp(1, CANDIDATES))
    return parts


def weight_scale(
    largest: torch.Tensor, parts: torch.Tensor | int, config: QuantConfig
) -> torch.Tensor:
    """Hundredths of the largest scale, or the next power of two."""
    scale = largest * parts / CANDIDATES
    if not config.power_of_two:
        return scale
    mantissa, exponent = torch.frexp(scale)  # in [0.5, 1); 0.5 is a power of two itself
    return torch.ldexp(torch.ones_like(scale), exponent - (mantissa == 0.5).int())
