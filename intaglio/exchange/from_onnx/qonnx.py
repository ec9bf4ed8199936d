"""QONNX's quantisers: Quant and IntQuant, BipolarQuant, Trunc.

Meanings are those of the `qonnx` package (custom_op/general), which computes in float32: weights
are its codes to the bit. A signed Quant of one bit is +1 where x / scale >= 0, else -1.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import ceil, floor, log2
from typing import Any

import numpy as np

from intaglio import ops
from intaglio.exchange.from_onnx.layers import Layers
from intaglio.exchange.from_onnx.onnx_file import Node
from intaglio.exchange.from_onnx.values import (
    TABLE_BITS,
    Codes,
    Grid,
    Part,
    Real,
    Weights,
    real_of,
)
from intaglio.fixed import IntType

SIGNS = IntType(2, True)  # the narrowest that holds -1 and +1
FLOAT_NOISE = Fraction(1, 1 << 22)  # of a product of two float32, relative
OWN_ROUNDING = {"ROUND": "RND_CONV", "HALF_EVEN": "RND_CONV", "HALF_UP": "RND_INF"}
QONNX_KINDS = ("Quant", "IntQuant", "BipolarQuant", "Trunc")


class Qonnx(Layers):
    """Fake quantisation with any number of bits."""

    def float32(self, node: Node, index: int) -> Any:
        """A constant input of one value or more, all finite, in float32."""
        with np.errstate(over="ignore"):
            array = np.asarray(self.array(node, index)).astype(np.float32)
        if not array.size or not np.isfinite(array).all():
            raise node.refuse(f"its input {node.inputs[index]!r} must be finite float32 numbers.")
        return array

    def fake(self, node: Node) -> tuple[Any, Grid, tuple[int, int], str]:
        """Scales, grid (of the first scale), smallest and largest code, and rounding of a Quant."""
        scale = self.float32(node, 1)
        if node.kind == "BipolarQuant":
            return scale, Grid(SIGNS, np.float32(scale.reshape(-1)[0]), 0), (-1, 1), "SIGN"
        zeros, bits = self.float32(node, 2), self.float32(node, 3)
        signed = bool(node.attributes.get("signed", 1))
        narrow = bool(node.attributes.get("narrow", 0))
        mode = node.attributes.get("rounding_mode", b"ROUND").decode().upper()
        width = float(bits.reshape(-1)[0])
        if bits.size != 1 or width != int(width) or not 1 <= width <= 32:
            raise node.refuse(f"its bit width must be one whole number, not {bits.tolist()}.")
        if zeros.size != 1 or zeros.item() != int(zeros.item()) or abs(zeros.item()) > 1 << 31:
            raise node.refuse("its zero point must be one whole number of at most 32 bits.")
        step, zero = np.float32(scale.reshape(-1)[0]), int(zeros.reshape(-1)[0])
        if width == 1 and signed:
            return scale, Grid(SIGNS, step, zero), (-1, 1), "SIGN"
        type = IntType(int(width), signed)
        lo = type.lo + (1 if narrow and signed else 0)
        hi = type.hi - (1 if narrow and not signed else 0)
        return scale, Grid(type, step, zero), (lo, hi), mode

    def quant(self, node: Node, x: list[Any]) -> Real | Weights:
        """Fake quantisation, of constants and of activations."""
        scale, grid, (lo, hi), mode = self.fake(node)
        if not (np.isfinite(scale) & (scale > 0)).all():
            raise node.refuse(f"its scale must be finite and above 0, not {scale.min():g}.")
        zero = grid.zero
        if isinstance(x[0], np.ndarray):
            near = self.float32(node, 0)
            if node.kind != "BipolarQuant":
                with np.errstate(over="ignore"):
                    near = near / scale + np.float32(zero)
            codes = rounded(node, np.clip(near, lo, hi) if mode != "SIGN" else near, mode)
            codes = codes.astype(np.int64) - zero
            axes = [n for n, size in enumerate(scale.shape) if size > 1]
            axis = axes[0] - scale.ndim + codes.ndim if axes else 0
            zeros = np.zeros(1, np.int64)
            return self.weights(node, codes, scale.reshape(-1), zeros, node.inputs[0], axis)
        if scale.size != 1 or grid.type.bits > 16:
            raise node.refuse("activations must have one scale and at most 16 bits.")
        if mode == "SIGN":
            return real_of(self.sign(node, self.real(node, x[0]), grid))
        if mode not in ("ROUND", "HALF_EVEN"):
            raise node.refuse(f"activations must be rounded to nearest (ROUND), not by {mode}.")
        step = Fraction(float(grid.scale))
        real = self.real(node, x[0])
        if (lo, hi) != (grid.type.lo, grid.type.hi) and isinstance(real, Real):
            real = real.clamped((lo - zero) * step, (hi - zero) * step)
        return real_of(self.settle(real, grid, node))

    def sign(self, node: Node, real: Any, grid: Grid) -> Codes:
        """+1 where a real is at least 0, else -1: exact in every arithmetic.

        A sum of codes x is at least 0 from, or up to, a whole number T on, so that the sign is
        2 * (x - T) + 1, or 2 * (T - x) + 1, clamped to [-1, 1].
        """
        if grid.zero:
            raise node.refuse("its zero point must be 0, as it has one signed bit.")
        if isinstance(real, Real) and real.codes is not None and real.codes.grid == grid:
            return real.codes  # the graph's input
        name = self.unique(node.outputs[0])
        floats = self.floats(real)
        if floats is not None:
            op: ops.Op = floats.lookup(
                self.builder, name, np.where(floats.reals >= 0, 1, -1), SIGNS, node.name
            )
        elif isinstance(real, Real) and real.function is not None and real.codes is not None:
            table = np.where(real.function >= 0, 1, -1)
            constant = self.builder.constant(f"{name}.table", table, SIGNS)
            op = ops.Lookup(output=name, origin=node.name, input=real.codes.name, table=constant)
        elif isinstance(real, Real) and len(real.parts) == 1 and real.phases is None:
            op = self.threshold(node, real, name)
        else:
            raise node.refuse(
                "the sign must be of one quantised tensor; quantise the sum or join before it, with"
                " two bits or more."
            )
        return Codes(self.builder.add(op, SIGNS, float(grid.scale), (0,)), grid)

    def threshold(self, node: Node, real: Real, name: str) -> ops.Requant:
        """The sign of one tensor, compared with a whole number in each channel."""
        (part,) = real.parts
        low = self.arithmetic.shift_range[0]
        unit, inside = 1 << low, self.arithmetic.product != "single"
        multipliers, biases = [], []
        for c in range(self.builder.tensors[part.tensor].shape[0]):
            m, start = start_of(real, part, c)
            multipliers.append(2 * m * unit)
            biases.append((1 - 2 * m * start) * unit if inside else -start)
        return ops.Requant(
            output=name,
            origin=node.name,
            input=part.tensor,
            multiplier=self.builder.table(f"{name}.M", multipliers),
            bias=self.builder.table(f"{name}.B", biases),
            shift=(low,),
            lo=-1,
            hi=1,
            offset=0 if inside else 1,
        )

    def trunc(self, node: Node, x: list[Any]) -> Real:
        """Drop the lowest bits of whole numbers v: round(v / 2^k).

        Operator set 1 has five inputs, the last two the widths, whose difference is k, and keeps
        the scale; set 2 has six, takes k from the ratio of the scales, and clamps to its width.
        """
        numbers = [float(self.float32(node, n).reshape(-1)[0]) for n in range(1, 5)]
        scale, zero, before, after = numbers
        mode = node.attributes.get("rounding_mode", b"FLOOR").decode().upper()
        step = np.float32(scale)
        if len(node.inputs) == 6:
            step = np.float32(after)
            after = float(self.float32(node, 5).reshape(-1)[0])
            drop = round(log2(float(step) / scale)) if step > 0 and scale > 0 else -1
        else:
            drop = int(before - after)
        real = self.real(node, x[0])
        if zero != 0 or drop < 0 or not 1 <= after <= 32 or not isinstance(real, Real):
            raise node.refuse("it must go from more bits to at least one, with zero point 0.")
        more = any(real.addend) or real.function is not None or real.phases is not None
        if len(real.parts) != 1 or more:
            raise node.refuse("its input must be a sum of codes.")
        (part,) = real.parts
        ratio = self.whole(node, part, scale)
        if len(node.inputs) == 6:
            signed = bool(node.attributes.get("signed", 1))
            narrow = bool(node.attributes.get("narrow", 0))
            type = IntType(int(after), signed)
            lo, hi = type.lo + (narrow and signed), type.hi - (narrow and not signed)
        else:
            t = self.builder.tensors[part.tensor]
            ends = sorted((ratio * (v - z)) / 2**drop for v in (t.lo, t.hi) for z in part.zero)
            lo, hi = floor(ends[0]), ceil(ends[-1])
            type = IntType.spanning(lo, hi)
            if type.bits < after:
                type = IntType(int(after), type.signed)
        cut = rounding(node, mode)
        unit = Fraction(scale)
        if real.lo is not None:
            lo = max(lo, int(cut(np.float64(round(real.lo / unit)) / 2**drop)))
        if real.hi is not None:
            hi = min(hi, int(cut(np.float64(round(real.hi / unit)) / 2**drop)))
        name = self.unique(node.outputs[0])
        op = self.dropped(node, name, part, (ratio, drop, mode), (lo, hi))
        grid = Grid(type, step, 0)
        return real_of(Codes(self.builder.add(op, type, float(step), (0,)), grid))

    def whole(self, node: Node, part: Part, scale: float) -> int:
        """How many of `scale` one integer of the part is: a whole number."""
        factor = Fraction(float(part.scale)) * Fraction(float(part.weights[0])) * part.gain[0]
        ratio = round(factor / Fraction(scale))
        if (
            len(part.weights) > 1
            or len(part.gain) > 1
            or ratio < 1
            or abs(factor / Fraction(scale) - ratio) > Fraction(ratio, 10_000)
        ):
            raise node.refuse("its scale must be that of the integers it truncates.")
        return ratio

    def dropped(
        self, node: Node, name: str, part: Part, what: tuple[int, int, str], ends: tuple[int, int]
    ) -> ops.Op:
        """round(ratio * (x - zero) / 2^k), clamped: a Requant where the arithmetic rounds so or the
        rounding is one to a side, else a table of x.

        Down, without a rounding of its own: (2v - (2^k - 1)) / 2^(k + 1) is never a tie, and its
        nearest integer is floor(v / 2^k). Up is down of v + 2^k - 1.
        """
        ratio, drop, mode = what
        t, a = self.builder.tensors[part.tensor], self.arithmetic
        reach = ratio * (max(abs(t.lo), abs(t.hi)) + max(map(abs, part.zero)))
        floats = a.product == "single"
        own = not drop or OWN_ROUNDING.get(mode, "") == a.rounding
        if own and (not floats or reach < 1 << 24):
            return self.shifted(node, name, part, (ratio, drop, 0), ends)
        if mode in ("FLOOR", "CEIL") and not floats:
            aside = (1 << drop) - 1 if mode == "CEIL" else 0
            if a.rounding == "TRN":
                return self.shifted(node, name, part, (ratio, drop, aside), ends)
            aside = 2 * aside - (1 << drop) + 1
            return self.shifted(node, name, part, (2 * ratio, drop + 1, aside), ends)
        if t.type.bits > TABLE_BITS or len(part.zero) > 1:
            raise node.refuse(
                f"its sum must be at most {TABLE_BITS} bits wide to be rounded by {mode} in"
                f" arithmetic {a.name!r}, not {t.type.bits}; pool fewer pixels, or export it with"
                " rounding FLOOR and use --arithmetic intaglio."
            )
        codes = np.arange(t.type.lo, t.type.hi + 1, dtype=np.float64) - part.zero[0]
        near = np.clip(rounded(node, codes * ratio / 2**drop, mode), *ends).astype(np.int64)
        table = self.builder.constant(f"{name}.table", near)
        return ops.Lookup(output=name, origin=node.name, input=part.tensor, table=table)

    def shifted(
        self, node: Node, name: str, part: Part, what: tuple[int, int, int], ends: tuple[int, int]
    ) -> ops.Requant:
        """(m * (x - zero) + aside) / 2^s, clamped, by the arithmetic's own rounding."""
        m, s, aside = what
        extra = max(0, self.arithmetic.shift_range[0] - s)
        if self.arithmetic.product == "single":  # B is at the scale of x
            b = [-z for z in part.zero]
        else:
            b = [(aside - m * z) << extra for z in part.zero]
        return ops.Requant(
            output=name,
            origin=node.name,
            input=part.tensor,
            multiplier=self.builder.table(f"{name}.M", [m << extra]),
            bias=self.builder.table(f"{name}.B", b),
            shift=(s + extra,),
            lo=ends[0],
            hi=ends[1],
        )


