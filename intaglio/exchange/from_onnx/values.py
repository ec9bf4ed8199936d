"""What the importer knows of a tensor of an ONNX graph: codes, weights, or a real value to come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio import ops
from intaglio.fixed import IntType
from intaglio.program import Builder
from intaglio.transposed import Phases

Array = NDArray[Any]
TABLE_BITS = 16  # of a Lookup's input
MOST_ENTRIES = 1 << 24  # of all tables of a Lookup


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
        """Codes of real values, ties to even, divided in the precision of x."""
        with np.errstate(over="ignore"):
            near = np.rint(x / x.dtype.type(self.scale)) + self.zero
        codes: Array = np.clip(near, self.type.lo, self.type.hi).astype(np.int64)
        return codes

    def reals(self, precision: Any = np.float64) -> Array:
        """The real value of every code."""
        return self.real(np.arange(self.type.lo, self.type.hi + 1), precision)

    def real(self, codes: Array, precision: Any = np.float64) -> Array:
        """What codes stand for."""
        reals: Array = precision(self.scale) * (codes - self.zero).astype(precision)
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


Operand = tuple[Array, Grid]  # codes, and what they stand for


@dataclass(frozen=True)
class Floats:
    """A float32 for every code of one tensor, (codes,), or of channels that differ, (C, codes);
    or for every pair of codes of two tensors. `settled` are the codes that the runtime makes on a
    grid, where it does not divide these floats by the scale."""

    codes: tuple[Codes, ...]
    reals: Array
    settled: Callable[[Grid], Array] | None = None

    @staticmethod
    def of(codes: Codes) -> Floats | None:
        """What codes stand for; None of codes too wide for a table."""
        if codes.grid.type.bits > TABLE_BITS:
            return None
        return Floats((codes,), codes.grid.reals(np.float32))

    def clamped(self, lo: Fraction | None, hi: Fraction | None) -> Floats:
        """Limited, in float32."""
        if lo is hi is None:
            return self
        with np.errstate(over="ignore"):  # beyond float32 there is no bound
            low, high = (None if v is None else np.float32(float(v)) for v in (lo, hi))
        return replace(self, reals=np.clip(self.reals, low, high))

    def step(self, kind: str, constant: Any, first: bool) -> Floats:
        """An elementwise operator of this value and one constant, or (C, 1) of them, the first
        operand or the second."""
        other = np.asarray(constant, np.float32)
        a, b = (other, self.reals) if first else (self.reals, other)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            made = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}[kind](
                a, b
            )
        return Floats(self.codes, made.astype(np.float32))

    def plus(self, other: Floats, sign: int) -> Floats | None:
        """The sum of two values, or their difference; None where a table would be too large."""
        second = other.reals if sign > 0 else -other.reals
        if self.codes == other.codes:
            return Floats(self.codes, self.reals + second)
        both = (*self.codes, *other.codes)
        several = max(self.reals.ndim, other.reals.ndim) > 1
        if several or len(both) > 2 or sum(c.grid.type.bits for c in both) > TABLE_BITS:
            return None
        return Floats(both, (self.reals[:, None] + second).reshape(-1))

    def times(self, other: Floats) -> Floats | None:
        """The products of two values of two tensors; None where a table would be too large."""
        both = (*self.codes, *other.codes)
        if len(both) != 2 or sum(c.grid.type.bits for c in both) > TABLE_BITS:
            return None
        return Floats(both, (self.reals[:, None] * other.reals).reshape(-1))

    def pairs(self) -> tuple[Operand, Operand]:
        """Both codes of every pair; twice the same where there is one tensor."""
        first, last = self.codes[0].grid, self.codes[-1].grid
        a, b = (np.arange(g.type.lo, g.type.hi + 1) for g in (first, last))
        if len(self.codes) == 2:
            a, b = np.repeat(a, b.size), np.tile(b, a.size)
        return (a, first), (b, last)

    def on(self, grid: Grid) -> Array:
        """Codes on a grid, one for each of `reals`."""
        return self.settled(grid) if self.settled else grid.codes(np.nan_to_num(self.reals))

    def lookup(
        self, builder: Builder, name: str, table: Array, type: IntType, origin: str
    ) -> ops.Lookup:
        """The table as an operation; of two tensors, behind one that puts their codes together."""
        index = self.codes[0].name
        if len(self.codes) == 2:
            index = self.joined(builder, f"{name}.pair", origin)
        constant = builder.constant(f"{name}.table", table, type)
        return ops.Lookup(output=name, origin=origin, input=index, table=constant)

    def joined(self, builder: Builder, name: str, origin: str) -> str:
        """(a - lowest a) * 2^bits of b + b - lowest b, exact in float32 too."""
        a, b = (c.grid.type for c in self.codes)
        op = ops.Add(
            output=name,
            origin=origin,
            a=self.codes[0].name,
            b=self.codes[1].name,
            multiplier_a=1 << b.bits,
            multiplier_b=1,
            bias=-(a.lo << b.bits) - b.lo,
            shift=0,
            lo=0,
            hi=(1 << a.bits + b.bits) - 1,
        )
        return builder.add(op, IntType(a.bits + b.bits, False))


@dataclass(frozen=True)
class Real:
    """A float tensor not yet quantised: clamp(sum of parts + addend[c], lo, hi), or a function of
    the codes of a single tensor. `floats` are what a runtime in float32 computes. `phases`: of a
    transposed convolution, whose places are channels of the parts until it is quantised."""

    parts: tuple[Part, ...]
    addend: tuple[Fraction, ...] = (Fraction(0),)
    lo: Fraction | None = None
    hi: Fraction | None = None
    codes: Codes | None = None  # where it is exactly these codes' value
    function: Array | None = None  # of every code of `codes`: (codes,) or (C, codes)
    floats: Floats | None = None
    phases: Phases | None = None

    def clamped(self, lo: Fraction | None, hi: Fraction | None) -> Real:
        """Limited further: bounds that are already there are limited too."""
        ends = [bounded(end, lo, hi) for end in (self.lo, self.hi)]
        return replace(
            self,
            lo=lo if ends[0] is None else ends[0],
            hi=hi if ends[1] is None else ends[1],
            floats=self.floats and self.floats.clamped(lo, hi),
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


def tabulated(floats: Floats) -> Real:
    """A value that is a table of codes."""
    if len(floats.codes) > 1:
        return Real((), floats=floats)
    return Real((), codes=floats.codes[0], function=floats.reals, floats=floats)


def same_length(*values: Sequence[Any]) -> list[list[Any]]:
    """The shorter ones repeated."""
    n = max(map(len, values))
    return [[v[i % len(v)] for i in range(n)] for v in values]


def times(a: Sequence[Fraction], b: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """Products, channel by channel."""
    return tuple(x * y for x, y in zip(*same_length(a, b), strict=True))
