"""A Program as an ONNX graph of integer operators alone, exact for every rounding.

Convolutions are ConvInteger, everything after them int64 Mul, Add, Div, Mod and Clip; codes rest as
uint8 or int8 where they fit, so that a runtime needs no float and no operator outside the standard.

Three choices keep it exact in every runtime. Weights are stored as uint8 with zero point 128,
because products of uint8 and int8 saturate in pairs on processors with AVX2 alone. Codes and
weights of more than 8 bits are split into digits of base 256, whose convolutions are summed. And a
shift by S is a division by 2^S of a sum that was made non-negative first, because ONNX divides
toward zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from intaglio.errors import ProgramError
from intaglio.exchange.to_onnx import choosing, resizing
from intaglio.exchange.to_onnx.graph import Array, Graph
from intaglio.fixed import IntType, Rounding
from intaglio.ops import (
    Add,
    Concat,
    Conv2d,
    Crop,
    DepthToSpace,
    Input,
    Interpolate,
    Lookup,
    MaxPool2d,
    Multiply,
    Op,
    Output,
    Pad,
    Padding,
    Requant,
    Select,
    SpaceToDepth,
    SumPool2d,
    Tensor,
    Upsample,
    Windowed,
    rounding_of,
)
from intaglio.ops.choosing import upsampled
from intaglio.program import Program
from intaglio.sim.reference import narrowed, saturates

INT32_MAX = (1 << 31) - 1


def to_integer(program: Program) -> onnx.ModelProto:
    """The checked ONNX model, whose inputs, outputs and tensors have the Program's names.

    Raises ProgramError, naming the operation, for an accumulator that saturates after every
    product and for sums that leave int32 inside ConvInteger; and for products in float32.
    """
    if program.arithmetic.product == "single":
        raise ProgramError(
            "A Program in integer operators must multiply integers, not in float32 as"
            f" {program.arithmetic.name!r} does; write it with the operators of that runtime."
        )
    writer = Writer(program)
    for op in program.ops:
        writer.add(op)
    return writer.graph.model(program, "integer")


def storage(type: IntType) -> np.dtype[Any]:
    """The integers that hold the codes between operators; ONNX's operators know no others well."""
    if type.bits <= 8:
        return np.dtype(np.int8 if type.signed else np.uint8)
    return np.dtype(np.int32 if IntType(32, True).holds(type.lo, type.hi) else np.int64)


def window_fields(op: Windowed, kernel: Sequence[int], pads: Padding) -> dict[str, Any]:
    """A window as ONNX's attributes; what lies outside of `pads` is written as a border."""
    return {
        "kernel_shape": kernel,
        "strides": op.stride,
        "dilations": op.dilation,
        "pads": [pads[0], pads[2], pads[1], pads[3]],
    }