def start_of(real: Real, part: Part, channel: int) -> tuple[int, int]:
    """(m, T) with real >= 0 exactly where m * (x - T) >= 0, m being 1 or -1.

    What is 0 but for the rounding of its constants to float32 is 0, as in a sum of equals.
    """
    factor = Fraction(float(part.scale)) * Fraction(
        float(part.weights[channel % len(part.weights)])
    )
    factor *= part.gain[channel % len(part.gain)]
    addend, zero = real.addend[channel % len(real.addend)], part.zero[channel % len(part.zero)]
    if real.lo is not None and real.lo >= 0:
        addend, factor = real.lo, Fraction(0)  # never below 0
    if real.hi is not None and real.hi < 0:
        addend, factor = real.hi, Fraction(0)  # never at 0
    if not factor:
        far = 1 << 40
        return 1, -far if addend >= 0 else far
    edge = zero - addend / factor
    if abs(edge - round(edge)) <= abs(addend / factor) * FLOAT_NOISE:
        edge = Fraction(round(edge))
    return (1, ceil(edge)) if factor > 0 else (-1, floor(edge))


def rounding(node: Node, mode: str) -> Callable[[Any], Any]:
    """QONNX's rounding of this name; its HALF_UP is away from zero."""
    ways: dict[str, Callable[[Any], Any]] = {
        "ROUND": np.rint,
        "HALF_EVEN": np.rint,
        "FLOOR": np.floor,
        "CEIL": np.ceil,
        "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
        "DOWN": np.trunc,
        "ROUND_TO_ZERO": np.trunc,
        "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + x.dtype.type(0.5)),
        "HALF_DOWN": lambda x: np.sign(x) * np.ceil(np.abs(x) - x.dtype.type(0.5)),
        "SIGN": lambda x: np.where(x >= 0, 1, -1),
    }
    if mode not in ways:
        raise node.refuse(f"its rounding must be one of {', '.join(list(ways)[:-1])}, not {mode}.")
    return ways[mode]


def rounded(node: Node, x: Any, mode: str) -> Any:
    """x rounded by QONNX's rule of that name."""
    return rounding(node, mode)(x)
