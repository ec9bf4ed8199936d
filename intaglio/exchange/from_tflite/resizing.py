"""RESIZE_NEAREST_NEIGHBOR and RESIZE_BILINEAR: which pixels they read, and by what weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from math import lcm

import numpy as np

from intaglio.errors import ProgramError
from intaglio.exchange.from_tflite.flat import Array, Flat, Operator
from intaglio.exchange.from_tflite.maps import Maps
from intaglio.fixed import Rounding
from intaglio.forms import tflite_taps
from intaglio.ops import Interpolate, Requant, Tap, Upsample
from intaglio.ops.choosing import is_upsampled
from intaglio.ops.interpolation import nearest

FLOAT_BITS = 15  # of a product of two weights with which sums of bytes are exact in float32
Taps = tuple[Tap, ...]


class Resizing(Maps):
    """Both operators in every mode of coordinates."""

    def nearest(self, op: Operator) -> str:
        """RESIZE_NEAREST_NEIGHBOR."""
        x, made = self.map(op), self.codes(op, op.outputs[0])
        self.same_grid(op, self.codes(op, op.inputs[0]), made)
        sides = zip(self.shape(x)[1:], self.sizes(op), strict=True)
        rows, columns = (nearest(places(op, old, new)) for old, new in sides)
        name = self.unique(made.name)
        return self.picked_pixels(
            Interpolate(output=name, input=x.name, rows=rows, columns=columns, origin=made.name),
            made,
        )

    def picked_pixels(self, op: Interpolate, made: Flat) -> str:
        """Where nothing is summed: the map itself, its pixels repeated, or any."""
        _, *sides = self.builder.tensors[op.input].shape
        read = [[place for place, _, _ in taps] for taps in (op.rows, op.columns)]
        if read == [list(range(side)) for side in sides]:
            return op.input
        if all(map(is_upsampled, read, sides)):
            return self.add(
                Upsample(output=op.output, input=op.input, size=op.size, origin=op.origin), made
            )
        return self.add(op, made)

    def sizes(self, op: Operator) -> list[int]:
        """Height and width of the result."""
        sizes = self.numbers(op, 1)
        if len(sizes) != 2 or min(sizes) < 1:
            raise op.refuse(f"its sizes must be two numbers above 0, not {sizes}.")
        return sizes

    def bilinear(self, op: Operator) -> str:
        """RESIZE_BILINEAR: int8 and int16 by weights in 1024ths, halves away from zero; uint8 in
        float32, halves up, where that is exact."""
        if self.codes(op, op.outputs[0]).kind == "UINT8":
            return self.blended(op, lambda old, new: float_taps(op, old, new), "RND")
        options = op.options

        def taps(old: int, new: int) -> Taps:
            try:
                return tflite_taps(
                    old, new, aligned=options.alignCorners, half=options.halfPixelCenters
                )
            except ProgramError as error:
                raise op.refuse(str(error)) from error

        return self.blended(op, taps, "RND_INF")

    def blended(self, op: Operator, taps: Callable[[int, int], Taps], rounding: Rounding) -> str:
        """The sum by these weights, over what they are together, a power of two."""
        x, made = self.map(op), self.codes(op, op.outputs[0])
        self.same_grid(op, self.codes(op, op.inputs[0]), made)
        sides = zip(self.shape(x)[1:], self.sizes(op), strict=True)
        rows, columns = (taps(*side) for side in sides)
        name = self.unique(made.name)
        total = Interpolate(output=name, input=x.name, rows=rows, columns=columns, origin=made.name)
        if total.unit == 1:
            return self.picked_pixels(total, made)
        total = replace(total, output=self.unique(f"{name}.sum"))
        return self.shared(op, total, made, rounding)

    def shared(self, op: Operator, total: Interpolate, made: Flat, rounding: Rounding) -> str:
        """The Requant of a sum."""
        name = total.output.removesuffix(".sum")
        assert made.type is not None
        requant = Requant(
            output=name, input=self.builder.add(total), origin=made.name, lo=made.type.lo,
            hi=made.type.hi, multiplier=self.builder.constant(f"{name}.m", [1]),
            bias=self.builder.constant(f"{name}.b", [0]), shift=(total.unit.bit_length() - 1,),
            rounding=rounding,
        )  # fmt: skip
        return self.add(requant, made)


def places(op: Operator, source: int, target: int) -> Array:
    """The source index of every target one."""
    options = op.options
    return nearest_places(
        source, target, aligned=options.alignCorners, half=options.halfPixelCenters
    )


def nearest_places(source: int, target: int, *, aligned: bool, half: bool) -> Array:
    """The kernel's source index of every target one, in float32 as it computes it."""
    scale = step(source, target, aligned)
    i = np.arange(target, dtype=np.float32) + np.float32(0.5 if half else 0)
    found = i * scale
    at = np.floor(np.abs(found) + np.float32(0.5)) if aligned else np.floor(found)
    clipped: Array = np.clip(at.astype(np.int64), 0, source - 1)
    return clipped


def step(source: int, target: int, aligned: bool) -> np.float32:
    """Source pixels from one target pixel to the next, in float32."""
    less = int(aligned and target > 1)
    return np.float32(source - less) / np.float32(target - less)


def float_taps(op: Operator, old: int, new: int) -> Taps:
    """Rows or columns that LiteRT's kernel of uint8 finds in float32."""
    options = op.options
    scale, i = step(old, new, options.alignCorners), np.arange(new, dtype=np.float32)
    half = np.float32(0.5)
    at = (i + half) * scale - half if options.halfPixelCenters else i * scale
    first = np.maximum(np.floor(at), 0).astype(np.int64)
    last = np.minimum(np.ceil(at).astype(np.int64), old - 1)
    parts = [
        Fraction(float(v)) - int(r) if k > r else Fraction(0)
        for v, r, k in zip(at, first, last, strict=True)
    ]
    unit = lcm(*(part.denominator for part in parts))
    if unit > 1 << FLOAT_BITS // 2 or first.max() >= old:
        raise op.refuse(
            f"its steps from {old} to {new} pixels must be parts of a pixel by a power of two, as"
            " for twice the size: LiteRT resizes uint8 in float32; convert the model to int8."
        )
    return weighted(first, parts, unit)


def weighted(first: Array, parts: Sequence[Fraction], unit: int) -> Taps:
    """Taps of a first pixel and the part of the next one."""
    ahead = [int(part * unit) for part in parts]
    return tuple((int(r), unit - v, v) for r, v in zip(first, ahead, strict=True))
