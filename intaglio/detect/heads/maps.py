"""The maps of a head: checked against its spec, and split into parts by anchor."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.detect.networks.spec import HeadSpec
from intaglio.errors import ModelError

Floats = NDArray[np.float64]


def check_shapes(spec: HeadSpec, shapes: Sequence[tuple[int, ...]]) -> None:
    """Raises ModelError unless maps of these shapes (C, h, w) are those that `spec` describes."""
    channels, kind = spec.channels, spec.kind
    if len(shapes) != len(channels):
        raise ModelError(
            f"a {kind} head with {spec.levels} levels must have {len(channels)} output maps"
            f" ({', '.join('+'.join(parts) for parts in spec.layout)} of each level), not"
            f" {len(shapes)}; give the model the head description that fits it"
        )
    for index, parts in enumerate(spec.layout):
        for level in range(spec.levels):
            number = spec.place(index, level)
            shape = tuple(shapes[number])
            if len(shape) != 3 or shape[0] != channels[number]:
                found = ", ".join("x".join(map(str, each)) for each in shapes)
                raise ModelError(
                    f"output map {number} of a {kind} head must have shape"
                    f" ({channels[number]}, h, w), not {shape}: it is {'+'.join(parts)} of level"
                    f" {level}; give the head maps and order that fit outputs of {found}"
                )
            first = tuple(shapes[spec.place(0, level)])[1:]
            if shape[1:] != first:
                raise ModelError(
                    f"output map {number} of a {kind} head must have the {first[0]}x{first[1]}"
                    f" locations of its level's other maps, not {shape[1]}x{shape[2]}."
                )


def check_maps(spec: HeadSpec, maps: Sequence[Floats]) -> None:
    """As `check_shapes`, of the maps of an image."""
    check_shapes(spec, [map.shape for map in maps])


def by_anchor(values: Floats, anchors: int) -> Floats:
    """(A * K, h, w) to (h * w * A, K)."""
    channels, rows, columns = values.shape
    split = values.reshape(anchors, channels // anchors, rows, columns)
    return split.transpose(2, 3, 0, 1).reshape(-1, channels // anchors)


def parts_at(
    spec: HeadSpec, maps: Sequence[Any], level: int, anchored: Callable[[Any, int], Any] = by_anchor
) -> dict[str, Any]:
    """The parts (..., K) of a level by name, each as `anchored` makes it of a map and A."""
    found = {}
    for index, parts in enumerate(spec.layout):
        values = anchored(maps[spec.place(index, level)], spec.anchors_at(level))
        start = 0
        for part in parts:
            end = start + spec.width(part)
            found[part] = values[..., start:end]
            start = end
    return found
