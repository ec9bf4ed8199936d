"""What reshaping and transposing make of a map, and the operations that do the same.

A view is an array of any shape that holds the values of a map (C, H, W), each once. Each of its
axes is a list of factors of channels, rows and columns, the slowest first. Transposing changes the
order of the axes, reshaping splits factors and puts others side by side. So a change of layout
costs nothing, and what stays of shuffles, pixel shuffles and their like is at most a SpaceToDepth,
a Select and a DepthToSpace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.fixed import Arithmetic, IntType
from intaglio.ops import (
    Context,
    Crop,
    DepthToSpace,
    Interpolate,
    Ints,
    Pair,
    Select,
    Shape,
    SpaceToDepth,
    Tensor,
)
from intaglio.ops.interpolation import nearest


@dataclass(frozen=True)
class Factor:
    """A part of the index along one of the map's axes, "c", "h" or "w", or of the images, "n": it
    counts 0 ... size - 1, and one step of it is `stride` of theirs."""

    of: str
    size: int
    stride: int = 1

    def split(self, major: int) -> tuple[Factor, Factor]:
        """Into `major` parts and the rest, the slower first."""
        rest = self.size // major
        return Factor(self.of, major, self.stride * rest), Factor(self.of, rest, self.stride)


Axis = tuple[Factor, ...]
Chosen = Select | Crop | SpaceToDepth | DepthToSpace | Interpolate  # the last: nearest pixels


@dataclass(frozen=True)
class View:
    """A map (C, H, W) of `shape` seen along `axes`; an axis of size 1 has no factors. Of several
    images, whose number is a factor too, a view is of all together."""

    shape: Shape
    axes: tuple[Axis, ...]

    @property
    def sides(self) -> tuple[int, ...]:
        """The shape of the view."""
        return tuple(prod(f.size for f in axis) for axis in self.axes)

    @property
    def factors(self) -> list[Factor]:
        """Of all axes in order."""
        return [factor for axis in self.axes for factor in axis]

    @property
    def images(self) -> int:
        """How many the view is of."""
        return prod(f.size for f in self.factors if f.of == "n")

    @property
    def starts_with_images(self) -> bool:
        """Whether they are the slowest factor of the first axis."""
        return [f.of for axis in self.axes[:1] for f in axis[:1]] == ["n"]

    def transposed(self, order: Sequence[int]) -> View:
        """Axis order[k] becomes axis k."""
        return View(self.shape, tuple(self.axes[k] for k in order))

    def reshaped(self, sides: Sequence[int]) -> View | None:
        """The same values in another shape; None where a side would take parts of factors that do
        not divide."""
        left = self.factors
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
        return next((k for k in fits if view_of(self.shape, k, self.images) == self), None)

    def lines(self, maps: NDArray[Any]) -> NDArray[Any]:
        """Maps (N, C, H, W) as the view has their values, one after the other: (N, C * H * W); of a
        view of several images, all their values (N * C * H * W,)."""
        used, several = self.factors, self.images > 1
        places = [f for of in "nchw" for f in sorted_by_stride(used, of)]
        first = [] if several else [len(maps)]
        parts = maps.reshape(*first, *(f.size for f in places))
        order = [*range(len(first)), *(len(first) + places.index(f) for f in used)]
        return parts.transpose(order).reshape(*first, -1)


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


def view_of(shape: Shape, layout: str, images: int = 1) -> View:
    """A map in a layout as "nchw" or "nhwc", whose first axis is the images."""
    axes = []
    for name in layout:
        size = shape["chw".index(name)] if name in "chw" else images
        axes.append((Factor(name, size),) if size > 1 else ())
    return View(shape, tuple(axes))


@dataclass(frozen=True)
class Moves:
    """A SpaceToDepth by `down`, a Select of `channels`, a DepthToSpace by `up`, in this order; (1,
    1), and the channels as they are, change nothing."""

    down: Pair
    channels: tuple[int, ...]
    up: Pair

    def ops(self, shape: Shape, input: str, output: str, origin: str = "") -> list[Chosen]:
        """Those of them that change something, on a map of that shape; the last makes `output`."""
        found: list[Any] = []
        if self.down != (1, 1):
            found.append((SpaceToDepth, {"block": self.down}))
        if self.channels != tuple(range(len(self.channels))):
            found.append((Select, {"channels": self.channels}))
        if self.up != (1, 1):
            found.append((DepthToSpace, {"block": self.up}))
        made: list[Chosen] = []
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
    order = offsets((*up_h, *up_w, *c), at)
    up = (prod(f.size for f in up_h), prod(f.size for f in up_w))
    return Moves((bh, bw), tuple(order.tolist()), up)


def taken(view: View, axis: int, places: Sequence[int]) -> tuple[Chosen | None, View] | None:
    """What leaves some places of one axis of a view, in this order, and how what is left is seen:
    no operation where all stay, a Select of channels, a Crop of whole rows or columns in even
    steps, an Interpolate of any that never go back; their names mean nothing. None for others."""
    own, axes = view.axes[axis], list(view.axes)
    of = {f.of for f in own}
    if list(places) == list(range(view.sides[axis])):
        return None, view
    if not places or "n" in of:
        return None
    if of == {"c"}:
        channels, axes = chosen_channels(view, axis, places)
        left = View((len(channels), *view.shape[1:]), tuple(axes))
        return Select(output="", input="", channels=channels), left
    steps = {b - a for a, b in pairwise(places)} or {1}
    if len(own) != 1 or own[0].size != view.shape["chw".index(own[0].of)] or min(steps) < 0:
        return None
    c, h, w = view.shape
    axes[axis] = (Factor(own[0].of, len(places)),) if len(places) > 1 else ()
    if len(steps) > 1 or steps == {0}:
        wanted = {"h": range(h), "w": range(w), own[0].of: places}
        rows, columns = nearest(wanted["h"]), nearest(wanted["w"])
        some = Interpolate(output="", input="", rows=rows, columns=columns)
        return some, View((c, *some.size), tuple(axes))
    (step,) = steps
    spans = {"h": (0, h, 1), "w": (0, w, 1), own[0].of: (places[0], places[-1] + 1, step)}
    crop = Crop(output="", input="", rows=spans["h"], columns=spans["w"])
    return crop, View((c, *crop.size), tuple(axes))


def chosen_channels(
    view: View, axis: int, places: Sequence[int]
) -> tuple[tuple[int, ...], list[Axis]]:
    """The channels of some places of an axis of channels, the places counting fastest, and the axes
    of what is left."""
    own = view.axes[axis]
    rest = sorted_by_stride([f for f in view.factors if f not in own], "c")
    inner, outer = offsets(own)[list(places)], offsets(rest)
    renamed, stride = dict[Factor, Factor](), len(places)
    for f in reversed(rest):
        renamed[f], stride = Factor("c", f.size, stride), stride * f.size
    axes: list[Axis] = [tuple(renamed.get(f, f) for f in each) for each in view.axes]
    axes[axis] = (Factor("c", len(places)),) if len(places) > 1 else ()
    return tuple((outer[:, None] + inner).reshape(-1).tolist()), axes


def offsets(factors: Sequence[Factor], at: Mapping[str, int] | None = None) -> Ints:
    """Where each step of these factors, the first of them slowest, lies: the sum of their strides,
    each times what one step along its axis is."""
    found = np.zeros(1, dtype=np.int64)
    for f in factors:
        steps = np.arange(f.size) * f.stride * (at or {}).get(f.of, 1)
        found = (found[:, None] + steps).reshape(-1)
    return found


def inferred(op: Chosen, shape: Shape) -> Shape:
    """The shape of what an operation makes of a map."""
    given = Tensor("", shape, IntType(63, True), 0, 0)
    return op.infer([given], Context({}, Arithmetic()))[0]


def both(first: Crop, then: Crop) -> Crop:
    """One Crop that does both."""
    spans = []
    for (start, _, step), wanted in ((first.rows, then.rows), (first.columns, then.columns)):
        count = len(range(*wanted))
        begin, stride = start + wanted[0] * step, step * wanted[2]
        spans.append((begin, begin + (count - 1) * stride + 1, stride))
    return replace(then, rows=spans[0], columns=spans[1])


def staying(of: str, axis: Axis, side: int) -> tuple[int, Axis]:
    """How many rows or columns of a map stay what they are, which are the slowest factor of `axis`,
    and the factors behind that."""
    first = axis[0] if axis else Factor(of, 1)
    if first.of == of and first.size * first.stride == side:
        return first.size, axis[1:]
    return 1, axis
