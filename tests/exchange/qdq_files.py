"""QDQ files that grow node by node, and the runtime beside what is imported of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from intaglio.exchange.importer import import_onnx
from intaglio.fixed import PRESETS
from intaglio.sim.engine import Simulator

RUNTIME = PRESETS["onnxruntime"]
KINDS = {"int8": np.int8, "uint8": np.uint8, "int16": np.int16}
ROUND_NUMBERS = [0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.25]


def scales() -> st.SearchStrategy[np.float32]:
    """Round numbers and others."""
    return (st.sampled_from(ROUND_NUMBERS) | st.floats(0.003, 0.3)).map(np.float32)


class File:
    """A QDQ file as it grows."""

    def __init__(self, draw: Any, shape: tuple[int, ...]) -> None:
        self.draw, self.shape = draw, shape
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def add(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """A node with a name of its own; the name of its output."""
        out = f"t{len(self.nodes)}"
        made = helper.make_node(kind, inputs, [out], name=f"n_{out}", domain=domain, **attributes)
        self.nodes.append(made)
        return out

    def constant(self, value: Any) -> str:
        """An initialiser."""
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def grid(self, kind: str, scale: np.float32, zero: int | None = None) -> list[str]:
        """Scale and zero point, drawn where left out."""
        info = np.iinfo(KINDS[kind])
        drawn = self.draw(st.integers(int(info.min), int(info.max))) if zero is None else zero
        return [self.constant(scale), self.constant(KINDS[kind](drawn))]

    def q(self, x: str, grid: list[str]) -> str:
        """Codes of x."""
        return self.add("QuantizeLinear", x, *grid)

    def dq(self, x: str, grid: list[str]) -> str:
        """What codes stand for."""
        return self.add("DequantizeLinear", x, *grid)

    def qdq(self, x: str, kind: str, zero: int | None = None, scale: Any = None) -> str:
        """Codes of a drawn grid, and their value."""
        grid = self.grid(kind, self.draw(scales()) if scale is None else scale, zero)
        return self.dq(self.q(x, grid), grid)

    def model(self, output: str, opset: int = 19) -> onnx.ModelProto:
        """Whose input x is floats, without nodes that nothing reads."""
        needed, kept = {output}, []
        for node in reversed(self.nodes):
            if needed & set(node.output):
                kept.append(node)
                needed |= set(node.input)
        graph = helper.make_graph(
            kept[::-1],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_empty_tensor_value_info(output)],
            [numpy_helper.from_array(v, k) for k, v in self.constants.items() if k in needed],
        )
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def session(model: onnx.ModelProto, folder: Path | None = None) -> onnxruntime.InferenceSession:
    """As it runs by default; the graph that it runs goes into the folder."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_double_qdq_remover", "1")
    options.intra_op_num_threads = 1
    if folder is not None:
        options.optimized_model_filepath = str(folder / "optimised.onnx")
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def agree(model: onnx.ModelProto, folder: Path, codes: Any) -> None:
    """The Program's output codes are the runtime's: of every code, and of random pairs."""
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    program = import_onnx(path, RUNTIME)
    (source,), (out,) = program.inputs, program.outputs
    x = np.float32(source.scale) * (codes - source.zero_point[0]).astype(np.float32)
    (theirs,) = session(model).run(None, {"x": x})
    if theirs.dtype == np.float32:
        theirs = np.rint(theirs / np.float32(out.scale)) + out.zero_point[0]
    ours = Simulator(program)(codes)[out.name]
    np.testing.assert_array_equal(ours, theirs)


def all_codes(kind: str) -> Any:
    info = np.iinfo(KINDS[kind])
    return np.arange(info.min, info.max + 1).reshape(1, 1, 16, -1)
