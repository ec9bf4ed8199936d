"""A Program as a TFLite file: the same integers in LiteRT's reference kernels, or no file.

What TFLite cannot say to the bit is refused by name, with what to change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from intaglio.errors import ProgramError
from intaglio.exchange.from_tflite.resizing import nearest_places
from intaglio.exchange.to_tflite.file import AUTHOR, Type
from intaglio.exchange.to_tflite.functions import CODES, Asked, own
from intaglio.exchange.to_tflite.layers import I8
from intaglio.exchange.to_tflite.pieces import REMEDY, Array, Edge, Walk, weighted
from intaglio.exchange.to_tflite.resizing import Resizing
from intaglio.fixed import ROUNDINGS
from intaglio.forms import PRE_SHIFT, Real, gemmlowp_table, quantized_multiplier
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
    Requant,
    Select,
    SpaceToDepth,
    SumPool2d,
    Upsample,
    rounding_of,
)
from intaglio.ops.choosing import is_upsampled
from intaglio.program import Program


@dataclass(frozen=True)
class Written:
    """The file's content, the kinds of its operators, and of each output of the Program the tensor
    that has its codes."""

    content: bytes
    kinds: tuple[str, ...]
    outputs: dict[str, int]


def to_tflite(program: Program, *, four: bool = False) -> Written:
    """The file, whose tensors have the Program's names; `four`: weights of at most 4 bits are
    stored as int4.

    Raises ProgramError, naming the operation and a remedy, for what TFLite cannot say exactly.
    """
    arithmetic = program.arithmetic
    if arithmetic.rounding != "DOUBLE" or arithmetic.acc_bits is not None:
        raise ProgramError(
            "A Program must have TFLite's arithmetic to become a .tflite file, not"
            f" {arithmetic.name}; {REMEDY}."
        )
    writer = Writer(program, four)
    writer.settle()
    for op in program.ops:
        writer.write(op)
    content = writer.graph.serialised(AUTHOR + program.digest())
    return Written(content, tuple(writer.graph.kinds), writer.outputs)


class Writer(Resizing):
    """One method for each operation; `graph` holds what was written."""

    def __init__(self, program: Program, four: bool) -> None:
        super().__init__(program, four)
        self.outputs: dict[str, int] = {}
        self.functions: dict[str, tuple[str, Any] | None] = {}

    def write(self, op: Op) -> None:
        """Append one operation. Sums and products are written with the Requant that reads them,
        tables of a TFLite sum with that."""
        match op:
            case Input():
                self.input(op)
            case Output():
                self.output(op)
            case Conv2d() | SumPool2d() | Multiply():
                pass
            case Requant():
                self.requant(op)
            case Lookup():
                if not self.part_of_sum(op):
                    self.function(op)
            case Add():
                self.addition(op)
            case MaxPool2d():
                self.largest(op)
            case Upsample():
                self.upsample(op)
            case Concat():
                self.concat(op)
            case Pad():
                x = self.source(op, op.input)
                self.border(x, op.padding, op.value, self.made(op).number)
            case Select():
                self.select(op)
            case Crop():
                self.crop(op)
            case Interpolate():
                if op.unit == 1:
                    self.picked(op)
            case SpaceToDepth():
                self.to_depth(op)
            case DepthToSpace():
                self.to_space(op)
            case _:
                raise op.refuse(
                    "a .tflite file has no such operation yet; export it as .onnx or .tosa."
                )

    # --- edges ---

    def input(self, op: Input) -> None:
        """The image, of the Program's own codes; QUANTIZE brings unsigned ones to int8."""
        y, type = self.made(op), op.type
        if not y.less:
            self.graph.inputs = [y.number]
            return
        self.graph.inputs = [self.outer(y, f"{op.output}:codes", type.signed)]
        self.graph.add("QUANTIZE", self.graph.inputs, y.number, schema.QuantizeOptionsT())

    def outer(self, edge: Edge, name: str, signed: bool) -> int:
        """A tensor of the Program's own codes."""
        kind = Type.INT8 if signed or edge.less < 0 else Type.UINT8
        shape = self.graph.shape(edge.number)
        return self.graph.tensor(name, shape, kind, Real(edge.real.scale, edge.zero))

    def output(self, op: Output) -> None:
        """A result, of the Program's own codes."""
        x = self.source(op, op.input)
        number = x.number
        if x.less:
            number = self.outer(x, op.output, self.program.tensors[op.input].type.signed)
            self.graph.add("QUANTIZE", [x.number], number, schema.QuantizeOptionsT())
        if number not in self.graph.outputs:
            self.graph.outputs.append(number)
        self.outputs[op.output] = number

    # --- scaling ---

    def requant(self, op: Requant) -> None:
        source = self.program.producer[op.input]
        if isinstance(source, Conv2d):
            self.convolution(op, source)
        elif isinstance(source, SumPool2d):
            self.averaged(op, source)
        elif isinstance(source, Multiply):
            self.multiplied(op, source)
        elif isinstance(source, Interpolate) and source.unit > 1:
            self.interpolated(op, source)
        elif op.output in self.functions:
            self.function(op)
        else:
            self.check_rounding(op, rounding_of(op, self.program.arithmetic))
            x = self.source(op, op.input)
            ones = np.ones((self.graph.shape(x.number)[3], 1, 1, 1), np.int64)
            self.weighted(op, x, ones, len(ones), Walk((1, 1)), I8)

    def addition(self, op: Add) -> None:
        """ADD, or SUB, of the operands of two tables that are those of TFLite's sum."""
        tables = [self.program.producer[name] for name in op.inputs]
        words = f"its operands must be added as TFLite adds codes of at most 8 bits; {REMEDY}."
        if not all(isinstance(t, Lookup) for t in tables):
            raise op.refuse(words)
        parts = [self.source(op, t.inputs[0]) for t in tables]
        y = self.made(op)
        twice = 2 * max(x.real.scale for x in parts)
        for table, x in zip(tables, parts, strict=True):
            type = self.program.tensors[table.inputs[0]].type
            wanted = gemmlowp_table(type, Real(x.real.scale, x.zero), twice)
            if not np.array_equal(self.program.constants[table.constants[0]].array, wanted):
                raise op.refuse(words)
        m, shift = quantized_multiplier(twice / ((1 << PRE_SHIFT) * y.real.scale))
        factors = (op.multiplier_a, abs(op.multiplier_b), op.bias, op.shift)
        if factors != (m, m, 0, shift):
            raise op.refuse(words)
        minus = op.multiplier_b < 0
        options = schema.SubOptionsT() if minus else schema.AddOptionsT()
        options.fusedActivationFunction, behind = self.clamped(y, op.lo, op.hi)
        self.add("SUB" if minus else "ADD", [x.number for x in parts], y, options, behind)

    # --- functions of one code ---

    def settle(self) -> None:
        """Ask LiteRT which operators the Program's tables are."""
        asked: dict[str, Asked | None] = {}
        for op in self.program.ops:
            if isinstance(op, (Lookup, Requant)) and op.output in self.grids:
                table = self.table(op)
                if table is not None and op.input in self.grids:
                    asked[op.output] = self.asked(op, table)
        found = iter(own([a for a in asked.values() if a is not None]))
        for name, function in asked.items():
            self.functions[name] = None if function is None else next(found)

    def table(self, op: Lookup | Requant) -> Array | None:
        """The code that an operation makes of each code of its operand's type, (codes,) or
        (C, codes); None where it is no such function, or part of a sum."""
        type = self.program.tensors[op.input].type
        if isinstance(op, Lookup):
            return None if self.part_of_sum(op) else self.program.constants[op.table].array
        source = self.program.producer[op.input]
        reads_sums = isinstance(source, (Conv2d, SumPool2d, Multiply)) or (
            isinstance(source, Interpolate) and source.unit > 1
        )
        if reads_sums or weighted(op, self.program):
            return None
        m, b, s = self.rows(op)[0]
        codes = np.arange(type.lo, type.hi + 1, dtype=np.int64)
        rounding = ROUNDINGS[rounding_of(op, self.program.arithmetic)]
        found: Array = np.clip(rounding(codes * m + b, s) + op.offset, op.lo, op.hi)
        return found

    def asked(self, op: Lookup | Requant, table: Array) -> Asked | None:
        """The function in the file's codes; None where it differs between channels."""
        if table.ndim > 1:
            return None
        t, (x, less), (y, more) = (
            self.program.tensors[op.input], self.grids[op.input], self.grids[op.output],
        )  # fmt: skip
        place = np.clip(CODES + less - t.type.lo, 0, len(table) - 1)
        return Asked(table[place] - more, t.lo - less, t.hi - less, x, y)

    def part_of_sum(self, op: Lookup) -> bool:
        """Whether only sums read it."""
        readers = self.program.consumers[op.output]
        return bool(readers) and all(isinstance(reader, Add) for reader in readers)

    def function(self, op: Lookup | Requant) -> None:
        """The operator whose kernel makes the table, or the table itself: GATHER."""
        x, y, table = self.source(op, op.input), self.made(op), self.table(op)
        known = self.functions.get(op.output)
        if known is not None:
            self.add(known[0], [x.number], y, known[1])
            return
        assert table is not None
        graph, shape = self.graph, self.graph.shape(x.number)
        lo, rows = self.program.tensors[op.input].type.lo, table.reshape(-1, table.shape[-1])
        cast = schema.CastOptionsT()
        cast.inDataType, cast.outDataType = Type.INT8, Type.INT32
        wide = graph.tensor(f"{op.output}:wide", shape, Type.INT32)
        graph.add("CAST", [x.number], wide, cast)
        start = x.less - lo + np.arange(len(rows)) * rows.shape[1]
        index = graph.tensor(f"{op.output}:index", shape, Type.INT32)
        graph.add("ADD", [wide, graph.ints("start", start)], index, schema.AddOptionsT())
        values, options = (rows - y.less).astype(np.int8).reshape(-1), schema.GatherOptionsT()
        entries = graph.constant("table", values, Type.INT8, [y.real.scale], zero=y.real.zero)
        graph.add("GATHER", [entries, index], y.number, options)

    # --- no arithmetic ---

    def largest(self, op: MaxPool2d) -> None:
        if op.dilation != (1, 1):
            raise op.refuse("its window must not be dilated in TFLite; use a dense max pool.")
        x, y = self.source(op, op.input), self.made(op)
        least = x.less + I8.lo
        walk = Walk(op.kernel, op.stride, op.dilation, op.padding, (least,))
        self.pool("MAX_POOL_2D", op, x, y, walk, least, x.less + I8.hi, least)

    def upsample(self, op: Upsample) -> None:
        """RESIZE_NEAREST_NEIGHBOR, where its float32 finds the Program's places."""
        x, y = self.source(op, op.input), self.made(op)
        _, h, w, _ = self.graph.shape(x.number)
        for old, new in zip((h, w), op.size, strict=True):
            if not is_upsampled(nearest_places(old, new, aligned=False, half=False), old):
                raise op.refuse(
                    "its places must be those that float32 finds in TFLite; use a whole factor."
                )
        options = schema.ResizeNearestNeighborOptionsT()
        inputs = [x.number, self.graph.ints("size", op.size)]
        self.add("RESIZE_NEAREST_NEIGHBOR", inputs, y, options)

    def concat(self, op: Concat) -> None:
        parts, y = [self.source(op, name) for name in op.parts], self.made(op)
        if {(x.real, x.less) for x in parts} != {(y.real, y.less)}:
            raise op.refuse(f"its operands must have one scale and zero point in TFLite; {REMEDY}.")
        self.join([x.number for x in parts], y.number)
