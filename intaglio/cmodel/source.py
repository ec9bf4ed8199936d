"""A Program as a C file: its weights and tables as constant arrays, its operations in one list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from intaglio.cmodel.arithmetic import rounding
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
from intaglio.ops.interpolation import both
from intaglio.program import Program
from intaglio.sim.reference import narrowed, saturates

KINDS: dict[type[Op], str] = {
    kind: f"INTAGLIO_{kind.__name__.upper()}"
    for kind in (
        Input, Output, Conv2d, Requant, Add, MaxPool2d, SumPool2d, Upsample, Concat, Pad, Lookup,
        Select, Crop, SpaceToDepth, DepthToSpace, Multiply, Interpolate,
    )
}  # fmt: skip
NONE = "{0, 0}"
WIDTH = 100


class Source:
    """The text as it grows: arrays first, each once, then the list that refers to them."""

    def __init__(self, program: Program, name: str, heading: str) -> None:
        self.program = program
        self.name = name
        self.heading = heading
        self.numbers = {op.output: n for n, op in enumerate(program.ops)}
        self.arrays: list[str] = []
        self.known: dict[tuple[str, str], str] = {}

    def text(self) -> str:
        """The whole file."""
        program = self.program
        ops = ",\n".join(self.op(op) for op in program.ops)
        tensors = ",\n".join(self.tensor(op) for op in program.ops)
        single = int(program.arithmetic.product == "single")
        return (
            f'{self.heading}#include "intaglio_program.h"\n#include "{self.name}.h"\n\n'
            + "".join(self.arrays)
            + f"static const intaglio_tensor tensors[] = {{\n{tensors}}};\n\n"
            f"static const intaglio_op ops[] = {{\n{ops}}};\n\n"
            f"const intaglio_program {self.name}_program = {{\n"
            f"  {string(program.digest())},\n"
            f"  {single}, {len(program.ops)}, tensors, ops}};\n\n"
            f"intaglio *{self.name}_open(void) {{ return intaglio_open(&{self.name}_program); }}\n"
        )

    def tensor(self, op: Op) -> str:
        """A row of the tensors."""
        t = self.program.tensors[op.output]
        names = ", ".join(string(text) for text in (t.name, op.origin, type(op).__name__))
        numbers = (*t.shape, t.type.bits, int(t.type.signed))
        ends = f"{integer(t.lo)}, {integer(t.hi)}"
        return f"  {{{names}, {', '.join(map(str, numbers))}, {ends}}}"

    def op(self, op: Op) -> str:
        """A row of the operations: the fields of intaglio_op in order."""
        inputs = [self.numbers[name] for name in op.inputs]
        read = self.array("int", inputs, "reads") if inputs else "0"
        fields = [KINDS[type(op)], read, str(len(inputs)), window(self.program, op),
                  self.kernel(op), self.outside(op), *self.scaling(op)]  # fmt: skip
        table = self.codes(op)
        number, name = self.numbers[op.output], string(op.output).replace("*/", "* /")
        return f"  /* {number} {name} */\n  {{{', '.join([*fields, table])}}}"

    def kernel(self, op: Op) -> str:
        """Weights and accumulator of a convolution."""
        if not isinstance(op, Conv2d):
            return "{0, 0, 0, INTAGLIO_EXACT, 0}"
        forced, arithmetic = narrowed(op, self.program), self.program.arithmetic
        overflow = "EXACT" if forced is None else "WRAP"
        if forced is not None and arithmetic.overflow == "saturate":
            overflow = "SATURATE_MAC" if saturates(arithmetic, "mac") else "SATURATE_END"
        weight = self.program.constants[op.weight].array.transpose(0, 2, 3, 1).ravel().tolist()
        thin = overflow != "SATURATE_MAC" and fits_narrow(op, self.program)
        array = self.array("int16_t" if thin else "int64_t", weight, "weights")
        places = f"{array}, 0" if thin else f"0, {array}"
        bits = 0 if forced is None else forced.bits
        return f"{{{places}, {op.groups}, INTAGLIO_{overflow}, {bits}}}"

    def outside(self, op: Op) -> str:
        """What is read outside the image; the zero points of a product."""
        if isinstance(op, Conv2d):
            return self.table(op.pad_value)
        if isinstance(op, SumPool2d):
            return self.table([op.pad_value])
        if isinstance(op, Multiply):
            return self.table([op.zero_a, op.zero_b])
        return self.table([op.value]) if isinstance(op, (Pad, Select)) else NONE

    def codes(self, op: Op) -> str:
        """Those of a Lookup, and the channels of a Select."""
        if isinstance(op, Lookup):
            return self.table(self.program.constants[op.table].array.ravel().tolist())
        return self.table(op.channels) if isinstance(op, Select) else NONE

    def scaling(self, op: Op) -> list[str]:
        """M, B, S, offset, clamp and rounding; places and weights of an Interpolate as M and B."""
        if isinstance(op, Interpolate):
            _, *sides = self.program.tensors[op.input].shape
            taps = (both(t, side) for t, side in zip((op.rows, op.columns), sides, strict=True))
            rows, columns = (self.table(t.ravel().tolist()) for t in taps)
            return [rows, columns, NONE, "0", "0", "0", "0"]
        if isinstance(op, Requant):
            m, b = (
                self.program.constants[name].array.ravel().tolist()
                for name in (op.multiplier, op.bias)
            )
            tables = [self.table(values) for values in (m, b, op.shift)]
        elif isinstance(op, Add):
            m = [op.multiplier_a, op.multiplier_b]
            tables = [self.table(values) for values in (m, [op.bias], [op.shift])]
        else:
            return [NONE, NONE, NONE, "0", "0", "0", "0"]
        name = rounding_of(op, self.program.arithmetic)
        ends = map(integer, (op.offset, op.lo, op.hi))
        return [*tables, *ends, f"{rounding(name)} /* {name} */"]

    def table(self, values: Sequence[int]) -> str:
        """An intaglio_table."""
        return f"{{{self.array('int64_t', values, 'table')}, {len(values)}}}"

    def array(self, kind: str, values: Iterable[int], stem: str) -> str:
        """The name of a constant array, which is written once however often it is read."""
        body = wrapped(map(str if kind != "int64_t" else integer, values))
        if (kind, body) not in self.known:
            name = f"{stem}{len(self.known)}"
            self.known[kind, body] = name
            self.arrays.append(f"static const {kind} {name}[] = {{\n{body}}};\n\n")
        return self.known[kind, body]


def window(program: Program, op: Op) -> str:
    """An intaglio_window: how a window slides, the border of a Pad, what a Crop leaves out before
    its first row and column, or a block."""
    match op:
        case Conv2d():
            kernel = program.constants[op.weight].array.shape[2:]
            parts: tuple[Sequence[int], ...] = (kernel, op.stride, op.dilation, op.padding)
        case MaxPool2d() | SumPool2d():
            parts = (op.kernel, op.stride, op.dilation, op.padding)
        case Pad():
            parts = ((1, 1), (1, 1), (1, 1), op.padding)
        case Crop():
            (top, _, sy), (left, _, sx) = op.rows, op.columns
            parts = ((1, 1), (sy, sx), (1, 1), (top, 0, left, 0))
        case SpaceToDepth() | DepthToSpace():
            parts = (op.block, op.block, (1, 1), (0, 0, 0, 0))
        case _:
            parts = ((0, 0), (0, 0), (0, 0), (0, 0, 0, 0))
    return "{" + ", ".join("{" + ", ".join(map(str, part)) + "}" for part in parts) + "}"


def fits_narrow(op: Conv2d, program: Program) -> bool:
    """Whether codes and weights fit int16_t, and every partial sum, in any order, int32_t."""
    x, weight = program.tensors[op.input], program.constants[op.weight].array
    low, high = program.proved_accumulator(op)
    small = (x.lo, x.hi, *op.pad_value, int(weight.min()), int(weight.max()))
    return within(np.int16, small) and within(np.int32, (int(low.min()), int(high.max())))


def within(kind: type[np.signedinteger], values: Iterable[int]) -> bool:
    """Whether a C type holds these values."""
    limits = np.iinfo(kind)
    return all(limits.min <= value <= limits.max for value in values)


def integer(value: int) -> str:
    """A 64-bit constant: the smallest int64_t has no literal of its own."""
    return str(value) if abs(value) < 1 << 31 else f"INT64_C({value})"


def string(text: str) -> str:
    """A C string, in octal where it is not plain ASCII."""
    return '"' + "".join(letter(byte) for byte in text.encode()) + '"'


def letter(byte: int) -> str:
    """A byte within a C string; no ?, of which two begin a trigraph."""
    plain = 32 <= byte < 127 and chr(byte) not in '"\\?'
    return chr(byte) if plain else f"\\{byte:03o}"


def wrapped(words: Iterable[str]) -> str:
    """Words in lines, with commas."""
    lines, line = [], " "
    for word in words:
        if len(line) + len(word) + 2 > WIDTH:
            lines.append(line)
            line = " "
        line += f" {word},"
    return "\n".join([*lines, line])
