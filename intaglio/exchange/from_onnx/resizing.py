"""Resize and Upsample: what they read, in float32 as onnxruntime computes it, and by what weights.

Formulas: the standard's text of Resize; the order of the float32 operations and the roundings are
those of onnxruntime's CPU kernel, against which the tests compare every mode. Of codes its bilinear
kernel cuts the fraction off (core/providers/cpu/tensor/upsample.h): int8 toward zero. It is given
codes where a file resizes them as such; between a DequantizeLinear and a QuantizeLinear it resizes
floats (versions 1.20 to 1.32), of which an exact half may become either code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from intaglio import ops
from intaglio.exchange.from_onnx.onnx_file import Array, Node
from intaglio.exchange.from_onnx.operators import LARGEST
from intaglio.exchange.from_onnx.settling import Settling
from intaglio.exchange.from_onnx.values import Codes, Grid, Part, Real, real_of
from intaglio.multiplier import float32_parts
from intaglio.ops import Interpolate, Tap
from intaglio.ops.choosing import is_upsampled
from intaglio.ops.interpolation import align_corners, asymmetric, between, half_pixel, nearest

ABOUT = 1e-6  # from a half: the runtime takes it for one
ONE, HALF = np.float32(1), np.float32(0.5)
STEPS = 1 << 15  # of a pixel between two, at most
EXACT = 1 << 15  # steps in both directions, together, with which sums of bytes are exact in float32
FLOATS = "a bilinear resize adds floats, to the bit where all scales are powers of two"
Side = tuple[int, int, np.float32]  # old and new size, and the factor


class Resizing(Settling):
    """Both operators, of codes."""

    def resize(self, node: Node, x: Any) -> Any:
        """Rows and columns chosen, or two of each by their weights."""
        codes = self.plain(self.real(node, x), node)
        shape = self.builder.tensors[codes.name].shape
        factors, new = self.factors(node, (self.batch, *shape))
        a, simple = node.attributes, self.simple(node)
        mode = a.get("coordinate_transformation_mode", b"half_pixel").decode()
        near = a.get("nearest_mode", b"round_prefer_floor").decode()
        way = ("asymmetric", "simple") if simple else (mode, near)
        sides = list(zip(shape[1:], new[2:], factors[2:], strict=True))
        for old, made, factor in sides:
            if not 1 <= made <= LARGEST:
                raise node.refuse(f"its sizes must be 1 to {LARGEST}, not {made}.")
            if mode == "half_pixel_symmetric" and factor * np.float32(old) != np.float32(made):
                raise node.refuse(
                    "its factors must make whole sizes with half_pixel_symmetric; use asymmetric."
                )
        if a.get("mode", b"nearest") == b"nearest":
            read = [pixels(old, made, factor, *way) for old, made, factor in sides]
            rows, columns = map(nearest, read)
            plain = all(
                is_upsampled(found, old) for found, (old, _, _) in zip(read, sides, strict=True)
            )
            same, exact = plain, True
        else:
            rows, columns = (self.taps(node, side, way[0]) for side in sides)
            plain, exact = False, all(is_exact(*side, way[0]) for side in sides)
            same = (rows, columns) == tuple(nearest(range(old)) for old, _, _ in sides)
        if tuple(new[2:]) == shape[1:] and not same:
            raise node.refuse(
                "its factors must change a side, not move pixels alone, which onnxruntime leaves"
                " as they are; leave it out of the model."
            )
        name = node.outputs[0]
        op = Interpolate(output="", origin=node.name, input=codes.name, rows=rows, columns=columns)
        if op.unit > 1:
            return self.blended(node, x, codes, op, exact and op.unit <= EXACT)
        moved: ops.Op = replace(op, output=self.unique(name))
        if plain:
            moved = ops.Upsample(
                output=moved.output, origin=node.name, input=codes.name, size=op.size
            )
        return self.moved(x, codes.grid, moved)

    def taps(self, node: Node, side: Side, mode: str) -> tuple[Tap, ...]:
        """Exact weights of the places that the mode means."""
        old, new, factor = side
        found = between(places(old, new, factor, mode), old)
        if sum(found[0][1:]) > STEPS:
            raise node.refuse(
                f"its weights from {old} to {new} pixels must be multiples of 1 / {STEPS}; give"
                " sizes, or a rounder factor."
            )
        return found

    def blended(self, node: Node, x: Any, codes: Codes, op: Interpolate, exact: bool) -> Any:
        """What the sum stands for; of codes themselves the sum, cut off as the runtime does."""
        grid = codes.grid
        if isinstance(x, Codes) and grid.type.bits > 8:
            raise node.refuse(
                f"its codes must have at most 8 bits, not {grid.type}; quantise them anew."
            )
        if isinstance(x, Codes) and self.runtime:
            if not exact:
                raise node.refuse(
                    "its factors must be powers of two where it resizes codes, of which float32 may"
                    " lose one else; resize what they stand for, with DequantizeLinear before it."
                )
            return self.cut_off(node, op, grid)
        self.note(node, FLOATS)
        name = self.builder.add(replace(op, output=self.unique(f"{node.outputs[0]}.sum")))
        part = Part(name, grid.scale, (ONE,), (grid.zero * op.unit,), (Fraction(1, op.unit),))
        real = Real((part,))
        return self.settle(real, grid, node) if isinstance(x, Codes) else real

    def cut_off(self, node: Node, op: Interpolate, grid: Grid) -> Codes:
        """The sum over its unit n without the fraction. In float32, which rounds halves to even:
        floor(sum / n) is (2 sum + 1 - n) / 2n rounded, which is never a half, and the ceiling
        (2 sum - 1 + n) / 2n. Of signed codes it is the one above 0 and the other below."""
        name = self.unique(node.outputs[0])
        total = self.builder.add(
            replace(op, output=f"{name}.sum", rows=tuple((r, 2 * u, 2 * v) for r, u, v in op.rows))
        )
        lo, hi = grid.type.lo, grid.type.hi
        if lo >= 0:
            return self.over(name, total, op.unit, 1 - op.unit, lo, hi, grid)
        parts = [
            self.over(f"{name}.{side}", total, op.unit, more, low, high, grid).name
            for side, more, low, high in (
                ("above", 1 - op.unit, 0, hi), ("below", op.unit - 1, lo, 0),
            )
        ]  # fmt: skip
        both = ops.Add(
            output=name, a=parts[0], b=parts[1], multiplier_a=1, multiplier_b=1, bias=0, shift=0,
            lo=lo, hi=hi, origin=node.name,
        )  # fmt: skip
        return self.placed(both, grid)

    def over(
        self, name: str, total: str, unit: int, more: int, lo: int, hi: int, grid: Grid
    ) -> Codes:
        """(total + more) / 2 unit."""
        m, s = float32_parts(Fraction(1, 2 * unit))
        op = ops.Requant(
            output=name, input=total, multiplier=self.builder.constant(f"{name}.m", [m]),
            bias=self.builder.constant(f"{name}.b", [more]), shift=(s,), lo=lo, hi=hi,
            origin=self.builder.ops[-1].origin,
        )  # fmt: skip
        return self.placed(op, grid)

    def moved(self, x: Any, grid: Grid, op: ops.Op) -> Any:
        """The result of an operation that only moves codes: codes, where x is."""
        made = self.placed(op, grid)
        return made if isinstance(x, Codes) else real_of(made)

    def placed(self, op: ops.Op, grid: Grid) -> Codes:
        """A tensor of the Program that holds codes of a grid."""
        return Codes(self.builder.add(op, grid.type, float(grid.scale), (grid.zero,)), grid)

    @staticmethod
    def simple(node: Node) -> bool:
        """Upsample, and Resize of operator set 10: neither has modes of coordinates."""
        return node.kind == "Upsample" or len(node.inputs) == 2

    def factors(self, node: Node, full: tuple[int, ...]) -> tuple[list[np.float32], list[int]]:
        """Factor and size of each of the four dimensions, from scales or sizes."""
        scales = self.array(node, 1 if self.simple(node) else 2, node.attributes.get("scales"))
        sizes = None if self.simple(node) else self.array(node, 3)
        given = [v for v in (scales, sizes) if v is not None and np.size(v)]
        axes = four(node, node.attributes.get("axes"))
        if len(given) != 1 or np.size(given[0]) != len(axes) or len(set(axes)) != len(axes):
            raise node.refuse("it must have scales or sizes, one for each axis, and not both.")
        values = self.finite(node, given[0], "its scales").reshape(-1)
        factors, new = [ONE] * 4, list(full)
        for n, value in zip(axes, values, strict=True):
            if not 0 < value <= LARGEST:
                raise node.refuse(f"its scales and sizes must be above 0 and at most {LARGEST}.")
            if given[0] is sizes:
                new[n], factors[n] = int(value), np.float32(int(value)) / np.float32(full[n])
            else:
                new[n], factors[n] = target(full[n], value), np.float32(value)
        if new[:2] != list(full[:2]) or factors[:2] != [ONE] * 2:
            raise node.refuse("it must resize height and width only; leave channels alone.")
        return factors, new


def four(node: Node, axes: Sequence[int] | None) -> list[int]:
    """Axes of a map, 0 to 3; all of them where they are left out."""
    if axes is None:
        return [0, 1, 2, 3]
    if not all(-4 <= v < 4 for v in axes):
        raise node.refuse(f"its axes must be -4 to 3, not {list(axes)[:8]}.")
    return [v % 4 for v in axes]


def target(old: int, scale: float) -> int:
    """The size of a side of `old` pixels."""
    return int(np.float32(scale) * np.float32(old))


def pixels(old: int, new: int, scale: np.float32, mode: str, nearest: str) -> Array:
    """The pixel of `old` that each of `new` ones is. `nearest` "simple" is Upsample's, which cuts
    the fraction off."""
    if scale == ONE:
        return np.minimum(np.arange(new), old - 1)
    at = coordinates(old, new, scale, mode)
    match nearest:
        case "floor":
            found = np.floor(at)
        case "ceil":
            found = np.ceil(at)
        case "simple":
            found = np.trunc(at) if scale > ONE else np.ceil(at)
        case _:
            whole, exact = np.floor(at), at.astype(np.float64)
            up = whole + 1 if nearest == "round_prefer_ceil" else whole
            half = np.abs(exact - whole - 0.5) < ABOUT
            found = np.where(half, up, np.floor(exact + 0.5))
    clipped: Array = np.clip(found.astype(np.int64), 0, old - 1)
    return clipped


def coordinates(old: int, new: int, scale: np.float32, mode: str) -> Array:
    """Where each new pixel lies among the old ones; half_pixel_symmetric of whole sizes is
    half_pixel."""
    i = np.arange(new, dtype=np.float32)
    match mode:
        case "asymmetric":
            return i / scale
        case "align_corners":
            if new == 1:
                return np.zeros(1, np.float32)
            return i * np.float32(old - 1) / np.float32(new - 1)
        case "pytorch_half_pixel":
            return (i + HALF) / scale - HALF if new > 1 else np.zeros(1, np.float32)
        case "tf_half_pixel_for_nn":
            return (i + HALF) / scale
    return (i + HALF) / scale - HALF


def places(old: int, new: int, scale: np.float32, mode: str) -> list[Fraction]:
    """The same in rational numbers, which float32 may miss."""
    ratio = Fraction(old, new)
    if np.float32(new) / np.float32(old) != scale:
        ratio = 1 / Fraction(float(scale)).limit_denominator(1 << 10)
    match mode:
        case _ if scale == ONE:
            return [Fraction(i) for i in range(new)]
        case "asymmetric":
            return asymmetric(old, new, ratio)
        case "align_corners":
            return align_corners(old, new)
        case "pytorch_half_pixel" if new == 1:
            return [Fraction(0)]
        case "tf_half_pixel_for_nn":
            return [at + Fraction(1, 2) for at in half_pixel(old, new, ratio)]
    return half_pixel(old, new, ratio)


def is_exact(old: int, new: int, scale: np.float32, mode: str) -> bool:
    """Whether float32 finds these places, all of them parts of a pixel by powers of two."""
    found = coordinates(old, new, scale, mode) if scale != ONE else np.arange(new)
    exact = places(old, new, scale, mode)
    return all(
        Fraction(float(a)) == b and b.denominator.bit_count() == 1
        for a, b in zip(found, exact, strict=True)
    )
