"""`--arithmetic onnxruntime`: the runtime's codes for everything that is no sum of many, whether it
runs it on codes or in float32, at random scales and at round ones, which make ties."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from intaglio.exchange.importer import import_onnx
from intaglio.fixed import PRESETS
from intaglio.sim.engine import Simulator

RUNTIME = PRESETS["onnxruntime"]
KINDS = {"int8": np.int8, "uint8": np.uint8, "int16": np.int16}
ROUND_NUMBERS = [0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.25]
EXACT = {  # by what float32 does alone
    "LeakyRelu": {"alpha": 0.1},
    "HardSwish": {},
    "HardSigmoid": {"alpha": 0.2},
    "Abs": {},
    "Relu": {},
    "Sqrt": {},
    "PRelu": {},
}
NEAR = {"Sigmoid": {}, "Tanh": {}, "Elu": {}, "Softplus": {}, "Exp": {}}


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


@settings(max_examples=60)
@given(data=st.data())
def test_functions_of_every_code(data: st.DataObject, tmp_path_factory: Any) -> None:
    kind = data.draw(st.sampled_from(["int8", "uint8", "int16"]))
    word = data.draw(st.sampled_from(sorted(EXACT) if kind == "int16" else sorted(EXACT | NEAR)))
    file = File(data.draw, (1, 1, 16, 16 if kind != "int16" else 4096))
    scale = data.draw(scales()) if kind != "int16" else np.float32(data.draw(scales()) / 256)
    equal = data.draw(st.booleans())
    lowest = int(np.iinfo(KINDS[kind]).min)
    x = file.grid(kind, scale, lowest if word == "Sqrt" else None)
    y = (
        x
        if equal
        else file.grid(kind, np.float32(scale * data.draw(st.sampled_from([0.5, 0.7, 2]))))
    )
    q = file.q("x", x)
    if word in ("LeakyRelu", "Sigmoid") and kind != "int16" and data.draw(st.booleans()):
        attributes = (EXACT | NEAR)[word]
        out = file.add(f"QLinear{word}", q, *x, *y, domain="com.microsoft", **attributes)
    else:
        slope = [file.constant(np.float32([0.1]))] if word == "PRelu" else []
        out = file.q(file.add(word, file.dq(q, x), *slope, **(EXACT | NEAR)[word]), y)
    opset = 21 if kind == "int16" else 19
    agree(file.model(out, opset), tmp_path_factory.mktemp("f"), all_codes(kind))


@settings(max_examples=60)
@given(data=st.data())
def test_what_only_scales_or_moves(data: st.DataObject, tmp_path_factory: Any) -> None:
    """DequantizeLinear and QuantizeLinear of other scales, with steps in float32 between them."""
    kind = data.draw(st.sampled_from(["int8", "uint8"]))
    file = File(data.draw, (1, 1, 16, 16))
    x = file.qdq("x", kind)
    for _ in range(data.draw(st.integers(1, 3))):
        step = data.draw(st.sampled_from(["Add", "Sub", "Mul", "Div", "Relu", "Clip", "Sigmoid"]))
        number = np.float32(data.draw(st.sampled_from([3, 6, 0.1, 1 / 6, 0.7, 2, -1.5])))
        if step in ("Relu", "Sigmoid"):
            x = file.add(step, x)
        elif step == "Clip":
            x = file.add(step, x, file.constant(np.float32(-0.33)), file.constant(abs(number)))
        else:
            c = file.constant(number)
            if data.draw(st.booleans()):
                grid = file.grid(kind, data.draw(scales()))
                c = file.dq(file.constant(KINDS[kind](data.draw(st.integers(3, 90)))), grid)
            pair = (c, x) if step in ("Add", "Mul", "Sub") and data.draw(st.booleans()) else (x, c)
            x = file.add(step, *pair)
        if data.draw(st.booleans()):
            x = file.qdq(x, data.draw(st.sampled_from(["int8", "uint8"])))
            x = file.add("Mul", x, file.constant(np.float32(1.1)))  # two pairs in a row are merged
    out = file.qdq(x, kind)
    agree(file.model(out), tmp_path_factory.mktemp("f"), all_codes(kind))


@settings(max_examples=40)
@given(data=st.data())
def test_silu_as_it_is_written(data: st.DataObject, tmp_path_factory: Any) -> None:
    """x * f(x), with codes of f(x) between or without: on codes in uint8, in float32 in int8."""
    kind = data.draw(st.sampled_from(["int8", "uint8"]))
    file = File(data.draw, (1, 1, 16, 16))
    x = file.qdq("x", kind)
    y = file.add(data.draw(st.sampled_from(["Sigmoid", "HardSigmoid"])), x)
    if data.draw(st.booleans()):
        y = file.qdq(y, kind, -128 if kind == "int8" else 0, np.float32(1 / 256))
    m = file.add("Mul", *((x, y) if data.draw(st.booleans()) else (y, x)))
    out = file.qdq(file.add("Relu", m) if data.draw(st.booleans()) else m, kind)
    agree(file.model(out), tmp_path_factory.mktemp("f"), all_codes(kind))


@settings(max_examples=60)
@given(data=st.data())
def test_residual_sums_and_joins(data: st.DataObject, tmp_path_factory: Any) -> None:
    """Of a tensor and of the largest of its neighbours, in any types."""
    kinds = [data.draw(st.sampled_from(["int8", "uint8"])) for _ in range(3)]
    if data.draw(st.booleans()):
        kinds = kinds[:1] * 3
    file = File(data.draw, (1, 2, 64, 64))
    x = file.qdq("x", kinds[0])
    largest = file.add("MaxPool", x, kernel_shape=[1, 2], pads=[0, 0, 0, 1])
    c = file.qdq(file.add("Mul", largest, file.constant(np.float32(1.1))), kinds[1])
    if data.draw(st.booleans()):
        c = file.add("Relu", c)
    word = data.draw(st.sampled_from(["Add", "Add", "Sub", "Concat"]))
    more = {"axis": 1} if word == "Concat" else {}
    pair = (x, c) if data.draw(st.booleans()) else (c, x)
    s = file.add(word, *pair, **more)
    out = file.qdq(file.add("Relu", s) if data.draw(st.booleans()) else s, kinds[2])
    info = np.iinfo(KINDS[kinds[0]])
    codes = np.random.default_rng(0).integers(info.min, info.max + 1, (1, 2, 64, 64))
    agree(file.model(out), tmp_path_factory.mktemp("f"), codes)
