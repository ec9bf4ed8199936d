"""Values of nodes whose inputs are constants, by the reference evaluator of the onnx package."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from intaglio.exchange.from_onnx.onnx_file import Array, Node
from intaglio.exchange.from_onnx.operators import NEWEST, OLDEST

LARGEST = 1 << 28  # values of a constant
BROADCAST = (
    "Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Equal", "Less", "Greater", "Where", "And",
    "Or", "LessOrEqual", "GreaterOrEqual",
)  # fmt: skip
OTHERS = (
    "Abs", "Cast", "Ceil", "Clip", "Concat", "ConstantOfShape", "Exp", "Expand", "Flatten",
    "Floor", "Gather", "Identity", "Log", "MatMul", "Neg", "Not", "QuantizeLinear", "Range",
    "Reciprocal", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "Relu",
    "Reshape", "Round", "Shape", "Sigmoid", "Sign", "Size", "Slice", "Sqrt", "Squeeze", "Sum",
    "Tanh", "Tile", "Transpose", "Unsqueeze",
)  # fmt: skip
REMEDY = "its constant inputs must be computable; simplify the model (onnxsim) first."


def evaluate(node: Node, inputs: Sequence[Array | None], opset: int) -> Array:
    """The value of a node's output; inputs that are left out are None.

    Raises ModelError for an operator, attribute or value that the evaluator is not trusted with,
    and for results of more than LARGEST values.
    """
    if node.domain or node.kind not in BROADCAST + OTHERS or not OLDEST <= opset <= NEWEST:
        raise node.refuse(REMEDY)
    schema = onnx.defs.get_schema(node.kind, opset, "")
    if schema.deprecated or set(node.attributes) - set(schema.attributes):
        raise node.refuse(REMEDY)
    names = [f"x{n}" if x is not None else "" for n, x in enumerate(inputs)]
    given = {name: x for name, x in zip(names, inputs, strict=True) if x is not None}
    try:
        if size(node, inputs) > LARGEST:
            raise ValueError("too many values")
        made = helper.make_node(node.kind, names, ["y"], **node.attributes)
        graph = helper.make_graph(
            [made],
            "constant",
            [
                helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
                for n, x in given.items()
            ],
            [helper.make_empty_tensor_value_info("y")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        with np.errstate(all="ignore"):
            (y,) = ReferenceEvaluator(model).run(None, given)
    except Exception as error:  # onnx raises many kinds
        raise node.refuse(REMEDY) from error
    return np.asarray(y)


def size(node: Node, inputs: Sequence[Array | None]) -> int:
    """How many values the result has at most."""
    arrays = [x for x in inputs if x is not None]
    last = arrays[-1]
    match node.kind:
        case "ConstantOfShape":
            return prod(int(v) for v in last.reshape(-1))
        case "Expand":
            return arrays[0].size * prod(max(int(v), 1) for v in last.reshape(-1))
        case "Tile":
            return arrays[0].size * prod(int(v) for v in last.reshape(-1))
        case "Range":
            start, limit, delta = (float(x.item()) for x in arrays)
            return int(abs((limit - start) / delta)) + 1
        case "Gather":
            axis = int(node.attributes.get("axis", 0))
            return int(last.size * arrays[0].size // max(arrays[0].shape[axis], 1))
        case "MatMul":
            return prod(arrays[0].shape[:-1]) * max(prod(last.shape), 1)
    if node.kind in BROADCAST:
        return prod(np.broadcast_shapes(*(x.shape for x in arrays)))
    return int(sum(x.size for x in arrays))
