"""What every operator of the file is made of: held codes, borders, clamps.

Maps are (1, H, W, C) of int8. Codes q of a type rest as q - less, where less brings the type's
largest code to 127: so the kernels' own clamp to int8 is that of the type's upper end, of u8 as of
u4. A tensor's zero point in the file is that of the Program less the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from intaglio.exchange.from_tflite.building import same_padding
from intaglio.exchange.to_tflite.file import Graph, Type
from intaglio.exchange.to_tflite.scales import I8, activation, snapped
from intaglio.forms import Real
from intaglio.ops import (
    Add,
    Concat,
    Conv2d,
    Crop,
    DepthToSpace,
    Interpolate,
    MaxPool2d,
    Multiply,
    Op,
    Output,
    Pad,
    Padding,
    Pair,
    Requant,
    Select,
    SpaceToDepth,
    Upsample,
)
from intaglio.program import Program

Array = NDArray[Any]
PASSING = (
    MaxPool2d, Pad, Upsample, Concat, Output, Select, Crop, SpaceToDepth, DepthToSpace,
)  # fmt: skip
REMEDY = "quantise the model with --arithmetic tflite --output-bits 8"


@dataclass(frozen=True)
class Edge:
    """A tensor of the Program in the file: its number, what its codes there stand for, and what
    they are less than the Program's."""

    number: int
    real: Real
    less: int

    @property
    def zero(self) -> int:
        """Of the Program's codes."""
        return self.real.zero + self.less


@dataclass(frozen=True)
class Walk:
    """How a window goes over its operand: `outside` are codes, one or one for each channel."""

    kernel: Pair
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    outside: tuple[int, ...] = (0,)


