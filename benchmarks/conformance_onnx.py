"""One operation in onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from conformance_cases import Array, Case
from onnx import TensorProto as T
from onnx import helper, numpy_helper


def run(node: onnx.NodeProto, inputs: dict[str, Array], constants: dict[str, Any]) -> Array:
    """The only output of one node."""
    graph = helper.make_graph(
        [node], "one",
        [helper.make_tensor_value_info(n, T.INT8, a.shape) for n, a in inputs.items()],
        [helper.make_tensor_value_info("y", T.INT8, None)],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )  # fmt: skip
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=sets, ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    result: Array = session.run(None, inputs)[0]
    return result


def conv(case: Case) -> Array:
    """QLinearConv."""
    x, y = case.reals
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"]
    node = helper.make_node("QLinearConv", names, ["y"], strides=case.stride)
    constants = {
        "xs": np.float32(x.scale), "xz": np.int8(x.zero), "w": case.weight, "ws": case.scales,
        "wz": np.zeros(len(case.scales), np.int8), "ys": np.float32(y.scale),  # type: ignore[arg-type]  # an array
        "yz": np.int8(y.zero), "b": case.bias,
    }  # fmt: skip
    return run(node, {"x": case.images}, constants)


def add(case: Case) -> Array:
    """QLinearAdd of the two channels."""
    names = ["a", "as", "az", "b", "bs", "bz", "ys", "yz"]
    node = helper.make_node("QLinearAdd", names, ["y"], domain="com.microsoft")
    constants = {}
    for name, real in zip("aby", case.reals, strict=True):
        constants |= {f"{name}s": np.float32(real.scale), f"{name}z": np.int8(real.zero)}
    a, b = (np.ascontiguousarray(case.images[:, i : i + 1]) for i in (0, 1))
    return run(node, {"a": a, "b": b}, constants)
