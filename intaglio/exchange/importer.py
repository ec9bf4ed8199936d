"""Quantised ONNX graphs to Programs: QDQ, QLinear operators, and QONNX's Quant.

The importer walks the nodes once. A float tensor is kept as what it is to become (`values.Real`): a
sum of integers with exact factors, bounds, or a function of codes. The QuantizeLinear or Quant that
reads it settles it as one Requant, Add, Lookup or Concat of the Program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from intaglio import ops
from intaglio.errors import ModelError, ProgramError
from intaglio.exchange.from_onnx.layers import Layers
from intaglio.exchange.from_onnx.onnx_file import TYPES, Node, read
from intaglio.exchange.from_onnx.values import Codes, Grid, Joined, Part, Real, Weights, real_of
from intaglio.fixed import Arithmetic, IntType
from intaglio.program import Program

U8 = IntType(8, False)


def import_onnx(
    path: Path,
    arithmetic: Arithmetic | None = None,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Program:
    """The Program of a quantised ONNX file.

    Its input is what the file's first QuantizeLinear makes, if nothing else reads the graph's
    input; else uint8 pixels 0 to 255, which the graph sees as they are or, with `mean` and `std`
    (one value for each channel), as (pixel / 255 - mean) / std.

    Raises ModelError naming the node for what no Program can do, and ProgramError where the
    arithmetic cannot hold a layer.
    """
    file = read(path)
    if len(file.inputs) != 1:
        raise ModelError(f"{path} must have one input, not {len(file.inputs)}.")
    importer = Importer(file, arithmetic or Arithmetic())
    importer.image(file.inputs[0], mean, std)
    for node in file.nodes:
        importer.add(node)
    for name in file.outputs:
        importer.output(name)
    return importer.builder.build(meta)


class Importer(Layers):
    """Quantisers, functions and everything that is no layer with weights."""

    def image(
        self,
        value: onnx.ValueInfoProto,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
    ) -> None:
        """The graph's input."""
        kind, path = value.type.tensor_type.elem_type, self.file.path
        dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if len(dims) != 4 or min(dims[1:]) < 1:
            raise ModelError(
                f"{path}: its input {value.name!r} must be N x C x H x W with fixed C, H and W, not"
                f" {dims}; export the model for one image size."
            )
        shape = (dims[1], dims[2], dims[3])
        readers = [n for n in self.file.nodes if value.name in n.inputs]
        grid = Grid(U8, np.float32(1), 0)
        if kind in TYPES:
            grid = replace(grid, type=TYPES[kind])
        elif mean is None and std is None and readers and len({n.kind for n in readers}) == 1:
            first = readers[0]
            if first.kind == "QuantizeLinear" and len({n.inputs[1:] for n in readers}) == 1:
                grid = self.grid(first, first.inputs[1:])
            elif first.kind == "Quant" and len(readers) == 1 and self.fake(first)[0].size == 1:
                grid = self.fake(first)[1]
        op = ops.Input(output=self.unique(value.name), shape=shape, type=grid.type)
        codes = Codes(self.builder.add(op, grid.type, float(grid.scale), (grid.zero,)), grid)
        self.values[value.name] = codes if kind in TYPES else real_of(codes)
        if mean is not None or std is not None:
            if kind in TYPES:
                raise ModelError(f"{path}: --mean and --std must go with a float input.")
            self.values[value.name] = self.normalised(codes, mean or (0.0,), std or (1.0,))

    def normalised(self, codes: Codes, mean: Sequence[float], std: Sequence[float]) -> Real:
        """(pixel / 255 - mean) / std of each channel."""
        channels = self.builder.tensors[codes.name].shape[0]
        if {len(mean), len(std)} - {1, channels} or min(std) <= 0:
            raise ModelError(
                f"--mean and --std must have {channels} values, std above 0, not {mean} and {std}."
            )
        gain = [1 / (255 * Fraction(v)) for v in std]
        addend = [
            -Fraction(mean[c % len(mean)]) / Fraction(std[c % len(std)]) for c in range(channels)
        ]
        part = Part(codes.name, np.float32(1), (np.float32(1),), (0,), tuple(gain))
        return Real((part,), tuple(addend))

    def output(self, name: str) -> None:
        """One of the graph's outputs."""
        value = self.values.get(name)
        if isinstance(value, Real) and value.codes is not None and value.function is None:
            value = self.plain(value, self.maker(name))
        if not isinstance(value, Codes):
            raise ModelError(
                f"{self.file.path}: output {name!r} must be quantised, not float; quantise the"
                " operator that makes it too."
            )
        made = ops.Output(output=self.unique(f"{name}.out"), input=value.name)
        self.builder.add(made, value.grid.type, float(value.grid.scale), (value.grid.zero,))

    def maker(self, name: str) -> Node:
        """The node that makes a tensor."""
        return next(n for n in self.file.nodes if name in n.outputs)

    def add(self, node: Node) -> None:
        """One node."""
        inputs = [self.value(node, name) if name else None for name in node.inputs]
        if node.kind == "Constant":
            return
        arrays = [v for v in inputs if isinstance(v, np.ndarray)]
        lazy = node.kind in ("DequantizeLinear", "Quant", "BipolarQuant", "Trunc")
        if arrays and len(arrays) == len([v for v in inputs if v is not None]) and not lazy:
            self.values[node.outputs[0]] = self.file.evaluate(node, arrays)
            return
        try:
            self.values[node.outputs[0]] = self.result(node, inputs)
        except ProgramError as error:
            raise node.refuse(str(error)) from error

    def result(self, node: Node, x: list[Any]) -> Any:
        """The value of a node's output."""
        match node.kind:
            case "QuantizeLinear":
                return self.settle(self.real(node, x[0]), self.grid(node, node.inputs[1:]), node)
            case "DequantizeLinear":
                return self.dequantise(node, x[0])
            case "Quant" | "IntQuant":
                return self.quant(node, x)
            case "Trunc":
                return self.trunc(node, x)
            case "BipolarQuant":
                raise node.refuse(
                    "its weights must have 2 bits or more, not one; retrain with Quant of 2 bits."
                )
            case "Identity" | "Dropout":
                return x[0]
            case "Shape":
                return np.array([1, *self.shape(node, x[0])], dtype=np.int64)
            case "Relu":
                return self.clamp(node, x[0], Fraction(0), None)
            case "Clip":
                return self.clip(node, x)
            case "Add" | "Sub" | "Mul" | "Div":
                return self.elementwise(node, x)
            case "QLinearAdd":
                a, b = (self.qlinear(node, n) for n in (0, 3))
                added = self.sum(node, real_of(a), real_of(b), 1)
                return self.settle(added, self.grid(node, node.inputs[6:]), node)
            case "Concat":
                return self.concat(node, x)
            case "QLinearConcat":
                parts = [self.qlinear(node, n) for n in range(2, len(x), 3)]
                joined = Joined(tuple(real_of(p) for p in parts))
                return self.settle(joined, self.grid(node, node.inputs[:2]), node)
            case "QLinearSigmoid" | "QLinearLeakyRelu":
                real = self.function(replace(node, kind=node.kind[7:]), real_of(self.qlinear(node)))
                return self.settle(real, self.grid(node, node.inputs[3:]), node)
            case "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze":
                if self.shape(node, x[0])[1:] != (1, 1):
                    raise node.refuse("it must only drop or add sizes of 1, as behind a pool.")
                return x[0]
        if node.kind in FUNCTIONS:
            return self.function(node, self.real(node, x[0]))
        return self.layer(node, x)

    # --- quantisers ---

    def dequantise(self, node: Node, x: Any) -> Real | Weights:
        """What integers stand for: constants are weights."""
        if isinstance(x, Codes):
            grid = self.grid(node, node.inputs[1:], x.grid.type)
            return real_of(Codes(x.name, grid))
        if isinstance(x, np.ndarray):
            scale = np.asarray(self.array(node, 1), dtype=np.float32).reshape(-1)
            zero = np.asarray(self.array(node, 2, 0)).astype(np.int64).reshape(-1)
            return self.weights(node, x, scale, zero, node.inputs[0])
        raise node.refuse("its input must be integers.")

    def weights(
        self, node: Node, x: Any, scale: Any, zero: Any, name: str, axis: int | None = None
    ) -> Weights:
        """Constant integers and their scales, with the scaled axis named."""
        codes = np.asarray(x).astype(np.int64)
        axis = node.attributes.get("axis", 1) if axis is None else axis
        axis = axis % max(codes.ndim, 1)
        if node.attributes.get("block_size") or scale.size not in (
            1,
            np.shape(codes)[axis:][0] if codes.ndim else 1,
        ):
            raise node.refuse("scales must be one for the tensor or one for each output channel.")
        if scale.size > 1 and codes.ndim == 4 and axis != 0:
            raise node.refuse("scales of a convolution must follow axis 0, the output channels.")
        lines = [1] * codes.ndim
        if zero.size > 1:
            lines[axis] = -1
        shifted = codes - (zero.reshape(lines) if codes.ndim else zero[0])
        return Weights(name, shifted, scale)

    def fake(self, node: Node) -> tuple[Any, Grid, tuple[int, int], str]:
        """Scales, grid (of the first scale), smallest and largest code, and rounding of a Quant."""
        scale = np.asarray(self.array(node, 1), dtype=np.float64)
        zeros, bits = np.asarray(self.array(node, 2)), np.asarray(self.array(node, 3))
        signed = bool(node.attributes.get("signed", 1))
        narrow = bool(node.attributes.get("narrow", 0))
        mode = node.attributes.get("rounding_mode", b"ROUND").decode().upper()
        width = float(bits.reshape(-1)[0])
        if bits.size != 1 or width != int(width) or not 1 <= width <= 32:
            raise node.refuse(f"its bit width must be one whole number, not {bits.tolist()}.")
        if zeros.size != 1 or float(zeros.reshape(-1)[0]) != int(zeros.reshape(-1)[0]):
            raise node.refuse("its zero point must be one whole number.")
        type = IntType(int(width), signed)
        lo = type.lo + (1 if narrow and signed else 0)
        hi = type.hi - (1 if narrow and not signed else 0)
        step = np.float32(scale.reshape(-1)[0])
        return scale, Grid(type, step, int(zeros.reshape(-1)[0])), (lo, hi), mode

    def quant(self, node: Node, x: list[Any]) -> Real | Weights:
        """QONNX's Quant: fake quantisation, of constants and of activations."""
        scale, grid, (lo, hi), mode = self.fake(node)
        zero = grid.zero
        if isinstance(x[0], np.ndarray):
            near = np.clip(x[0] / scale + zero, lo, hi)
            codes = rounded(node, near, mode).astype(np.int64) - zero
            axes = [n for n, size in enumerate(scale.shape) if size > 1]
            axis = axes[0] - scale.ndim + codes.ndim if axes else 0
            flat = scale.reshape(-1).astype(np.float32)
            return self.weights(node, codes, flat, np.zeros(1, np.int64), node.inputs[0], axis)
        if mode not in ("ROUND", "HALF_EVEN"):
            raise node.refuse(f"activations must be rounded to nearest (ROUND), not by {mode}.")
        if scale.size != 1 or grid.type.bits > 16:
            raise node.refuse("activations must have one scale and at most 16 bits.")
        step = Fraction(float(grid.scale))
        real = self.real(node, x[0])
        if (lo, hi) != (grid.type.lo, grid.type.hi) and isinstance(real, Real):
            real = real.clamped((lo - zero) * step, (hi - zero) * step)
        return real_of(self.settle(real, grid, node))

    def trunc(self, node: Node, x: list[Any]) -> Real:
        """QONNX's Trunc: drop the lowest bits of integers, toward minus infinity.

        Without a rounding of its own: (2v - (2^k - 1)) / 2^(k+1) is never a tie, and its nearest
        integer is floor(v / 2^k).
        """
        scale, zero, before, after = (
            float(np.asarray(self.array(node, n)).reshape(-1)[0]) for n in (1, 2, 3, 4)
        )
        mode = node.attributes.get("rounding_mode", b"FLOOR").decode().upper()
        real, drop = self.real(node, x[0]), int(before - after)
        if mode != "FLOOR" or zero != 0 or drop < 0 or not isinstance(real, Real):
            raise node.refuse("it must round by FLOOR, from more bits to fewer, with zero point 0.")
        if len(real.parts) != 1 or any(real.addend) or real.function is not None:
            raise node.refuse("its input must be a sum of codes.")
        (part,) = real.parts
        factor = Fraction(float(part.scale)) * Fraction(float(part.weights[0])) * part.gain[0]
        ratio = round(factor / Fraction(scale))
        if (
            len(part.weights) > 1
            or len(part.gain) > 1
            or abs(factor / Fraction(scale) - ratio) > 1e-4
        ):
            raise node.refuse("its scale must be that of the integers it truncates.")
        signed = bool(node.attributes.get("signed", self.builder.tensors[part.tensor].lo < 0))
        grid = Grid(IntType(int(after), signed), np.float32(scale), 0)
        floors = self.arithmetic.rounding == "TRN"
        m, s = (ratio, drop) if floors else (2 * ratio, drop + 1)
        b = [-m * z - (0 if floors else (1 << drop) - 1) for z in part.zero]
        name = self.unique(node.outputs[0])
        op = ops.Requant(
            output=name,
            origin=node.name,
            input=part.tensor,
            multiplier=self.table(f"{name}.M", [m]),
            bias=self.table(f"{name}.B", b),
            shift=(s,),
            lo=grid.code(real.lo, grid.type.lo),
            hi=grid.code(real.hi, grid.type.hi),
        )
        return real_of(Codes(self.builder.add(op, grid.type, float(grid.scale), (0,)), grid))

    # --- between layers ---

    def clamp(self, node: Node, x: Any, lo: Fraction | None, hi: Fraction | None) -> Any:
        """Bounds on a real value."""
        real = self.real(node, x)
        if not isinstance(real, Real):
            raise node.refuse("its input must be quantised first.")
        if real.function is None:
            return real.clamped(lo, hi)
        low = -np.inf if lo is None else float(lo)
        high = np.inf if hi is None else float(hi)
        return replace(real, function=np.clip(real.function, low, high))

    def clip(self, node: Node, x: list[Any]) -> Any:
        """Clip of reals, or of codes."""
        bounds: list[Fraction | None] = []
        for n, word in ((1, "min"), (2, "max")):
            value = self.array(node, n, node.attributes.get(word))
            bounds.append(None if value is None else Fraction(float(np.asarray(value).item())))
        lo, hi = bounds
        if isinstance(x[0], Codes):
            grid = x[0].grid
            step, zero = Fraction(float(grid.scale)), grid.zero
            low, high = ((v - zero) * step if v is not None else None for v in (lo, hi))
            return self.settle(real_of(x[0]).clamped(low, high), grid, node)
        return self.clamp(node, x[0], lo, hi)

    def elementwise(self, node: Node, x: list[Any]) -> Any:
        """Sums of two tensors; a constant's scaling or shift; x * f(x)."""
        a, b = (self.constant(v) for v in x[:2])
        if isinstance(b, np.ndarray):
            gain, addend = np.ones(1), np.zeros(1)
            if node.kind in ("Mul", "Div"):
                gain = b if node.kind == "Mul" else 1 / b.astype(np.float64)
            else:
                addend = b if node.kind == "Add" else -b
            return self.affine(node, self.real(node, a), gain, addend)
        if isinstance(a, np.ndarray) and node.kind in ("Add", "Mul"):
            return self.elementwise(node, [b, a])
        if isinstance(a, np.ndarray) and node.kind == "Sub":
            return self.affine(node, self.real(node, b), -np.ones(1), a)
        first, second = self.real(node, a), self.real(node, b)
        if node.kind in ("Add", "Sub"):
            return self.sum(node, first, second, 1 if node.kind == "Add" else -1)
        if node.kind == "Mul":
            return self.product(node, first, second)
        raise node.refuse("it must divide by a constant.")

    def product(self, node: Node, a: Any, b: Any) -> Real:
        """x * f(x), as SiLU and hard-swish are written: one table."""
        for x, y in ((a, b), (b, a)):
            if not (isinstance(x, Real) and isinstance(y, Real) and x.codes and y.codes):
                continue
            source, values = self.derived.get(y.codes.name, (y.codes, y.function))
            if source == x.codes and values is not None and x.function is None:
                return Real((), codes=x.codes, function=x.codes.grid.reals() * values)
        raise node.refuse(
            "two tensors must not be multiplied unless one is a function of the other, as in SiLU;"
            " remove attention or gates from the model."
        )

    def concat(self, node: Node, x: list[Any]) -> Any:
        """Channels side by side: of codes at once, of reals when they are quantised."""
        if node.attributes.get("axis", 1) not in (1, -3):
            raise node.refuse("it must join channels (axis 1).")
        if all(isinstance(v, Codes) for v in x):
            if len({v.grid for v in x}) > 1:
                raise node.refuse("its integer operands must share type, scale and zero point.")
            return self.settle(Joined(tuple(real_of(v) for v in x)), x[0].grid, node)
        parts: list[Real] = []
        for v in x:
            real = self.real(node, v)
            parts += real.parts if isinstance(real, Joined) else (real,)
        return Joined(tuple(parts))

    def function(self, node: Node, real: Any) -> Real:
        """A function of codes, tabulated."""
        codes = self.plain(real, node)
        x, a = codes.grid.reals(), node.attributes
        match node.kind:
            case "Sigmoid":
                y = 1 / (1 + np.exp(-x))
            case "HardSigmoid":
                y = np.clip(a.get("alpha", 0.2) * x + a.get("beta", 0.5), 0, 1)
            case "HardSwish":
                y = x * np.clip(x / 6 + 0.5, 0, 1)
            case "LeakyRelu":
                y = np.where(x < 0, np.float32(a.get("alpha", 0.01)) * x, x)
            case "Tanh":
                y = np.tanh(x)
            case "Exp":
                y = np.exp(x)
            case "Elu":
                y = np.where(x < 0, a.get("alpha", 1.0) * np.expm1(x), x)
            case "Softplus":
                y = np.logaddexp(0, x)
            case "Sqrt":
                y = np.sqrt(np.maximum(x, 0))
            case _:
                y = np.abs(x)
        return Real((), codes=codes, function=y)


FUNCTIONS = [
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Tanh",
    "Exp",
    "Elu",
    "Softplus",
    "Sqrt",
    "Abs",
]


def rounded(node: Node, x: Any, mode: str) -> Any:
    """QONNX's roundings; its HALF_UP is away from zero."""
    match mode:
        case "ROUND" | "HALF_EVEN":
            return np.rint(x)
        case "FLOOR":
            return np.floor(x)
        case "CEIL":
            return np.ceil(x)
        case "ROUND_TO_ZERO" | "DOWN":
            return np.trunc(x)
        case "HALF_UP":
            return np.sign(x) * np.floor(np.abs(x) + 0.5)
    raise node.refuse(f"its rounding must be ROUND, FLOOR, CEIL, DOWN or HALF_UP, not {mode}.")
