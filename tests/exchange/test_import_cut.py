"""Quantised files that end in decoding: what is cut, and that what is left is the runtime's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tools import Cli, needs_modules, refused

from intaglio.errors import ModelError
from intaglio.exchange.checked import check
from intaglio.exchange.importer import import_onnx, imported
from intaglio.fixed import preset

RUNTIME = preset("onnxruntime")


def detector(path: Path, *tail: onnx.NodeProto, ends: tuple[str, ...], **more: Any) -> Path:
    """Two heads on one body, between quantisers, with a tail that is none of a Program's."""
    rng = np.random.default_rng(0)
    constants = {"s": np.float32(0.02), "z": np.uint8(128), "ws": np.float32(0.01),
                 "wz": np.int8(0), **more}  # fmt: skip
    nodes = quantised("x", "image")
    for name, source, shape in (
        ("body", "x", (8, 3, 3, 3)), ("box", "body", (4, 8, 1, 1)), ("score", "body", (3, 8, 1, 1))
    ):  # fmt: skip
        constants[f"{name}.w"] = rng.integers(-100, 100, shape).astype(np.int8)
        nodes += [
            helper.make_node("DequantizeLinear", [f"{name}.w", "ws", "wz"], [f"{name}.f"]),
            helper.make_node("Conv", [source, f"{name}.f"], [f"{name}.c"], name=name,
                             pads=[shape[2] // 2] * 4),
            *quantised(name, f"{name}.c"),
        ]  # fmt: skip
    graph = helper.make_graph(
        [*nodes, *tail], "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, 8, 8))],
        [helper.make_empty_tensor_value_info(name) for name in ends],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def quantised(name: str, source: str) -> list[onnx.NodeProto]:
    """Codes of a tensor, and what they stand for."""
    return [
        helper.make_node("QuantizeLinear", [source, "s", "z"], [f"{name}.q"], name=f"{name}.Q"),
        helper.make_node("DequantizeLinear", [f"{name}.q", "s", "z"], [name], name=f"{name}.DQ"),
    ]


def rows(name: str, columns: int) -> list[onnx.NodeProto]:
    """A map as rows of a pixel each."""
    return [
        helper.make_node("Transpose", [name], [f"{name}.t"], name=f"{name}.T", perm=[0, 2, 3, 1]),
        helper.make_node(
            "Reshape", [f"{name}.t", f"rows{columns}"], [f"{name}.r"], name=f"{name}.R"
        ),
    ]


ROWS = {f"rows{n}": np.array([1, -1, n]) for n in (3, 4, 7)}


def softmax_detector(path: Path) -> Path:
    """Boxes, and probabilities, as two outputs."""
    last = helper.make_node("Softmax", ["score.r"], ["probability"], name="softmax", axis=2)
    return detector(path, *rows("box", 4), *rows("score", 3), last,
                    ends=("probability", "box.r"), **ROWS)  # fmt: skip


def test_decoding_is_cut_and_what_is_left_is_the_runtimes(tmp_path: Path) -> None:
    needs_modules("onnxruntime")
    path = softmax_detector(tmp_path / "d.onnx")
    made = imported(path, RUNTIME)
    assert [t.name for t in made.program.outputs] == ["score.out", "box.out"]
    assert made.program.meta["cut"] == [
        f"Transpose '{name}.T'" if kind == "T" else f"Reshape '{name}.R'"
        for name in ("box", "score") for kind in "TR"
    ] + ["Softmax 'softmax'"]  # fmt: skip
    seen = check(path, made)
    assert (seen.differing, seen.reason, seen.fault) == (0, "", "")
    assert seen.compared >= 7 * 64


def test_what_is_joined_for_the_decoding_keeps_its_own_grid(tmp_path: Path) -> None:
    squashed = [helper.make_node("Sigmoid", ["score"], ["g"], name="sigmoid"), *quantised("h", "g"),
                helper.make_node("Concat", ["box", "h"], ["j"], name="join", axis=1),
                *quantised("both", "j")]  # fmt: skip
    last = helper.make_node("ArgMax", ["both.r"], ["best"], name="best", axis=2)
    path = detector(tmp_path / "d.onnx", *squashed, *rows("both", 7), last, ends=("best",), **ROWS)
    program = import_onnx(path, RUNTIME)
    assert [t.name for t in program.outputs] == ["box.out", "score.out"]
    assert {"Sigmoid 'sigmoid'", "Concat 'join'", "ArgMax 'best'"} <= set(program.meta["cut"])


def test_a_layer_behind_is_the_middle_of_the_network(tmp_path: Path) -> None:
    tail = [helper.make_node("Softmax", ["box"], ["soft"], name="softmax", axis=1),
            *quantised("p", "soft"),
            helper.make_node("Conv", ["p", "again"], ["c"], name="again"), *quantised("y", "c"),
            ]  # fmt: skip
    tail.insert(3, helper.make_node("DequantizeLinear", ["again.w", "ws", "wz"], ["again"]))
    weight = {"again.w": np.ones((5, 4, 1, 1), np.int8)}
    path = detector(tmp_path / "d.onnx", *tail, ends=("y",), **weight)
    with pytest.raises(ModelError, match=r"Softmax 'softmax': .*cut the model before it"):
        import_onnx(path, RUNTIME)


def test_from_the_command_line(cli: Cli, tmp_path: Path) -> None:
    needs_modules("onnxruntime")
    softmax_detector(tmp_path / "d.onnx")
    code, out, err = cli("import", "d.onnx", "-o", "d.intaglio", "--arithmetic", "onnxruntime")
    assert code == 0, err
    assert "cut off, with no layer behind: Transpose 'box.T', Reshape 'box.R'" in out
    assert "outputs: score.out, box.out" in out
    assert " 0 of " in out
    code, out, err = cli("import", "d.onnx", "-o", "e.intaglio", "--outputs", "body,box")
    assert code == 0, err
    assert "outputs: body.out, box.out" in out
    refused(cli("import", "d.onnx", "-o", "f.intaglio", "--outputs", "other"), "not 'other'")


def test_a_dead_channel_is_the_runtimes(tmp_path: Path) -> None:
    """onnxruntime's quantiser widens the scale of weights of nearly 0 until the bias code fits."""
    needs_modules("onnxruntime")
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    rng = np.random.default_rng(0)
    weight = rng.standard_normal((4, 3, 3, 3)).astype(np.float32)
    weight[1] *= 1e-12
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv"),
         helper.make_node("Relu", ["c"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 16, 16))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 4, 14, 14))],
        [numpy_helper.from_array(weight, "w"),
         numpy_helper.from_array(np.array([0.1, -0.5, 0.2, 0.3], np.float32), "b")],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "d.onnx")

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # it has no types
        def __init__(self) -> None:
            self.left = [{"x": rng.random((1, 3, 16, 16), np.float32)} for _ in range(4)]

        def get_next(self) -> dict[str, Any] | None:
            return self.left.pop() if self.left else None

    path = tmp_path / "q.onnx"
    quantize_static(tmp_path / "d.onnx", path, Reader(), per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)  # fmt: skip
    seen = check(path, imported(path, RUNTIME))
    assert (seen.differing, seen.reason, seen.fault) == (0, "", "")
    assert seen.compared > 1000
