"""Layers of a quantised ONNX graph: operators with weights, and which operator is which."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np

from intaglio import ops
from intaglio.exchange.from_onnx.door import UNKNOWN
from intaglio.exchange.from_onnx.on_codes import BIAS_SLACK, SUMS
from intaglio.exchange.from_onnx.onnx_file import Array, Node, int_type, single
from intaglio.exchange.from_onnx.values import Codes, Grid, Part, Real, Weights
from intaglio.exchange.from_onnx.windows import ONE, Windows
from intaglio.fixed import IntType
from intaglio.transposed import phases


class Layers(Windows):
    """Convolutions, matrices, norms."""

    def layer(self, node: Node, x: list[Any]) -> Any:
        """Operators that read a window, weights, or another place."""
        match node.kind:
            case "Conv":
                return self.conv(node, self.plain(self.real(node, x[0]), node), x[1], x[2:])
            case "ConvTranspose":
                x[0] = self.plain(self.real(node, x[0]), node)
                return self.transposed(node, x[0], x[1], x[2:])
            case "QLinearConv":
                weights = self.linear_weights(node, x[3], 4, 0)
                real = self.conv(node, self.qlinear(node), weights, x[8:])
                return self.settle(real, self.grid(node, node.inputs[6:8]), node)
            case "Gemm" | "MatMul":
                return self.matmul(node, self.plain(self.real(node, x[0]), node), x[1], x[2:])
            case "QLinearMatMul":
                self.matrix(node)
                real = self.matmul(
                    node, self.qlinear(node), self.linear_weights(node, x[3], 4, 1), []
                )
                return self.settle(real, self.grid(node, node.inputs[6:8]), node)
            case "QGemm":
                return self.linear_gemm(node, x)
            case "ConvInteger" | "MatMulInteger":
                return self.integers(node, x)
            case "BatchNormalization":
                return self.norm(node, x[0])
            case "AveragePool" | "GlobalAveragePool" | "ReduceMean":
                return self.mean(node, self.plain(self.real(node, x[0]), node))
            case "QLinearAveragePool" | "QLinearGlobalAveragePool":
                return self.linear_mean(node, self.qlinear(node), self.grid(node, node.inputs[3:5]))
            case "MaxPool":
                return self.max_pooled(node, x[0])
            case "Resize" | "Upsample":
                return self.resize(node, x[0])
            case "Pad":
                return self.pad(node, x[0])
        raise node.refuse(UNKNOWN)

    def norm(self, node: Node, x: Any) -> Real:
        """BatchNormalization, one factor and addend for each channel."""
        channels = self.shape(node, self.real(node, x))[0]
        gain, shift, mean, var = (
            self.finite(node, self.array(node, n), "its constants") for n in (1, 2, 3, 4)
        )
        var = var + node.attributes.get("epsilon", 1e-5)
        if not self.channels_first(node):
            raise node.refuse("its input must be N x C, or N x C x H x W.")
        if {v.shape for v in (gain, shift, mean, var)} != {(channels,)} or var.min() <= 0:
            raise node.refuse(
                f"its constants must be {channels} numbers each, one for each channel, and its"
                " variances above 0."
            )
        gain = gain / np.sqrt(var)
        return self.affine(node, self.real(node, x), gain, shift - mean * gain)

    def weights(
        self, node: Node, x: Any, scale: Any, zero: Any, name: str, axis: int | None = None
    ) -> Weights:
        """Constant integers and their scales, with the scaled axis named."""
        codes, scale = np.asarray(x).astype(np.int64), np.asarray(scale)
        axis = node.attributes.get("axis", 1) if axis is None else axis
        length = codes.shape[axis % codes.ndim] if codes.ndim else 1
        if codes.ndim and not -codes.ndim <= axis < max(codes.ndim, 2):
            raise node.refuse(f"its axis must be one of its weights', not {axis}.")
        if scale.ndim > 1 or scale.size not in (1, length) or zero.size not in (1, scale.size):
            raise node.refuse(
                "scales must be one for the tensor or one for each output channel, and zero points"
                " as many; quantise by tensor or by channel."
            )
        scale = single(node, scale)
        self.finite(node, scale, "its scales")
        axis = axis % max(codes.ndim, 1)
        lines = [1] * codes.ndim
        if zero.size > 1:
            lines[axis] = -1
        shifted = codes - (zero.reshape(lines) if codes.ndim else zero[0])
        return Weights(name, shifted, scale.reshape(-1), axis)

    @staticmethod
    def check_integers(node: Node, array: Array) -> None:
        """Codes must be of an integer type: those of float8 are none."""
        if int_type(array) is None:
            raise node.refuse(
                f"its weights must be integers of at most 32 bits, not {array.dtype}; quantise to"
                " int8."
            )

    def linear_weights(self, node: Node, codes: Any, scale: int, axis: int) -> Weights:
        """Weights of a QLinear operator, whose scale is input number `scale`."""
        if not isinstance(codes, np.ndarray):
            raise node.refuse("its weights must be constant; fold constants first (onnxsim).")
        self.check_integers(node, codes)
        zero = self.zeros(node, scale + 1)
        scales = self.array(node, scale)
        return self.weights(node, codes, scales, zero, node.inputs[3], axis)

    def linear_gemm(self, node: Node, x: list[Any]) -> Any:
        """QGemm: codes where it has a scale for them, else what its sums stand for."""
        weights = self.linear_weights(node, x[3], 4, 0 if node.attributes.get("transB") else 1)
        real = self.matmul(node, self.qlinear(node), weights, x[6:7])
        given = [v is not None for v in (*x[7:], None, None)][:2]
        if not any(given):
            return real
        if not all(given):
            raise node.refuse(
                "it must have both y_scale and y_zero_point, or neither; export the model anew."
            )
        return self.settle(real, self.grid(node, node.inputs[7:9]), node)

    def integers(self, node: Node, x: list[Any]) -> Codes:
        """The 32-bit sums themselves, zero points taken off."""
        if not isinstance(x[0], Codes) or not isinstance(x[1], np.ndarray):
            raise node.refuse("its input must be an integer activation and its weights constant.")
        if self.arithmetic.product == "single":
            raise node.refuse("its sums are no products in float32; use another arithmetic.")
        zeros = [self.zeros(node, n) for n in (2, 3)]
        matrix = node.kind == "MatMulInteger"
        if matrix:
            self.matrix(node)
        if zeros[0].size != 1 or (matrix and zeros[1].size != 1):
            raise node.refuse(
                "activations must have one zero point for all channels; quantise them by tensor."
            )
        lines = [-1] + [1] * (x[1].ndim - 1) if zeros[1].size > 1 else [1] * x[1].ndim
        if int_type(x[1]) is None or zeros[1].size not in (
            1,
            x[1].shape[:1][0] if x[1].ndim else 1,
        ):
            raise node.refuse("its weights must be integers, with one zero point or one each row.")
        codes = x[1].astype(np.int64) - zeros[1].reshape(lines)
        weights = Weights(node.inputs[1], codes, np.ones(1, np.float32))
        source = Codes(x[0].name, Grid(x[0].grid.type, ONE, int(zeros[0][0])))
        real = (self.matmul if matrix else self.conv)(node, source, weights, [])
        return self.settle(real, Grid(IntType(32, True), ONE, 0), node)

    def conv(self, node: Node, x: Codes, weights: Any, bias: list[Any]) -> Real:
        """The exact sum, and what it stands for."""
        if not isinstance(weights, Weights) or weights.codes.ndim != 4:
            raise node.refuse(
                "its weights must be 4-dimensional and quantised (constants); quantise the model,"
                " as by onnxruntime's quantize_static."
            )
        if weights.scale.size > 1 and weights.axis != 0:
            raise node.refuse(
                "scales of its weights must follow axis 0, the output channels, not axis"
                f" {weights.axis}; quantise by output channel or by tensor."
            )
        size = self.builder.tensors[x.name].shape[1:]
        kernel = weights.codes.shape[2:]
        given = node.attributes.get("kernel_shape")
        if given is not None and tuple(given) != kernel:
            raise node.refuse(f"its kernel_shape must be that of its weights, {list(kernel)}.")
        stride, dilation = self.pair(node, "strides"), self.pair(node, "dilations")
        return self.summed(
            node,
            x,
            weights,
            bias,
            stride=stride,
            dilation=dilation,
            padding=self.padding(node, (size[0], size[1]), kernel, stride, dilation),
            groups=node.attributes.get("group", 1),
        )

    def transposed(self, node: Node, x: Codes, weights: Any, bias: list[Any]) -> Real:
        """The sum of a transposed convolution, which the runtime has in float32."""
        if not isinstance(weights, Weights) or weights.codes.ndim != 4:
            raise node.refuse(
                "its weights must be 4-dimensional and quantised (constants); quantise the model,"
                " as by onnxruntime's quantize_static."
            )
        channels, *size = self.builder.tensors[x.name].shape
        groups, kernel = node.attributes.get("group", 1), weights.codes.shape[2:]
        each, given = weights.codes.shape[1], node.attributes.get("kernel_shape", kernel)
        if weights.codes.shape[0] != channels or channels % groups or tuple(given) != kernel:
            raise node.refuse(
                f"its weights must be of {channels} channels in {groups} groups, and its"
                " kernel_shape theirs."
            )
        if weights.scale.size > 1 and weights.axis != 1:
            raise node.refuse(
                "scales of its weights must follow axis 1, the output channels, not axis"
                f" {weights.axis}; quantise by output channel or by tensor."
            )
        stride, dilation = self.pair(node, "strides"), self.pair(node, "dilations")
        pads = list(node.attributes.get("pads") or (0, 0, 0, 0))
        more = list(node.attributes.get("output_padding") or (0, 0))
        if len(pads) != 4 or len(more) != 2:
            raise node.refuse("its pads must be four numbers, and its output_padding two.")
        result = [
            (n - 1) * s + d * (k - 1) + 1 - sum(pads[i::2]) + m
            for i, (n, s, d, k, m) in enumerate(
                zip(size, stride, dilation, kernel, more, strict=True)
            )
        ]
        if min(result) < 1:
            raise node.refuse("its pads must leave something of its result.")
        form = phases(
            weights.codes, (size[0], size[1]), (result[0], result[1]), stride, (pads[0], pads[1]),
            dilation=dilation, groups=groups,
        )  # fmt: skip
        places = list(form.repeated)
        scale = weights.scale if weights.scale.size == 1 else weights.scale[np.array(places) % each]
        turned = Weights(f"{weights.name}.phases", form.weight, scale)
        repeated = [self.in_phases(node, b, places, each * groups) for b in bias]
        self.note(node, "a transposed convolution adds floats")
        real = self.summed(
            node, x, turned, repeated, stride=(1, 1), padding=form.padding, groups=groups
        )
        return replace(real, phases=form)

    def in_phases(self, node: Node, bias: Any, places: list[int], channels: int) -> Any:
        """A bias for each place of a block."""
        if bias is None:
            return None
        values = bias.codes if isinstance(bias, Weights) else bias
        if not isinstance(values, np.ndarray) or values.shape != (channels,):
            raise node.refuse(f"its bias must be {channels} constant values.")
        if not isinstance(bias, Weights):
            return values[places]
        scale = bias.scale if bias.scale.size == 1 else bias.scale[places]
        return Weights(bias.name, bias.codes[places], scale)

    def matrix(self, node: Node) -> None:
        """Its operand must be one row, N x C."""
        if len(self.view(node)) != 2 or not self.channels_first(node):
            raise node.refuse(
                "its input must be N x C, one value for each channel, as behind a pool; make"
                " a convolution of the map's size of it."
            )

    def matmul(self, node: Node, x: Codes, weights: Any, bias: list[Any]) -> Real:
        """A 1x1 convolution of a 1x1 map."""
        if not isinstance(weights, Weights) or weights.codes.ndim != 2:
            raise node.refuse(
                "its weights must be a quantised constant matrix; quantise the model first, as by"
                " onnxruntime's quantize_static, and remove products of two activations."
            )
        a = node.attributes
        view, shape = self.seen.get(node.inputs[0]), self.builder.tensors[x.name].shape
        whole = view is not None and view.sides == (self.batch, prod(shape))
        if not whole:
            self.matrix(node)
        if a.get("transA"):
            raise node.refuse("transA must be 0; export the model with rows of values.")
        codes, name, axis = weights.codes, weights.name, 0
        if not a.get("transB"):
            codes, name, axis = codes.T, f"{name}.T", 1
        if weights.scale.size > 1 and weights.axis != axis:
            raise node.refuse(
                f"scales of its weights must follow axis {axis}, the outputs, not axis"
                f" {weights.axis}; quantise by output or by tensor."
            )
        turned = Weights(name, codes[:, :, None, None], weights.scale)
        if view is not None and whole and codes.shape[1] == prod(shape):
            numbers = np.arange(self.batch * codes.shape[1]).reshape(self.batch, *shape)
            places = view.lines(numbers).reshape(-1)[: codes.shape[1]]
            maps = codes[:, np.argsort(places)].reshape(-1, *shape)
            turned = Weights(f"{name}.{'x'.join(map(str, shape))}", maps, weights.scale)
        alpha, beta = a.get("alpha", 1.0), a.get("beta", 1.0)
        given = next((b for b in bias if b is not None), None)
        if alpha == 1.0 and (beta == 1.0 or given is None):
            return self.summed(node, x, turned, bias)
        addend = np.zeros(1)
        if given is not None:
            addend = beta * self.bias(node, given, len(codes))
        return self.affine(node, self.summed(node, x, turned, []), np.array([alpha]), addend)

    def bias(self, node: Node, given: Any, channels: int) -> Array:
        """A bias as real values: one for each output channel, or one for all."""
        array = self.constant(given)
        if not isinstance(array, np.ndarray):
            raise node.refuse("its bias must be constant; fold constants first (onnxsim).")
        matrix = node.kind == "Gemm"
        allowed = [(channels,)] + ([(), (1,), (1, 1), (1, channels)] if matrix else [])
        if array.shape not in allowed:
            raise node.refuse(f"its bias must be {channels} values, one for each output channel.")
        return self.finite(node, array, "its bias").reshape(-1)

    def summed(
        self, node: Node, x: Codes, weights: Weights, bias: list[Any], **fields: Any
    ) -> Real:
        """Conv2d, its scales and its bias."""
        name, w = self.unique(f"{node.outputs[0]}.acc"), weights.codes
        if not w.size:
            raise node.refuse("its weights must have at least one value.")
        constant = re.sub(r"[^A-Za-z0-9_.]", "_", weights.name)
        known = self.builder.constants.get(constant)
        if known is not None and not np.array_equal(known.array, w):
            constant, known = f"{name}.w", None
        if known is None:
            type = IntType.accumulating(int(w.min()), int(w.max()))
            self.builder.constant(constant, w, IntType(max(type.bits, 2), True))
        self.builder.add(
            ops.Conv2d(
                output=name, origin=node.name, input=x.name, weight=constant,
                pad_value=(x.grid.zero,), **fields,
            )
        )  # fmt: skip
        zeros = [x.grid.zero * int(s) for s in w.sum(axis=(1, 2, 3))]
        scales = tuple(np.float32(v) for v in weights.scale)
        addend: tuple[Fraction, ...] = (Fraction(0),)
        given = next((b for b in bias if b is not None), None)
        on_codes = self.on_codes(node)
        if node.kind in SUMS and not on_codes:
            self.note(node, self.on_codes.reason(node))
        if given is None:
            return Real((Part(name, x.grid.scale, scales, tuple(zeros)),), addend)
        real, unit = self.bias(node, given, len(w)), x.grid.scale * weights.scale
        whole = isinstance(given, np.ndarray) and int_type(given) is not None
        slack = BIAS_SLACK if self.runtime and on_codes else 1e-4
        if isinstance(given, Weights) and np.allclose(given.scale, unit, rtol=slack, atol=0):
            real, whole = np.resize(given.codes.reshape(-1), len(w)), True
        elif not whole and self.runtime and self.on_codes.rounds_bias(node):
            real, whole = np.rint(np.resize(real, len(w)).astype(np.float32) / unit), True
        if whole:
            real = np.resize(real, len(w))
            zeros = [z - int(b) for z, b in zip(zeros, real, strict=True)]
        else:
            addend = tuple(Fraction(float(v)) for v in real)
        return Real((Part(name, x.grid.scale, scales, tuple(zeros)),), addend)
