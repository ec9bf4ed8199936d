"""Layers of a quantised ONNX graph: operators with weights, and which operator is which."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import numpy as np

from intaglio import ops
from intaglio.exchange.from_onnx.onnx_file import Node
from intaglio.exchange.from_onnx.values import Codes, Grid, Part, Real, Weights, real_of
from intaglio.exchange.from_onnx.windows import ONE, Windows, pair
from intaglio.fixed import IntType


class Layers(Windows):
    """Convolutions, matrices, norms."""

    def layer(self, node: Node, x: list[Any]) -> Any:
        """Operators that read a window, weights, or another place."""
        match node.kind:
            case "Conv":
                return self.conv(node, self.plain(self.real(node, x[0]), node), x[1], x[2:])
            case "QLinearConv":
                weights = self.linear_weights(node, x[3], 4, 0)
                real = self.conv(node, self.qlinear(node), weights, x[8:])
                return self.settle(real, self.grid(node, node.inputs[6:8]), node)
            case "Gemm" | "MatMul":
                return self.matmul(node, self.plain(self.real(node, x[0]), node), x[1], x[2:])
            case "QLinearMatMul":
                real = self.matmul(
                    node, self.qlinear(node), self.linear_weights(node, x[3], 4, 1), []
                )
                return self.settle(real, self.grid(node, node.inputs[6:8]), node)
            case "ConvInteger" | "MatMulInteger":
                return self.integers(node, x)
            case "BatchNormalization":
                gain, shift, mean, var = (
                    np.asarray(self.array(node, n), dtype=np.float64) for n in (1, 2, 3, 4)
                )
                gain = gain / np.sqrt(var + node.attributes.get("epsilon", 1e-5))
                return self.affine(node, self.real(node, x[0]), gain, shift - mean * gain)
            case "AveragePool" | "GlobalAveragePool" | "ReduceMean":
                return self.mean(node, self.plain(self.real(node, x[0]), node))
            case "QLinearAveragePool" | "QLinearGlobalAveragePool":
                return self.linear_mean(node, self.qlinear(node), self.grid(node, node.inputs[3:5]))
            case "MaxPool" | "Resize" | "Upsample" | "Pad":
                codes = self.plain(self.real(node, x[0]), node)
                op = {"MaxPool": self.max_pool, "Pad": self.pad}.get(node.kind, self.resize)(
                    node, codes
                )
                grid = codes.grid
                name = self.builder.add(op, grid.type, float(grid.scale), (grid.zero,))
                made = Codes(name, grid)
                return made if isinstance(x[0], Codes) else real_of(made)
        raise node.refuse(
            "a quantised network must not contain this operator; cut the model before it (decode"
            " boxes outside), or quantise the float part around it."
        )

    def linear_weights(self, node: Node, codes: Any, scale: int, axis: int) -> Weights:
        """Weights of a QLinear operator, whose scale is input number `scale`."""
        if not isinstance(codes, np.ndarray):
            raise node.refuse("its weights must be constant.")
        zero = np.asarray(self.array(node, scale + 1, 0)).astype(np.int64).reshape(-1)
        lines = [1] * codes.ndim
        if zero.size > 1:
            lines[axis] = -1
        scales = np.asarray(self.array(node, scale), dtype=np.float32).reshape(-1)
        return Weights(node.inputs[3], codes.astype(np.int64) - zero.reshape(lines), scales)

    def integers(self, node: Node, x: list[Any]) -> Codes:
        """The 32-bit sums themselves, zero points taken off."""
        if not isinstance(x[0], Codes) or not isinstance(x[1], np.ndarray):
            raise node.refuse("its input must be an integer activation and its weights constant.")
        if self.arithmetic.product == "single":
            raise node.refuse("its sums are no products in float32; use another arithmetic.")
        zeros = [np.asarray(self.array(node, n, 0)).astype(np.int64).reshape(-1) for n in (2, 3)]
        matrix = node.kind == "MatMulInteger"
        if zeros[0].size != 1 or (matrix and zeros[1].size != 1):
            raise node.refuse("activations must have one zero point for all channels.")
        lines = [-1] + [1] * (x[1].ndim - 1) if zeros[1].size > 1 else [1] * x[1].ndim
        codes = x[1].astype(np.int64) - zeros[1].reshape(lines)
        weights = Weights(node.inputs[1], codes, np.ones(1, np.float32))
        source = Codes(x[0].name, Grid(x[0].grid.type, ONE, int(zeros[0][0])))
        real = (self.matmul if matrix else self.conv)(node, source, weights, [])
        return self.settle(real, Grid(IntType(32, True), ONE, 0), node)

    def conv(self, node: Node, x: Codes, weights: Any, bias: list[Any]) -> Real:
        """The exact sum, and what it stands for."""
        if not isinstance(weights, Weights) or weights.codes.ndim != 4:
            raise node.refuse("its weights must be 4-dimensional and quantised (constants).")
        a = node.attributes
        kernel = weights.codes.shape[2:]
        stride, dilation = pair(a.get("strides")), pair(a.get("dilations"))
        return self.summed(
            node,
            x,
            weights,
            bias,
            stride=stride,
            dilation=dilation,
            padding=self.padding(node, x, kernel, stride, dilation),
            groups=a.get("group", 1),
        )

    def matmul(self, node: Node, x: Codes, weights: Any, bias: list[Any]) -> Real:
        """A 1x1 convolution of a 1x1 map."""
        if not isinstance(weights, Weights) or weights.codes.ndim != 2:
            raise node.refuse("its weights must be a quantised constant matrix.")
        a = node.attributes
        if self.builder.tensors[x.name].shape[1:] != (1, 1) or a.get("transA"):
            raise node.refuse("its input must be one value for each channel, as behind a pool.")
        if a.get("alpha", 1.0) != 1.0 or a.get("beta", 1.0) != 1.0:
            raise node.refuse("alpha and beta must be 1.")
        codes, name = weights.codes, weights.name
        if not a.get("transB"):
            codes, name = codes.T, f"{name}.T"
        return self.summed(node, x, Weights(name, codes[:, :, None, None], weights.scale), bias)

    def summed(
        self, node: Node, x: Codes, weights: Weights, bias: list[Any], **fields: Any
    ) -> Real:
        """Conv2d, its scales and its bias."""
        name, w = self.unique(f"{node.outputs[0]}.acc"), weights.codes
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
        unit = x.grid.scale * weights.scale
        if isinstance(given, Weights) and np.allclose(given.scale, unit, rtol=1e-4, atol=0):
            zeros = [z - int(b) for z, b in zip(zeros, given.codes.reshape(-1), strict=True)]
        elif isinstance(given, np.ndarray) and np.issubdtype(given.dtype, np.integer):
            zeros = [z - int(b) for z, b in zip(zeros, given.reshape(-1), strict=True)]
        elif given is not None:
            real = np.asarray(self.constant(given), dtype=np.float64).reshape(-1)
            addend = tuple(Fraction(float(v)) for v in real)
        return Real((Part(name, x.grid.scale, scales, tuple(zeros)),), addend)
