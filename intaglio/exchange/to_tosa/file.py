"""A TOSA 1.0 graph as it grows, and the flatbuffer made of it.

Field numbers, operator numbers and types are those of the public schema (tosa.fbs). Tensors are in
TOSA's order (N, H, W, C). Operators take constants as operands; `Graph` writes them once a name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flatbuffers import Builder
from numpy.typing import NDArray

Array = NDArray[Any]
Dims = tuple[int, ...]

VERSION = (1, 0, 0)
DTYPES = {np.dtype(np.int8): 3, np.dtype(np.int16): 4, np.dtype(np.int32): 5}
INT32 = DTYPES[np.dtype(np.int32)]
NEAREST, BILINEAR = 1, 2  # ResizeMode
SINGLE_ROUND, DOUBLE_ROUND = 1, 3  # RoundingMode

# Operator: (its number, which is its attribute's too; fields of the attribute in order).
OPERATORS: dict[str, tuple[int, tuple[str, ...]]] = {
    "AVG_POOL2D": (2, ("kernel", "stride", "pad", "acc_type")),
    "CONV2D": (3, ("pad", "stride", "dilation", "local_bound", "acc_type")),
    "DEPTHWISE_CONV2D": (5, ("pad", "stride", "dilation", "local_bound", "acc_type")),
    "MAX_POOL2D": (8, ("kernel", "stride", "pad", "nan_mode")),
    "CLAMP": (11, ("min_val", "max_val", "nan_mode")),
    "ADD": (15, ()),
    "ARITHMETIC_RIGHT_SHIFT": (16, ("round",)),
    "LOGICAL_LEFT_SHIFT": (22, ()),
    "MAXIMUM": (26, ("nan_mode",)),
    "MINIMUM": (27, ("nan_mode",)),
    "MUL": (28, ()),
    "SUB": (30, ()),
    "TABLE": (31, ()),
    "CONCAT": (55, ("axis",)),
    "PAD": (56, ()),
    "RESHAPE": (57, ()),
    "SLICE": (59, ()),
    "TRANSPOSE": (61, ("perms",)),
    "GATHER": (62, ()),
    "RESIZE": (64, ("mode",)),
    "CAST": (65, ()),
    "RESCALE": (
        66,
        ("scale32", "rounding_mode", "per_channel", "input_unsigned", "output_unsigned"),
    ),
    "CONST": (67, ()),
    "IDENTITY": (68, ()),
    "CONST_SHAPE": (75, ()),
}


@dataclass(frozen=True)
class Edge:
    """A tensor of the graph; `data` is little-endian, and None unless it is a constant."""

    dtype: np.dtype[Any]
    shape: Dims
    data: bytes | None = None


@dataclass(frozen=True)
class Node:
    """An operator with a single result."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any]


