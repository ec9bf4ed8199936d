"""Values of nodes whose inputs are constants, by the reference evaluator of the onnx package."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from intaglio.exchange.from_onnx.onnx_file import Array, Node, int_type
from intaglio.exchange.from_onnx.operators import MICROSOFT, NEWEST, OLDEST, STANDARD

LARGEST = 1 << 28  # values of a constant
BROADCAST = (
    "Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Equal", "Less", "Greater", "Where", "And",
    "Or", "LessOrEqual", "GreaterOrEqual",
)  # fmt: skip
OTHERS = (
    "Abs", "Cast", "Ceil", "Clip", "Concat", "ConstantOfShape", "Exp", "Expand", "Flatten",
    "Floor", "Gather", "Identity", "Log", "MatMul", "Neg", "Not", "Range",
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
    if node.kind == "QuantizeLinear" and node.domain in (STANDARD, MICROSOFT):
        return quantised(node, *inputs)
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


def quantised(node: Node, x: Array | None, scale: Array | None, zero: Array | None = None) -> Array:
    """Codes of float32 constants, rounded to even in float32 as onnxruntime does."""
    given = node.attributes.get("output_dtype", 0)
    kind = zero.dtype if zero is not None else helper.tensor_dtype_to_np_dtype(given or 2)
    type = int_type(np.zeros(0, kind))
    if x is None or scale is None or x.dtype != scale.dtype or x.dtype != np.float32:
        raise node.refuse("its input and scale must be float32; quantise in float32.")
    axis, block = node.attributes.get("axis", 1), node.attributes.get("block_size", 0)
    several = scale.size > 1
    if several and not -x.ndim <= axis < x.ndim:
        raise node.refuse(f"its axis must be one of its input's, not {axis}.")
    length = x.shape[axis] if several else 1
    sizes = {scale.size, *(() if zero is None else (zero.size,))}
    if type is None or block or sizes != {length} or not (scale > 0).all():
        raise node.refuse(
            "its scales must be one for the tensor or one for each channel, above 0, and its type"
            " integers; quantise by tensor or by channel."
        )
    lines = [1] * x.ndim
    if several:
        lines[axis] = -1
    with np.errstate(all="ignore"):
        near = np.rint(x / scale.reshape(lines if x.ndim else ()))
    if not np.isfinite(near).all():
        raise node.refuse("its constants must be finite, not NaN or infinite.")
    zeros = 0 if zero is None else zero.astype(np.int64).reshape(lines if x.ndim else ())
    return np.clip(near.astype(np.float64) + zeros, type.lo, type.hi).astype(np.int64).astype(kind)


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
