"""A .tflite file as values: tensors with their quantisation, operators with their options.

The flatbuffer is read by the classes that Google generates of the schema and ships in the
`ai-edge-litert` wheel. Nothing in a file is executed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from intaglio.errors import ModelError
from intaglio.exchange.from_tflite.magic import MAGIC
from intaglio.fixed import IntType

Array = NDArray[Any]
LARGEST = 1 << 16  # of a side
MOST = 1 << 30  # values of a tensor
TYPES = {
    schema.TensorType.INT4: IntType(4, True),
    schema.TensorType.INT8: IntType(8, True),
    schema.TensorType.UINT8: IntType(8, False),
    schema.TensorType.INT16: IntType(16, True),
    schema.TensorType.INT32: IntType(32, True),
    schema.TensorType.INT64: IntType(63, True),
}
STORED = {
    schema.TensorType.INT8: np.int8,
    schema.TensorType.UINT8: np.uint8,
    schema.TensorType.INT16: np.int16,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.BOOL: np.bool_,
}
CODES = {"INT8": np.int8, "UINT8": np.uint8, "INT16": np.int16}  # of activations
NAMES = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
KINDS = {
    value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)
}
# What the generated classes raise on bytes that are no flatbuffer of theirs.
DAMAGE = (struct.error, IndexError, TypeError, ValueError, AttributeError, KeyError, MemoryError,
          OverflowError, RecursionError)  # fmt: skip


@dataclass(frozen=True)
class Flat:
    """A tensor: `shape` as the file has it, `data` where it is constant; one scale and zero point,
    or one for each entry along `axis`."""

    index: int
    name: str
    shape: tuple[int, ...]
    kind: str
    type: IntType | None
    scales: tuple[float, ...]
    zeros: tuple[int, ...]
    axis: int
    data: Array | None

    @property
    def scale(self) -> float:
        """Of all its values."""
        return self.scales[0]

    @property
    def zero(self) -> int:
        """Of all its values."""
        return self.zeros[0]


@dataclass(frozen=True)
class Operator:
    """One operator; an input that is left out is -1."""

    path: Path
    kind: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any
    code: int
    options_kind: int

    @property
    def name(self) -> str:
        """As refusals name it."""
        return f"{self.kind} of tensor {self.outputs[0] if self.outputs else '-'}"

    def refuse(self, text: str) -> ModelError:
        """A refusal that names the file and the operator."""
        return ModelError(f"{self.path}: {self.name}: {text}")


@dataclass(frozen=True)
class File:
    """The main subgraph of a file."""

    path: Path
    content: bytes
    tensors: tuple[Flat, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read(path: Path) -> File:
    """The file's one graph. Raises ModelError for a damaged file, or one of several graphs."""
    if not path.is_file():
        raise ModelError(f"{path} must be an existing .tflite file.")
    content = path.read_bytes()
    if content[4:8] != MAGIC:
        raise damaged(path)
    try:
        model = schema.Model.GetRootAs(content, 0)
        count = model.SubgraphsLength()
        if count == 1:
            return graph_of(path, content, model)
    except DAMAGE as error:
        raise damaged(path) from error
    raise ModelError(f"{path} must have one graph, not {count}; convert the model without loops.")


def damaged(path: Path) -> ModelError:
    """The one sentence for every kind of damage."""
    return ModelError(f"{path} must be a whole .tflite file, not a damaged or truncated one.")


