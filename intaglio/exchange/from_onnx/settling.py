"""How a real value settles on codes, and sums and scalings of real values."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import partial
from math import floor
from typing import Any

import numpy as np

from intaglio import ops
from intaglio.channels.constants import constant_code, without_constants
from intaglio.channels.tables import tables
from intaglio.errors import ProgramError
from intaglio.exchange.from_onnx.door import admit
from intaglio.exchange.from_onnx.known import Known
from intaglio.exchange.from_onnx.linear import rounded_sum
from intaglio.exchange.from_onnx.on_codes import SUMS
from intaglio.exchange.from_onnx.onnx_file import Array, Node
from intaglio.exchange.from_onnx.values import (
    MOST_ENTRIES,
    Codes,
    Floats,
    Grid,
    Joined,
    Part,
    Real,
    real_of,
    same_length,
    tabulated,
    times,
)
from intaglio.fixed import IntType
from intaglio.multiplier import Term, scaling
from intaglio.multiplier import exact as product

WIDE = IntType(16, True)  # of values that a file does not quantise
MOVED = ("MaxPool", "Resize", "Upsample")  # their results are values of their inputs


class Settling(Known):
    """What turns values into operations of the Program."""

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
        grid = self.common(real) or self.behind(node)
        if grid is not None:
            return self.settle(real, grid, node)
        if self.quantised and node.kind not in SUMS:
            return self.ranged(real, node)
        raise node.refuse(
            "its input must be quantised; quantise what feeds it, with QuantizeLinear and"
            " DequantizeLinear or Quant in between."
        )

    @staticmethod
    def common(value: Any) -> Grid | None:
        """The one grid of codes that lie side by side."""
        if not isinstance(value, Joined):
            return None
        plain = [p for p in value.parts if p.codes and p.function is None and p.lo is p.hi is None]
        grids = {p.codes.grid for p in plain if p.codes}
        return grids.pop() if len(plain) == len(value.parts) and len(grids) == 1 else None

    def behind(self, node: Node) -> Grid | None:
        """The grid of the quantiser that alone reads what a node moves: as it keeps the order of
        values, it may as well come before."""
        while node.kind in MOVED and node.attributes.get("mode", b"nearest") == b"nearest":
            name = node.outputs[0]
            readers = self.on_codes.readers.get(name, [])
            if len(readers) != 1 or name in self.file.outputs:
                return None
            node = readers[0]
        if node.kind != "QuantizeLinear":
            return None
        admit(node, self.file.opsets)
        return self.grid(node, node.inputs[1:])

    def ranged(self, value: Any, node: Node) -> Codes:
        """Codes of 16 bits of a value that the file does not quantise where the Program must, with
        a scale that holds every value that can come."""
        if id(value) in self.wide:
            return self.wide[id(value)][1]
        reach = self.reach(value)
        if not np.isfinite(reach):
            raise node.refuse("its values must be finite; quantise its result.")
        step = np.float32(reach / WIDE.hi)
        grid = Grid(WIDE, step if step > 0 else np.float32(1), 0)
        codes = self.settle(value, grid, node, f"{node.outputs[0]}.wide")
        self.wide_names.append(node.outputs[0])
        self.wide[id(value)] = value, codes
        self.note(node, "no code in the file, of 16 bits here")
        return codes

    def reach(self, value: Any) -> float:
        """The largest magnitude that a value can have, by the ranges of what it is made of."""
        if isinstance(value, Joined):
            return max(self.reach(part) for part in value.parts)
        if (table := self.floats(value)) is not None:
            return float(np.nanmax(np.abs(table.reals)))
        if value.function is not None:
            return float(np.nanmax(np.abs(value.function)))
        ends = np.array([float(v) for v in value.addend])[None]
        for part in value.parts:
            span = self.spans[part.tensor]
            factor = [float(part.scale) * float(w) for w in part.weights]
            gain = [float(g) for g in part.gain]
            channels = max(len(span.lo), len(factor), len(gain), len(part.zero))
            lines = (np.resize(np.asarray(v, np.float64), channels) for v in (factor, gain))
            unit, zero = np.prod(list(lines), axis=0), np.resize(np.array(part.zero), channels)
            both = np.stack([unit * (np.resize(v, channels) - zero) for v in span])
            ends = ends + np.stack([both.min(axis=0), both.max(axis=0)])
        low, high = (None if v is None else float(v) for v in (value.lo, value.hi))
        if low is not None or high is not None:
            ends = np.clip(ends, low, high)
        return float(np.abs(ends).max())

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

    # --- settling ---

    def settle(self, value: Any, grid: Grid, node: Node, name: str = "") -> Codes:
        """Codes on `grid` of a value, made by one operation."""
        if isinstance(value, Real) and value.phases is not None:
            return self.spread_out(value, grid, node, name or node.outputs[0])
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

    def spread_out(self, value: Real, grid: Grid, node: Node, name: str) -> Codes:
        """Codes of a transposed convolution, put in their places."""
        behind = value.phases.behind if value.phases else ()
        first = f"{name}.phases" if behind else name
        codes = self.settle(replace(value, phases=None), grid, node, first)
        for n, op in enumerate(behind, 1):
            last = name if n == len(behind) else f"{name}.{n}"
            moved = replace(op, output=self.unique(last), input=codes.name, origin=node.name)
            made = self.builder.add(moved, grid.type, float(grid.scale), (grid.zero,))
            codes = Codes(made, grid)
        return codes

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
        if self.runtime:
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
        return ops.Requant(
            output=name,
            origin=node.name,
            input=part.tensor,
            lo=ends[0],
            hi=ends[1],
            **found.of_requant(self.builder, name),
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
            multiplier=self.builder.table(f"{name}.M", [1 << shift + a.shift_range[0]]),
            bias=self.builder.table(f"{name}.B", [0]), shift=(a.shift_range[0],),
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
            lo=grid.code(value.lo, grid.type.lo),
            hi=grid.code(value.hi, grid.type.hi),
            **found.of_sum(),
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
                or x.phases is not None
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
        if real.function is not None and real.codes is not None:
            gain, addend = (np.array([float(v) for v in line]) for line in (gains, addends))
            if len(gain) == len(addend) == 1:
                return replace(real, function=real.function * gain[0] + addend[0])
            if channels << real.codes.grid.type.bits <= MOST_ENTRIES:
                values = real.function * gain[:, None] + addend[:, None]
                return replace(real, function=values, floats=None)
        if real.function is not None or real.lo is not None or real.hi is not None:
            real = real_of(self.plain(real, node))
        several = len(gains) > 1 or len(addends) > 1
        if not real.parts or (len(real.parts) > 1 and several):
            raise node.refuse(
                "its input must be quantised; put QuantizeLinear and DequantizeLinear in front."
            )
        if real.phases is not None and several:
            gains, addends = (
                tuple(v[c % len(v)] for c in real.phases.repeated) for v in (gains, addends)
            )
        parts = tuple(replace(p, gain=times(p.gain, gains)) for p in real.parts)
        shifted = [
            a + b for a, b in zip(*same_length(times(real.addend, gains), addends), strict=True)
        ]
        return Real(parts, tuple(shifted), floats=floats, phases=real.phases)

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
