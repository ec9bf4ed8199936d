"""Shapes that Reshape and its kin make, by the standard's text. None where they do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

Shape = tuple[int, ...]


def reshaped(old: Shape, new: Sequence[int], allow_zero: bool) -> Shape | None:
    """0 is the old size at that place, or none with allowzero; one -1 is what is left."""
    made = list(new)
    for n, size in enumerate(made):
        if size == 0 and not allow_zero:
            if n >= len(old):
                return None
            made[n] = old[n]
    if made.count(-1) > 1 or any(v < -1 for v in made) or (allow_zero and {0, -1} <= set(made)):
        return None
    if -1 in made:
        known = -prod(made)
        if known < 1 or prod(old) % known:
            return None
        made[made.index(-1)] = prod(old) // known
    return tuple(made) if prod(made) == prod(old) else None


def flattened(old: Shape, axis: int) -> Shape | None:
    """Two sizes: the product of those before the axis, and of the others."""
    if not -len(old) <= axis <= len(old):
        return None
    axis = axis + len(old) if axis < 0 else axis
    return prod(old[:axis]), prod(old[axis:])


def squeezed(old: Shape, axes: Sequence[int] | None) -> Shape | None:
    """Without the sizes of 1 that are named, or without any."""
    if axes is None:
        return tuple(v for v in old if v != 1)
    if not all(-len(old) <= a < len(old) for a in axes):
        return None
    gone = {a % len(old) for a in axes}
    if any(old[a] != 1 for a in gone):
        return None
    return tuple(v for n, v in enumerate(old) if n not in gone)


def unsqueezed(old: Shape, axes: Sequence[int]) -> Shape | None:
    """With sizes of 1 at the places named in the result."""
    rank = len(old) + len(axes)
    places = {a % rank for a in axes if -rank <= a < rank}
    if len(places) != len(axes):
        return None
    rest = iter(old)
    return tuple(1 if n in places else next(rest) for n in range(rank))