def graph_of(path: Path, content: bytes, model: Any) -> File:
    """The main graph's values."""
    graph = model.Subgraphs(0)
    tensors = tuple(
        flat_of(graph.Tensors(n), n, model, content) for n in range(graph.TensorsLength())
    )
    codes = [model.OperatorCodes(n) for n in range(model.OperatorCodesLength())]
    operators = []
    for n in range(graph.OperatorsLength()):
        operator = graph.Operators(n)
        code = codes[operator.OpcodeIndex()]
        builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        kind = KINDS[builtin]
        if kind == "CUSTOM":
            kind = (code.CustomCode() or b"").decode("utf-8", "replace") or kind
        inputs, outputs = (
            tuple(int(i) for i in found)
            for found in (
                listed(operator.InputsAsNumpy()),
                listed(operator.OutputsAsNumpy()),
            )
        )
        made = schema.OperatorT.InitFromObj(operator)
        found = (kind, code.Version(), inputs, outputs)
        more = (made.builtinOptions, builtin, made.builtinOptionsType)
        operators.append(Operator(path, *found, *more))
    ends = (
        tuple(int(i) for i in listed(found))
        for found in (graph.InputsAsNumpy(), graph.OutputsAsNumpy())
    )
    file = File(path, content, tensors, tuple(operators), *ends)
    check_numbers(file)
    return file


def listed(found: Any) -> Sequence[int]:
    """A vector of numbers; the generated classes answer 0 for one that is left out."""
    return () if isinstance(found, int) else found.tolist()


def check_numbers(file: File) -> None:
    """Every number of a tensor must be that of one. Raises IndexError."""
    used = {*file.inputs, *file.outputs}
    for operator in file.operators:
        used |= {*operator.inputs, *operator.outputs} - {-1}
    if any(not 0 <= n < len(file.tensors) for n in used):
        raise IndexError("a tensor that is not there")


def flat_of(tensor: Any, index: int, model: Any, content: bytes) -> Flat:
    """One tensor."""
    shape, kind = tuple(listed(tensor.ShapeAsNumpy())), tensor.Type()
    if any(side < 0 for side in shape) or prod(shape) > MOST:
        raise ValueError("a shape that no tensor has")
    quantised = tensor.Quantization()
    scales: Sequence[float] = ()
    zeros: Sequence[int] = ()
    axis = 0
    if quantised is not None and quantised.ScaleLength():
        scales = [float(s) for s in listed(quantised.ScaleAsNumpy())]
        zeros = [int(z) for z in listed(quantised.ZeroPointAsNumpy())] or [0]
        axis = quantised.QuantizedDimension()
        if not all(np.isfinite(s) and s > 0 for s in scales) or len(zeros) not in (1, len(scales)):
            raise ValueError("scales that no codes have")
        type = TYPES.get(kind)
        if type is not None and not type.holds(min(zeros), max(zeros)):
            raise ValueError("zero points that are no codes")
        if len(scales) > 1 and not (0 <= axis < len(shape) and shape[axis] == len(scales)):
            # Older converters left it 0 for depthwise layers, and some runtimes never read it.
            axes = [k for k, side in enumerate(shape) if side == len(scales)]
            if len(axes) != 1:
                raise ValueError("scales along no axis")
            (axis,) = axes
    return Flat(
        index,
        (tensor.Name() or b"").decode("utf-8", "replace"),
        shape,
        NAMES[kind],
        TYPES.get(kind),
        tuple(scales),
        tuple(np.resize(zeros, len(scales)).tolist()) if scales else (),
        axis,
        data_of(model, tensor.Buffer(), kind, shape, content),
    )


def data_of(
    model: Any, number: int, kind: int, shape: tuple[int, ...], content: bytes
) -> Array | None:
    """A constant's values; None where nothing is stored."""
    buffer = model.Buffers(number)
    if buffer.DataLength():
        raw = buffer.DataAsNumpy()
    elif buffer.Offset() > 1:  # of files above 2 GiB, behind the flatbuffer
        raw = np.frombuffer(content, np.uint8, buffer.Size(), buffer.Offset())
    else:
        return None
    if kind == schema.TensorType.INT4:
        pairs = np.stack([raw & 15, raw >> 4], axis=-1).reshape(-1)[: prod(shape)]
        return ((pairs.astype(np.int64) + 8) % 16 - 8).reshape(shape)
    if kind not in STORED:
        return None
    found: Array = np.frombuffer(raw.tobytes(), STORED[kind])
    return found.reshape(shape)
