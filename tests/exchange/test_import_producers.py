"""What quantisers of the field write and the standard's own examples do not have: values left in
float where a Program must have codes, quantisers behind what moves values, nodes in any order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from intaglio.errors import ModelError
from intaglio.exchange.checked import check
from intaglio.exchange.from_onnx.resizing import FLOATS
from intaglio.exchange.importer import Imported, imported
from intaglio.fixed import PRESETS, preset
from intaglio.sim.engine import Simulator

RUNTIME = preset("onnxruntime")
GRID = {"s": np.float32(0.05), "z": np.uint8(7), "t": np.float32(0.11), "v": np.uint8(100)}
QDQ = [("QuantizeLinear", "x s z", "q"), ("DequantizeLinear", "q s z", "d")]
OUT = [("QuantizeLinear", "r t v", "p"), ("DequantizeLinear", "p t v", "y")]


def weights(r: np.random.Generator) -> dict[str, Any]:
    """Of a 3 x 3 convolution of four channels, one scale for each of six outputs."""
    return GRID | {
        "w": r.integers(-127, 128, (6, 4, 3, 3)).astype(np.int8),
        "ws": r.uniform(0.001, 0.01, 6).astype(np.float32),
        "wz": np.zeros(6, np.int8),
        "b": r.normal(size=6).astype(np.float32),
    }


CONV = [("DequantizeLinear", "w ws wz", "wd"), ("Conv", "d wd b", "c")]


def written(
    path: Path, nodes: list[tuple[str, str, str]], constants: dict[str, Any], **resize: str
) -> Path:
    """A file whose input x is 1 x 4 x 8 x 8 floats and whose output is y."""
    fields: dict[str, Any] = {
        "Resize": resize,
        "Conv": {"pads": [1, 1, 1, 1]},
        "MaxPool": {"kernel_shape": [2, 2], "strides": [2, 2]},
        "Concat": {"axis": 1},
        "ConvTranspose": {"strides": [2, 2]},
        "DequantizeLinear": {"axis": 0},
    }
    made = [
        helper.make_node(kind, reads.split(), [out], f"n_{out}", **fields.get(kind, {}))
        for kind, reads, out in nodes
    ]
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def codes_of(made: Imported, seed: int = 1) -> Any:
    """Random codes, and the Program's output for them."""
    (x,) = made.program.inputs
    codes = np.random.default_rng(seed).integers(x.lo, x.hi, (4, *x.shape), endpoint=True)
    return codes, Simulator(made.program)(codes)[made.program.outputs[0].name]


