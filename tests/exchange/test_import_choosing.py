"""ONNX operators that choose or move codes, between the pairs that quantisers write, beside
onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from intaglio.errors import ModelError
from intaglio.exchange.importer import import_onnx
from intaglio.fixed import PRESETS
from intaglio.program import Program
from intaglio.sim.engine import Simulator

SCALE, ZERO = np.float32(0.02), np.uint8(131)
SHAPE = (8, 6, 8)


class Net:
    """A quantised file as it grows: every operator between a DequantizeLinear and a
    QuantizeLinear of one grid."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.stored = {"s": np.asarray(SCALE), "z": np.asarray(ZERO)}
        self.rng = np.random.default_rng(3)

    def node(self, kind: str, inputs: list[str], outputs: int = 1, **attributes: Any) -> list[str]:
        """Its outputs by name, without a pair behind."""
        made = [f"t{len(self.nodes)}_{k}" for k in range(outputs)]
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, made, name=name, **attributes))
        return made

    def constant(self, values: Any, dtype: Any = np.int64) -> str:
        self.stored[f"c{len(self.stored)}"] = np.asarray(values, dtype)
        return list(self.stored)[-1]

    def pair(self, x: str) -> str:
        (codes,) = self.node("QuantizeLinear", [x, "s", "z"])
        return self.node("DequantizeLinear", [codes, "s", "z"])[0]

    def add(self, kind: str, x: str, *constants: Any, **attributes: Any) -> str:
        """An operator with constants behind its input."""
        more = [self.constant(values) for values in constants]
        return self.pair(self.node(kind, [x, *more], **attributes)[0])

    def weights(self, *shape: int) -> str:
        codes = self.rng.integers(-100, 100, shape).astype(np.int8)
        given = [self.constant(codes, np.int8), self.constant(0.004, np.float32)]
        return self.node("DequantizeLinear", given)[0]

    def conv(self, x: str, channels: int, given: int) -> str:
        weight = self.weights(channels, given, 1, 1)
        return self.pair(self.node("Conv", [x, weight])[0])

    def content(self, *outputs: str) -> bytes:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, *SHAPE))],
            [helper.make_empty_tensor_value_info(name) for name in outputs],
            [numpy_helper.from_array(values, name) for name, values in self.stored.items()],
        )
        opsets = [helper.make_opsetid("", 13)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        return bytes(model.SerializeToString())


def equal(path: Path, net: Net, *outputs: str) -> Program:
    """The Program, whose output codes are the runtime's."""
    path.write_bytes(net.content(*outputs))
    program = import_onnx(path, PRESETS["onnxruntime"])
    codes = np.random.default_rng(4).integers(0, 256, (3, *SHAPE))
    scale = net.stored["s"]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    ours = Simulator(program, threads=1)(codes)
    for n, image in enumerate(codes):
        real = ((image[None] - int(ZERO)) * scale).astype(np.float32)
        for out, theirs in zip(program.outputs, session.run(None, {"x": real}), strict=True):
            found = np.rint(theirs / np.float32(out.scale)) + out.zero_point[0]
            np.testing.assert_array_equal(ours[out.name][n].reshape(found.shape[1:]), found[0])
    return program


def kinds(program: Program) -> list[str]:
    plain = ("Input", "Output", "Conv2d", "Requant")
    return [name for op in program.ops if (name := type(op).__name__) not in plain]


def split(net: Net, x: str) -> str:
    a, b = (net.pair(part) for part in net.node("Split", [x], 2, axis=1))
    return net.pair(net.node("Concat", [b, a], axis=1)[0])


def split_unevenly(net: Net, x: str) -> str:
    a, b, c = net.node("Split", [x, net.constant([1, 5, 2])], 3, axis=1)
    return net.pair(net.node("Concat", [net.pair(c), net.pair(a), net.pair(b)], axis=1)[0])


def shuffled(net: Net, x: str) -> str:
    y = net.add("Reshape", x, [1, 2, 4, 6, 8])
    return net.add("Reshape", net.add("Transpose", y, perm=[0, 2, 1, 3, 4]), [1, 8, 6, 8])


def focus(net: Net, x: str) -> str:
    parts = []
    for first in ([0, 0], [1, 0], [0, 1], [1, 1]):
        parts.append(net.add("Slice", x, first, [6, 8], [2, 3], [2, 2]))
    return net.pair(net.node("Concat", parts, axis=1)[0])


def channels_last_and_back(net: Net, x: str) -> str:
    y = net.pair(net.node("Relu", [net.add("Transpose", x, perm=[0, 2, 3, 1])])[0])
    return net.add("Transpose", y, perm=[0, 3, 1, 2])


def dense(net: Net, x: str) -> str:
    y = net.add("Reshape", x, [1, -1])
    return net.pair(net.node("MatMul", [y, net.weights(8 * 6 * 8, 5)])[0])


def dense_of_channels_last(net: Net, x: str) -> str:
    y = net.add("Flatten", net.add("Transpose", x, perm=[0, 2, 3, 1]))
    return net.pair(net.node("Gemm", [y, net.weights(5, 8 * 6 * 8)], transB=1)[0])


CASES: list[tuple[Callable[[Net, str], str], list[str], int]] = [
    (split, ["Select", "Select", "Concat"], 8),
    (split_unevenly, ["Select", "Select", "Select", "Concat"], 8),
    (lambda net, x: net.add("Slice", x, [4], [8], [1]), ["Select"], 4),
    (lambda net, x: net.add("Slice", x, [1, -5], [99, -1], [3, 2], [2, 1]), ["Crop"], 8),
    (lambda net, x: net.add("Slice", x, [-1], [-9], [1], [-1]), ["Select"], 8),
    (lambda net, x: net.add("Gather", x, [3, 3, -1], axis=1), ["Select"], 3),
    (lambda net, x: net.add("Pad", x, [0, 0, 0, 0, 0, 4, 0, 0]), ["Select"], 12),
    (lambda net, x: net.add("Pad", x, [0, 1, 1, 0, 0, 0, 0, 2]), ["Pad", "Select"], 9),
    (shuffled, ["Select"], 8),
    (focus, ["Crop"] * 4 + ["Concat"], 32),
    (channels_last_and_back, [], 8),
    (lambda net, x: net.add("DepthToSpace", x, blocksize=2, mode="DCR"), ["DepthToSpace"], 2),
    (
        lambda net, x: net.add("DepthToSpace", x, blocksize=2, mode="CRD"),
        ["Select", "DepthToSpace"],
        2,
    ),
    (lambda net, x: net.add("SpaceToDepth", x, blocksize=2), ["SpaceToDepth"], 32),
]


@pytest.mark.parametrize(("made", "wanted", "channels"), CASES)
def test_codes_are_the_runtime_s(
    tmp_path: Path, made: Callable[[Net, str], str], wanted: list[str], channels: int
) -> None:
    net = Net()
    y = made(net, net.conv(net.pair("x"), 8, 8))
    program = equal(tmp_path / "net.onnx", net, y, net.conv(y, 3, channels))
    assert [k for k in kinds(program) if k != "Lookup"] == wanted


@pytest.mark.parametrize("made", [dense, dense_of_channels_last])
def test_a_flattened_map_goes_into_a_product(
    tmp_path: Path, made: Callable[[Net, str], str]
) -> None:
    net = Net()
    program = equal(tmp_path / "net.onnx", net, made(net, net.conv(net.pair("x"), 8, 8)))
    assert kinds(program) == []


@pytest.mark.parametrize(
    ("shape", "attributes", "biased"),
    [
        ((8, 3, 2, 2), {"strides": [2, 2]}, False),
        ((8, 3, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}, True),
        ((8, 2, 4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1], "group": 2}, True),
        ((8, 1, 3, 2), {"strides": [1, 3], "pads": [2, 0, 0, 1], "group": 8}, False),
        ((8, 2, 2, 3), {"dilations": [2, 1], "strides": [2, 1]}, True),
    ],
)
def test_transposed_convolutions(
    tmp_path: Path, shape: tuple[int, ...], attributes: dict[str, Any], biased: bool
) -> None:
    """Scales are powers of two, so that the runtime's sums in float32 are exact."""
    net = Net()
    net.stored["s"] = np.asarray(2.0**-6, np.float32)
    x = net.pair("x")
    codes = net.rng.integers(-100, 100, shape).astype(np.int8)
    given = [net.constant(codes, np.int8), net.constant(2.0**-9, np.float32)]
    inputs = [x, *net.node("DequantizeLinear", given)]
    if biased:
        count = shape[1] * attributes.get("group", 1)
        bias = [net.constant(net.rng.integers(-999, 999, count), np.int32),
                net.constant(2.0**-15, np.float32)]  # fmt: skip
        inputs += net.node("DequantizeLinear", bias)
    (y,) = net.node("Relu", net.node("ConvTranspose", inputs, **attributes))
    program = equal(tmp_path / "net.onnx", net, net.pair(y))
    assert set(kinds(program)) <= {"Select", "DepthToSpace", "Crop"}
    assert "DepthToSpace" in kinds(program)


