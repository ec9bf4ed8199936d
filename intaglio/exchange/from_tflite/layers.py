"""Operators with weights: CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED.

    code = clamp(MBQM(sum of w * (q - zx) + bias, M, S) + zy)

with M / 2^S = TFLite's QuantizeMultiplier of sx * sw / sy, in double. The sum over raw codes leaves
-zx * sum(w), which joins the bias in B = (bias - zx * sum(w)) * M. MBQM rounds twice (DOUBLE) in
convolutions, and once, halves away from zero, in FULLY_CONNECTED (docs/exchange.md).

Of int16 activations sums are of 64 bits; there a convolution's M has 16 bits and its rounding is
one, halves up, and a FULLY_CONNECTED is as ever.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from intaglio.exchange.from_tflite.building import Building, Held, window_of
from intaglio.exchange.from_tflite.flat import NAMES, Array, Flat, Operator
from intaglio.fixed import EXACT_LIMIT, IntType, Rounding, requantise
from intaglio.multiplier import short
from intaglio.ops import Conv2d, Requant
from intaglio.transposed import phases

SUMS, WIDE_SUMS = IntType(32, True), IntType(48, True)
DEAD_SHIFT = 31  # of a channel whose result is a constant


class Layers(Building):
    """Convolutions and dense layers."""

    def convolution(self, op: Operator) -> str:
        """CONV_2D: weights (Cout, kh, kw, Cin / groups)."""
        x = self.map(op)
        weight = self.weights_of(op, 4)
        data = integers(weight).transpose(0, 3, 1, 2)
        channels = self.shape(x)[0]
        if channels % data.shape[1] or data.shape[0] % (channels // data.shape[1]):
            raise op.refuse(
                f"its weights must be of {channels} channels or a part of them, not"
                f" {data.shape[1]}."
            )
        return self.layer(op, x.name, weight, data, channels // data.shape[1], weight.axis == 0)

    def depthwise(self, op: Operator) -> str:
        """DEPTHWISE_CONV_2D: weights (1, kh, kw, Cin * multiplier)."""
        x = self.map(op)
        weight = self.weights_of(op, 4)
        data = integers(weight).transpose(3, 0, 1, 2)
        channels = self.shape(x)[0]
        if data.shape[1] != 1 or data.shape[0] % channels:
            raise op.refuse(
                f"its weights must be 1 x H x W x a multiple of {channels}, not"
                f" {list(weight.shape)}."
            )
        return self.layer(op, x.name, weight, data, channels, weight.axis == 3)

    def dense(self, op: Operator) -> str:
        """FULLY_CONNECTED: weights (Cout, K), of a whole map: a convolution of its size; or of the
        channels of every pixel."""
        x = self.input(op)
        c, h, w = self.shape(x)
        weight = self.weights_of(op, 2)
        if op.options.quantSpec:
            raise op.refuse("it must have no quant_spec; convert the model without one.")
        data, size = integers(weight), weight.shape[1]
        if op.options.weightsFormat or size not in (c * h * w, c):
            raise op.refuse(
                f"its weights must be rows of {c * h * w}, as many as one image has, not"
                f" {list(weight.shape)}."
            )
        if size == c * h * w:
            places = x.view.lines(np.arange(size).reshape(1, c, h, w)).reshape(-1)
            data = data[:, np.argsort(places)].reshape(-1, c, h, w)
        else:
            pixels = x.view.reshaped((1, h, w, c))
            if pixels is None:
                raise op.refuse("it must read whole pixels; cut the model before it.")
            x, data = self.settle(op, Held(x.name, pixels), "nhwc"), data.reshape(-1, c, 1, 1)
        return self.layer(op, x.name, weight, data, 1, weight.axis == 0, dense=True)

    def transposed_convolution(self, op: Operator) -> str:
        """TRANSPOSE_CONV: weights (Cout, kh, kw, Cin); its result's size is its first input. What
        the padding is, the kernel computes as for a convolution back from there."""
        sides = self.numbers(op, 0)
        given = replace(op, inputs=(op.inputs[2], *op.inputs[1:2], *op.inputs[3:4]))
        x, weight, o = self.map(given), self.weights_of(given, 4), op.options
        data = integers(weight).transpose(3, 0, 1, 2)
        channels, *size = self.shape(x)
        if data.shape[0] != channels or len(sides) != 4 or min(o.strideH, o.strideW) < 1:
            raise op.refuse(
                f"its weights must be of {channels} channels, and its result of four sides."
            )
        if len(weight.scales) > 1 and weight.axis:
            raise op.refuse(f"its scales must follow the output channels, not axis {weight.axis}.")
        stride, before = (o.strideH, o.strideW), []
        for side, k, s in zip(sides[1:3], data.shape[2:], stride, strict=True):
            steps = -(-side // s) if o.padding == schema.Padding.SAME else (side - k + s) // s
            before.append(max(0, (steps - 1) * s + k - side) // 2)
        form = phases(
            data, (size[0], size[1]), (sides[1], sides[2]), stride, (before[0], before[1])
        )
        read, made = self.codes(given, given.inputs[0]), self.codes(op, op.outputs[0])
        acc = Conv2d(
            output=self.unique(f"{made.name}.acc"), input=x.name, origin=made.name,
            weight=self.weight(op.inputs[1], form.weight), pad_value=(read.zero,),
            padding=form.padding,
        )  # fmt: skip
        self.builder.add(acc)
        flats, times = (read, weight, made), len(form.weight) // data.shape[1]
        name = self.requantised(given, acc.output, flats, form.weight, None, times)
        for step in form.behind:
            name = self.add(replace(step, output=self.unique(made.name), input=name,
                                    origin=made.name), made)  # fmt: skip
        return name

    def weights_of(self, op: Operator, dimensions: int) -> Flat:
        """The constant weights."""
        weight = self.constant(op, 1)
        if weight.kind not in ("INT8", "UINT8", "INT4") or len(weight.shape) != dimensions:
            raise op.refuse(
                f"its weights must be integers of at most 8 bits in {dimensions} dimensions, not"
                f" {weight.kind.lower()} in {len(weight.shape)}; quantise them too."
            )
        if not weight.scales:
            raise op.refuse("its weights must have a scale; convert the model anew.")
        return weight

    def layer(
        self, op: Operator, x: str, weight: Flat, data: Array, groups: int, along: bool,
        dense: bool = False,
    ) -> str:  # fmt: skip
        """Conv2d and Requant of weights (Cout, Cin / groups, kh, kw) less their zero points."""
        if len(weight.scales) > 1 and not along:
            raise op.refuse(f"its scales must follow the output channels, not axis {weight.axis}.")
        read, made = self.codes(op, op.inputs[0]), self.codes(op, op.outputs[0])
        source = self.builder.tensors[x]
        if dense:
            window: dict[str, Any] = {}
        else:
            _, h, w = source.shape
            window = window_of(op, (h, w), (data.shape[2], data.shape[3]))
        acc = Conv2d(
            output=self.unique(f"{made.name}.acc"), input=x, origin=made.name, groups=groups,
            weight=self.weight(op.inputs[1], data), pad_value=(read.zero,), **window,
        )  # fmt: skip
        self.builder.add(acc)
        rounding: Rounding | None = "RND" if self.wide(op) else None
        if dense:
            rounding = "RND_INF"
        return self.requantised(op, acc.output, (read, weight, made), data, rounding)

    def weight(self, number: int, data: Array) -> str:
        """The constant of one of the file's, which several layers may share."""
        key = (number, data.shape)
        if key not in self.weights:
            flat = self.flat(number)
            zero = flat.zero if len(set(flat.zeros)) == 1 else 0
            assert flat.type is not None
            type = flat.type if not zero else IntType.spanning(int(data.min()), int(data.max()))
            name = self.unique(f"{flat.name or number}.w")
            self.weights[key] = self.builder.constant(name, data, type)
        return self.weights[key]

    def wide(self, op: Operator) -> bool:
        """Whether its activations are int16."""
        return self.flat(op.inputs[0]).kind == "INT16"

    def bias(self, op: Operator, count: int) -> Array:
        """int32, or int64 of int16; one for each output channel, 0 where there is none."""
        if len(op.inputs) < 3 or op.inputs[2] < 0:
            return np.zeros(count, np.int64)
        bias = self.constant(op, 2)
        kind = "INT64" if self.wide(op) else "INT32"
        asked = getattr(op.options, "quantizedBiasType", 0)
        if asked and NAMES.get(asked) != kind:
            raise op.refuse(
                f"its quantized_bias_type must be {kind.lower()}, as its bias; convert the model"
                " anew."
            )
        if bias.kind != kind or bias.shape != (count,):
            raise op.refuse(
                f"its bias must be {count} values of {kind.lower()}, not {bias.kind.lower()} of"
                f" shape {list(bias.shape)}."
            )
        return integers(bias)

    def requantised(
        self, op: Operator, acc: str, tensors: tuple[Flat, Flat, Flat], data: Array,
        rounding: Rounding | None, times: int = 1,
    ) -> str:  # fmt: skip
        """The Requant of a layer, whose output channels come so many times."""
        read, weight, made = tensors
        count = len(data)
        scales = np.resize(weight.scales, count).tolist()
        bias = np.tile(self.bias(op, count // times), times)
        bias = bias - read.zero * data.reshape(count, -1).sum(axis=1)
        lo, hi = self.ends(op, made)
        low, high = self.builder.tensors[acc].lo, self.builder.tensors[acc].hi
        rows = []
        for scale, b, kernel in zip(scales, bias.tolist(), data, strict=True):
            factor = self.factor(read, scale, made, weight)
            m, s = self.multiplier(op, factor)
            if rounding == "RND":
                m, s = min((m + (1 << 15)) >> 16, 0x7FFF), s - 16
            if not kernel.any():
                own: Rounding = rounding or self.builder.arithmetic.rounding
                code = requantise(b * m, s, made.zero, lo, hi, own) - made.zero
                rows.append((0, code << DEAD_SHIFT, DEAD_SHIFT))
                continue
            sums = WIDE_SUMS if self.wide(op) else SUMS
            if not sums.holds(b, b) or max(abs(low + b), abs(high + b)) * m >= EXACT_LIMIT:
                raise op.refuse(
                    f"its sums with the bias must fit into {sums.bits} bits, as they must in"
                    " TFLite; convert the model anew."
                )
            rows.append((m, b * m, s))
        factors, addends, shifts = zip(*rows, strict=True)
        name = self.unique(made.name)
        requant = Requant(
            output=name, input=acc, origin=made.name,
            multiplier=self.builder.table(f"{name}.m", factors),
            bias=self.builder.table(f"{name}.b", addends), shift=tuple(short(shifts)),
            lo=lo, hi=hi, offset=made.zero, rounding=rounding,
        )  # fmt: skip
        return self.add(requant, made)

    def factor(self, read: Flat, scale: float, made: Flat, weight: Flat) -> float:
        """sx * sw / sy; the product in float32 where the weights are uint8, as of old."""
        if weight.kind == "UINT8":
            return float(np.float32(read.scale) * np.float32(scale)) / made.scale
        return read.scale * scale / made.scale


def integers(flat: Flat) -> Array:
    """A constant's values less its zero point."""
    assert flat.data is not None
    zeros = flat.zeros or (0,)
    if len(set(zeros)) > 1:
        shape = [1] * len(flat.shape)
        shape[flat.axis] = -1
        found: Array = flat.data.astype(np.int64) - np.reshape(zeros, shape)
        return found
    whole: Array = flat.data.astype(np.int64)
    return whole - zeros[0]
