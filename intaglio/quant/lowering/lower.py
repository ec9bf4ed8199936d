"""A simplified `FloatGraph` and its scales to a Program, with every integer derived exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from intaglio import forms, ops
from intaglio.channels.constants import without_constants
from intaglio.channels.losses import Loss, with_losses
from intaglio.channels.spans import Spans
from intaglio.channels.tables import tables
from intaglio.fixed import Arithmetic
from intaglio.multiplier import Term, exact, scaling
from intaglio.program import Builder, Program
from intaglio.quant.capture.graph import (
    Add,
    Choose,
    Concat,
    Conv,
    FloatGraph,
    Image,
    Interpolate,
    Lookup,
    MaxPool,
    Mean,
    Multiply,
    Node,
    Pad,
    Scaled,
    SumPool,
    Upsample,
)
from intaglio.quant.ranges.grids import Grid
from intaglio.quant.ranges.scales import Scales


def lower(
    graph: FloatGraph, scales: Scales, arithmetic: Arithmetic, meta: Mapping[str, Any]
) -> Program:
    """The verified Program. Tensors keep the graph's names; the sum before a requantisation is
    called `name.acc`.

    Raises ModelError where `arithmetic` cannot express a layer.
    """
    lowering = Lowering(graph, scales, arithmetic)
    for node in graph.nodes:
        lowering.add(node)
    for name, tensor in graph.outputs.items():
        origin = graph.producer[tensor].origin
        lowering.builder.add(ops.Output(output=name, origin=origin, input=tensor))
    return lowering.builder.build(with_losses(meta, lowering.losses))


class Lowering:
    """The Program as it grows."""

    def __init__(self, graph: FloatGraph, scales: Scales, arithmetic: Arithmetic) -> None:
        self.graph = graph
        self.scales = scales
        self.arithmetic = arithmetic
        self.builder = Builder(arithmetic)
        self.spans = Spans(self.builder)
        self.losses: list[Loss] = []

    def add(self, node: Node) -> None:
        """One node."""
        grid = self.scales.grids[node.output]
        output = node.output
        names: dict[str, Any] = {"output": output, "origin": node.origin}
        match node:
            case Image():
                op: ops.Op = ops.Input(**names, shape=node.shape, type=grid.type)
            case SumPool() if self.averages(node, grid):
                self.average(node, grid)
                return
            case Multiply() if self.gates(node):
                self.gate(node, grid)
                return
            case Interpolate() if self.resizes(node, grid):
                forms.tflite_interpolation(
                    self.builder,
                    output,
                    node.input,
                    node.shape[1:],
                    bool(node.aligned),
                    not node.aligned,
                    node.origin,
                )
                return
            case Scaled():
                op = self.requant(node, self.linear(node), grid)
            case Add() if self.sums(node, grid):
                self.sum_in_their_form(node, grid)
                return
            case Add():
                op = self.sum(node, grid)
            case Lookup():
                op = self.lookup(node, grid)
            case MaxPool():
                op = ops.MaxPool2d(
                    **names,
                    input=node.input,
                    kernel=node.kernel,
                    stride=node.stride,
                    dilation=node.dilation,
                    padding=node.padding,
                )
            case Upsample():
                op = ops.Upsample(**names, input=node.input, size=node.shape[1:])
            case Pad():
                value = grid.code(node.value)
                op = ops.Pad(**names, input=node.input, padding=node.padding, value=value)
            case Concat():
                op = ops.Concat(**names, parts=node.parts)
            case Choose():
                op = replace(node.op, **names, input=node.input)
                if isinstance(op, ops.Select) and -1 in op.channels:
                    op = replace(op, value=grid.code(node.value))
            case _:
                raise TypeError(f"{type(node).__name__} must be lowered here.")
        self.builder.add(op, grid.type, grid.scale, (grid.zero_point,))

    def linear(self, node: Scaled) -> str:
        """The exact integer part, whose result's name is returned."""
        zero_point = self.scales.grids[node.input].zero_point
        output = f"{node.output}.acc"
        match node:
            case Conv():
                codes = self.scales.weights[node.weight]
                if node.weight not in self.builder.constants:
                    self.builder.constant(node.weight, codes.codes, codes.type, odd=codes.odd)
                outside: tuple[int, ...] = (zero_point,)
                if node.pad_value is not None:
                    outside = tuple(int(v) for v in node.pad_value)
                return self.builder.add(
                    ops.Conv2d(
                        output=output,
                        origin=node.origin,
                        input=node.input,
                        weight=node.weight,
                        stride=node.stride,
                        dilation=node.dilation,
                        padding=node.padding,
                        groups=node.groups,
                        pad_value=outside,
                    )
                )
            case SumPool():
                return self.builder.add(self.pool(node))
            case Multiply():
                gate = self.scales.grids[node.gate]
                return self.builder.add(
                    ops.Multiply(
                        output=output,
                        origin=node.origin,
                        a=node.input,
                        b=node.gate,
                        zero_a=zero_point,
                        zero_b=gate.zero_point,
                    )
                )
            case Interpolate():
                op = ops.Interpolate(
                    output=output, origin=node.origin, input=node.input, rows=node.rows,
                    columns=node.columns,
                )  # fmt: skip
                return self.builder.add(op)
        return node.input

    def pool(self, node: SumPool) -> ops.SumPool2d:
        """The exact sum of a window."""
        return ops.SumPool2d(
            output=f"{node.output}.acc",
            origin=node.origin,
            input=node.input,
            kernel=node.kernel,
            stride=node.stride,
            padding=node.padding,
            pad_value=self.scales.grids[node.input].zero_point,
        )

    def averages(self, node: SumPool, grid: Grid) -> bool:
        """Whether the average has the form of `arithmetic.forms`: on one grid."""
        n = node.kernel[0] * node.kernel[1]
        match self.arithmetic.forms:
            case "tflite":
                fits = forms.tflite_divides(self.builder.tensors[node.input], n)
            case "tosa":
                fits = True
            case _:
                fits = False
        return fits and node.averages and self.scales.grids[node.input] == grid

    def resizes(self, node: Interpolate, grid: Grid) -> bool:
        """Whether a resize has TFLite's form: on one grid, by in / out or with aligned corners."""
        plain = node.averages and node.aligned is not None
        return self.arithmetic.forms == "tflite" and plain and self.scales.grids[node.input] == grid

    def average(self, node: SumPool, grid: Grid) -> None:
        """The sum of a window over its size, in another system's form."""
        if self.arithmetic.forms == "tflite":
            forms.tflite_average(self.builder, node.output, self.pool(node))
        else:
            zero = grid.zero_point
            forms.tosa_average(self.builder, node.output, self.pool(node), zero, zero)

    def gates(self, node: Multiply) -> bool:
        """Whether a product is onnxruntime's, by one factor above 0 and no summand."""
        types = [self.scales.grids[name].type for name in (*node.inputs, node.output)]
        plain = not node.shift.any() and 0 < node.scale[0] == node.scale.min() == node.scale.max()
        return self.arithmetic.product == "single" and plain and max(t.bits for t in types) <= 8

    def gate(self, node: Multiply, grid: Grid) -> None:
        """The product, and its rounding in onnxruntime's form."""
        ratio = self.ratio(self.scales.grids[node.gate].scale, node, 0, grid)
        forms.onnxruntime_gate(
            self.builder, node.output, self.linear(node), np.float32(float(ratio)),
            forms.Real(grid.scale, grid.zero_point), grid.code(node.lo), grid.code(node.hi),
            node.origin, grid.type,
        )  # fmt: skip

    def sums(self, node: Add, grid: Grid) -> bool:
        """Whether the sum has the form of `arithmetic.forms`: of codes of at most 8 bits."""
        types = [self.scales.grids[name].type for name in (*node.inputs, node.output)]
        narrow = max(t.bits for t in types) <= 8
        low, high = forms.XNNPACK_RATIOS
        near = self.arithmetic.forms == "tflite" or low <= max(self.ratios(node, grid)) < high
        return self.arithmetic.forms != "own" and node.sums and narrow and near

    def ratios(self, node: Add, grid: Grid) -> list[float]:
        """The factors of both operands, in codes of the result."""
        a, b = (self.scales.grids[name] for name in node.inputs)
        return [node.alpha * a.scale / grid.scale, node.beta * b.scale / grid.scale]

    def sum_in_their_form(self, node: Add, grid: Grid) -> None:
        """Both operands and the result in another system's form."""
        a, b = (self.scales.grids[name] for name in node.inputs)
        reals = (
            forms.Real(node.alpha * a.scale, a.zero_point),
            forms.Real(node.beta * b.scale, b.zero_point),
            forms.Real(grid.scale, grid.zero_point),
        )
        add = forms.gemmlowp_add if self.arithmetic.forms == "tflite" else forms.xnnpack_add
        ends = (grid.code(node.lo), grid.code(node.hi))
        add(self.builder, node.output, node.a, node.b, reals, *ends, node.origin, grid.type)

    def terms(self, node: Scaled, acc: ops.Tensor, grid: Grid) -> list[Term]:
        """What each channel's requantisation computes, in rational numbers."""
        x = self.scales.grids[node.input]
        channels = node.shape[0]
        weight_scales: Sequence[float] = [1.0] * channels
        sums = [1] * channels
        if isinstance(node, Conv):
            codes = self.scales.weights[node.weight]
            weight_scales = codes.scale.tolist()
            sums = codes.codes.sum(axis=(1, 2, 3)).tolist()
        elif isinstance(node, Mean):
            sums = [node.count] * channels
        elif isinstance(node, Multiply):  # whose zero points are taken off before
            sums = [0] * channels
            weight_scales = [self.scales.grids[node.gate].scale] * channels
        y, span = Fraction(grid.scale), self.spans[acc.name]
        reach = (max(abs(acc.lo), abs(acc.hi)),)
        return [
            Term(
                (self.ratio(weight_scales[c], node, c, grid),),
                (x.zero_point * sums[c],),
                reach,
                exact(node.shift[c]) / y,
                (int(span.lo[c]), int(span.hi[c])),
            )
            for c in range(channels)
        ]

    def ratio(self, weight_scale: float, node: Scaled, channel: int, grid: Grid) -> Fraction:
        """sx * sw / sy of a channel, exactly; in TFLite's form as it computes it, in double, of the
        float32 scales that its files hold (`adjust.biases`), and of products in float32."""
        x, scale = self.scales.grids[node.input], float(node.scale[channel])
        if self.arithmetic.forms == "tflite" and isinstance(node, Multiply) and scale == 1:
            return Fraction(forms.tflite_product(x.scale, weight_scale, grid.scale))
        if self.arithmetic.forms == "tflite" and not isinstance(node, Mean):
            one = float(np.float32(weight_scale * scale))
            return Fraction(x.scale * one / grid.scale)
        return exact(weight_scale, x.scale, scale) / Fraction(grid.scale)

    def requant(self, node: Scaled, acc: str, grid: Grid) -> ops.Requant:
        """Requant of `acc` by tables: one value where all channels agree."""
        name, layer = node.output, node.origin or node.output
        ends = (grid.code(node.lo), grid.code(node.hi))
        terms = self.terms(node, self.builder.tensors[acc], grid)
        found = tables(terms, grid.zero_point, ends, self.arithmetic, layer)
        self.losses += found.losses
        return ops.Requant(
            output=name,
            origin=node.origin,
            input=acc,
            lo=ends[0],
            hi=ends[1],
            **found.of_requant(self.builder, name),
        )

    def sum(self, node: Add, grid: Grid) -> ops.Add:
        """Both operands at the result's scale, rounded once."""
        a, b = (self.scales.grids[name] for name in node.inputs)
        y = Fraction(grid.scale)
        reach = [self.builder.tensors[name] for name in node.inputs]
        term = Term(
            (exact(node.alpha, a.scale) / y, exact(node.beta, b.scale) / y),
            (a.zero_point, b.zero_point),
            tuple(max(abs(t.lo), abs(t.hi)) for t in reach),
            exact(node.shift) / y,
        )
        arithmetic = self.arithmetic
        term = without_constants(term, [self.spans[name] for name in node.inputs], arithmetic)
        if arithmetic.forms != "own":  # both products are int32 there
            bits = min(forms.XNNPACK_BITS, 30 - max(t.type.bits for t in reach))
            arithmetic = replace(arithmetic, multiplier_bits=bits)
        found = scaling([term], grid.zero_point, arithmetic, node.origin or node.output)
        return ops.Add(
            output=node.output,
            origin=node.origin,
            a=node.a,
            b=node.b,
            lo=grid.code(node.lo),
            hi=grid.code(node.hi),
            **found.of_sum(),
        )

    def lookup(self, node: Lookup, grid: Grid) -> ops.Lookup:
        """The function of every code that the operand's type has, or each channel's."""
        x = self.scales.grids[node.input]
        codes = torch.arange(x.type.lo, x.type.hi + 1, dtype=torch.float64)
        table = grid.codes(torch.nan_to_num(node.tables(x.real(codes)))).numpy()
        table = table[0] if table.ndim > 1 and (table == table[0]).all() else table
        name = self.builder.constant(f"{node.output}.table", table.astype(np.int64), grid.type)
        return ops.Lookup(output=node.output, origin=node.origin, input=node.input, table=name)
