"""Damaged ONNX files, made by seed: bytes changed, fields dropped or made wild."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.random import Generator
from onnx import helper, numpy_helper
from onnx_cases import DRAWN, ROWS, behind, draw

WILD = (0, 1, -1, 2, 3, 7, 255, 65536, -(2**31), 2**31 - 1, 2**40, 2**62, -(2**62), 2**63 - 1)
FLOATS = (0.0, -1.0, 1e-40, 1e30, 3.4e38, float("inf"), float("-inf"), float("nan"))
KINDS = sorted({r.kind for r, _ in ROWS})


def whole(r: Generator) -> bytes:
    """A file to be damaged: one operator or a few, or QONNX."""
    if r.random() < 0.15:
        return qonnx(r)
    row, version = ROWS[int(r.integers(len(ROWS)))]
    if row.kind not in DRAWN:
        return qonnx(r)
    case = draw(row.kind, version, r)
    return (behind(case, r) if case.made == "float" else case).model()


def qonnx(r: Generator) -> bytes:
    """Quant of weights and activations around a convolution, and Trunc of a sum."""
    values = {"s": np.float32(0.25), "z": np.float32(0), "b": np.float32(8), "n": np.float32(4)}
    values |= {"w": r.normal(size=(3, 2, 2, 2)).astype(np.float32), "one": np.float32(1)}
    given = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
    domain = "qonnx.custom_op.general"
    nodes = [
        helper.make_node("Quant", ["x", "s", "z", "b"], ["a"], domain=domain, **given),
        helper.make_node("Quant", ["w", "s", "z", "b"], ["v"], domain=domain, **given),
        helper.make_node("Conv", ["a", "v"], ["c"]),
        helper.make_node("Quant", ["c", "one", "z", "b"], ["d"], domain=domain, **given),
        helper.make_node("Trunc", ["d", "one", "z", "b", "n"], ["y"], domain=domain,
                         rounding_mode="FLOOR"),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 2, 5, 5])],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in values.items()],
    )
    sets = [helper.make_opsetid("", 13), helper.make_opsetid(domain, 1)]
    made: bytes = helper.make_model(graph, opset_imports=sets, ir_version=10).SerializeToString()
    return made


def damaged(r: Generator) -> bytes:
    """One file, damaged."""
    made = whole(r)
    if r.random() < 0.4:
        return bytewise(bytearray(made), r)
    model = onnx.load_from_string(made)
    for _ in range(int(r.integers(1, 4))):
        structural(model, r)
    changed: bytes = model.SerializeToString()
    return changed


def bytewise(data: bytearray, r: Generator) -> bytes:
    """Without regard to what the bytes mean."""
    for _ in range(int(r.integers(1, 9))):
        at = int(r.integers(len(data)))
        match int(r.integers(6)):
            case 0:
                del data[at:]
            case 1:
                del data[at : at + int(r.integers(1, 16))]
            case 2:
                data[at:at] = r.bytes(int(r.integers(1, 16)))
            case _:
                data[at] = int(r.integers(256))
        if not data:
            break
    return bytes(data)


def some(r: Generator, values: Any) -> Any:
    """One of a repeated field; None of an empty one."""
    return values[int(r.integers(len(values)))] if len(values) else None


def structural(model: Any, r: Generator) -> None:
    """One field dropped, exchanged or made wild."""
    graph = model.graph
    node, tensor = some(r, graph.node), some(r, graph.initializer)
    wild, real = int(r.choice(np.array(WILD, object))), float(r.choice(FLOATS))
    attribute = some(r, node.attribute) if node is not None else None
    match int(r.integers(16)):
        case 0 if node is not None and len(node.input):
            node.input[int(r.integers(len(node.input)))] = some(r, [*node.input, "", "absent", "x"])
        case 1 if node is not None and len(node.input):
            del node.input[int(r.integers(len(node.input))) :]
        case 2 if node is not None:
            node.input.append(some(r, [t.name for t in graph.initializer] + ["x", "", "y"]))
        case 3 if node is not None:
            node.op_type = some(r, [*KINDS, "Softmax", "Loop", ""])
        case 4 if node is not None:
            node.domain = some(r, ["", "com.microsoft", "qonnx.custom_op.general", "other"])
        case 5 if node is not None and len(node.output):
            node.output[0] = some(r, ["", "x", "y", node.output[0] + "_"])
        case 6 if attribute is not None:
            attribute.i, attribute.f = wild % 2**62, real
            if len(attribute.ints):
                attribute.ints[int(r.integers(len(attribute.ints)))] = wild
        case 7 if attribute is not None:
            attribute.type = int(r.integers(0, 15))
        case 8 if attribute is not None:
            del attribute.ints[: int(r.integers(1, 4))]
            attribute.s = r.bytes(4)
        case 9 if tensor is not None:
            tensor.dims[:] = [*tensor.dims, wild] if r.random() < 0.5 else [wild]
        case 10 if tensor is not None:
            tensor.data_type = int(r.integers(0, 30))
        case 11 if tensor is not None:
            tensor.raw_data = some(r, [b"", tensor.raw_data[:-1], r.bytes(len(tensor.raw_data))])
        case 12 if tensor is not None:
            tensor.dims[:] = []
            tensor.ClearField("raw_data")
            tensor.float_data[:] = [real]
            tensor.data_type = onnx.TensorProto.FLOAT
        case 13:
            dims = graph.input[0].type.tensor_type.shape.dim if len(graph.input) else []
            if len(dims):
                some(r, dims).dim_value = wild
        case 14:
            for given in model.opset_import:
                given.version = some(r, [1, 6, 7, 10, 13, 18, 21, 27, 28, wild])
        case _:
            if len(graph.input):
                graph.input[0].type.tensor_type.elem_type = int(r.integers(0, 30))
            if r.random() < 0.3:
                del graph.node[int(r.integers(max(len(graph.node), 1))) :]