@pytest.mark.parametrize("name", sorted(n for n, a in PRESETS.items() if not a.power_of_two))
def test_an_output_that_is_not_quantised_has_sixteen_bits(tmp_path: Path, name: str) -> None:
    constants = weights(np.random.default_rng(0))
    path = written(tmp_path / "m.onnx", [*QDQ, *CONV, ("Relu", "c", "y")], constants)
    made = imported(path, preset(name))
    assert made.wide == ("y",)
    (out,) = made.program.outputs
    assert str(out.type) == "i16"
    codes, ours = codes_of(made)
    real = np.pad((codes - 7.0) * float(GRID["s"]), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(real, (3, 3), (2, 3))
    wide = constants["w"] * constants["ws"].astype(np.float64)[:, None, None, None]
    exact = np.einsum("nchwyx,ocyx->nohw", windows, wide) + constants["b"][:, None, None]
    assert np.abs(ours * out.scale - np.maximum(exact, 0)).max() <= 1.1 * out.scale
    assert ours.min() == 0
    assert np.abs(ours).max() > 3000


def test_the_check_allows_what_float32_sums_make_of_it(tmp_path: Path) -> None:
    constants = weights(np.random.default_rng(2))
    path = written(tmp_path / "m.onnx", [*QDQ, *CONV[:1], ("Conv", "d wd b", "y")], constants)
    made = imported(path, RUNTIME)
    found = check(path, made)
    assert not found.reason
    assert not found.wrong
    assert found.differences[0].largest <= 1


def test_a_network_without_quantisers_is_still_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx", [("Relu", "x", "y")], {})
    with pytest.raises(ModelError, match="output 'y' must be quantised, not float"):
        imported(path, RUNTIME, mean=[0.5], std=[0.2])


@pytest.mark.parametrize("scale", ["t", "s"], ids=["one scale", "another scale"])
def test_a_bilinear_resize_is_that_of_floats_but_for_halves(tmp_path: Path, scale: str) -> None:
    """Its name is given, as no code of the file says what float32 makes of a half."""
    constants = weights(np.random.default_rng(5)) | {"k": np.array([1, 1, 2, 2], np.float32)}
    constants |= {"none": np.zeros(0, np.float32)}
    nodes = [
        *QDQ, *CONV, ("QuantizeLinear", "c t v", "e"), ("DequantizeLinear", "e t v", "f"),
        ("Resize", "f none k", "g"), ("QuantizeLinear", f"g {scale} v", "p"),
        ("DequantizeLinear", f"p {scale} v", "y"),
    ]  # fmt: skip
    path = written(tmp_path / "m.onnx", nodes, constants, mode="linear")
    made = imported(path, RUNTIME)
    assert made.notes == {"n_g": FLOATS}
    found = check(path, made)
    assert not found.wrong
    assert all(d.largest <= 1 for d in found.differences)
    assert 0 < found.differing < found.compared / 20
    assert any(FLOATS in line for line in found.sentences("intaglio"))


@pytest.mark.parametrize("power", [-3, -4, 2])
def test_between_powers_of_two_a_bilinear_resize_has_no_half_of_its_own(
    tmp_path: Path, power: int
) -> None:
    """What the sentence about it advises."""
    constants = weights(np.random.default_rng(5)) | {"k": np.array([1, 1, 2, 2], np.float32)}
    constants |= {"none": np.zeros(0, np.float32), "t": np.float32(0.125)}
    constants |= {"u": np.float32(2.0**power)}
    nodes = [
        *QDQ, *CONV, ("QuantizeLinear", "c t v", "e"), ("DequantizeLinear", "e t v", "f"),
        ("Resize", "f none k", "g"), ("QuantizeLinear", "g u v", "p"),
        ("DequantizeLinear", "p u v", "y"),
    ]  # fmt: skip
    found = check(written(tmp_path / "m.onnx", nodes, constants, mode="linear"), imported(
        tmp_path / "m.onnx", RUNTIME
    ))  # fmt: skip
    assert found.compared
    assert found.differing == 0


@pytest.mark.parametrize("move", ["MaxPool", "Resize"])
def test_a_quantiser_behind_what_moves_values_is_one_before_it(tmp_path: Path, move: str) -> None:
    constants = weights(np.random.default_rng(3)) | {"k": np.array([1, 1, 2, 2], np.float32)}
    reads = " {} {}" if move == "Resize" else ""
    body = [*QDQ, *CONV, ("Relu", "c", "e")]

    def moved(source: str, out: str) -> tuple[str, str, str]:
        return (move, source + (" none k" if reads else ""), out)

    constants |= {"none": np.zeros(0, np.float32)}
    late = written(tmp_path / "late.onnx", [*body, moved("e", "r"), *OUT], constants)
    early = written(
        tmp_path / "early.onnx",
        [*body, ("QuantizeLinear", "e t v", "p"), ("DequantizeLinear", "p t v", "f"),
         moved("f", "y")],
        constants,
    )  # fmt: skip
    first, second = imported(late, RUNTIME), imported(early, RUNTIME)
    assert first.wide == second.wide == ()
    np.testing.assert_array_equal(codes_of(first)[1], codes_of(second)[1])


def test_a_function_of_a_sum_that_is_not_quantised(tmp_path: Path) -> None:
    constants = weights(np.random.default_rng(4))
    silu = [("Sigmoid", "c", "g"), ("Mul", "c g", "r")]
    path = written(tmp_path / "m.onnx", [*QDQ, *CONV, *silu, *OUT], constants)
    made = imported(path, RUNTIME)
    assert made.wide == ("g",)
    found = check(path, made)
    assert not found.reason
    assert not found.wrong
    assert found.differences[0].largest <= 1


def test_a_transposed_convolution_that_is_not_quantised(tmp_path: Path) -> None:
    r = np.random.default_rng(7)
    constants = weights(r) | {
        "u": r.integers(-127, 128, (4, 2, 2, 2)).astype(np.int8), "us": np.float32(0.004),
        "uz": np.int8(0), "ub": r.normal(size=2).astype(np.float32),
    }  # fmt: skip
    nodes = [
        *QDQ, ("DequantizeLinear", "u us uz", "ud"), ("ConvTranspose", "d ud ub", "c"),
        ("Sigmoid", "c", "r"), *OUT,
    ]  # fmt: skip
    path = written(tmp_path / "m.onnx", nodes, constants)
    made = imported(path, RUNTIME)
    assert made.wide == ("r",)
    found = check(path, made)
    assert not found.reason
    assert not found.wrong
    assert found.differences[0].largest <= 1


def test_joined_codes_of_one_scale_need_no_quantiser(tmp_path: Path) -> None:
    r = np.random.default_rng(5)
    constants = weights(r) | {
        "w2": r.integers(-9, 9, (2, 8, 1, 1)).astype(np.int8), "one": np.float32(0.02),
        "zero": np.int8(0),
    }  # fmt: skip
    nodes = [
        *QDQ, ("Concat", "d d", "j"), ("DequantizeLinear", "w2 one zero", "w2d"),
        ("Conv", "j w2d", "r"), *OUT,
    ]  # fmt: skip
    path = written(tmp_path / "m.onnx", nodes, constants)
    made = imported(path, RUNTIME)
    assert made.wide == ()
    found = check(path, made)
    assert not found.reason
    assert not found.wrong
    assert found.differences[0].largest <= 1


def test_nodes_in_any_order(tmp_path: Path) -> None:
    constants = weights(np.random.default_rng(6))
    nodes = [*QDQ, *CONV, ("Relu", "c", "r"), *OUT]
    ordered = imported(written(tmp_path / "a.onnx", nodes, constants), RUNTIME)
    mixed = imported(written(tmp_path / "b.onnx", nodes[::-1], constants), RUNTIME)
    np.testing.assert_array_equal(codes_of(ordered)[1], codes_of(mixed)[1])


def test_nodes_that_wait_for_each_other_are_refused(tmp_path: Path) -> None:
    nodes = [("Relu", "b", "a"), ("Relu", "a", "b"), ("Relu", "a", "y")]
    path = written(tmp_path / "m.onnx", nodes, {})
    assert len(onnx.load(path).graph.node) == 3
    with pytest.raises(ModelError, match="must be made before it is read"):
        imported(path, RUNTIME)
