"""`Program`: operations in order, named tensors, named constants, and one arithmetic profile.

A Program is a value. `Builder` makes one step by step, inferring every shape and proved range;
`verify` re-derives them; `to_text` prints it; `file.py` stores it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from intaglio.errors import ProgramError
from intaglio.fixed import Arithmetic, IntType
from intaglio.multiplier import short
from intaglio.ops import (
    SIDE,
    Add,
    Constant,
    Context,
    Conv2d,
    Input,
    Ints,
    Lookup,
    Multiply,
    Op,
    Output,
    Requant,
    SumPool2d,
)
from intaglio.ops import Tensor as Tensor
from intaglio.system.html import cards, folded, snippet, table

VALUES = 1 << 31  # of one image's tensor: more is a damaged file
SCALE = 1e18  # with which every code is a number of float32

SomeOp = TypeVar("SomeOp", bound=Op)


@dataclass(frozen=True)
class Kernel:
    """Weights (Cout, Cin / groups, Kh, Kw) of a sum of products, and a name for them."""

    name: str
    array: Ints
    groups: int


def shaped(tensor: Tensor) -> str:
    """3x96x96."""
    return "x".join(map(str, tensor.shape))


@dataclass(frozen=True)
class Program:
    """An integer-only network.

    ops        in an order in which every tensor is made before it is read.
    tensors    every edge by name.
    constants  arrays by name; operations that name the same constant share it.
    meta       JSON values for people and decoders (head description, quantisation record);
               no operation reads them.
    """

    ops: tuple[Op, ...]
    tensors: Mapping[str, Tensor]
    constants: Mapping[str, Constant]
    arithmetic: Arithmetic = field(default_factory=Arithmetic)
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Program {self.in_words()}>"

    def _repr_html_(self) -> str:
        return snippet("Program", cards(self.facts()), folded("operations", self.as_table()))

    def in_words(self) -> str:
        """Inputs, outputs, operations and work, in a few words."""
        ends = [", ".join(f"{shaped(t)} {t.type}" for t in side[:2]) + f" and {len(side) - 2} more"
                * (len(side) > 2) for side in (self.inputs, self.outputs)]  # fmt: skip
        work = f"{sum(self.macs().values()) / 1e6:.2f} MMAC"
        return f"{' -> '.join(ends)}; {len(self.ops)} operations, {work}, {self.arithmetic.name}"

    def facts(self) -> dict[str, str]:
        """Figures that people ask for first."""
        return {
            "inputs": ", ".join(f"{t.name} {shaped(t)} {t.type}" for t in self.inputs),
            "outputs": str(len(self.outputs)),
            "operations": str(len(self.ops)),
            "MMAC an image": f"{sum(self.macs().values()) / 1e6:.2f}",
            "arithmetic": self.arithmetic.name,
        }

    def as_table(self) -> str:
        """Every operation as a row of HTML."""
        rows = []
        for op in self.ops:
            t = self.tensors[op.output]
            rows.append((t.name, type(op).__name__, shaped(t), str(t.type), op.origin or "-"))
        return table(("tensor", "operation", "shape", "type", "from"), rows)

    @property
    def context(self) -> Context:
        """What operations may look at besides their inputs."""
        return Context(self.constants, self.arithmetic)

    @cached_property
    def inputs(self) -> tuple[Tensor, ...]:
        """Input tensors in order."""
        return tuple(self.tensors[op.output] for op in self.ops if isinstance(op, Input))

    @cached_property
    def outputs(self) -> tuple[Tensor, ...]:
        """Output tensors in order."""
        return tuple(self.tensors[op.output] for op in self.ops if isinstance(op, Output))

    @cached_property
    def producer(self) -> dict[str, Op]:
        """The operation that makes each tensor."""
        return {op.output: op for op in self.ops}

    @cached_property
    def consumers(self) -> dict[str, tuple[Op, ...]]:
        """The operations that read each tensor, in order."""
        found: dict[str, list[Op]] = {name: [] for name in self.tensors}
        for op in self.ops:
            for name in op.inputs:
                found[name].append(op)
        return {name: tuple(ops) for name, ops in found.items()}

    def of_kind(self, kind: type[SomeOp]) -> tuple[SomeOp, ...]:
        """All operations of one class, in order."""
        return tuple(op for op in self.ops if isinstance(op, kind))

    def verify(self) -> Program:
        """Check the graph and re-derive every shape and range; returns self.

        Raises ProgramError naming the operation.
        """
        made: set[str] = set()
        for op in self.ops:
            for name in op.inputs:
                if name not in made:
                    raise op.refuse(f"input {name!r} must be made before it is read.")
            for name in op.constants:
                if name not in self.constants:
                    raise op.refuse(f"constant {name!r} must be part of the Program.")
            if op.output in made:
                raise op.refuse("a tensor must be made only once.")
            if op.output not in self.tensors:
                raise op.refuse("its output must be one of the Program's tensors.")
            self._verify_edge(op)
            made.add(op.output)
        if made != set(self.tensors):
            extra = sorted(set(self.tensors) - made)[0]
            raise ProgramError(f"Tensor {extra!r} must be made by an operation.")
        if len(self.inputs) != 1 or not self.outputs:
            raise ProgramError(
                f"A Program must have one Input and at least one Output, not {len(self.inputs)}"
                f" and {len(self.outputs)}."
            )
        for constant in self.constants.values():
            check_constant(constant)
        return self

    def _verify_edge(self, op: Op) -> None:
        tensor = self.tensors[op.output]
        inferred = op.infer([self.tensors[n] for n in op.inputs], self.context)
        if (tensor.shape, tensor.lo, tensor.hi) != inferred:
            raise op.refuse(
                f"its output must be {inferred[0]} in [{inferred[1]}, {inferred[2]}], not"
                f" {tensor.shape} in [{tensor.lo}, {tensor.hi}]."
            )
        if not tensor.type.holds(tensor.lo, tensor.hi):
            raise op.refuse(f"{tensor.type} must hold [{tensor.lo}, {tensor.hi}].")
        if not all(1 <= n <= SIDE for n in tensor.shape) or math.prod(tensor.shape) > VALUES:
            raise op.refuse(
                f"its output must have 1 to {SIDE} channels, rows and columns and at most {VALUES}"
                f" values, not {tensor.shape}."
            )
        if not 0 < tensor.scale <= SCALE:
            raise op.refuse(f"its scale must be above 0 and at most {SCALE}, not {tensor.scale}.")
        if len(tensor.zero_point) not in (1, tensor.shape[0]):
            raise op.refuse(f"zero_point must have 1 or {tensor.shape[0]} entries.")

    def proved_accumulator(self, op: Conv2d) -> tuple[Ints, Ints]:
        """[lo, hi] per output channel that the exact accumulator cannot leave."""
        return op.channel_ranges(self.tensors[op.input], self.constants[op.weight].array)

    def macs(self) -> dict[str, int]:
        """Multiply-accumulates per image of each Conv2d, by output name."""
        found = {}
        for op in self.of_kind(Conv2d):
            _, h, w = self.tensors[op.output].shape
            found[op.output] = self.constants[op.weight].array.size * h * w
        return found

    def kernel(self, op: Conv2d | SumPool2d) -> Kernel:
        """The weights of a convolution; those of a sum are ones, every channel its own group."""
        if isinstance(op, Conv2d):
            return Kernel(op.weight, self.constants[op.weight].array, op.groups)
        channels = self.tensors[op.input].shape[0]
        ones = np.ones((channels, 1, *op.kernel), dtype=np.int64)
        return Kernel(f"ones/{'x'.join(map(str, ones.shape))}", ones, channels)

    def digest(self) -> str:
        """SHA-256 of everything the integers depend on: text form, fields and constants."""
        sha = hashlib.sha256(f"{self.to_text()}{self.ops}{self.arithmetic}".encode())
        for name in sorted(self.constants):
            array = np.ascontiguousarray(self.constants[name].array, dtype="<i8")
            sha.update(name.encode() + repr(array.shape).encode() + array.tobytes())
        return sha.hexdigest()

    def to_text(self) -> str:
        """One line per operation, with types, shapes, ranges and constants by name."""
        a = self.arithmetic
        lines = [f"program {a.name} rounding={a.rounding} acc={a.acc_bits or 'proved'}"]
        for op in self.ops:
            t = self.tensors[op.output]
            shape = "x".join(map(str, t.shape))
            lines.append(f"{t.name}: {t.type}[{shape}] in [{t.lo}, {t.hi}] = {op_text(op)}")
        for name in sorted(self.constants):
            c = self.constants[name]
            shape = "x".join(map(str, c.array.shape))
            lines.append(f"const {name}: {c.type}[{shape}]{' odd' if c.odd else ''}")
        return "\n".join(lines) + "\n"


def op_text(op: Op) -> str:
    """`Conv2d(x, weight=w0, stride=(2, 2), ...)`: fields that differ from their defaults."""
    parts = list(op.inputs)
    for f in fields(op):
        value = getattr(op, f.name)
        if f.name in ("output", "input", "a", "b", "parts") or value == f.default:
            continue
        if isinstance(value, tuple) and len(value) > 8:
            value = f"({value[0]}, ..., {value[-1]})"
        parts.append(f"{f.name}={value}")
    return f"{type(op).__name__}({', '.join(parts)})"


def check_constant(constant: Constant) -> None:
    """Every value must be of the constant's type, and odd where the constant is declared so."""
    array = constant.array
    if array.dtype != np.int64:
        raise ProgramError(f"Constant {constant.name!r} must be int64, not {array.dtype}.")
    if array.size and not constant.type.holds(int(array.min()), int(array.max())):
        raise ProgramError(
            f"Constant {constant.name!r} must fit into {constant.type}, not"
            f" [{array.min()}, {array.max()}]."
        )
    if constant.odd and not (constant.type.signed and constant.type.bits > 1):
        raise ProgramError(
            f"Constant {constant.name!r} must be of a signed type of 2 bits or more, not"
            f" {constant.type}; odd values have both signs."
        )
    even = array[array % 2 == 0] if constant.odd else array[:0]
    if even.size:
        raise ProgramError(
            f"Constant {constant.name!r} must hold odd values only, not {even.flat[0]}; or do not"
            " declare it odd."
        )


