"""One operation in onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from conformance_cases import Array, Case
from onnx import TensorProto as T
from onnx import helper, numpy_helper


def run(
    nodes: onnx.NodeProto | list[onnx.NodeProto], inputs: dict[str, Array],
    constants: dict[str, Any],
) -> Array:  # fmt: skip
    """The int8 output y of nodes as they stand: no operator is fused with another."""
    graph = helper.make_graph(
        nodes if isinstance(nodes, list) else [nodes], "one",
        [helper.make_tensor_value_info(n, T.INT8, a.shape) for n, a in inputs.items()],
        [helper.make_tensor_value_info("y", T.INT8, None)],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )  # fmt: skip
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=sets, ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    result: Array = session.run(None, inputs)[0]
    return result


def pads(case: Case) -> list[int]:
    """Top, left, bottom, right."""
    top, bottom, left, right = case.padding
    return [top, left, bottom, right]


def grids(case: Case) -> dict[str, Any]:
    """Scales and zero points of x and y."""
    x, y = case.reals
    return {
        "xs": np.float32(x.scale), "xz": np.int8(x.zero),
        "ys": np.float32(y.scale), "yz": np.int8(y.zero),
    }  # fmt: skip


def conv(case: Case) -> Array:
    """QLinearConv."""
    assert case.scales is not None
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"]
    node = helper.make_node(
        "QLinearConv", names, ["y"], strides=case.stride, pads=pads(case), group=case.groups
    )
    constants = {
        "w": case.weight, "ws": case.scales, "wz": np.zeros(len(case.scales), np.int8),
        "b": case.bias,
    }  # fmt: skip
    return run(node, {"x": case.images}, grids(case) | constants)


def add(case: Case) -> Array:
    """QLinearAdd of the two channels."""
    names = ["a", "as", "az", "b", "bs", "bz", "ys", "yz"]
    node = helper.make_node("QLinearAdd", names, ["y"], domain="com.microsoft")
    constants = {}
    for name, real in zip("aby", case.reals, strict=True):
        constants |= {f"{name}s": np.float32(real.scale), f"{name}z": np.int8(real.zero)}
    a, b = (np.ascontiguousarray(case.images[:, i : i + 1]) for i in (0, 1))
    return run(node, {"a": a, "b": b}, constants)


def requantize(case: Case) -> Array:
    """DequantizeLinear, then QuantizeLinear on another grid."""
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "xs", "xz"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "ys", "yz"], ["y"]),
    ]
    return run(nodes, {"x": case.images}, grids(case))


def max_pool(case: Case) -> Array:
    """MaxPool of int8."""
    node = helper.make_node(
        "MaxPool", ["x"], ["y"], kernel_shape=case.kernel, strides=case.stride, pads=pads(case)
    )
    return run(node, {"x": case.images}, {})


def resize(case: Case) -> Array:
    """Resize to the Program's size, by nearest neighbour."""
    node = helper.make_node(
        "Resize", ["x", "", "", "size"], ["y"], mode="nearest", nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )  # fmt: skip
    size = np.array([1, *case.program.outputs[0].shape], np.int64)
    return run(node, {"x": case.images}, {"size": size})


def average(case: Case) -> Array:
    """QLinearAveragePool."""
    names = ["x", "xs", "xz", "ys", "yz"]
    node = helper.make_node(
        "QLinearAveragePool", names, ["y"], domain="com.microsoft", kernel_shape=case.kernel,
        strides=case.stride,
    )  # fmt: skip
    return run(node, {"x": case.images}, grids(case))


def global_average(case: Case) -> Array:
    """QLinearGlobalAveragePool."""
    names = ["x", "xs", "xz", "ys", "yz"]
    node = helper.make_node(
        "QLinearGlobalAveragePool", names, ["y"], domain="com.microsoft", channels_last=0
    )
    return run(node, {"x": case.images}, grids(case))
