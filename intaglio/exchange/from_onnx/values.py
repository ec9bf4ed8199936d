"""What the importer knows of a tensor of an ONNX graph: codes, weights, or a real value to come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.fixed import IntType

Array = NDArray[Any]


@dataclass(frozen=True)
class Grid:
    """Codes of `type` that stand for scale * (q - zero)."""

    type: IntType
    scale: np.float32
    zero: int

    def code(self, x: Fraction | None, otherwise: int) -> int:
        """The code of a real bound, ties to even, within the type."""
        if x is None:
            return otherwise
        near = round(x / Fraction(float(self.scale))) + self.zero
        return max(self.type.lo, min(self.type.hi, near))

    def exactly(self, x: Fraction) -> int | None:
        """The code that stands for x, to the precision of float32; None where there is none."""
        near = round(x / Fraction(float(self.scale))) + self.zero
        gap = abs((near - self.zero) * Fraction(float(self.scale)) - x)
        return near if self.type.holds(near, near) and gap <= abs(x) / (1 << 21) else None

    def codes(self, x: Array) -> Array:
        """Codes of real values, ties to even."""
        near = np.rint(x / np.float64(self.scale)) + self.zero
        codes: Array = np.clip(near, self.type.lo, self.type.hi).astype(np.int64)
        return codes

    def reals(self) -> Array:
        """The real value of every code."""
        codes = np.arange(self.type.lo, self.type.hi + 1, dtype=np.float64)
        reals: Array = np.float64(self.scale) * (codes - self.zero)
        return reals


@dataclass(frozen=True)
class Codes:
    """A tensor of the Program and the grid of its codes."""

    name: str
    grid: Grid


@dataclass(frozen=True)
class Weights:
    """Constant integers, zero point subtracted, and their scale: one, or one for each value along
    `axis`. `name` is the initialiser's, by which layers share them."""

    name: str
    codes: Array
    scale: Array
    axis: int = 0


@dataclass(frozen=True)
class Part:
    """scale * gain[c] * (tensor - zero[c]) of a Program's tensor, one value for each channel or one
    for all. `scale` is kept apart as float32 factors, as runtimes multiply them."""

    tensor: str
    scale: np.float32
    weights: tuple[np.float32, ...]
    zero: tuple[int, ...]
    gain: tuple[Fraction, ...] = (Fraction(1),)


@dataclass(frozen=True)
class Real:
    """A float tensor not yet quantised: clamp(sum of parts + addend[c], lo, hi), or a function of
    the codes of a single tensor."""

    parts: tuple[Part, ...]
    addend: tuple[Fraction, ...] = (Fraction(0),)
    lo: Fraction | None = None
    hi: Fraction | None = None
    codes: Codes | None = None  # where it is exactly these codes' value
    function: Array | None = None  # of every code of `codes`

    def clamped(self, lo: Fraction | None, hi: Fraction | None) -> Real:
        """Limited further: bounds that are already there are limited too."""
        ends = [bounded(end, lo, hi) for end in (self.lo, self.hi)]
        return replace(
            self, lo=lo if ends[0] is None else ends[0], hi=hi if ends[1] is None else ends[1]
        )


def bounded(x: Fraction | None, lo: Fraction | None, hi: Fraction | None) -> Fraction | None:
    """x within [lo, hi]; where there is no x, none."""
    if x is None:
        return None
    x = x if lo is None else max(x, lo)
    return x if hi is None else min(x, hi)


@dataclass(frozen=True)
class Joined:
    """Real values side by side, channels one after the other."""

    parts: tuple[Real, ...]


@dataclass(frozen=True)
class Bordered:
    """Codes with a border (top, bottom, left, right) of a value that none of them stands for."""

    codes: Codes
    padding: tuple[int, int, int, int]
    value: float


Value = Codes | Real | Bordered | Joined | Weights | Array


def real_of(codes: Codes) -> Real:
    """What the codes stand for."""
    part = Part(codes.name, codes.grid.scale, (np.float32(1),), (codes.grid.zero,))
    return Real((part,), codes=codes)
