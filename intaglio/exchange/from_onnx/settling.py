"""What the importer knows of an ONNX graph so far, and how a real value settles on codes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from math import floor
from typing import Any

import numpy as np
import onnx

from intaglio import ops
from intaglio.channels import Loss, constant_code, tables, without_constants
from intaglio.errors import ProgramError
from intaglio.exchange.from_onnx.door import admit
from intaglio.exchange.from_onnx.linear import rounded_sum
from intaglio.exchange.from_onnx.on_codes import OnCodes
from intaglio.exchange.from_onnx.onnx_file import TYPES, Array, Node, OnnxFile, int_type
from intaglio.exchange.from_onnx.values import (
    Bordered,
    Codes,
    Floats,
    Grid,
    Joined,
    Part,
    Real,
    Weights,
    real_of,
)
from intaglio.fixed import Arithmetic, IntType
from intaglio.multiplier import Term, scaling, short
from intaglio.multiplier import exact as product
from intaglio.program import Builder
from intaglio.spans import Spans


class Settling:
    """The Program as it grows. `values` holds every tensor of the graph met so far; `derived`, for
    codes that are a function of other codes, those and the table."""

    def __init__(self, file: OnnxFile, arithmetic: Arithmetic) -> None:
        self.file = file
        self.arithmetic = arithmetic
        self.builder = Builder(arithmetic)
        self.spans = Spans(self.builder)
        self.losses: list[Loss] = []
        self.values: dict[str, Any] = dict(file.constants)
        self.types: dict[str, IntType] = dict(file.types)
        self.derived: dict[str, tuple[Codes, Any]] = {}
        self.read = {name for node in file.nodes for name in node.inputs} | set(file.outputs)
        self.views: dict[str, tuple[int, ...]] = {}  # shapes of those that are not N x C x H x W
        self.batch = 1  # the first dimension, as the file has it
        self.runtime = arithmetic.product == "single"  # the runtime's floats are to be met
        self.precision: Any = np.float32 if self.runtime else np.float64
        self.on_codes = OnCodes(file)
        self.notes: dict[str, str] = {}
        for node in file.nodes:
            if node.kind == "Constant" and not node.inputs:
                admit(node, file.opsets)
                self.values[node.outputs[0]] = self.stored(node)

    def stored(self, node: Node) -> Any:
        """The value of a Constant node."""
        if len(node.attributes) != 1:
            raise node.refuse("it must have one value; store the constant as an initialiser.")
        ((name, value),) = node.attributes.items()
        if name != "value":
            return np.array(value, dtype=np.float32 if name.startswith("value_f") else np.int64)
        if value.data_type in TYPES:
            self.types[node.outputs[0]] = TYPES[value.data_type]
        try:
            return onnx.numpy_helper.to_array(value)
        except Exception as error:  # onnx raises many kinds
            raise node.refuse("its value must be whole, not damaged.") from error

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
        """An input that must be constant numbers; `default` where it is left out."""
        if index >= len(node.inputs) or not node.inputs[index]:
            return default
        return self.numbers(node, node.inputs[index])

    def numbers(self, node: Node, name: str) -> Array:
        """A constant of at least one number, by name."""
        found = self.constant(self.value(node, name))
        if not isinstance(found, np.ndarray):
            raise node.refuse(f"its input {name!r} must be constant; fold constants (onnxsim).")
        if found.dtype.kind in "OUS":
            raise node.refuse(f"its input {name!r} must hold numbers.")
        return found

    def ints(self, node: Node, attribute: str, index: int) -> list[int] | None:
        """Whole numbers that are an attribute in old operator sets and an input in new ones; None
        where they are left out."""
        found = node.attributes.get(attribute)
        if found is None:
            array = self.array(node, index)
            if array is None:
                return None
            if array.dtype.kind not in "iu":
                raise node.refuse(f"its {attribute} must be whole numbers.")
            found = array.reshape(-1)
        return [int(v) for v in found]

    def zeros(self, node: Node, index: int) -> Array:
        """Zero points of constants, as int64 in one row; 0 where they are left out."""
        found = self.array(node, index)
        if found is None:
            return np.zeros(1, np.int64)
        if int_type(found) is None:
            raise node.refuse("its zero points must be of a type of integers; quantise to int8.")
        row: Array = found.astype(np.int64).reshape(-1)
        return row

    def finite(self, node: Node, value: Any, what: str) -> Array:
        """A constant as float64, without NaN and infinity."""
        array = np.asarray(value, dtype=np.float64)
        if not np.isfinite(array).all():
            raise node.refuse(f"{what} must be finite, not NaN or infinite.")
        return array

    @staticmethod
    def constant(value: Any) -> Any:
        """Dequantised constants as arrays again; other values as they are."""
        if not isinstance(value, Weights):
            return value
        lines = [1] * value.codes.ndim
        if value.scale.size > 1:
            lines[value.axis] = -1
        return value.codes * value.scale.astype(np.float64).reshape(lines or [1])[()]

    def view(self, node: Node, index: int = 0) -> tuple[int, ...]:
        """The shape of a node's input in the file: N x C x H x W, or other sizes of the same C
        values of each image."""
        name = node.inputs[index]
        return self.views.get(name) or (self.batch, *self.shape(node, self.value(node, name)))

    def channels_first(self, node: Node, index: int = 0) -> bool:
        """Whether an input is N x C, and what is behind is a map or ones."""
        shape = self.shape(node, self.value(node, node.inputs[index]))
        return self.plainly(self.view(node, index), shape)

    def plainly(self, view: tuple[int, ...], shape: tuple[int, int, int]) -> bool:
        """Whether a shape in the file is the Program's, but for ones behind it."""
        ones = (1,) * (len(view) - 2)
        return view[:2] == (self.batch, shape[0]) and view[2:] in (shape[1:], ones)

    def maker(self, name: str) -> Node:
        """The node that makes a tensor."""
        return next(n for n in self.file.nodes if name in n.outputs)

    def shape(self, node: Node, x: Any) -> tuple[int, int, int]:
        """(C, H, W)."""
        real = self.real(node, x)
        if isinstance(real, Joined):
            shapes = [self.shape(node, part) for part in real.parts]
            return (sum(s[0] for s in shapes), *shapes[0][1:])
        if real.codes is not None or not real.parts:
            name = (real.codes or real.floats.codes[0]).name
        else:
            name = real.parts[0].tensor
        return self.builder.tensors[name].shape

    def real(self, node: Node, x: Any) -> Any:
        """A value that is not constant."""
        if isinstance(x, Codes):
            return real_of(x)
        if isinstance(x, Bordered):
            scale = float(x.codes.grid.scale)
            raise node.refuse(
                f"the border that it reads is {x.value:g}, which no code of scale {scale:g} stands"
                " for; pad with 0, or quantise behind the Pad."
            )
        if not isinstance(x, (Real, Joined)):
            raise node.refuse(
                "its operand must be an activation, not a constant; fold constants first (onnxsim)."
            )
        return x

    def grid(self, node: Node, names: Sequence[str], type: IntType | None = None) -> Grid:
        """Scale, zero point and type of a quantiser; `type` is that of the codes it reads."""
        scale, zero = self.numbers(node, names[0]), 0
        zeros = self.numbers(node, names[1]) if len(names) > 1 and names[1] else None
        if scale.size != 1 or (zeros is not None and zeros.size != 1):
            raise node.refuse(
                "activations must have one scale and zero point for all channels; quantise them by"
                " tensor."
            )
        if scale.dtype != np.float32:
            raise node.refuse(f"its scale must be float32, not {scale.dtype}; quantise in float32.")
        given = node.attributes.get("output_dtype", 0) if node.kind == "QuantizeLinear" else 0
        if given and given not in TYPES:
            raise node.refuse("its output_dtype must be a type of integers; quantise to int8.")
        made = TYPES[given] if given else type
        if zeros is not None:
            made = self.types.get(names[1], int_type(zeros))
            if made is None:
                raise node.refuse("its zero point must be of a type of integers; quantise to int8.")
            zero = int(zeros.item())
            if made not in (type or made, TYPES.get(given, made)):
                raise node.refuse(f"its zero point must be of its codes' type, not {made}.")
        made = made or IntType(8, False)
        step = np.float32(scale.item())
        if made.bits > 16 or not (step > 0 and np.isfinite(step)):
            raise node.refuse(
                "activations must have at most 16 bits and a finite scale above 0; quantise anew."
            )
        return Grid(made, step, zero)

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
            self.check_bounds(node, real, real.codes.grid)
            return self.settle(real, real.codes.grid, node)
        raise node.refuse(
            "its input must be quantised; quantise what feeds it, with QuantizeLinear and"
            " DequantizeLinear or Quant in between."
        )

    def check_bounds(self, node: Node, real: Real, grid: Grid) -> None:
        """Bounds within the grid's range must be codes, where nothing quantises behind them."""
        step = Fraction(float(grid.scale))
        lowest, highest = ((code - grid.zero) * step for code in (grid.type.lo, grid.type.hi))
        low = real.lo if real.lo is not None and real.lo > lowest else None
        high = real.hi if real.hi is not None and real.hi < highest else None
        for bound in (low, high):
            if bound is not None and grid.exactly(bound) is None:
                raise node.refuse(
                    f"the bound {float(bound):g} of its input must be a code of scale"
                    f" {float(grid.scale):g}; quantise again behind it (QuantizeLinear,"
                    " DequantizeLinear)."
                )

    def note(self, node: Node, reason: str) -> None:
        """Where the runtime's float32 is not this Program's to the bit, and why."""
        if self.runtime:
            self.notes.setdefault(node.name or node.outputs[0], reason)

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
        elif (
            value.codes is not None
            and value.function is None
            and (value.codes.grid == grid and value.lo is value.hi is None)
        ):
            return Codes(value.codes.name, grid)
        elif (floats := self.floats(value)) is not None:
            table = floats.on(grid)
            op = floats.lookup(self.builder, name, table, grid.type, node.name)
            if len(floats.codes) == 1:
                self.derived[name] = (floats.codes[0], table)
        elif value.function is not None:
            table = grid.codes(np.nan_to_num(value.function))
            constant = self.builder.constant(f"{name}.table", table, grid.type)
            op = ops.Lookup(output=name, origin=node.name, input=value.codes.name, table=constant)
            self.derived[name] = (value.codes, table)
        elif len(value.parts) == 1:
            op = self.requant(value, grid, node, name)
        else:
            op = self.added(value, grid, node, name)
        return Codes(self.builder.add(op, grid.type, float(grid.scale), (grid.zero,)), grid)

    def floats(self, real: Any) -> Floats | None:
        """What the runtime has in float32 for every code behind a value, if that is to be met."""
        if not self.runtime or not isinstance(real, Real):
            return None
        if real.floats is not None or real.codes is None:
            return real.floats
        if real.function is not None:
            return Floats((real.codes,), real.function)
        found = Floats.of(real.codes)
        return found and found.clamped(real.lo, real.hi)

    def ratio(self, part: Part, channel: int, grid: Grid) -> Fraction:
        """Output codes of one integer of the part: in float32 where the arithmetic is."""
        weight = part.weights[channel % len(part.weights)]
        if getattr(self.arithmetic, "product", "exact") == "single":
            with np.errstate(over="ignore"):
                single = np.float32(np.float32(part.scale * weight) / grid.scale)
            if not np.isfinite(single):
                raise ProgramError("products of scales must be finite; quantise anew.")
            exact = Fraction(float(single))
        else:
            exact = product(float(part.scale), float(weight)) / Fraction(float(grid.scale))
        return exact * part.gain[channel % len(part.gain)]

    def requant(self, value: Real, grid: Grid, node: Node, name: str) -> ops.Requant:
        """One tensor, scaled."""
        if any(value.addend) or len(value.parts[0].gain) > 1:
            self.note(node, "steps between the sum and its quantiser")
        ends = (grid.code(value.lo, grid.type.lo), grid.code(value.hi, grid.type.hi))
        part, terms = self.finer(value, grid, node, ends)
        found = tables(terms, grid.zero, ends, self.arithmetic, node.name or node.outputs[0])
        self.losses += found.losses
        if len(set(found.shifts)) > 1:
            self.builder.arithmetic = replace(self.builder.arithmetic, per_channel_shift=True)
        return ops.Requant(
            output=name,
            origin=node.name,
            input=part.tensor,
            multiplier=self.table(f"{name}.M", found.multipliers),
            bias=self.table(f"{name}.B", found.bias),
            shift=tuple(short(found.shifts)),
            lo=ends[0],
            hi=ends[1],
            offset=found.offset,
        )

    def terms(self, value: Real, grid: Grid) -> list[Term]:
        """What each channel's requantisation computes, in rational numbers."""
        (part,) = value.parts
        t, span = self.builder.tensors[part.tensor], self.spans[part.tensor]
        step, reach = Fraction(float(grid.scale)), (max(abs(t.lo), abs(t.hi)),)
        count = max(map(len, (part.weights, part.zero, part.gain, value.addend)))
        ends = list(zip(span.lo.tolist(), span.hi.tolist(), strict=True))
        if count == 1:  # one computation for all channels, however many
            ends = [(min(span.lo.tolist()), max(span.hi.tolist()))]
        return [
            Term(
                (self.ratio(part, c, grid),),
                (part.zero[c % len(part.zero)],),
                reach,
                value.addend[c % len(value.addend)] / step,
                ends[c],
            )
            for c in range(count)
        ]

    def finer(
        self, value: Real, grid: Grid, node: Node, ends: tuple[int, int]
    ) -> tuple[Part, list[Term]]:
        """The operand and its terms. In float32, and in other systems' forms, B is whole at its
        operand's scale: of narrow codes with an addend (a norm, or pixels to be normalised), and in
        float32 of sums too, the operand is first multiplied by up to 2^15, exactly."""
        (part,) = value.parts
        t = self.builder.tensors[part.tensor]
        a, terms = self.arithmetic, self.terms(value, grid)
        fine = a.product == "exact" and a.forms == "own"
        if fine or not any(value.addend) or t.type.bits > (24 if self.runtime else 9):
            return part, terms
        moved = [
            abs(term.addend / term.ratios[0])
            for term in terms
            if term.ratios[0] and constant_code(term, grid.zero, ends, a) is None
        ]
        most = max(moved, default=Fraction(0)) + max(map(abs, part.zero))
        if t.type.bits > 9:
            most += max(abs(t.lo), abs(t.hi))
        spare = 30 - floor(most).bit_length()
        shift = max(0, min(15, spare))
        name = self.unique(f"{part.tensor}.finer")
        op = ops.Requant(
            output=name, origin=node.name, input=part.tensor,
            multiplier=self.table(f"{name}.M", [1 << shift + a.shift_range[0]]),
            bias=self.table(f"{name}.B", [0]), shift=(a.shift_range[0],),
            lo=t.type.lo << shift, hi=t.type.hi << shift,
        )  # fmt: skip
        self.builder.add(op, IntType(t.type.bits + shift, t.type.signed))
        part = replace(
            part, tensor=name, zero=tuple(z << shift for z in part.zero),
            gain=tuple(g / (1 << shift) for g in part.gain),
        )  # fmt: skip
        return part, self.terms(replace(value, parts=(part,)), grid)

    def added(self, value: Real, grid: Grid, node: Node, name: str) -> ops.Add:
        """Two tensors at the result's scale, rounded once."""
        if not self.on_codes(self.maker(node.inputs[0])):
            self.note(node, "a sum of floats")
        a, b = value.parts
        tensors = [self.builder.tensors[part.tensor] for part in value.parts]
        term = Term(
            (self.ratio(a, 0, grid), self.ratio(b, 0, grid)),
            (a.zero[0], b.zero[0]),
            tuple(max(abs(t.lo), abs(t.hi)) for t in tensors),
            value.addend[0] / Fraction(float(grid.scale)),
        )
        spans = [self.spans[part.tensor] for part in value.parts]
        term = without_constants(term, spans, self.arithmetic)
        found = scaling([term], grid.zero, self.arithmetic, node.name or node.outputs[0])
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

    # --- sums and scalings of reals ---

    def sum(self, node: Node, a: Any, b: Any, sign: int) -> Real:
        """a + b or a - b of two quantised tensors."""
        first, other = self.floats(a), self.floats(b)
        type = self.on_codes.type_of(node)
        linear = node.kind == "QLinearAdd" or (type is not None and not self.on_codes.moved(node))
        if first is not None and other is not None and not linear:
            both = first.plus(other, sign)
            if both is not None and type is not None:
                both = replace(both, settled=partial(rounded_sum, type, *both.pairs()))
            if both is not None:
                return tabulated(both)
        for x in (a, b):
            if (
                not isinstance(x, Real)
                or x.function is not None
                or len(x.parts) != 1
                or max(map(len, (x.parts[0].weights, x.parts[0].gain, x.addend))) > 1
                or len(set(x.parts[0].zero)) > 1
            ):
                raise node.refuse(
                    "its operands must be quantised before they are added; put QuantizeLinear and"
                    " DequantizeLinear behind each."
                )
        one, two = (
            real_of(self.plain(x, node)) if x.lo is not None or x.hi is not None else x
            for x in (a, b)
        )
        second = two.parts[0]
        second = replace(second, gain=(second.gain[0] * sign,))
        return Real((one.parts[0], second), (one.addend[0] + sign * two.addend[0],))

    def affine(
        self, node: Node, real: Any, gain: Any, addend: Any, floats: Floats | None = None
    ) -> Real:
        """real * gain + addend, one value for each channel or one for all; `floats` are the
        result's."""
        channels = self.shape(node, real)[0]
        gains, addends = (self.per_channel(node, v, channels) for v in (gain, addend))
        if not isinstance(real, Real):
            raise node.refuse(
                "its input must be quantised; put QuantizeLinear and DequantizeLinear in front."
            )
        if floats is not None and (not real.parts or real.lo is not None or real.hi is not None):
            return tabulated(floats)
        if real.function is not None and len(gains) == len(addends) == 1:
            values = real.function * float(gains[0]) + float(addends[0])
            return replace(real, function=values)
        if real.function is not None or real.lo is not None or real.hi is not None:
            real = real_of(self.plain(real, node))
        several = len(gains) > 1 or len(addends) > 1
        if not real.parts or (len(real.parts) > 1 and several):
            raise node.refuse(
                "its input must be quantised; put QuantizeLinear and DequantizeLinear in front."
            )
        parts = tuple(replace(p, gain=times(p.gain, gains)) for p in real.parts)
        shifted = [
            a + b for a, b in zip(*same_length(times(real.addend, gains), addends), strict=True)
        ]
        return Real(parts, tuple(shifted), floats=floats)

    def per_channel(self, node: Node, value: Any, channels: int) -> tuple[Fraction, ...]:
        """A constant that is one value, or one for each channel."""
        array = self.finite(node, value, "its constant").reshape(-1)
        if array.size not in (1, channels):
            raise node.refuse("its constant must have one value, or one for each channel.")
        return tuple(Fraction(float(v)) for v in array)

    def spread(self, node: Node, value: Any, index: int) -> Array:
        """A constant beside an activation, the node's input `index`, as ONNX repeats it: one value,
        or (C,)."""
        view, array = (1, *self.view(node, index)[1:]), np.asarray(value)
        if array.size == 1 and array.ndim <= len(view):
            return array.reshape(1)
        lines = (1,) * (len(view) - array.ndim) + array.shape
        if len(lines) == len(view) and all(n in (1, m) for n, m in zip(lines, view, strict=True)):
            channels, height, width = self.shape(node, self.value(node, node.inputs[index]))
            wide = np.broadcast_to(array.reshape(lines), view).reshape(channels, height * width)
            if (wide == wide[:, :1]).all():
                return wide[:, 0]
        raise node.refuse(
            "its constant must have one value, or one for each channel, and no more dimensions than"
            f" {' x '.join(map(str, view))}; write it as 1 x C x 1 x 1."
        )


def tabulated(floats: Floats) -> Real:
    """A value that is a table of codes."""
    if len(floats.codes) > 1:
        return Real((), floats=floats)
    return Real((), codes=floats.codes[0], function=floats.reals, floats=floats)


def same_length(*values: Sequence[Any]) -> list[list[Any]]:
    """The shorter ones repeated."""
    n = max(map(len, values))
    return [[v[i % len(v)] for i in range(n)] for v in values]


def times(a: Sequence[Fraction], b: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """Products, channel by channel."""
    return tuple(x * y for x, y in zip(*same_length(a, b), strict=True))