class Pieces:
    """The file as it grows. Names with a colon are of its own making."""

    def __init__(self, program: Program, four: bool) -> None:
        self.program = program
        self.graph = Graph()
        self.four = four
        self.edges: dict[str, Edge] = {}
        self.grids = grids(program)

    def shape(self, name: str) -> tuple[int, int, int, int]:
        """(1, H, W, C) of a tensor of the Program."""
        c, h, w = self.program.tensors[name].shape
        return 1, h, w, c

    def source(self, op: Op, name: str) -> Edge:
        """The codes that an operation reads."""
        if name not in self.edges:
            raise op.refuse(f"its operand {name!r} must be codes in a .tflite file, not sums.")
        return self.edges[name]

    def made(self, op: Op) -> Edge:
        """The tensor of an operation."""
        t = self.program.tensors[op.output]
        if op.output not in self.grids:
            raise op.refuse(
                f"its codes must have at most 8 bits in a .tflite file, not {t.type}; {REMEDY}."
            )
        real, less = self.grids[op.output]
        if not I8.holds(real.zero, real.zero):
            raise op.refuse(
                f"its zero point must be a code of {t.type}, not {real.zero + less}; {REMEDY}."
            )
        number = self.graph.tensor(op.output, self.shape(op.output), Type.INT8, real)
        self.edges[op.output] = edge = Edge(number, real, less)
        return edge

    # --- borders ---

    def walked(self, op: Op, x: Edge, walk: Walk, own: int | None = None) -> tuple[int, int]:
        """The operand and SAME or VALID; its border is an operator of its own where TFLite would
        make another. `own`: what the operator itself takes for outside, by default the zero point;
        the Program's code else."""
        if not any(walk.padding):
            return x.number, schema.Padding.VALID
        _, h, w, _ = self.graph.shape(x.number)
        plain = set(walk.outside) == {x.zero if own is None else own}
        same = same_padding((h, w), walk.kernel, walk.stride, walk.dilation)
        if plain and same == walk.padding:
            return x.number, schema.Padding.SAME
        name = f"{op.output}:framed"
        return self.bordered(op, x, walk.padding, walk.outside, name), schema.Padding.VALID

    def bordered(self, op: Op, x: Edge, padding: Padding, outside: Sequence[int], name: str) -> int:
        """PAD by the zero point, PADV2 by another code; of one for each channel, channel by
        channel."""
        if len(set(outside)) > 1:
            return self.by_channel(op, x, padding, outside, name)
        _, h, w, c = self.graph.shape(x.number)
        top, bottom, left, right = padding
        made = self.graph.tensor(
            name, (1, h + top + bottom, w + left + right, c), Type.INT8, x.real
        )
        return self.border(x, padding, outside[0], made)

    def border(self, x: Edge, padding: Padding, value: int, made: int) -> int:
        """The operator of one value."""
        top, bottom, left, right = padding
        ends = self.graph.ints("pads", [[0, 0], [top, bottom], [left, right], [0, 0]])
        if value == x.zero:
            return self.graph.add("PAD", [x.number, ends], made, schema.PadOptionsT())
        inputs = [x.number, ends, self.code(x, value)]
        return self.graph.add("PADV2", inputs, made, schema.PadV2OptionsT())

    def code(self, x: Edge, value: int) -> int:
        """A constant of one of the Program's codes, on a tensor's grid."""
        held, real = np.array([value - x.less], np.int8), x.real
        return self.graph.constant("code", held, Type.INT8, [real.scale], zero=real.zero)

    def by_channel(
        self, op: Op, x: Edge, padding: Padding, outside: Sequence[int], name: str
    ) -> int:
        """A border that differs between channels."""
        graph, (_, h, w, c) = self.graph, self.graph.shape(x.number)
        parts = []
        for k in range(c):
            ends = [graph.ints("begin", [0, 0, 0, k]), graph.ints("size", [1, h, w, 1])]
            part = graph.tensor(f"{name}:{k}", (1, h, w, 1), Type.INT8, x.real)
            graph.add("SLICE", [x.number, *ends], part, schema.SliceOptionsT())
            edge = Edge(part, x.real, x.less)
            parts.append(self.bordered(op, edge, padding, outside[k : k + 1], f"{name}:{k}:framed"))
        _, tall, wide, _ = graph.shape(parts[0])
        made = graph.tensor(name, (1, tall, wide, c), Type.INT8, x.real)
        return self.join(parts, made)

    def join(self, parts: Sequence[int], made: int) -> int:
        """Channels one after the other."""
        options = schema.ConcatenationOptionsT()
        options.axis = 3
        return self.graph.add("CONCATENATION", parts, made, options)

    # --- clamps ---

    def clamped(self, y: Edge, lo: int, hi: int) -> tuple[int, list[tuple[str, int]]]:
        """The fused activation for [lo, hi] of the Program's codes, and operators behind it."""
        kind, low, high = activation(lo - y.less, hi - y.less, y.real)
        return kind, [("MAXIMUM", lo)] * low + [("MINIMUM", hi)] * high

    def add(
        self, kind: str, inputs: Sequence[int], y: Edge, options: Any,
        behind: Sequence[tuple[str, int]] = (),
    ) -> None:  # fmt: skip
        """An operator that makes `y`, with MAXIMUM and MINIMUM behind it."""
        graph, name = self.graph, self.graph.tensors[y.number].name
        steps = [(kind, list(inputs), options)]
        steps += [(more, [self.code(y, value)], schema.MaximumMinimumOptionsT())
                  for more, value in behind]  # fmt: skip
        x: list[int] = []
        for n, (step, operands, how) in enumerate(steps):
            last = n == len(steps) - 1
            made = y.number if last else graph.tensor(
                f"{name}:{step.lower()}", graph.shape(y.number), Type.INT8, y.real
            )  # fmt: skip
            x = [graph.add(step, [*x, *operands], made, how)]


def grids(program: Program) -> dict[str, tuple[Real, int]]:
    """What the codes of every tensor of at most 8 bits stand for in the file, and what they are
    less there than the Program's. What passes codes on keeps its operand's."""
    found: dict[str, tuple[Real, int]] = {}
    for op in program.ops:
        t = program.tensors[op.output]
        if isinstance(op, PASSING) or (isinstance(op, Interpolate) and op.unit == 1):
            if op.inputs[0] in found:
                found[op.output] = found[op.inputs[0]]
        elif t.type.bits <= 8:
            own = isinstance(op, Add) or weighted(op, program)
            zero = op.offset if own and isinstance(op, (Add, Requant)) else t.zero_point[0]
            less = t.type.hi - I8.hi
            found[op.output] = Real(snapped(t.scale), zero - less), less
    return found


def weighted(op: Op, program: Program) -> bool:
    """Whether a Requant is one of a convolution or a product, or of other factors for each
    channel."""
    if not isinstance(op, Requant):
        return False
    tables = [program.constants[name].array for name in op.constants]
    sums = isinstance(program.producer[op.input], (Conv2d, Multiply))
    return sums or not uniform(op.shift, *tables)


def uniform(*tables: Any) -> bool:
    """Whether each has one value for all channels."""
    return all(len(np.unique(table)) == 1 for table in tables)
