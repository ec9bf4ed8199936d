"""What every TOSA operator of a Program is made of: held codes, edges, sums and borders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.exchange.to_tosa.file import DOUBLE_ROUND, INT32, SINGLE_ROUND, Graph
from intaglio.exchange.to_tosa.scale import I32, UNITY, fits
from intaglio.fixed import IntType
from intaglio.ops import Conv2d, Input, MaxPool2d, Op, Output, Padding, Pair, Requant, SumPool2d
from intaglio.program import Program
from intaglio.sim.reference import narrowed, saturates

Array = NDArray[Any]
PROPAGATE = 1  # NanPropagationMode; integers have none, but the attribute must be set
I8, I16 = IntType(8, True), IntType(16, True)


@dataclass(frozen=True)
class Held:
    """How codes rest: integers of `type` that are the codes less `less`."""

    type: IntType
    less: int = 0

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(f"int{self.type.bits}")

    def zero(self, code: int) -> int | None:
        """A zero point as an operand of an operator; None where TOSA has none for it."""
        stored = code - self.less
        return stored if stored == 0 or (self.type == I8 and I8.holds(stored, stored)) else None


def held(type: IntType) -> Held | None:
    """How codes of a type rest; None beyond 32 bits."""
    for wide in (I8, I16, I32):
        if wide.holds(type.lo, type.hi):
            return Held(wide)
        if wide.bits == type.bits and wide != I32:
            return Held(wide, -wide.lo)
    return None


class Pieces:
    """The graph as it grows, and what more than one operation needs.

    Names with a colon are of its own making; layers are named by dots.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.graph = Graph()
        self.signed: dict[str, str] = {}  # an input of unsigned codes, and those as they rest

    # --- small pieces ---

    def shape(self, name: str) -> tuple[int, int, int, int]:
        """(1, H, W, C) of a tensor of the Program."""
        c, h, w = self.program.tensors[name].shape
        return 1, h, w, c

    def held(self, op: Op, name: str | None = None) -> Held:
        """How the codes of a tensor rest, by default those that `op` makes."""
        type = self.program.tensors[name or op.output].type
        found = held(type)
        if found is None:
            raise op.refuse(f"its codes must have at most 32 bits in TOSA, not {type}.")
        return found

    def node(self, op: Op, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """An operator that makes the codes of `op`."""
        dtype, shape = self.held(op).dtype, self.shape(op.output)
        return self.graph.add(kind, inputs, op.output, dtype, shape, **attributes)

    def codes(self, op: Op, name: str, most: int = 32) -> str:
        """The codes of a tensor as they rest, for an operator that takes at most `most` bits."""
        found = self.held(op, name)
        if found.type.bits > most:
            type = self.program.tensors[name].type
            raise op.refuse(f"its operand must have at most {most} bits in TOSA, not {type}.")
        name = self.signed.get(name, name)
        if self.graph.edges[name].dtype == found.dtype:
            return name
        return self.cast(name, found.dtype, f"{name}:codes")  # a sum of few bits

    def cast(self, name: str, dtype: Any, output: str) -> str:
        """A tensor of another width; written once."""
        edge = self.graph.edges[name]
        if edge.dtype == dtype:
            return name
        if output in self.graph.edges:
            return output
        return self.graph.add("CAST", [name], output, dtype, edge.shape)

    def scalar(self, value: int, dtype: Any) -> str:
        """A constant of one element."""
        dtype = np.dtype(dtype)
        wrapped = np.array([value]).astype(dtype)  # an unsigned zero point keeps its bits
        return self.graph.constant(f"{dtype}/{value}", wrapped, dtype)

    def wide(self, kind: str, x: str, values: Sequence[int], output: str, **more: Any) -> str:
        """An int32 operator with a constant of one value for each channel, or one for all."""
        short = values[:1] if len(set(values)) == 1 else values
        constant = self.graph.constant(
            f"{output}:k", np.array(short).reshape(1, 1, 1, -1), np.int32
        )
        inputs = [x, constant, *([self.scalar(0, np.int8)] if kind == "MUL" else [])]
        return self.graph.add(kind, inputs, output, np.int32, self.graph.edges[x].shape, **more)

    def rescale(
        self,
        x: str,
        output: str,
        dtype: Any,
        factors: tuple[Sequence[int], Sequence[int]],
        zeros: tuple[int, int] = (0, 0),
        unsigned: tuple[bool, bool] = (False, False),
        double: bool | None = None,
    ) -> str:
        """RESCALE by (multipliers, shifts) from and to a zero point, rounding twice if `double`;
        by default as the Program does."""
        edge, dtype = self.graph.edges[x], np.dtype(dtype)
        multiplier, shift = factors
        one = len(set(zip(multiplier, shift, strict=True))) == 1
        tables = [
            self.graph.constant(f"{output}:{name}", values[:1] if one else values, kind)
            for name, values, kind in (
                ("multiplier", multiplier, np.int32),
                ("shift", shift, np.int8),
            )
        ]
        if double is None:
            double = self.program.arithmetic.rounding == "DOUBLE"
        return self.graph.add(
            "RESCALE",
            [x, *tables, self.scalar(zeros[0], edge.dtype), self.scalar(zeros[1], dtype)],
            output,
            dtype,
            edge.shape,
            scale32=True,
            rounding_mode=DOUBLE_ROUND if double else SINGLE_ROUND,
            per_channel=not one,
            input_unsigned=unsigned[0],
            output_unsigned=unsigned[1],
        )

    # --- edges ---

    def input(self, op: Input) -> None:
        """The image; unsigned codes of a full width are brought into the signed range."""
        name, found = op.output, self.held(op)
        self.graph.input(name, found.dtype, self.shape(name))
        if found.less:
            self.signed[name], zeros = f"{name}:signed", (found.less, 0)
            self.rescale(name, f"{name}:signed", found.dtype, one(UNITY), zeros, (True, False))

    def output(self, op: Output) -> None:
        """A result."""
        name, found = op.output, self.held(op)
        source = self.codes(op, op.input)
        if not found.less:
            self.node(op, "IDENTITY", [source])
        else:
            zeros = (-found.less, 0) if found.type == I8 else (0, found.less)
            self.rescale(source, name, found.dtype, one(UNITY), zeros, (False, True))
        self.graph.outputs.append(name)

    # --- sums ---

    def settled_by(self, op: Op) -> Requant | None:
        """The Requant that alone reads a sum, where the sum is as wide as proved."""
        readers = self.program.consumers[op.output]
        whole = not isinstance(op, Conv2d) or narrowed(op, self.program) is None
        single = readers[0] if len(readers) == 1 and whole else None
        return single if isinstance(single, Requant) else None

    def sum(self, op: Conv2d | SumPool2d, bias: Sequence[int], output: str) -> str:
        """The exact sum of products and `bias` of each channel, as int32."""
        program, x = self.program, self.program.tensors[op.input]
        source, codes = self.codes(op, op.input, 16), self.held(op, op.input)
        found, outside = program.kernel(op), op.outside(x)
        weight, name, groups = found.array, found.name, found.groups
        if not I8.holds(int(weight.min()), int(weight.max())):
            raise op.refuse("its weights must fit into i8 in TOSA; use at most 8 bits.")
        kernel, padding = (weight.shape[2], weight.shape[3]), op.padding
        sizes = self.graph.edges[source].shape[1:3]
        empty = any(more >= n for more, n in zip(spare(op, sizes, kernel)[0], sizes, strict=True))
        if any(padding) and (empty or len(set(outside)) > 1):
            values = [v - codes.less for v in outside]
            source = self.pad(source, padding, values, f"{output}:padded")
            padding = (0, 0, 0, 0)
        zero = outside[0] if any(padding) else 0 if codes.zero(0) is not None else codes.less
        total = weight.sum(axis=(1, 2, 3)) * zero + np.array(bias)
        source, padding = self.trimmed(op, source, kernel, padding, output)
        taps = np.abs(weight).sum(axis=(1, 2, 3))
        reach = taps * max(abs(x.type.lo - zero), x.type.hi - zero)
        fits(op, int((np.abs(total) + reach).max()), 0)
        kind, laid = layout(weight, groups)
        fields = {"pad": padding, "stride": op.stride, "dilation": op.dilation}
        constant = self.graph.constant(f"{name}:laid", laid, np.int8)

        def products(digit: str, zero: int, bias: Array, made: str) -> str:
            inputs = [
                digit, constant, self.graph.constant(f"{made}:bias", bias, np.int32),
                self.scalar(zero, np.int8), self.scalar(0, np.int8),
            ]  # fmt: skip
            shape = self.shape(op.output)
            return self.graph.add(
                kind, inputs, made, np.int32, shape, **fields, local_bound=False, acc_type=INT32
            )

        forced = narrowed(op, program) if isinstance(op, Conv2d) else None
        made, stored = output if forced is None else f"{output}:exact", zero - codes.less
        if codes.type == I8:
            products(source, stored, total, made)
        else:  # two digits of base 256, the lower one less 128 as all that is unsigned
            fits(op, int((np.abs(total) + taps * ((256 + 1) * 255)).max()), 0)
            high, low = self.digits(source)
            upper = products(high, stored >> 8, np.zeros_like(total), f"{made}:high")
            lower = products(low, (stored & 255) - 128, total, f"{made}:low")
            upper = self.wide("LOGICAL_LEFT_SHIFT", upper, [8], f"{made}:raised")
            self.graph.add("ADD", [upper, lower], made, np.int32, self.shape(op.output))
        return made if forced is None else self.narrow(op, made, forced)

    def digits(self, x: str) -> tuple[str, str]:
        """int8 tensors h and l of an int16 one, x = 256 h + l + 128; written once."""
        names = f"{x}:high", f"{x}:low"
        if names[0] not in self.graph.edges:
            wide = self.cast(x, np.int32, f"{x}:wide")
            high = self.wide("ARITHMETIC_RIGHT_SHIFT", wide, [8], f"{x}:high.wide", round=False)
            whole = self.wide("LOGICAL_LEFT_SHIFT", high, [8], f"{x}:high.whole")
            rest = [wide, whole]
            low = self.graph.add("SUB", rest, f"{x}:rest", np.int32, self.graph.edges[x].shape)
            low = self.wide("ADD", low, [-128], f"{x}:low.wide")
            for part, name in zip((high, low), names, strict=True):
                self.cast(part, np.int8, name)
        return names

    def narrow(self, op: Op, x: str, forced: IntType) -> str:
        """An accumulator that saturates at the end, or wraps."""
        arithmetic, out = self.program.arithmetic, op.output
        if saturates(arithmetic, "mac"):
            raise op.refuse(
                "its accumulator must saturate at the end, not after every product, which no TOSA"
                " operator does; use saturate_at='end' or a wider accumulator."
            )
        if saturates(arithmetic, "end"):
            x = self.wide("MAXIMUM", x, [forced.lo], f"{out}:least", nan_mode=PROPAGATE)
            return self.wide("MINIMUM", x, [forced.hi], out, nan_mode=PROPAGATE)
        left = [32 - forced.bits]
        x = self.wide("LOGICAL_LEFT_SHIFT", x, left, f"{out}:high")
        return self.wide("ARITHMETIC_RIGHT_SHIFT", x, left, out, round=False)

    def trimmed(
        self, op: Conv2d | SumPool2d | MaxPool2d, source: str, kernel: Pair, padding: Padding,
        name: str,
    ) -> tuple[str, Padding]:  # fmt: skip
        """Source and padding without what no window reaches: TOSA wants none of it."""
        edge = self.graph.edges[source]
        more, padding = spare(replace(op, padding=padding), edge.shape[1:3], kernel)
        size = [n - less for n, less in zip(edge.shape[1:3], more, strict=True)]
        if tuple(size) != edge.shape[1:3]:
            shape = (1, *size, edge.shape[3])
            ends = [self.graph.shape((0, 0, 0, 0)), self.graph.shape(shape)]
            source = self.graph.add("SLICE", [source, *ends], f"{name}:cut", edge.dtype, shape)
        return source, padding

    # --- borders ---

    def pad(self, source: str, padding: Padding, values: Sequence[int], output: str) -> str:
        """A border of one value, or of one for each channel, which are then padded one by one."""
        graph, edge, (top, bottom, left, right) = self.graph, self.graph.edges[source], padding
        n, h, w, c = edge.shape
        shape = (n, h + top + bottom, w + left + right)
        if len(set(values)) == 1:
            ends = graph.shape((0, 0, top, bottom, left, right, 0, 0))
            inputs = [source, ends, self.scalar(values[0], edge.dtype)]
            return graph.add("PAD", inputs, output, edge.dtype, (*shape, c))
        parts = []
        for k, value in enumerate(values):
            cut, part = [graph.shape((0, 0, 0, k)), graph.shape((n, h, w, 1))], f"{output}:{k}"
            graph.add("SLICE", [source, *cut], part, edge.dtype, (n, h, w, 1))
            parts.append(self.pad(part, padding, [value], f"{part}:framed"))
        return graph.add("CONCAT", parts, output, edge.dtype, (*shape, c), axis=3)


def spare(
    op: Conv2d | SumPool2d | MaxPool2d, sizes: Sequence[int], kernel: Pair
) -> tuple[list[int], Padding]:
    """Rows and columns of an image (H, W) that no window reaches, and the padding that one does."""
    more, pads = [], list(op.padding)
    for axis, n in enumerate(sizes):
        low, high = op.padding[2 * axis : 2 * axis + 2]
        span = op.dilation[axis] * (kernel[axis] - 1) + 1
        rest = (n + low + high - span) % op.stride[axis]
        pads[2 * axis + 1] = high - min(rest, high)
        more.append(rest - min(rest, high))
    return more, (pads[0], pads[1], pads[2], pads[3])


def one(factors: tuple[int, int]) -> tuple[list[int], list[int]]:
    """(multipliers, shifts) of a single factor."""
    return [factors[0]], [factors[1]]


def layout(weight: Array, groups: int) -> tuple[str, Array]:
    """The operator for weights (Cout, Cin / groups, Kh, Kw), and the weights in its order."""
    cout, cin, kh, kw = weight.shape
    if groups > 1 and cin == 1:
        return "DEPTHWISE_CONV2D", weight.reshape(groups, cout // groups, kh, kw).transpose(
            2, 3, 0, 1
        )
    dense = np.zeros((cout, groups, cin, kh, kw), dtype=weight.dtype)  # 0 across groups
    group = np.arange(cout) // (cout // groups)
    dense[np.arange(cout), group] = weight
    return "CONV2D", dense.reshape(cout, groups * cin, kh, kw).transpose(0, 2, 3, 1)
