"""An ONNX file as nodes with attributes and constants, and its own words for refusals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from intaglio.errors import ModelError
from intaglio.fixed import IntType

Array = NDArray[Any]
TYPES = {
    kind: IntType(bits, signed)
    for bits in (2, 4, 8, 16, 32)
    for signed in (False, True)
    if (kind := getattr(onnx.TensorProto, f"{'' if signed else 'U'}INT{bits}", None)) is not None
}


@dataclass(frozen=True)
class Node:
    """One node: operator, names of tensors, attributes as Python values."""

    kind: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]

    def refuse(self, sentence: str) -> ModelError:
        """An error that names this node."""
        return ModelError(f"{self.kind} {self.name or self.outputs[0]!r}: {sentence}")


@dataclass(frozen=True)
class OnnxFile:
    """`inputs` and `outputs` are the graph's, initialisers left out."""

    path: Path
    nodes: tuple[Node, ...]
    inputs: tuple[onnx.ValueInfoProto, ...]
    outputs: tuple[str, ...]
    constants: dict[str, Array]
    types: dict[str, IntType]  # of integer constants, sub-byte ones included
    opsets: tuple[onnx.OperatorSetIdProto, ...]

    def evaluate(self, node: Node, inputs: list[Array]) -> Array:
        """The value of a node whose inputs are constants."""
        names = [f"x{n}" for n in range(len(inputs))]
        made = helper.make_node(node.kind, names, ["y"], domain=node.domain, **node.attributes)
        graph = helper.make_graph(
            [made],
            "constant",
            [
                helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
                for n, x in zip(names, inputs, strict=True)
            ],
            [helper.make_empty_tensor_value_info("y")],
        )
        model = helper.make_model(graph, opset_imports=self.opsets)
        try:
            (y,) = ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))
        except Exception as error:  # onnx raises many kinds
            raise node.refuse(
                "its constant inputs must be computable; simplify the model (onnxsim) first."
            ) from error
        return np.asarray(y)


def read(path: Path) -> OnnxFile:
    """Raises ModelError for a file that is missing or is no ONNX model."""
    if not path.is_file():
        raise ModelError(f"{path} must be an existing .onnx file.")
    try:
        model = onnx.load(path)
        graph = model.graph
        constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    except (DecodeError, OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path} must be a whole ONNX model, not a damaged file.") from error
    if not graph.node:
        raise ModelError(f"{path} must be a whole ONNX model, not a damaged file.")
    types = {t.name: TYPES[t.data_type] for t in graph.initializer if t.data_type in TYPES}
    nodes = tuple(
        Node(
            n.op_type,
            n.domain,
            n.name,
            tuple(n.input),
            tuple(n.output),
            {a.name: helper.get_attribute_value(a) for a in n.attribute},
        )
        for n in graph.node
    )
    inputs = tuple(v for v in graph.input if v.name not in constants)
    outputs = tuple(v.name for v in graph.output)
    return OnnxFile(path, nodes, inputs, outputs, constants, types, tuple(model.opset_import))
