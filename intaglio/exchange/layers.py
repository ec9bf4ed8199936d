"""Layers of a quantised ONNX graph, and how a real value settles on codes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np
import onnx

from intaglio import ops
from intaglio.exchange.onnx_file import TYPES, Node, OnnxFile
from intaglio.exchange.values import Codes, Grid, Joined, Part, Real, Weights, real_of
from intaglio.fixed import Arithmetic, IntType
from intaglio.multiplier import Scaling, Term, scaling, short
from intaglio.multiplier import exact as product
from intaglio.program import Builder
from intaglio.sim.reference import nearest

ONE = np.float32(1)


class Layers:
    """The Program as it grows. `values` holds every tensor of the graph met so far; `derived` the
    codes that are a function of other codes."""

    def __init__(self, file: OnnxFile, arithmetic: Arithmetic) -> None:
        self.file = file
        self.arithmetic = arithmetic
        self.builder = Builder(arithmetic)
        self.values: dict[str, Any] = dict(file.constants)
        self.types: dict[str, IntType] = dict(file.types)
        self.derived: dict[str, tuple[Codes, Any]] = {}
        for node in file.nodes:
            if node.kind == "Constant":
                value = node.attributes.get("value")
                if value is None:
                    self.values[node.outputs[0]] = np.asarray(next(iter(node.attributes.values())))
                    continue
                self.values[node.outputs[0]] = onnx.numpy_helper.to_array(value)
                if value.data_type in TYPES:
                    self.types[node.outputs[0]] = TYPES[value.data_type]

    # --- looking up ---

    def unique(self, name: str) -> str:
        """A tensor name in letters that all tools accept, not used before."""
        clean = re.sub(r"[^A-Za-z0-9_.]", "_", name.strip("/").replace("/", ".")) or "x"
        found, n = clean, 2
        while found in self.builder.tensors:
            found, n = f"{clean}_{n}", n + 1
        return found

    def value(self, node: Node, name: str) -> Any:
        """What is known of an input."""
        if name not in self.values:
            raise node.refuse(f"its input {name!r} must be made before it is read.")
        return self.values[name]

    def array(self, node: Node, index: int, default: Any = None) -> Any:
        """An input that must be constant; `default` where it is left out."""
        if index >= len(node.inputs) or not node.inputs[index]:
            return default
        found = self.constant(self.value(node, node.inputs[index]))
        if not isinstance(found, np.ndarray):
            raise node.refuse(f"its input {node.inputs[index]!r} must be constant.")
        return found

    @staticmethod
    def constant(value: Any) -> Any:
        """Dequantised constants as arrays again; other values as they are."""
        if not isinstance(value, Weights):
            return value
        lines = [-1] + [1] * (value.codes.ndim - 1) if value.scale.size > 1 else [1]
        return value.codes * value.scale.astype(np.float64).reshape(lines)

    def shape(self, node: Node, x: Any) -> tuple[int, int, int]:
        """(C, H, W)."""
        real = self.real(node, x)
        if isinstance(real, Joined):
            shapes = [self.shape(node, part) for part in real.parts]
            return (sum(s[0] for s in shapes), *shapes[0][1:])
        name = real.codes.name if real.codes is not None else real.parts[0].tensor
        return self.builder.tensors[name].shape

    def real(self, node: Node, x: Any) -> Any:
        """A value that is not constant."""
        if isinstance(x, Codes):
            return real_of(x)
        if not isinstance(x, (Real, Joined)):
            raise node.refuse("its operand must be an activation, not a constant.")
        return x

    def grid(self, node: Node, names: Sequence[str], type: IntType | None = None) -> Grid:
        """Scale, zero point and type of a quantiser."""
        scale = np.asarray(self.constant(self.value(node, names[0])))
        if scale.size != 1:
            raise node.refuse("activations must have one scale and zero point for all channels.")
        zero = 0
        if len(names) > 1 and names[1]:
            zero = int(np.asarray(self.value(node, names[1])).astype(np.int64).item())
            type = self.types.get(names[1], type)
        elif type is None:
            type = TYPES[node.attributes.get("output_dtype", 0) or onnx.TensorProto.UINT8]
        step = np.float32(scale.item())
        if type is None or type.bits > 16 or not step > 0:
            raise node.refuse("activations must have at most 16 bits and a scale above 0.")
        return Grid(type, step, zero)

    def qlinear(self, node: Node, first: int = 0) -> Codes:
        """An integer operand with scale and zero point behind it."""
        x = self.value(node, node.inputs[first])
        if not isinstance(x, Codes):
            raise node.refuse("its operand must be an integer activation.")
        return Codes(x.name, self.grid(node, node.inputs[first + 1 : first + 3], x.grid.type))

    def plain(self, real: Any, node: Node) -> Codes:
        """The codes that a value is, bounds applied."""
        if isinstance(real, Codes):
            return real
        if isinstance(real, Real) and real.codes is not None and real.function is None:
            if real.lo is None and real.hi is None:
                return real.codes
            return self.settle(real, real.codes.grid, node)
        raise node.refuse(
            "its input must be quantised; quantise what feeds it, with QuantizeLinear and"
            " DequantizeLinear or Quant in between."
        )

    # --- settling ---

    def table(self, name: str, values: Sequence[int]) -> str:
        """A constant of one entry where all are equal."""
        return self.builder.constant(name, np.array(short(values), dtype=np.int64))

    def settle(self, value: Any, grid: Grid, node: Node, name: str = "") -> Codes:
        """Codes on `grid` of a value, made by one operation."""
        name = self.unique(name or node.outputs[0])
        if isinstance(value, Joined):
            parts = [
                self.settle(part, grid, node, f"{name}.part{n}").name
                for n, part in enumerate(value.parts)
            ]
            name = self.unique(name)
            op: ops.Op = ops.Concat(output=name, origin=node.name, parts=tuple(parts))
        elif value.function is not None:
            table = grid.codes(np.nan_to_num(value.function))
            constant = self.builder.constant(f"{name}.table", table, grid.type)
            op = ops.Lookup(output=name, origin=node.name, input=value.codes.name, table=constant)
        elif value.codes is not None and value.codes.grid == grid and value.lo is value.hi is None:
            return Codes(value.codes.name, grid)
        elif len(value.parts) == 1:
            op = self.requant(value, grid, node, name)
        else:
            op = self.added(value, grid, node, name)
        made = Codes(self.builder.add(op, grid.type, float(grid.scale), (grid.zero,)), grid)
        if isinstance(value, Real) and value.function is not None and value.codes is not None:
            self.derived[made.name] = (value.codes, grid.reals()[table - grid.type.lo])
        return made

    def ratio(self, part: Part, channel: int, grid: Grid) -> Fraction:
        """Output codes of one integer of the part: in float32 where the arithmetic is."""
        weight = part.weights[channel % len(part.weights)]
        if getattr(self.arithmetic, "product", "exact") == "single":
            exact = Fraction(float(np.float32(np.float32(part.scale * weight) / grid.scale)))
        else:
            exact = product(float(part.scale), float(weight)) / Fraction(float(grid.scale))
        return exact * part.gain[channel % len(part.gain)]

    def requant(self, value: Real, grid: Grid, node: Node, name: str) -> ops.Requant:
        """One tensor, scaled."""
        (part,) = value.parts
        t, step = self.builder.tensors[part.tensor], Fraction(float(grid.scale))
        reach = (max(abs(t.lo), abs(t.hi)),)
        terms = [
            Term(
                (self.ratio(part, c, grid),),
                (part.zero[c % len(part.zero)],),
                reach,
                value.addend[c % len(value.addend)] / step,
            )
            for c in range(t.shape[0])
        ]
        if self.arithmetic.per_channel_shift:
            found = [self.scaling([term], grid, node) for term in terms]
        else:
            found = [self.scaling(terms, grid, node)]
        return ops.Requant(
            output=name,
            origin=node.name,
            input=part.tensor,
            multiplier=self.table(f"{name}.M", [m for s in found for m in s.multipliers]),
            bias=self.table(f"{name}.B", [b for s in found for b in s.bias]),
            shift=tuple(short([s.shift for s in found])),
            lo=grid.code(value.lo, grid.type.lo),
            hi=grid.code(value.hi, grid.type.hi),
            offset=found[0].offset,
        )

    def added(self, value: Real, grid: Grid, node: Node, name: str) -> ops.Add:
        """Two tensors at the result's scale, rounded once."""
        a, b = value.parts
        tensors = [self.builder.tensors[part.tensor] for part in value.parts]
        term = Term(
            (self.ratio(a, 0, grid), self.ratio(b, 0, grid)),
            (a.zero[0], b.zero[0]),
            tuple(max(abs(t.lo), abs(t.hi)) for t in tensors),
            value.addend[0] / Fraction(float(grid.scale)),
        )
        found = self.scaling([term], grid, node)
        return ops.Add(
            output=name,
            origin=node.name,
            a=a.tensor,
            b=b.tensor,
            multiplier_a=found.multipliers[0],
            multiplier_b=found.multipliers[1],
            bias=found.bias[0],
            shift=found.shift,
            lo=grid.code(value.lo, grid.type.lo),
            hi=grid.code(value.hi, grid.type.hi),
            offset=found.offset,
        )

    def scaling(self, terms: Sequence[Term], grid: Grid, node: Node) -> Scaling:
        """M, B, S."""
        return scaling(terms, grid.zero, self.arithmetic, node.name or node.outputs[0])

    # --- sums and scalings of reals ---

    def sum(self, node: Node, a: Any, b: Any, sign: int) -> Real:
        """a + b or a - b of two quantised tensors."""
        for x in (a, b):
            if (
                not isinstance(x, Real)
                or x.function is not None
                or len(x.parts) != 1
                or max(map(len, (x.parts[0].weights, x.parts[0].gain, x.addend))) > 1
            ):
                raise node.refuse("its operands must be quantised before they are added.")
        one, two = (
            real_of(self.plain(x, node)) if x.lo is not None or x.hi is not None else x
            for x in (a, b)
        )
        second = two.parts[0]
        second = replace(second, gain=(second.gain[0] * sign,))
        return Real((one.parts[0], second), (one.addend[0] + sign * two.addend[0],))

    def affine(self, node: Node, real: Any, gain: Any, addend: Any) -> Real:
        """real * gain + addend, one value for each channel or one for all."""
        channels = self.shape(node, real)[0]
        gains, addends = (self.per_channel(node, v, channels) for v in (gain, addend))
        if not isinstance(real, Real):
            raise node.refuse("its input must be quantised first.")
        if real.function is not None and len(gains) == len(addends) == 1:
            values = real.function * float(gains[0]) + float(addends[0])
            return replace(real, function=values)
        if real.function is not None or real.lo is not None or real.hi is not None:
            real = real_of(self.plain(real, node))
        if len(real.parts) > 1 and (len(gains) > 1 or len(addends) > 1):
            raise node.refuse("its input must be quantised first.")
        parts = tuple(replace(p, gain=times(p.gain, gains)) for p in real.parts)
        shifted = [
            a + b for a, b in zip(*same_length(times(real.addend, gains), addends), strict=True)
        ]
        return Real(parts, tuple(shifted))

    def per_channel(self, node: Node, value: Any, channels: int) -> tuple[Fraction, ...]:
        """A constant that is one value, or one for each channel."""
        array = np.asarray(value, dtype=np.float64)
        if array.size > 1 and array.size == channels and array.ndim in (3, 4):
            array = array.reshape(-1) if array.shape[-3] == channels else array
        elif array.size > 1 and array.shape != (channels,):
            raise node.refuse("its constant must have one value, or one for each channel.")
        return tuple(Fraction(float(v)) for v in array.reshape(-1))

    # --- layers ---

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
            case "BatchNormalization":
                gain, shift, mean, var = (
                    np.asarray(self.array(node, n), dtype=np.float64) for n in (1, 2, 3, 4)
                )
                gain = gain / np.sqrt(var + node.attributes.get("epsilon", 1e-5))
                return self.affine(node, self.real(node, x[0]), gain, shift - mean * gain)
            case "AveragePool" | "GlobalAveragePool" | "ReduceMean":
                return self.mean(node, self.plain(self.real(node, x[0]), node))
            case "QLinearAveragePool" | "QLinearGlobalAveragePool":
                if node.attributes.get("channels_last"):
                    raise node.refuse("its channels must come first.")
                real = self.mean(replace(node, kind=node.kind[7:]), self.qlinear(node))
                return self.settle(real, self.grid(node, node.inputs[3:5]), node)
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

    def mean(self, node: Node, x: Codes) -> Real:
        """Average pools: the exact sum, divided when it is quantised."""
        _, h, w = self.builder.tensors[x.name].shape
        a = node.attributes
        kernel, stride, padding = (h, w), (1, 1), (0, 0, 0, 0)
        if node.kind == "ReduceMean":
            axes = a.get("axes") or np.asarray(self.array(node, 1, [])).tolist()
            if sorted(v % 4 for v in axes) != [2, 3]:
                raise node.refuse("it must average over height and width (axes 2 and 3).")
        elif node.kind == "AveragePool":
            kernel, stride = pair(a.get("kernel_shape")), pair(a.get("strides"))
            padding = self.padding(node, x, kernel, stride, (1, 1))
            if a.get("ceil_mode") or (any(padding) and not a.get("count_include_pad")):
                raise node.refuse(
                    "its windows must all have one size: count_include_pad=1 or no padding, and no"
                    " ceil_mode."
                )
        name = self.unique(f"{node.outputs[0]}.acc")
        op = ops.SumPool2d(
            output=name, origin=node.name, input=x.name, kernel=kernel, stride=stride,
            padding=padding, pad_value=x.grid.zero,
        )  # fmt: skip
        self.builder.add(op)
        count = kernel[0] * kernel[1]
        part = Part(name, x.grid.scale, (ONE,), (x.grid.zero * count,), (Fraction(1, count),))
        return Real((part,))

    def padding(
        self, node: Node, x: Codes, kernel: Sequence[int], stride: ops.Pair, dilation: ops.Pair
    ) -> ops.Padding:
        """Top, bottom, left, right from pads or auto_pad; more at the end for ceil_mode."""
        size, a = self.builder.tensors[x.name].shape[1:], node.attributes
        auto = a.get("auto_pad", b"NOTSET").decode()
        pads = list(a.get("pads") or (0, 0, 0, 0))
        for n in (0, 1):
            reach = dilation[n] * (kernel[n] - 1) + 1
            if auto.startswith("SAME"):
                total = max((-(-size[n] // stride[n]) - 1) * stride[n] + reach - size[n], 0)
                low = total // 2 if auto == "SAME_UPPER" else total - total // 2
                pads[n], pads[n + 2] = low, total - low
            elif a.get("ceil_mode"):
                count = -(-(size[n] + pads[n] + pads[n + 2] - reach) // stride[n]) + 1
                if (count - 1) * stride[n] >= size[n] + pads[n]:
                    count -= 1
                pads[n + 2] = max((count - 1) * stride[n] + reach - size[n] - pads[n], 0)
        return pads[0], pads[2], pads[1], pads[3]

    def max_pool(self, node: Node, x: Codes) -> ops.Op:
        a = node.attributes
        kernel, stride, dilation = (
            pair(a.get(k)) for k in ("kernel_shape", "strides", "dilations")
        )
        return ops.MaxPool2d(
            output=self.unique(node.outputs[0]), origin=node.name, input=x.name, kernel=kernel,
            stride=stride, dilation=dilation,
            padding=self.padding(node, x, kernel, stride, dilation),
        )  # fmt: skip

    def pad(self, node: Node, x: Codes) -> ops.Op:
        """Constant borders."""
        if node.attributes.get("mode", b"constant") != b"constant":
            raise node.refuse("it must fill with a constant.")
        pads = node.attributes.get("pads") or self.array(node, 1)
        value = np.asarray(self.array(node, 2, node.attributes.get("value", 0))).item()
        integer = isinstance(self.value(node, node.inputs[0]), Codes)
        fill = int(value) if integer else x.grid.code(Fraction(value), 0)
        low, high = [int(v) for v in pads[:4]], [int(v) for v in pads[4:]]
        if any(low[:2] + high[:2]) or len(pads) != 8:
            raise node.refuse("it must pad height and width only.")
        return ops.Pad(
            output=self.unique(node.outputs[0]), origin=node.name, input=x.name,
            padding=(low[2], high[2], low[3], high[3]), value=fill,
        )  # fmt: skip

    def resize(self, node: Node, x: Codes) -> ops.Op:
        """Nearest neighbour, where it reads the pixels that `Upsample` reads."""
        a, size = node.attributes, self.builder.tensors[x.name].shape[1:]
        if a.get("mode", b"nearest") != b"nearest":
            raise node.refuse("it must enlarge by nearest neighbour, not bilinear; train with it.")
        places = (1, 2, 3) if node.kind == "Resize" else (9, 1, 9)
        scales, sizes = self.array(node, places[1]), self.array(node, places[2])
        if sizes is not None and np.size(sizes) == 4:
            target = [int(v) for v in sizes[2:]]
        else:
            factors = a["scales"] if scales is None else scales
            target = [int(n * f) for n, f in zip(size, factors[2:], strict=True)]
        for old, new in zip(size, target, strict=True):
            if new < old or not np.array_equal(source(a, old, new), nearest(old, new)):
                raise node.refuse(
                    "it must enlarge and read pixel floor(i * in / out), as 'asymmetric' with"
                    " 'floor' does; export it in that mode."
                )
        return ops.Upsample(
            output=self.unique(node.outputs[0]), origin=node.name, input=x.name,
            size=(target[0], target[1]),
        )  # fmt: skip


def source(attributes: dict[str, Any], old: int, new: int) -> Any:
    """The pixel that Resize reads for each of `new` ones, in exact arithmetic."""
    mode = attributes.get("coordinate_transformation_mode", b"half_pixel").decode()
    i = [Fraction(v) for v in range(new)]
    if mode in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        at = [(v + Fraction(1, 2)) * old / new - Fraction(1, 2) for v in i]
    elif mode == "align_corners":
        at = [v * (old - 1) / max(new - 1, 1) for v in i]
    else:
        at = [v * old / new for v in i]
    half = Fraction(1, 2)
    match attributes.get("nearest_mode", b"round_prefer_floor"):
        case b"floor":
            found = [floor(v) for v in at]
        case b"ceil":
            found = [ceil(v) for v in at]
        case b"round_prefer_ceil":
            found = [floor(v + half) for v in at]
        case _:
            found = [ceil(v - half) for v in at]
    return np.clip(np.array(found), 0, old - 1)


def pair(values: Any) -> ops.Pair:
    """Two sizes; 1 where they are left out."""
    return (int(values[0]), int(values[1])) if values else (1, 1)


def same_length(
    a: Sequence[Fraction], b: Sequence[Fraction]
) -> tuple[Sequence[Fraction], Sequence[Fraction]]:
    """The shorter of two repeated."""
    n = max(len(a), len(b))
    return [a[i % len(a)] for i in range(n)], [b[i % len(b)] for i in range(n)]


def times(a: Sequence[Fraction], b: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """Products, channel by channel."""
    return tuple(x * y for x, y in zip(*same_length(a, b), strict=True))
