"""A .tflite file as it grows: tensors with their grids, constants, operators.

It is packed by the classes that Google generates of the schema, as the `ai-edge-litert` wheel ships
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from intaglio.exchange.from_tflite.flat import STORED
from intaglio.exchange.from_tflite.magic import MAGIC
from intaglio.forms import Real

Array = NDArray[Any]
Type = schema.TensorType
AUTHOR = "intaglio Program "  # begins the description of a file, its Program's digest follows
# Versions that an operator has for int8, where that is not 1, and for weights of 4 bits
# (TensorFlow, tensorflow/lite/tools/versioning/op_version.cc).
VERSIONS = {
    "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "ADD": 2, "SUB": 2,
    "AVERAGE_POOL_2D": 2, "MAX_POOL_2D": 2, "MEAN": 2, "PAD": 2, "PADV2": 2, "CONCATENATION": 2,
    "RESIZE_NEAREST_NEIGHBOR": 2, "LOGISTIC": 2, "TANH": 2, "LEAKY_RELU": 2, "QUANTIZE": 2,
    "RELU": 2, "RELU6": 2, "MAXIMUM": 2, "MINIMUM": 2, "SLICE": 2, "GATHER": 2, "STRIDED_SLICE": 2,
    "SPACE_TO_DEPTH": 2,
}  # fmt: skip
FOUR_BITS = {"CONV_2D": 7, "FULLY_CONNECTED": 10}
GROUPED = 6  # CONV_2D


class Graph:
    """The file's one graph; every tensor is known by its number."""

    def __init__(self) -> None:
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [schema.BufferT()]
        self.codes: dict[tuple[str, int], Any] = {}
        self.kinds: list[str] = []
        self.operators: list[Any] = []
        self.inputs: list[int] = []
        self.outputs: list[int] = []
        self.known: dict[tuple[Any, ...], int] = {}  # constants, each written once

    def tensor(self, name: str, shape: Sequence[int], kind: int, real: Real | None = None) -> int:
        """One that an operator makes, or the file's user."""
        made = schema.TensorT()
        made.name, made.shape, made.type = name, [int(n) for n in shape], kind
        made.quantization = schema.QuantizationParametersT()
        if real is not None:
            made.quantization.scale = [real.scale]
            made.quantization.zeroPoint = [real.zero]
        self.tensors.append(made)
        return len(self.tensors) - 1

    def constant(
        self, name: str, values: Array, kind: int, scales: Sequence[float] = (), axis: int = 0,
        zero: int = 0,
    ) -> int:  # fmt: skip
        """Values of a type; `scales` one, or one for each entry along `axis`."""
        data: Array = np.asarray(values)
        if kind == Type.INT4:
            flat = data.reshape(-1).astype(np.int64)
            pairs = np.pad(flat, (0, flat.size % 2)).reshape(-1, 2) & 15
            stored = (pairs[:, 0] | pairs[:, 1] << 4).astype(np.uint8).tobytes()
        else:
            stored = np.ascontiguousarray(data, STORED[kind]).tobytes()
        key = (stored, data.shape, kind, tuple(scales), axis, zero)
        if key not in self.known:
            number = self.tensor(name, data.shape, kind)
            quantised, buffer = self.tensors[number].quantization, schema.BufferT()
            if scales:
                quantised.scale = [float(s) for s in scales]
                quantised.zeroPoint = [zero] * len(scales)
                quantised.quantizedDimension = axis
            buffer.data = np.frombuffer(stored, np.uint8)
            self.tensors[number].buffer = len(self.buffers)
            self.buffers.append(buffer)
            self.known[key] = number
        return self.known[key]

    def ints(self, name: str, values: Any) -> int:
        """A constant of int32."""
        return self.constant(name, np.array(values, np.int32), Type.INT32)

    def add(self, kind: str, inputs: Sequence[int], output: int, options: Any = None) -> int:
        """One operator; returns its output."""
        four = any(self.tensors[n].type == Type.INT4 for n in inputs)
        version = FOUR_BITS[kind] if four else VERSIONS.get(kind, 1)
        if kind == "CONV_2D" and self.shape(inputs[1])[3] != self.shape(inputs[0])[3]:
            version = GROUPED
        if (kind, version) not in self.codes:
            code = schema.OperatorCodeT()
            code.builtinCode, code.version = getattr(schema.BuiltinOperator, kind), version
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            self.codes[kind, version] = code
        self.kinds.append(kind)
        made = schema.OperatorT()
        made.opcodeIndex = list(self.codes).index((kind, version))
        made.inputs, made.outputs = list(inputs), [output]
        if options is not None:
            name = type(options).__name__.removesuffix("T")
            made.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            made.builtinOptions = options
        self.operators.append(made)
        return output

    def shape(self, number: int) -> tuple[int, ...]:
        """Of a tensor."""
        return tuple(self.tensors[number].shape)

    def serialised(self, description: str = "") -> bytes:
        """The file's content."""
        graph, model = schema.SubGraphT(), schema.ModelT()
        graph.name, graph.tensors, graph.operators = "main", self.tensors, self.operators
        graph.inputs, graph.outputs = self.inputs, self.outputs
        model.version, model.description = 3, description
        model.buffers, model.subgraphs = self.buffers, [graph]
        model.operatorCodes = list(self.codes.values())
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), MAGIC)
        return bytes(builder.Output())