def test_what_is_rearranged_at_the_end_is_cut_off(tmp_path: Path) -> None:
    net = Net()
    y = net.add("Transpose", net.conv(net.pair("x"), 8, 8), perm=[0, 2, 3, 1])
    y = net.add("Reshape", y, [1, 48, 8])
    path = tmp_path / "net.onnx"
    path.write_bytes(net.content(y))
    program = import_onnx(path, PRESETS["onnxruntime"])
    assert kinds(program) == []
    assert program.outputs[0].shape == SHAPE
    assert all(kind in str(program.meta["cut"]) for kind in ("Transpose", "Reshape"))


@pytest.mark.parametrize(
    ("kind", "constants", "attributes", "words"),
    [
        ("Slice", ([-1], [-9], [2], [-1]), {}, "rows and columns in even steps; cut the model"),
        ("Slice", ([0], [4], [4]), {}, "its axis must be one of 4, not 4."),
        ("Gather", ([[0, 1]],), {"axis": 1}, "its indices must be one list of whole numbers"),
        ("Gather", ([8],), {"axis": 1}, r"its indices must be places of axis 1, not \[8\]."),
        ("DepthToSpace", (), {"blocksize": 3}, r"its blocksize must divide its input, \[1, 8"),
        ("Transpose", (), {"perm": [0, 1, 1, 2]}, r"its perm must order 4 axes, not be \[0, 1, 1"),
        ("Pad", ([1, 0, 0, 0, 0, 0, 0, 0],), {}, "it must not pad images"),
    ],
)
def test_what_does_not_choose_is_refused(
    tmp_path: Path, kind: str, constants: Any, attributes: Any, words: str
) -> None:
    net = Net()
    y = net.add(kind, net.conv(net.pair("x"), 8, 8), *constants, **attributes)
    path = tmp_path / "net.onnx"
    path.write_bytes(net.content(net.conv(y, 3, 8)))  # what is behind the last layer is cut off
    with pytest.raises(ModelError, match=words):
        import_onnx(path, PRESETS["onnxruntime"])