class Builder:
    """Grows a Program; every `add` infers shape and range and checks the types."""

    def __init__(self, arithmetic: Arithmetic | None = None) -> None:
        self.arithmetic = arithmetic or Arithmetic()
        self.ops: list[Op] = []
        self.tensors: dict[str, Tensor] = {}
        self.constants: dict[str, Constant] = {}

    def constant(
        self, name: str, values: Any, type: IntType | None = None, *, odd: bool = False
    ) -> str:
        """Store an integer array under a name; without a type, the narrowest that holds it.

        `odd` declares weights that are all odd, for storage at `Constant.code_bits`.
        """
        array = np.ascontiguousarray(values, dtype=np.int64)
        if name in self.constants:
            raise ProgramError(f"Constant {name!r} must be defined only once.")
        lo, hi = (int(array.min()), int(array.max())) if array.size else (0, 0)
        if odd:
            lo, hi = min(lo, -1), max(hi, 1)
        constant = Constant(name, array, type or IntType.spanning(lo, hi), odd)
        check_constant(constant)
        self.constants[name] = constant
        return name

    def table(self, name: str, values: Sequence[int]) -> str:
        """Store one value for each channel; a single one where all are equal."""
        return self.constant(name, np.array(short(values), dtype=np.int64))

    def add(
        self,
        op: Op,
        type: IntType | None = None,
        scale: float | None = None,
        zero_point: Iterable[int] | None = None,
    ) -> str:
        """Append `op` and return its output's name.

        Without `type`: the input's for operations that pass codes on, a signed type as wide as
        proved for accumulators, else the narrowest. Scale and zero point default to the input's.
        """
        inputs = [self.tensors[n] for n in op.inputs]
        shape, lo, hi = op.infer(inputs, Context(self.constants, self.arithmetic))
        tensor = Tensor(op.output, shape, type or self._type(op, inputs, lo, hi), lo, hi)
        if inputs and not isinstance(op, (Conv2d, Requant, Add, Multiply, Lookup)):
            x = inputs[0]
            tensor = replace(tensor, scale=op.step(x.scale), zero_point=op.zeros(x.zero_point))
        if scale is not None:
            tensor = replace(tensor, scale=scale)
        if zero_point is not None:
            tensor = replace(tensor, zero_point=tuple(zero_point))
        if op.output in self.tensors:
            raise op.refuse("a tensor must be made only once.")
        if not tensor.type.holds(lo, hi):
            raise op.refuse(f"{tensor.type} must hold [{lo}, {hi}].")
        self.tensors[op.output] = tensor
        self.ops.append(op)
        return op.output

    def _type(self, op: Op, inputs: list[Tensor], lo: int, hi: int) -> IntType:
        if isinstance(op, Input):
            return op.type
        if isinstance(op, (Requant, Add, Lookup)):
            return IntType.spanning(lo, hi)
        if inputs and inputs[0].type.holds(lo, hi) and not isinstance(op, (Conv2d, Multiply)):
            return inputs[0].type
        return IntType.accumulating(lo, hi)

    def build(self, meta: Mapping[str, Any] | None = None) -> Program:
        """The verified Program."""
        program = Program(
            tuple(self.ops), dict(self.tensors), dict(self.constants), self.arithmetic, meta or {}
        )
        return program.verify()
