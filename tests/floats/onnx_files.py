"""Float ONNX files that grow node by node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class File:
    """A float file as it grows, of a network that is given `x`."""

    def __init__(self, shape: tuple[Any, ...] = (1, 3, 16, 16), seed: int = 0, opset: int = 17):
        self.shape, self.opset = shape, opset
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def add(self, kind: str, *inputs: str, count: int = 1, **attributes: Any) -> Any:
        """A node; the name of its output, or a list of `count` names."""
        number = len(self.nodes)
        names = [f"t{number}" if count == 1 else f"t{number}_{n}" for n in range(count)]
        made = helper.make_node(kind, inputs, names, name=f"{kind.lower()}.{number}", **attributes)
        self.nodes.append(made)
        return names[0] if count == 1 else names

    def constant(self, value: Any, kind: Any = np.float32) -> str:
        """An initialiser."""
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value, dtype=kind)
        return name

    def ints(self, *values: int) -> str:
        """A line of integers."""
        return self.constant(values, np.int64)

    def weight(self, *shape: int) -> str:
        """Random weights that keep values about as large as they are."""
        fan = max(int(np.prod(shape[1:])), 1)
        return self.constant(self.rng.standard_normal(shape) * (1.5 / np.sqrt(fan)))

    def conv(self, x: str, cin: int, cout: int, kernel: int = 3, **attributes: Any) -> str:
        """A convolution that keeps the size, unless its attributes say otherwise."""
        if "auto_pad" not in attributes:
            attributes.setdefault("pads", [kernel // 2] * 4)
        group = attributes.get("group", 1)
        weight, bias = self.weight(cout, cin // group, kernel, kernel), self.weight(cout)
        return self.add("Conv", x, weight, bias, **attributes)

    def norm(self, x: str, channels: int) -> str:
        """A batch norm."""
        scale, var = (self.constant(self.rng.uniform(0.5, 1.5, channels)) for _ in range(2))
        shift, mean = self.weight(channels), self.weight(channels)
        return self.add("BatchNormalization", x, scale, shift, mean, var)

    def model(self, *outputs: str) -> onnx.ModelProto:
        """The file's text."""
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_empty_tensor_value_info(name) for name in outputs],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def save(self, path: Path, *outputs: str) -> Path:
        """Write it."""
        onnx.save(self.model(*outputs), path)
        return path


def detector(path: Path, size: Any = 32, levels: int = 2) -> Path:
    """A detector as exporters write one: shared heads on levels, decoded, joined over levels."""
    file = File((1, 3, size, size))
    x = file.add("Relu", file.norm(file.conv("x", 3, 8, strides=[2, 2]), 8))
    box, score = (file.weight(n, 8, 1, 1) for n in (4, 5))
    joined = []
    for _ in range(levels):
        x = file.add("LeakyRelu", file.conv(x, 8, 8, strides=[2, 2]), alpha=0.1)
        scores = file.add("Sigmoid", file.add("Conv", x, score))
        both = file.add("Concat", file.add("Conv", x, box), scores, axis=1)
        flat = file.add("Reshape", both, file.ints(1, 9, -1))
        joined.append(flat)
    rows = file.add("Transpose", file.add("Concat", *joined, axis=2), perm=[0, 2, 1])
    boxes = file.add("Slice", rows, file.ints(0), file.ints(4), file.ints(2))
    return file.save(path, file.add("Mul", boxes, file.constant(8.0)), rows)
