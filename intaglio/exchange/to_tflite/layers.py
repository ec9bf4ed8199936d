"""Sums of products and their Requant: CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, averages.

    code = clamp(MBQM(sum of w * (q - zx) + bias, M, S) + zy)

is the Program's Requant where B is a multiple of M, bias = B / M + zx * sum(w), and a float32 scale
of the weights gives M, S through TFLite's QuantizeMultiplier: so it is for what is quantised with
arithmetic tflite, and for what was imported from a .tflite file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from intaglio.exchange.to_tflite.file import Type
from intaglio.exchange.to_tflite.pieces import REMEDY, Edge, Pieces, Walk
from intaglio.exchange.to_tflite.scales import snapped, weight_scale
from intaglio.fixed import IntType, Rounding, double, requantise
from intaglio.forms import quantized_multiplier, tflite_mean
from intaglio.ops import Conv2d, Requant, SumPool2d, rounding_of

Array = NDArray[Any]
I8, I32 = IntType(8, True), IntType(32, True)
NEAR = 8  # float32 scales tried beside the nearest
HEAVY = 127  # weight of a sum: the first of the two roundings is so much finer than a code


class Layers(Pieces):
    """One method for each kind of sum."""

    def rows(self, op: Requant) -> list[tuple[int, int, int]]:
        """(M, B, S) of every channel."""
        count, constants = self.program.tensors[op.output].shape[0], self.program.constants
        tables = (constants[op.multiplier].array, constants[op.bias].array, np.array(op.shift))
        return list(zip(*(np.resize(t, count).tolist() for t in tables), strict=True))

    def convolution(self, op: Requant, conv: Conv2d) -> None:
        """A Requant and the convolution that it reads."""
        x, weight = self.source(conv, conv.input), self.program.constants[conv.weight].array
        walk = Walk(
            (weight.shape[2], weight.shape[3]), conv.stride, conv.dilation, conv.padding,
            conv.pad_value,
        )  # fmt: skip
        rounding = rounding_of(op, self.program.arithmetic)
        if rounding == "RND_INF":
            self.dense(op, conv, x, weight)
            return
        self.check_rounding(op, rounding)
        self.weighted(op, x, weight, conv.groups, walk, self.program.constants[conv.weight].type)

    def check_rounding(self, op: Requant, rounding: Rounding) -> None:
        """TFLite's convolutions round twice."""
        if rounding != "DOUBLE":
            raise op.refuse(f"it must round as DOUBLE does in TFLite, not {rounding}; {REMEDY}.")

    def scaled(
        self, op: Requant, x: Edge, y: Edge, weight: Array
    ) -> tuple[Array, Array, list[float]]:
        """Weights, int32 biases and float32 scales of the output channels."""
        kernels, biases, scales = [], [], []
        for kernel, row in zip(weight, self.rows(op), strict=True):
            sign, bias, scale = self.channel(op, x, y, kernel, row)
            reach = int(np.abs(kernel).sum()) * abs(sign) * 255
            if abs(bias) + reach > I32.hi:
                raise op.refuse(
                    "its sums with the bias must fit into int32 in TFLite; use weights of fewer"
                    " bits, or fewer channels."
                )
            kernels.append(sign * kernel)
            biases.append(bias)
            scales.append(scale)
        stored = np.stack(kernels)
        if not I8.holds(int(stored.min()), int(stored.max())):
            raise op.refuse("its weights must fit into int8 in TFLite; use at most 8 bits.")
        return stored, np.array(biases, np.int64), scales

    def channel(
        self, op: Requant, x: Edge, y: Edge, kernel: Array, row: tuple[int, int, int]
    ) -> tuple[int, int, float]:
        """(sign of the weights, bias, scale). A result that is always the same is a bias of a scale
        that leaves it as it is."""
        m, b, s = row
        if m == 0 or not kernel.any():
            rounding = rounding_of(op, self.program.arithmetic)
            code = requantise(b, s, op.offset, op.lo, op.hi, rounding)
            return 0, code - y.zero, snapped(y.real.scale / x.real.scale)
        sign = 1 if m > 0 else -1
        bias, rest = divmod(b, abs(m))
        scale = weight_scale(abs(m), s, x.real, y.real)
        if rest or scale is None:
            wanted = "a bias B that is a multiple of M" if rest else "a factor of float32 scales"
            raise op.refuse(f"it must have {wanted} in TFLite; {REMEDY}.")
        return sign, bias + sign * x.zero * int(kernel.sum()), scale

    def weights(self, stored: Array, scales: Sequence[float], axis: int, type: IntType) -> int:
        """The constant, with one scale where all are equal. LiteRT's reference kernels take 4 bits
        in all but DEPTHWISE_CONV_2D, whose channels are along the last axis."""
        four = self.four and type.bits <= 4 and axis == 0
        kind = Type.INT4 if four else Type.INT8
        return self.graph.constant("weights", stored, kind, few(scales), axis)

    def bias(self, biases: Array, scales: Sequence[float], x: Edge) -> int:
        """int32, of the product's scale."""
        products = few([snapped(x.real.scale * s) for s in scales])
        return self.graph.constant("bias", biases, Type.INT32, products)

    def weighted(
        self, op: Requant, x: Edge, weight: Array, groups: int, walk: Walk, type: IntType
    ) -> None:
        """CONV_2D, or DEPTHWISE_CONV_2D where every input channel is its own group."""
        y = self.made(op)
        stored, biases, scales = self.scaled(op, x, y, weight)
        deep = groups > 1 and weight.shape[1] == 1
        options = schema.DepthwiseConv2DOptionsT() if deep else schema.Conv2DOptionsT()
        number, options.padding = self.walked(op, x, walk)
        options.strideH, options.strideW = walk.stride
        options.dilationHFactor, options.dilationWFactor = walk.dilation
        options.fusedActivationFunction, behind = self.clamped(y, op.lo, op.hi)
        if deep:
            options.depthMultiplier = len(weight) // groups
            constant = self.weights(stored.transpose(1, 2, 3, 0), scales, 3, type)
        else:
            constant = self.weights(stored.transpose(0, 2, 3, 1), scales, 0, type)
        inputs = [number, constant, self.bias(biases, scales, x)]
        self.add("DEPTHWISE_CONV_2D" if deep else "CONV_2D", inputs, y, options, behind)

    def dense(self, op: Requant, conv: Conv2d, x: Edge, weight: Array) -> None:
        """FULLY_CONNECTED of a whole map: it alone rounds once."""
        _, h, w, c = self.graph.shape(x.number)
        if weight.shape[1:] != (c, h, w) or any(conv.padding):
            raise op.refuse(f"it must round as DOUBLE does in TFLite, not RND_INF; {REMEDY}.")
        y = self.made(op)
        stored, biases, scales = self.scaled(op, x, y, weight)
        laid = stored.transpose(0, 2, 3, 1).reshape(len(stored), -1)
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction, behind = self.clamped(y, op.lo, op.hi)
        row = self.reshaped(x, (1, h * w * c), f"{op.output}:row")
        constant = self.weights(laid, scales, 0, self.program.constants[conv.weight].type)
        inputs = [row, constant, self.bias(biases, scales, x)]
        flat = Edge(
            self.graph.tensor(f"{op.output}:flat", (1, len(laid)), Type.INT8, y.real), y.real,
            y.less,
        )  # fmt: skip
        self.add("FULLY_CONNECTED", inputs, flat, options, behind)
        shape = self.graph.ints("shape", self.graph.shape(y.number))
        self.graph.add("RESHAPE", [flat.number, shape], y.number, reshape(self.shape(op.output)))

    def reshaped(self, x: Edge, shape: tuple[int, ...], name: str) -> int:
        """The same codes in another shape."""
        made = self.graph.tensor(name, shape, Type.INT8, x.real)
        target = self.graph.ints("shape", shape)
        return self.graph.add("RESHAPE", [x.number, target], made, reshape(shape))

    # --- averages ---

    def averaged(self, op: Requant, pool: SumPool2d) -> None:
        """A Requant and the sum of a window that it reads: the operator that makes the same code of
        every sum there can be."""
        self.check_rounding(op, rounding_of(op, self.program.arithmetic))
        x, t = self.source(pool, pool.input), self.program.tensors[pool.input]
        n, rows = pool.kernel[0] * pool.kernel[1], set(self.rows(op))
        walk = Walk(pool.kernel, pool.stride, pool.dilation, pool.padding, (pool.pad_value,))
        ones = np.ones((self.graph.shape(x.number)[3], 1, *pool.kernel), np.int64)
        if len(rows) > 1:
            self.weighted(op, x, ones, len(ones), walk, I8)
            return
        ((m, b, s),) = rows
        low, high = min(t.lo, pool.pad_value), max(t.hi, pool.pad_value)
        sums = np.arange(n * low, n * high + 1, dtype=np.int64)
        wanted = rounded(sums * m + b, s, op.offset, op)
        y = self.made(op)
        single = walk.dilation == (1, 1) and not any(walk.padding)
        alike = single and (x.real, x.less) == (y.real, y.less)
        if alike and np.array_equal(average(sums - n * x.less, n, x.less, op), wanted):
            self.pool("AVERAGE_POOL_2D", op, x, y, walk, op.lo, op.hi)
            return
        whole = single and walk.kernel == self.graph.shape(x.number)[1:3]
        if whole and np.array_equal(mean(sums - n * x.zero, n, x, y, op), wanted):
            options = schema.ReducerOptionsT()
            options.keepDims = True
            _, behind = self.clamped(y, op.lo, op.hi)
            self.add("MEAN", [x.number, self.graph.ints("axes", [1, 2])], y, options, behind)
            return
        self.by_weights(op, x, y, walk, (sums, wanted, (m, b, s)))

    def by_weights(
        self, op: Requant, x: Edge, y: Edge, walk: Walk,
        known: tuple[Array, Array, tuple[int, int, int]],
    ) -> None:  # fmt: skip
        """DEPTHWISE_CONV_2D by equal weights, of the first scale that makes the same codes."""
        sums, wanted, (m, b, s) = known
        n = walk.kernel[0] * walk.kernel[1]
        for weight, scale in scales_of_sums(m * 2.0**-s * y.real.scale / x.real.scale):
            bias = round(weight * ((b + ((op.offset - y.zero) << s)) / m + n * x.zero)) if m else 0
            found, shift = quantized_multiplier(x.real.scale * scale / y.real.scale)
            total = (weight * (sums - n * x.zero) + bias) * found
            if np.array_equal(rounded(total, shift, y.zero, op), wanted):
                break
        else:
            raise op.refuse(f"its average must be one that TFLite makes; {REMEDY}.")
        channels = self.graph.shape(x.number)[3]
        options = schema.DepthwiseConv2DOptionsT()
        number, options.padding = self.walked(op, x, walk)
        options.strideH, options.strideW = walk.stride
        options.dilationHFactor, options.dilationWFactor = walk.dilation
        options.depthMultiplier = 1
        options.fusedActivationFunction, behind = self.clamped(y, op.lo, op.hi)
        stored = np.full((1, *walk.kernel, channels), weight)
        weights = self.weights(stored, [scale] * channels, 3, I8)
        biases = self.bias(np.full(channels, bias), [scale] * channels, x)
        self.add("DEPTHWISE_CONV_2D", [number, weights, biases], y, options, behind)

    def pool(
        self, kind: str, op: Any, x: Edge, y: Edge, walk: Walk, lo: int, hi: int,
        own: int | None = None,
    ) -> None:  # fmt: skip
        """AVERAGE_POOL_2D or MAX_POOL_2D."""
        options = schema.Pool2DOptionsT()
        number, options.padding = self.walked(op, x, walk, own)
        options.filterHeight, options.filterWidth = walk.kernel
        options.strideH, options.strideW = walk.stride
        options.fusedActivationFunction, behind = self.clamped(y, lo, hi)
        self.add(kind, [number], y, options, behind)