class Writer:
    """One method for each operation; `graph` holds what was written."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.graph = Graph()

    def add(self, op: Op) -> None:
        """Append the nodes of one operation; the last one's output has the operation's name."""
        graph, name, t = self.graph, op.output, self.program.tensors[op.output]
        described = graph.describe(name, storage(t.type), t.shape)
        match op:
            case Input():
                graph.inputs.append(described)
                return
            case Output():
                graph.node("Identity", [op.input], name)
                graph.outputs.append(described)
                return
            case Conv2d() | SumPool2d():
                self.convolve(op)
            case Requant():
                self.requant(op)
            case Add():
                self.sum(op)
            case Multiply():
                self.product(op)
            case MaxPool2d():
                self.max_pool(op)
            case Upsample():
                self.upsample(op)
            case Concat():
                graph.node("Concat", op.parts, name, axis=1)
            case Pad():
                self.pad(op.input, op.padding, (op.value,), name)
            case Lookup():
                self.lookup(op)
            case Select() | Crop() | SpaceToDepth() | DepthToSpace():
                x = self.program.tensors[op.input]
                choosing.write(graph, op, x, storage(x.type))
            case Interpolate():
                source = op.input if op.unit == 1 else self.wide(op.input, f"{name}.wide")
                x = self.program.tensors[op.input]
                resizing.write(graph, op, x, source, storage(t.type))
            case _:
                raise TypeError(f"{type(op).__name__} must be written here.")
        graph.values.append(described)

    # --- small pieces ---

    def wide(self, name: str, output: str) -> str:
        """The tensor as int64."""
        if storage(self.program.tensors[name].type) == np.int64:
            return name
        return self.graph.node("Cast", [name], output, to=onnx.TensorProto.INT64)

    def cast(self, name: str, dtype: np.dtype[Any], output: str) -> str:
        """A tensor as `dtype`."""
        kind = onnx.helper.np_dtype_to_tensor_dtype(dtype)
        return self.graph.node("Cast", [name], output, to=kind)

    def scalar(self, value: int) -> str:
        """An int64 constant, one for each value."""
        return self.graph.constant(f"int64/{value}", value, np.int64)

    def table(self, name: str, values: Array) -> str:
        """int64 values, one for each channel, or one for all."""
        flat = np.asarray(values, dtype=np.int64).reshape(-1)
        if (flat == flat[0]).all():
            return self.scalar(int(flat[0]))
        return self.graph.constant(name, flat[None, :, None, None], np.int64)

    def plus(self, x: str, name: str, values: Array) -> str:
        """x + values; x itself where all are 0."""
        if not np.any(values):
            return x
        return self.graph.node("Add", [x, self.table(f"{name}.k", values)], name)

    def pad(self, x: str, padding: Padding, value: Sequence[int], output: str) -> str:
        """A border of one value, or of one for each channel."""
        graph, t = self.graph, self.program.tensors[x]
        kind, (top, bottom, left, right) = storage(t.type), padding
        pads = graph.constant(f"{output}.pads", [0, 0, top, left, 0, 0, bottom, right], np.int64)
        if len(set(value)) == 1:
            fill = graph.constant(f"{kind}/{value[0]}", value[0], kind)
            return graph.node("Pad", [x, pads, fill], output, mode="constant")
        c, h, w = t.shape
        border = np.zeros((1, c, h + top + bottom, w + left + right), dtype=np.int32)
        border += np.array(value, dtype=np.int32)[None, :, None, None]
        border[:, :, top : top + h, left : left + w] = 0
        x = self.cast(x, np.dtype(np.int32), f"{output}.int32")
        x = graph.node("Pad", [x, pads], f"{output}.zeros", mode="constant")
        frame = graph.constant(f"{output}.border", border, np.int32)
        x = graph.node("Add", [x, frame], f"{output}.framed")
        return self.cast(x, kind, output)

    # --- sums ---

    def convolve(self, op: Conv2d | SumPool2d) -> None:
        """The exact sum of products, all digits of codes by all digits of weights."""
        graph, out, x = self.graph, op.output, self.program.tensors[op.input]
        kernel, outside = self.program.kernel(op), op.outside(x)
        weight, name = kernel.array, kernel.name
        source, pads = op.input, op.padding
        if any(op.padding) and any(outside):
            source, pads = self.pad(source, pads, outside, f"{out}.padded"), (0, 0, 0, 0)
        parts, window = [], weight[0].size
        digits = self.digits(source, x, out)
        for power, plane, top in digits:
            for shift, codes, zero in weight_digits(weight):
                self.check_sum(op, top, codes - zero, window, len(digits) == 1)
                label = f"{name}.digit{shift}"
                inputs = [
                    plane,
                    graph.constant(label, codes, np.uint8),
                    "",
                    graph.constant(f"uint8/{zero}", zero, np.uint8),
                ]
                part = graph.node(
                    "ConvInteger",
                    inputs,
                    f"{out}.conv{power}{shift}",
                    group=kernel.groups,
                    **window_fields(op, weight.shape[2:], pads),
                )
                parts.append((part, 8 * (power + shift)))
        total = self.total(parts, out)
        self.finish_sum(op, total, len(parts) > 1)

    def digits(self, source: str, x: Tensor, out: str) -> list[tuple[int, str, int]]:
        """(power of 256, 8-bit tensor, largest absolute value) of each digit of the codes."""
        if x.type.bits <= 8:
            return [(0, source, max(-x.type.lo, x.type.hi))]
        graph, found = self.graph, []
        rest = self.cast(source, np.dtype(np.int64), f"{out}.codes")
        count = -(-x.type.bits // 8)
        base = self.scalar(256)
        for power in range(count - 1):
            low = graph.node("Mod", [rest, base], f"{out}.low{power}")
            found.append((power, self.cast(low, np.dtype(np.uint8), f"{out}.digit{power}"), 255))
            rest = graph.node("Sub", [rest, low], f"{out}.above{power}")
            rest = graph.node("Div", [rest, base], f"{out}.rest{power}")
        kind = np.dtype(np.int8 if x.type.signed else np.uint8)
        top = self.cast(rest, kind, f"{out}.digit{count - 1}")
        return [*found, (count - 1, top, 128 if x.type.signed else 255)]

    def check_sum(self, op: Op, top: int, weight: Array, window: int, whole: bool) -> None:
        """ConvInteger's int32 must hold the sum of every output channel."""
        reach = int(np.abs(weight).reshape(len(weight), -1).sum(axis=1).max()) * top
        t = self.program.tensors[op.output]
        if reach > INT32_MAX and not (whole and max(-t.lo, t.hi) <= INT32_MAX):
            raise op.refuse(
                f"its sum over {window} products must fit into 32 bits, not reach {reach};"
                " ConvInteger sums in int32: use narrower weights or codes."
            )

    def total(self, parts: Sequence[tuple[str, int]], out: str) -> str:
        """The sum of (tensor, s) as tensor * 2^s; a single one stays int32."""
        if len(parts) == 1:
            return parts[0][0]
        graph, total = self.graph, ""
        for n, (part, shift) in enumerate(parts):
            x = self.cast(part, np.dtype(np.int64), f"{part}.wide")
            if shift:
                x = graph.node("Mul", [x, self.scalar(1 << shift)], f"{part}.scaled")
            total = graph.node("Add", [total, x], f"{out}.sum{n}") if total else x
        return total

    def finish_sum(self, op: Op, total: str, is_wide: bool) -> None:
        """Wrap or saturate where the accumulator is narrower than proved; store."""
        graph, out, program = self.graph, op.output, self.program
        forced = narrowed(op, program) if isinstance(op, Conv2d) else None
        if forced is not None:
            if saturates(program.arithmetic, "mac"):
                raise op.refuse(
                    "its accumulator must saturate at the end, not after every product, which no"
                    " ONNX operator does; use saturate_at='end' or a wider accumulator."
                )
            if not is_wide:
                total, is_wide = self.cast(total, np.dtype(np.int64), f"{out}.wide"), True
            if saturates(program.arithmetic, "end"):
                ends = [self.scalar(forced.lo), self.scalar(forced.hi)]
                total = graph.node("Clip", [total, *ends], f"{out}.saturated")
            else:
                total = graph.node("Add", [total, self.scalar(-forced.lo)], f"{out}.raised")
                total = graph.node("Mod", [total, self.scalar(1 << forced.bits)], f"{out}.modulo")
                total = graph.node("Sub", [total, self.scalar(-forced.lo)], f"{out}.wrapped")
        kind = storage(program.tensors[out].type)
        if kind == (np.int64 if is_wide else np.int32):
            graph.node("Identity", [total], out)
        else:
            self.cast(total, kind, out)

    # --- scaling ---

    def requant(self, op: Requant) -> None:
        constants, x = self.program.constants, self.program.tensors[op.input]
        m, b = constants[op.multiplier].array, constants[op.bias].array
        wide = self.wide(op.input, f"{op.output}.wide")
        product = self.graph.node(
            "Mul", [wide, self.table(f"{op.output}.M", m)], f"{op.output}.product"
        )
        m, b = np.broadcast_arrays(m.reshape(-1), b.reshape(-1))
        lowest = np.minimum(x.lo * m, x.hi * m)
        self.shift(op, product, b, lowest)

    def sum(self, op: Add) -> None:
        graph, out, lowest = self.graph, op.output, 0
        products = []
        for name, m, which in ((op.a, op.multiplier_a, "a"), (op.b, op.multiplier_b, "b")):
            x = self.program.tensors[name]
            wide = self.wide(name, f"{out}.wide_{which}")
            products.append(graph.node("Mul", [wide, self.scalar(m)], f"{out}.product_{which}"))
            lowest += min(x.lo * m, x.hi * m)
        total = graph.node("Add", products, f"{out}.total")
        self.shift(op, total, np.array([op.bias]), np.array([lowest]))

    def product(self, op: Multiply) -> None:
        """Both operands less their zero points, multiplied; ONNX repeats the second as we do."""
        graph, out, sides = self.graph, op.output, []
        for name, zero, which in ((op.a, op.zero_a, "a"), (op.b, op.zero_b, "b")):
            wide = self.wide(name, f"{out}.wide_{which}")
            sides.append(self.plus(wide, f"{out}.less_{which}", np.array([-zero])))
        made, kind = f"{out}.product", storage(self.program.tensors[out].type)
        if kind == np.int64:
            graph.node("Mul", sides, out)
        else:
            self.cast(graph.node("Mul", sides, made), kind, out)

    def shift(self, op: Requant | Add, t: str, bias: Array, lowest: Array) -> None:
        """clamp(round_shift(t + bias, S) + offset), for t that is at least `lowest`."""
        shifts = np.array(op.shift if isinstance(op, Requant) else (op.shift,), dtype=np.int64)
        bias, lowest, shifts = np.broadcast_arrays(bias, lowest, shifts)
        rounding = rounding_of(op, self.program.arithmetic)
        y = Rounder(self, op.output, bias, lowest, shifts, rounding).rounded(t)
        y = self.plus(y, f"{op.output}.offset", np.array([op.offset]))
        ends = [self.scalar(op.lo), self.scalar(op.hi)]
        y = self.graph.node("Clip", [y, *ends], f"{op.output}.clamped")
        self.cast(y, storage(self.program.tensors[op.output].type), op.output)

    # --- no arithmetic ---

    def max_pool(self, op: MaxPool2d) -> None:
        graph, out, x = self.graph, op.output, self.program.tensors[op.input]
        source, pads = op.input, op.padding
        if any(p >= k for p, k in zip(pads, np.repeat(op.kernel, 2), strict=True)):
            lowest = op.outside(x)  # runtimes refuse such pads
            source, pads = self.pad(source, pads, lowest, f"{out}.padded"), (0, 0, 0, 0)
        window = window_fields(op, op.kernel, pads)
        if x.type.bits <= 8:
            graph.node("MaxPool", [source], out, **window)
            return
        if x.type.bits > 53:
            raise op.refuse(f"its codes must have at most 53 bits in ONNX, not {x.type}.")
        source = self.cast(source, np.dtype(np.float64), f"{out}.double")  # exact below 2^53
        pooled = graph.node("MaxPool", [source], f"{out}.largest", **window)
        self.cast(pooled, storage(x.type), out)

    def upsample(self, op: Upsample) -> None:
        """Resize where the factor is whole; else rows and columns by index, because Resize finds
        them with a rounded factor."""
        graph, out, x = self.graph, op.output, self.program.tensors[op.input]
        factors = [n / o for n, o in zip(op.size, x.shape[1:], strict=True)]
        if all(f == int(f) for f in factors) and storage(x.type) != np.int64:
            scales = graph.constant(f"{out}.scales", [1, 1, *factors], np.float32)
            graph.node(
                "Resize",
                [op.input, "", scales],
                out,
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
            return
        rows, columns = (
            graph.constant(f"{out}.{which}", upsampled(o, n), np.int64)
            for which, o, n in zip(("rows", "columns"), x.shape[1:], op.size, strict=True)
        )
        tall = graph.node("Gather", [op.input, rows], f"{out}.tall", axis=2)
        graph.node("Gather", [tall, columns], out, axis=3)

    def lookup(self, op: Lookup) -> None:
        constant, t = self.program.constants[op.table], self.program.tensors[op.output]
        table = self.graph.constant(
            f"{op.table}.{storage(t.type)}", constant.array.reshape(-1), storage(t.type)
        )
        index = self.wide(op.input, f"{op.output}.wide")
        rows, entries = np.atleast_2d(constant.array).shape
        first = np.arange(rows) * entries - self.program.tensors[op.input].type.lo
        index = self.plus(index, f"{op.output}.index", first)
        self.graph.node("Gather", [table, index], op.output, axis=0)


def weight_digits(weight: Array) -> list[tuple[int, Array, int]]:
    """(power of 256, uint8 codes, zero point) of each digit: weight = sum (codes - zero) 256^p."""
    count, rest, found = 1, weight, []
    while not (-(1 << 8 * count - 1) <= weight.min() and weight.max() < 1 << 8 * count - 1):
        count += 1
    for power in range(count - 1):
        found.append((power, rest & 255, 0))
        rest = rest >> 8
    return [*found, (count - 1, rest + 128, 128)]


class Rounder:
    """`fixed.ROUNDINGS` of t + bias by shifts S, one for each channel or one for all."""

    def __init__(
        self, writer: Writer, name: str, bias: Array, lowest: Array, shifts: Array,
        rounding: Rounding,
    ) -> None:  # fmt: skip
        self.writer = writer
        self.name = name
        self.bias = bias
        self.lowest = lowest
        self.shifts = shifts
        self.rounding = rounding

    def rounded(self, t: str) -> str:
        """The rounded tensor, int64."""
        s, half = self.shifts, self.half
        name, lowest = self.name, self.lowest + self.bias
        match self.rounding:
            case "TRN":
                return self.floor(t, self.bias, s, lowest, name)
            case "RND":
                return self.floor(t, self.bias + half(s), s, lowest + half(s), name)
            case "RND_INF":
                t = self.writer.plus(t, f"{name}.t", self.bias)
                return self.away(t, s, lowest, name)
            case "RND_CONV":
                t = self.writer.plus(t, f"{name}.t", self.bias)
                return self.even(t, s, lowest, name)
            case "DOUBLE":
                first = np.minimum(s, 31)
                u = self.floor(t, self.bias + half(first), first, lowest + half(first), f"{name}.1")
                return self.away(u, s - first, (lowest + half(first)) >> first, f"{name}.2")
        raise TypeError(f"{self.rounding} must be written here.")

    @staticmethod
    def half(s: Array) -> Array:
        """2^(s-1), and 0 where s is 0."""
        return (np.int64(1) << s) >> 1

    def floor(self, t: str, addend: Array, s: Array, lowest: Array, name: str) -> str:
        """floor((t + addend) / 2^s), for t + addend that is at least `lowest`."""
        writer, graph = self.writer, self.writer.graph
        raised = np.where(s > 0, np.maximum(-(lowest >> s), 0), 0)  # Div truncates toward 0
        t = writer.plus(t, f"{name}.raised", addend + (raised << s))
        if np.any(s):
            t = graph.node(
                "Div", [t, writer.table(f"{name}.power", np.int64(1) << s)], f"{name}.divided"
            )
        return writer.plus(t, f"{name}.floor", -raised)

    def away(self, t: str, s: Array, lowest: Array, name: str) -> str:
        """Nearest, ties away from zero."""
        if not np.any(s):
            return t
        writer, graph = self.writer, self.writer.graph
        negative = graph.node("Less", [t, writer.scalar(0)], f"{name}.negative")
        one = writer.cast(negative, np.dtype(np.int64), f"{name}.one")
        if not np.all(s):
            one = graph.node("Mul", [one, writer.table(f"{name}.shifted", s > 0)], f"{name}.mask")
        t = graph.node("Sub", [t, one], f"{name}.nudged")
        return self.floor(t, self.half(s), s, lowest - 1 + self.half(s), name)

    def even(self, t: str, s: Array, lowest: Array, name: str) -> str:
        """Nearest, ties to even."""
        if not np.any(s):
            return t
        writer, graph = self.writer, self.writer.graph
        floor = self.floor(t, np.zeros_like(s), s, lowest, f"{name}.down")
        odd = graph.node("Mod", [floor, writer.scalar(2)], f"{name}.odd")
        if not np.all(s):
            odd = graph.node("Mul", [odd, writer.table(f"{name}.shifted", s > 0)], f"{name}.mask")
        t = graph.node("Add", [t, odd], f"{name}.nudged")
        addend = self.half(s) - (s > 0)
        return self.floor(t, addend, s, lowest + addend, name)