class Graph:
    """Operators in order, tensors and constant shapes by name."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.edges: dict[str, Edge] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.inputs: list[str] = []
        self.outputs: list[str] = []

    def input(self, name: str, dtype: Any, shape: Sequence[int]) -> str:
        """A tensor that is fed."""
        self.edges[name] = Edge(np.dtype(dtype), tuple(shape))
        self.inputs.append(name)
        return name

    def constant(self, name: str, values: Any, dtype: Any) -> str:
        """An array; the same name twice is the same array."""
        if name not in self.edges:
            array = np.asarray(values, dtype=dtype)
            little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            self.edges[name] = Edge(array.dtype, array.shape, little.tobytes())
            self.nodes.append(Node("CONST", (), name, {}))
        return name

    def shape(self, values: Sequence[int]) -> str:
        """A constant shape, by its values."""
        name = f"shape/{'x'.join(map(str, values))}"
        if name not in self.shapes:
            self.shapes[name] = tuple(int(v) for v in values)
            self.nodes.append(Node("CONST_SHAPE", (), name, {}))
        return name

    def add(
        self,
        kind: str,
        inputs: Sequence[str],
        output: str,
        dtype: Any,
        shape: Sequence[int],
        **attributes: Any,
    ) -> str:
        """Append an operator named after its only result, and return that."""
        self.edges[output] = Edge(np.dtype(dtype), tuple(int(n) for n in shape))
        self.nodes.append(Node(kind, tuple(inputs), output, attributes))
        return output

    def serialised(self) -> bytes:
        """The whole file: one region of one block, as every TOSA reader expects."""
        b = Builder(1 << 16)
        nodes = vector(b, [operator(b, node) for node in self.nodes])
        edges = vector(b, [tensor(b, name, edge) for name, edge in self.edges.items()])
        shapes = vector(b, [constant_shape(b, name, v) for name, v in self.shapes.items()])
        inputs, outputs = names(b, self.inputs), names(b, self.outputs)
        main = b.CreateString("main")
        block = table(b, [main, nodes, edges, inputs, outputs, shapes])
        region = table(b, [main, vector(b, [block])])
        regions = vector(b, [region])
        version = table(b, [*map(int32, VERSION), boolean(False, default=True)])
        b.Finish(table(b, [version, regions]), b"TOSA")
        return bytes(b.Output())


# --- flatbuffer tables: each field is an offset, or a function that writes a scalar into a slot ---

Field = int | Callable[[Builder, int], None] | None


def table(b: Builder, fields: Sequence[Field]) -> int:
    """A table with these fields in its slots; None leaves one at its default."""
    b.StartObject(len(fields))
    for slot, field in enumerate(fields):
        if callable(field):
            field(b, slot)
        elif field is not None:
            b.PrependUOffsetTRelativeSlot(slot, field, 0)
    return int(b.EndObject())


def int32(value: int) -> Callable[[Builder, int], None]:
    """A signed or unsigned 32-bit field, written even where it is the default."""
    return lambda b, slot: b.PrependInt32Slot(slot, value, None)


def boolean(value: bool, default: bool = False) -> Callable[[Builder, int], None]:
    """A bool."""
    return lambda b, slot: b.PrependBoolSlot(slot, value, default)


def byte(value: int) -> Callable[[Builder, int], None]:
    """The type of a union."""
    return lambda b, slot: b.PrependUint8Slot(slot, value, 0)


def vector(b: Builder, offsets: Sequence[int]) -> int:
    """Tables or strings."""
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())


def names(b: Builder, values: Sequence[str]) -> int:
    """Strings."""
    return vector(b, [b.CreateString(v) for v in values])


def ints(b: Builder, values: Sequence[int]) -> int:
    """int32 values."""
    b.StartVector(4, len(values), 4)
    for value in reversed(values):
        b.PrependInt32(int(value))
    return int(b.EndVector())


def raw(b: Builder, data: bytes) -> int:
    """Bytes aligned to 8, as the schema asks."""
    b.StartVector(1, len(data), 8)
    b.head -= len(data)
    b.Bytes[b.head : b.head + len(data)] = data
    return int(b.EndVector())


def operator(b: Builder, node: Node) -> int:
    """One operator with its attribute."""
    number, order = OPERATORS[node.kind]
    unknown = set(node.attributes) - set(order)
    if unknown:
        raise TypeError(f"{node.kind} has no attribute {sorted(unknown)[0]!r}.")
    attribute = table(b, [attribute_field(b, node.attributes.get(name)) for name in order])
    inputs, outputs = names(b, node.inputs), names(b, (node.output,))
    return table(b, [int32(number), byte(number), attribute, inputs, outputs])


def attribute_field(b: Builder, value: Any) -> Field:
    """A field of an attribute by the kind of its value."""
    if value is None:
        return None
    if isinstance(value, bool):
        return boolean(value)
    if isinstance(value, bytes):
        return raw(b, value)
    if isinstance(value, tuple):
        return ints(b, value)
    return int32(value)


def tensor(b: Builder, name: str, edge: Edge) -> int:
    """One tensor, with its data where it is a constant."""
    data = None if edge.data is None else raw(b, edge.data)
    return table(b, [b.CreateString(name), ints(b, edge.shape), int32(DTYPES[edge.dtype]), data])


def constant_shape(b: Builder, name: str, values: Sequence[int]) -> int:
    """One constant shape, int64 values."""
    data = raw(b, np.array(values, "<i8").tobytes())
    return table(b, [b.CreateString(name), int32(len(values)), data])
