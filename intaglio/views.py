"""What reshaping and transposing make of a map, and the operations that do the same.

A view is an array of any shape that holds the values of a map (C, H, W), each once. Each of its
axes is a list of factors of channels, rows and columns, the slowest first. Transposing changes the
order of the axes, reshaping splits factors and puts others side by side. So a change of layout
costs nothing, and what stays of shuffles, pixel shuffles and their like is at most a SpaceToDepth,
a Select and a DepthToSpace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.ops import DepthToSpace, Pair, Select, Shape, SpaceToDepth, Unary


@dataclass(frozen=True)
class Factor:
    """A part of the index along one of the map's axes, "c", "h" or "w": it counts 0 ... size - 1,
    and one step of it is `stride` of theirs."""

    of: str
    size: int
    stride: int = 1

    def split(self, major: int) -> tuple[Factor, Factor]:
        """Into `major` parts and the rest, the slower first."""
        rest = self.size // major
        return Factor(self.of, major, self.stride * rest), Factor(self.of, rest, self.stride)


Axis = tuple[Factor, ...]


@dataclass(frozen=True)
class View:
    """A map (C, H, W) of `shape` seen along `axes`; an axis of size 1 has no factors."""

    shape: Shape
    axes: tuple[Axis, ...]

    @property
    def sides(self) -> tuple[int, ...]:
        """The shape of the view."""
        return tuple(prod(f.size for f in axis) for axis in self.axes)

    def transposed(self, order: Sequence[int]) -> View:
        """Axis order[k] becomes axis k."""
        return View(self.shape, tuple(self.axes[k] for k in order))

    def reshaped(self, sides: Sequence[int]) -> View | None:
        """The same values in another shape; None where a side would take parts of factors that do
        not divide."""
        left = [factor for axis in self.axes for factor in axis]
        axes: list[Axis] = []
        for side in sides:
            axis: list[Factor] = []
            while side > 1:
                if not left:
                    return None
                factor = left.pop(0)
                if factor.size > side:
                    if factor.size % side:
                        return None
                    factor, rest = factor.split(side)
                    left.insert(0, rest)
                if side % factor.size:
                    return None
                axis.append(factor)
                side //= factor.size
            axes.append(merged(axis))
        return None if left else View(self.shape, tuple(axes))

    def laid(self, *layouts: str) -> str | None:
        """The first of these layouts, as "nhwc", in which the view is just the map."""
        fits = (k for k in layouts if len(k) == len(self.axes))
        return next((k for k in fits if view_of(self.shape, k) == self), None)

    def lines(self, maps: NDArray[Any]) -> NDArray[Any]:
        """Maps (N, C, H, W) as the view has their values, one after the other: (N, C * H * W)."""
        used = [f for axis in self.axes for f in axis]
        places = [f for of in "chw" for f in sorted_by_stride(used, of)]
        parts = maps.reshape(len(maps), *(f.size for f in places))
        order = [0, *(1 + places.index(f) for f in used)]
        return parts.transpose(order).reshape(len(maps), -1)


def sorted_by_stride(factors: Sequence[Factor], of: str) -> list[Factor]:
    """Those of one of the map's axes, the slowest first."""
    return sorted((f for f in factors if f.of == of), key=lambda f: -f.stride)


def merged(axis: Sequence[Factor]) -> Axis:
    """Without factors of size 1, and with neighbours as one that were split before."""
    found: list[Factor] = []
    for factor in (f for f in axis if f.size > 1):
        last = found[-1] if found else None
        if last and last.of == factor.of and last.stride == factor.size * factor.stride:
            found[-1] = Factor(factor.of, last.size * factor.size, factor.stride)
        else:
            found.append(factor)
    return tuple(found)


def view_of(shape: Shape, layout: str) -> View:
    """A map in a layout as "nchw" or "nhwc", whose first axis is the image."""
    axes = []
    for name in layout:
        size = shape["chw".index(name)] if name in "chw" else 1
        axes.append((Factor(name, size),) if size > 1 else ())
    return View(shape, tuple(axes))


@dataclass(frozen=True)
class Moves:
    """A SpaceToDepth by `down`, a Select of `channels`, a DepthToSpace by `up`, in this order; (1,
    1), and the channels as they are, change nothing."""

    down: Pair
    channels: tuple[int, ...]
    up: Pair

    def ops(self, shape: Shape, input: str, output: str, origin: str = "") -> list[Unary]:
        """Those of them that change something, on a map of that shape; the last makes `output`."""
        found: list[Any] = []
        if self.down != (1, 1):
            found.append((SpaceToDepth, {"block": self.down}))
        if self.channels != tuple(range(len(self.channels))):
            found.append((Select, {"channels": self.channels}))
        if self.up != (1, 1):
            found.append((DepthToSpace, {"block": self.up}))
        made: list[Unary] = []
        for k, (kind, fields) in enumerate(found):
            name = output if k == len(found) - 1 else f"{output}.{kind.__name__.lower()}"
            made.append(kind(output=name, input=input, origin=origin, **fields))
            input = name
        return made


def moves(view: View, layout: str) -> Moves:
    """What makes the view's values a map in that layout, whose axes are all of size 1 but "c", "h"
    and "w". Rows and columns that stay so, or a part of them, are not moved."""
    axes = dict(zip(layout, view.axes, strict=True))
    h, w, c = (axes.get(name, ()) for name in "hwc")
    (channels, height, width), (stays_h, up_h), (stays_w, up_w) = (
        view.shape, staying("h", h, view.shape[1]), staying("w", w, view.shape[2]),
    )  # fmt: skip
    bh, bw = height // stays_h, width // stays_w
    # What a channel is made of behind the SpaceToDepth: (dy, dx, c), each by its own stride.
    at = {"h": bw * channels, "w": channels, "c": 1}
    order = np.zeros(1, dtype=np.int64)
    for factor in (*up_h, *up_w, *c):
        steps = np.arange(factor.size) * factor.stride * at[factor.of]
        order = (order[:, None] + steps).reshape(-1)
    up = (prod(f.size for f in up_h), prod(f.size for f in up_w))
    return Moves((bh, bw), tuple(order.tolist()), up)


def staying(of: str, axis: Axis, side: int) -> tuple[int, Axis]:
    """How many rows or columns of a map stay what they are, which are the slowest factor of `axis`,
    and the factors behind that."""
    first = axis[0] if axis else Factor(of, 1)
    if first.of == of and first.size * first.stride == side:
        return first.size, axis[1:]
    return 1, axis
