"""Codes that differ by one from onnxruntime's (or qonnx's) where it sums, or takes exponentials, in
float32: how many, file by file, at scales of round numbers and at others.

    python benchmarks/exchange/import_floats.py [COUNT]

Every row is COUNT files (20) of random scales on 25 random images each, or fewer for 16 bits.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from intaglio.exchange.checked import check
from intaglio.exchange.importer import imported
from intaglio.fixed import preset

ROUND_NUMBERS = [0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.25]
TYPES = {"uint8": np.uint8, "int8": np.int8, "int16": np.int16}
IMAGES = 25


class File:
    """Nodes and constants of one file with input x of 1 x 4 x 16 x 16."""

    def __init__(self, rng: np.random.Generator, kind: str, near: bool) -> None:
        self.rng, self.kind, self.near = rng, kind, near
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def scale(self) -> np.float32:
        """A round number, or any."""
        found = self.rng.choice(ROUND_NUMBERS) if self.near else self.rng.uniform(0.01, 0.25)
        return np.float32(found / (256 if self.kind == "int16" else 1))

    def constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def add(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        out = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [out], domain=domain, **attributes))
        return out

    def quantised(self, x: str) -> str:
        grid = self.constant(self.scale()), self.constant(TYPES[self.kind](0))
        return self.add("DequantizeLinear", self.add("QuantizeLinear", x, *grid), *grid)

    def conv(self, x: str, relu: bool = False) -> str:
        weight = self.rng.integers(-127, 128, (4, 4, 3, 3)).astype(np.int8)
        scale = np.float32(0.01 if self.near else self.rng.uniform(0.003, 0.02))
        grid = self.constant(scale), self.constant(np.int8(0))
        wide = self.add("DequantizeLinear", self.constant(weight), *grid)
        y = self.add("Conv", x, wide, pads=[1, 1, 1, 1])
        return self.quantised(self.add("Relu", y) if relu else y)

    def model(self, output: str) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 16, 16])],
            [helper.make_empty_tensor_value_info(output)],
            [numpy_helper.from_array(v, k) for k, v in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", 21 if self.kind == "int16" else 17)]
        opsets.append(helper.make_opsetid("com.microsoft", 1))
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def build(file: File, what: str) -> str:
    """The output of a file of this sort."""
    x = file.quantised("x")
    match what:
        case "two convolutions":
            return file.conv(file.conv(x, relu=True))
        case "four residual blocks":
            for _ in range(4):
                x = file.quantised(file.add("Add", x, file.conv(x)))
            return x
        case "average of 2 x 2" | "average of 3 x 3":
            side = int(what[-1])
            pool = file.add("AveragePool", x, kernel_shape=[side] * 2, strides=[side] * 2)
            return file.quantised(pool)
        case "ReduceMean":
            return file.quantised(file.add("ReduceMean", x, axes=[2, 3]))
    return file.quantised(file.add(what, x))


def main() -> None:
    """One line a row."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    rows = [
        ("two convolutions", ("uint8", "int8", "int16")),
        ("four residual blocks", ("uint8", "int8")),
        ("average of 2 x 2", ("uint8", "int8", "int16")),
        ("average of 3 x 3", ("uint8", "int8")),
        ("ReduceMean", ("uint8", "int8")),
        *((name, ("uint8", "int16")) for name in ("Sigmoid", "Tanh", "Exp", "Elu", "Softplus")),
    ]
    print(f"{'':22}{'codes':8}{'scales':8}{'compared':>10}{'differ':>8}{'own':>8}{'by':>4}")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        for what, kinds in rows:
            for kind in kinds:
                for near in (True, False):
                    total, differ, own, most = 0, 0, 0, 0
                    for seed in range(count):
                        file = File(np.random.default_rng(seed), kind, near)
                        path.write_bytes(file.model(build(file, what)).SerializeToString())
                        made = imported(path, preset("onnxruntime"))
                        found = check(path, made, images=IMAGES)
                        if found.reason:
                            raise SystemExit(f"{what}: {found.reason}")
                        total, differ = total + found.compared, differ + found.differing
                        own += found.own
                        most = max(most, *(d.largest for d in found.differences))
                    word = "round" if near else "any"
                    print(f"{what:22}{kind:8}{word:8}{total:10,}{differ:8,}{own:8,}{most:4}",
                          flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
