"""The integers of XNNPACK, which LiteRT gives its operators to by default, as x86 computes them.

Its convolutions and dense layers scale an exact sum in float32,

    code = clamp(RNE(float32(sum + bias) * float32(sx * sw / sy)) + zy),

so that a Program of its integers has products in float32, which no hardware here has. Its sums of
two maps are integers of 21 bits, rounded once: a sum of float32 does not hold them, but their upper
and lower parts. Averages are what LiteRT itself makes of them.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import gcd

import numpy as np

from intaglio.exchange.from_tflite.building import Held, window_of
from intaglio.exchange.from_tflite.choosing import Choosing
from intaglio.exchange.from_tflite.flat import Array, Flat, Operator
from intaglio.exchange.from_tflite.resizing import Taps, step
from intaglio.fixed import IntType, Rounding, preset
from intaglio.forms import Real, xnnpack_factors
from intaglio.multiplier import float32_parts, short
from intaglio.ops import Add, Interpolate, Lookup, Requant, SumPool2d

SUMS = IntType(32, True)
WIDEST = 22  # bits of a lower part: two of them, twice, and a half are exact in float32
TABLE_BITS = 16
FLOATS = preset("onnxruntime")  # whose products are the same
REMEDY = "leave out --kernels xnnpack"


class Xnnpack(Choosing):
    """Operators of which XNNPACK makes other integers than the reference kernels."""

    def requantised(
        self, op: Operator, acc: str, tensors: tuple[Flat, Flat, Flat], data: Array,
        rounding: Rounding | None, times: int = 1,
    ) -> str:  # fmt: skip
        """The Requant of a layer, in float32."""
        read, weight, made = tensors
        if weight.kind == "UINT8":
            raise op.refuse(f"its weights must be int8 for XNNPACK's integers; {REMEDY}.")
        count, sum_of = len(data), self.builder.tensors[acc]
        scales = np.resize(weight.scales, count).astype(np.float32)
        biases = np.tile(self.bias(op, count // times), times)
        biases = biases - read.zero * data.reshape(count, -1).sum(axis=1)
        if not SUMS.holds(sum_of.lo + int(biases.min()), sum_of.hi + int(biases.max())):
            raise op.refuse(
                "its sums with the bias must fit into int32, as they must in TFLite; convert the"
                " model anew."
            )
        factors = np.float32(read.scale) * scales / np.float32(made.scale)
        rows = [float32_parts(Fraction(float(factor))) for factor in factors]
        lo, hi = self.ends(op, made)
        name = self.unique(made.name)
        requant = Requant(
            output=name, input=acc, origin=made.name,
            multiplier=self.builder.table(f"{name}.m", [m for m, _ in rows]),
            bias=self.builder.table(f"{name}.b", biases.tolist()),
            shift=tuple(short([s for _, s in rows])), lo=lo, hi=hi, offset=made.zero,
        )  # fmt: skip
        return self.add(requant, made)

    def addition(self, op: Operator) -> Held:
        """ADD of two maps: both terms in an upper part, and a lower one of S bits; what carries
        from the lower ones is a sum of its own."""
        if op.kind != "ADD" or any(self.flat(n).data is not None for n in op.inputs):
            raise op.refuse(f"it must be the sum of two maps for XNNPACK's integers; {REMEDY}.")
        a, b, made = self.input(op, 0), self.input(op, 1), self.codes(op, op.outputs[0])
        if self.shape(a) != self.shape(b) or a.view != b.view:
            raise op.refuse("its operands must have one shape; enlarge the smaller one before.")
        x, y = (self.codes(op, n) for n in op.inputs)
        reals = [Real(flat.scale, flat.zero) for flat in (x, y, made)]
        ma, mb, bias, shift = xnnpack_factors(reals[0], reals[1], reals[2])
        if shift > WIDEST:
            raise op.refuse(f"its scales must be nearer to its result's; {REMEDY}.")
        name, (lo, hi) = self.unique(made.name), self.ends(op, made)
        half = 1 << shift - 1
        uppers, lowers = [], []
        for side, held, m, more in (("a", a, ma, bias + half), ("b", b, mb, 0)):
            type = self.builder.tensors[held.name].type
            total = np.arange(type.lo, type.hi + 1, dtype=np.int64) * m + more
            uppers.append(self.term(f"{name}.{side}.upper", held.name, total >> shift))
            lowers.append(self.term(f"{name}.{side}.lower", held.name, total & (1 << shift) - 1))
        carry = self.builder.add(
            Add(output=f"{name}.carry", a=lowers[0], b=lowers[1], multiplier_a=2, multiplier_b=2,
                bias=1 - (1 << shift), shift=shift + 1, lo=0, hi=1)
        )  # fmt: skip
        low, high = (
            sum(getattr(self.builder.tensors[u], end) for u in uppers) for end in ("lo", "hi")
        )
        whole = self.builder.add(
            Add(output=f"{name}.whole", a=uppers[0], b=uppers[1], multiplier_a=1, multiplier_b=1,
                bias=0, shift=0, lo=low, hi=high)
        )  # fmt: skip
        result = Add(
            output=name, a=whole, b=carry, multiplier_a=1, multiplier_b=1, bias=0, shift=0, lo=lo,
            hi=hi, offset=made.zero, origin=made.name,
        )  # fmt: skip
        return Held(self.add(result, made), a.view)

    def of_product(self, op: Operator, product: str, factor: float) -> tuple[int, int]:
        """As it is in float32."""
        return float32_parts(Fraction(factor))

    def term(self, name: str, x: str, table: Array) -> str:
        """A function of a code."""
        constant = self.builder.constant(f"{name}.table", table)
        return self.builder.add(Lookup(output=name, input=x, table=constant))

    def average(self, op: Operator) -> str:
        """AVERAGE_POOL_2D as a table of the sum: over n, halves away from zero."""
        x, made = self.map(op), self.codes(op, op.outputs[0])
        self.same_grid(op, self.codes(op, op.inputs[0]), made)
        _, h, w = self.shape(x)
        kernel = (op.options.filterHeight, op.options.filterWidth)
        window, n, name = window_of(op, (h, w), kernel), kernel[0] * kernel[1], made.name
        pool = SumPool2d(
            output=self.unique(f"{name}.sum"), input=x.name, kernel=kernel, origin=name, **window
        )
        total = self.builder.tensors[self.builder.add(pool)]
        if any(window["padding"]) or total.type.bits > TABLE_BITS:
            raise op.refuse(f"its windows must be small and within the image; {REMEDY}.")
        sums = np.arange(total.type.lo, total.type.hi + 1, dtype=np.int64)
        lo, hi = self.ends(op, made)
        codes = np.clip(np.sign(sums) * ((np.abs(sums) + n // 2) // n), lo, hi)
        table = self.builder.constant(f"{total.name}.table", codes, made.type)
        return self.add(Lookup(output=self.unique(name), input=total.name, table=table), made)

    def bilinear(self, op: Operator) -> str:
        """RESIZE_BILINEAR by weights in 2048ths, halves up."""
        return self.blended(op, lambda old, new: xnnpack_taps(op, old, new), "RND")

    def shared(self, op: Operator, total: Interpolate, made: Flat, rounding: Rounding) -> str:
        """The sum over its unit 2^S, in float32, which rounds halves to even: with n = sum +
        2^(S - 1), floor(n / 2^S) is (2n + 1 - 2^S) / 2^(S + 1) rounded, which is never a half."""
        double = replace(total, rows=tuple((r, 2 * u, 2 * v) for r, u, v in total.rows))
        x = self.builder.tensors[total.input]
        if (max(-x.lo, x.hi) + 2) * double.unit > 1 << 24:
            raise op.refuse(f"its weights must be multiples of 1 / 256 of a pixel; {REMEDY}.")
        name = total.output.removesuffix(".sum")
        assert made.type is not None
        requant = Requant(
            output=name, input=self.builder.add(double), origin=made.name, lo=made.type.lo,
            hi=made.type.hi, multiplier=self.builder.constant(f"{name}.m", [1]),
            bias=self.builder.constant(f"{name}.b", [1]), shift=(double.unit.bit_length() - 1,),
        )  # fmt: skip
        return self.add(requant, made)

    def mean(self, op: Operator) -> str:
        """MEAN."""
        raise op.refuse(f"it must not be there for XNNPACK's integers; {REMEDY}.")


def xnnpack_taps(op: Operator, old: int, new: int) -> Taps:
    """Rows or columns that XNNPACK finds in float32, their weights in 2048ths or larger parts."""
    options, scale = op.options, step(old, new, op.options.alignCorners)
    at = np.arange(new, dtype=np.float32) * scale
    if options.halfPixelCenters:
        half = np.float32(0.5)
        at = np.clip(at + (half * scale - half), np.float32(0), np.float32(old - 1))
    first = at.astype(np.int64)
    if first.max() >= old:
        raise op.refuse(f"its places must be of {old} pixels; {REMEDY}.")
    ahead = np.rint((at - first.astype(np.float32)) * np.float32(2048)).astype(np.int64)
    ahead[first == old - 1] = 0
    whole = ahead == 2048
    first, ahead = first + whole, np.where(whole, 0, ahead)
    unit = 2048 // gcd(2048, *ahead.tolist())
    ahead = ahead * unit // 2048
    return tuple((r, unit - v, v) for r, v in zip(first.tolist(), ahead.tolist(), strict=True))