def scales_of_sums(factor: float) -> Iterator[tuple[int, float]]:
    """Weights to try, and float32 scales near what makes a factor of the sum."""
    for weight in (1, HEAVY):
        near = np.float32(factor / weight)
        for k in sorted(range(-NEAR, NEAR + 1), key=abs):
            scale = float(near + k * np.spacing(near))
            if scale > 0:
                yield weight, scale


def reshape(shape: Sequence[int]) -> Any:
    """RESHAPE's options."""
    options = schema.ReshapeOptionsT()
    options.newShape = list(shape)
    return options


def few(scales: Sequence[float]) -> Sequence[float]:
    """One scale instead of many equal ones."""
    return scales[:1] if len(set(scales)) == 1 else scales


def rounded(t: Array, s: int, offset: int, op: Requant) -> Array:
    """`requantise` of many totals, rounded twice."""
    found: Array = np.clip(double(t, s) + offset, op.lo, op.hi)
    return found


def average(held: Array, n: int, less: int, op: Requant) -> Array:
    """Codes that AVERAGE_POOL_2D makes of sums of codes as they rest, on the same grid: over n,
    halves away from zero."""
    codes = np.sign(held) * ((np.abs(held) + n // 2) // n)
    found: Array = np.clip(codes + less, op.lo, op.hi)
    return found


def mean(sums: Array, n: int, x: Edge, y: Edge, op: Requant) -> Array:
    """Codes that MEAN makes of sums less their zero points."""
    m, s = tflite_mean(*quantized_multiplier(x.real.scale / y.real.scale), n)
    return rounded(sums * m, s, y.zero, op)
