"""Products of two activations: QDQ and QLinearMul beside onnxruntime, MUL beside LiteRT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from qdq_files import RUNTIME, session
from tools import needs_modules

from intaglio.errors import ModelError
from intaglio.exchange.importer import import_onnx, imported
from intaglio.fixed import Arithmetic
from intaglio.ops import Lookup, Multiply, Select, Upsample
from intaglio.program import Program
from intaglio.sim.engine import Simulator

SHAPE = (4, 3, 5)
GATES = {
    "each": (4, 3, 5), "channels": (4, 1, 1), "pixels": (1, 3, 5), "all": (1, 1, 1),
    "rows": (4, 3, 1), "columns": (1, 1, 5),
}  # fmt: skip


class Gated:
    """x and its gate, made of x by a pool or a part of it; both and the product on grids."""

    def __init__(self, rng: np.random.Generator, kind: Any, wanted: str, linear: bool) -> None:
        self.rng, self.kind = rng, kind
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.codes: dict[str, list[str]] = {}  # of what a pair makes: codes, scale, zero point
        shape = GATES.get(wanted, SHAPE)
        x = self.pair("x")
        small = x
        if wanted == "each":
            small = self.add("MaxPool", x, kernel_shape=[1, 1])
        for axis, (side, whole) in enumerate(zip(shape, SHAPE, strict=True), 1):
            if side < whole:
                ends = [self.constant(np.array([v])) for v in (0, 1, axis)]
                small = self.add("Slice", small, *ends)
        gate = self.pair(self.add("Sigmoid", small))
        sides = (x, gate) if rng.integers(2) else (gate, x)
        if linear:
            grid = self.grid()
            given_ = [part for side in sides for part in self.codes[side]]
            made = self.add("QLinearMul", *given_, *grid, domain="com.microsoft")
            self.last = self.add("DequantizeLinear", made, *grid)
        else:
            made = self.add("Mul", *sides)
            if rng.integers(2):
                made = self.add("Relu", made)
            self.last = self.pair(made)

    def add(self, kind: str, *inputs: str, **how: Any) -> str:
        made = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [made], name=f"n_{made}", **how))
        return made

    def constant(self, value: Any) -> str:
        self.constants[f"c{len(self.constants)}"] = np.asarray(value)
        return list(self.constants)[-1]

    def grid(self) -> list[str]:
        info = np.iinfo(self.kind)
        zero = self.rng.integers(info.min, info.max + 1) if info.bits == 8 else 0
        scale = np.float32(self.rng.uniform(0.002, 0.1) * 256 / (1 << info.bits))
        return [self.constant(scale), self.constant(self.kind(zero))]

    def pair(self, x: str) -> str:
        grid = self.grid()
        q = self.add("QuantizeLinear", x, *grid)
        made = self.add("DequantizeLinear", q, *grid)
        self.codes[made] = [q, *grid]
        return made

    def write(self, path: Path) -> Any:
        """The file."""
        graph = helper.make_graph(
            self.nodes, "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, *SHAPE))],
            [helper.make_empty_tensor_value_info(self.last)],
            [numpy_helper.from_array(v, k) for k, v in self.constants.items()],
        )  # fmt: skip
        opsets = [
            helper.make_opsetid("", 21 if np.iinfo(self.kind).bits > 8 else 19),
            helper.make_opsetid("com.microsoft", 1),
        ]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        path.write_bytes(model.SerializeToString())
        return model

    def agree(self, path: Path) -> Program:
        """The Program, whose output codes are the runtime's."""
        model, program = self.write(path), import_onnx(path, RUNTIME)
        ((source,), (out,)) = program.inputs, program.outputs
        codes = self.rng.integers(source.type.lo, source.type.hi + 1, (20, *SHAPE))
        ours = Simulator(program, threads=1)(codes)[out.name]
        runs = session(model)
        for n, image in enumerate(codes):
            x = np.float32(source.scale) * (image - source.zero_point[0]).astype(np.float32)
            (theirs,) = runs.run(None, {"x": x[None]})
            theirs = np.rint(theirs / np.float32(out.scale)) + out.zero_point[0]
            np.testing.assert_array_equal(ours[n], theirs[0])
        return program


@given(st.integers(0, 10**6), st.sampled_from(sorted(GATES)), st.booleans(), st.booleans())
@settings(max_examples=10)
def test_gates_have_the_runtime_s_integers(
    tmp_path_factory: pytest.TempPathFactory, seed: int, wanted: str, signed: bool, linear: bool
) -> None:
    path = tmp_path_factory.mktemp("gate") / "m.onnx"
    kind = np.int8 if signed else np.uint8
    Gated(np.random.default_rng(seed), kind, wanted, linear).agree(path)
    exact = import_onnx(path, Arithmetic())
    (product,) = exact.of_kind(Multiply)
    sides = [exact.tensors[name].shape for name in product.inputs]
    whole = sides[0][1:] if wanted in ("rows", "columns") else GATES[wanted][1:]
    assert sides == [SHAPE, (GATES[wanted][0], *whole)]
    assert len(exact.of_kind(Upsample)) == (wanted in ("rows", "columns"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200))
def test_many_gates_have_the_runtime_s_integers(tmp_path: Path, seed: int) -> None:
    wanted = sorted(GATES)[seed % len(GATES)]
    kind = (np.int8, np.uint8)[seed // 6 % 2]
    Gated(np.random.default_rng(seed), kind, wanted, bool(seed // 12 % 2)).agree(tmp_path / "m")


def test_wide_codes_are_a_product_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    Gated(np.random.default_rng(1), np.uint16, "channels", linear=False).write(path)
    made = imported(path, RUNTIME)
    assert made.program.of_kind(Multiply)
    assert "a product of wide codes" in made.notes.values()


def test_a_tensor_times_its_own_function_stays_one_table(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    Gated(np.random.default_rng(1), np.uint8, "itself", linear=False).agree(path)
    assert not import_onnx(path, Arithmetic()).of_kind(Multiply)


def tflite() -> Any:
    """The helpers of TFLite files, where LiteRT is installed."""
    needs_modules("ai_edge_litert", "flatbuffers")
    import tflite_files

    return tflite_files


def checked(path: Path, net: Any, *outputs: int, kernels: Any = "reference") -> Program:
    """The Program, whose every tensor is LiteRT's."""
    from intaglio.exchange.from_tflite.checked import check
    from intaglio.exchange.from_tflite.importer import imported as read

    path.write_bytes(net.content(*outputs))
    made = read(path, kernels=kernels)
    found = check(made, images=6)
    assert not found.reason, found.reason
    assert not found.wrong, found.places
    assert found.compared > 0
    assert not made.cut
    return made.program


def gates(net: Any, x: int, wanted: str) -> int:
    """A gate of x of one of these shapes."""
    if wanted == "each":
        return int(net.conv(x, net.shape(x)[3], 3))
    if wanted == "pixels":
        return int(net.conv(x, 1, 3))
    if wanted in ("rows", "columns"):
        sides = list(net.shape(x))
        sides[2 if wanted == "rows" else 1] = 1
        return int(net.slice(x, [0, 0, 0, 0], sides))
    squeezed = net.mean(x, keep=wanted != "flat")
    if wanted == "all":
        return int(net.conv(squeezed, 1, 1))
    return int(squeezed)


WANTED = ("each", "channels", "pixels", "all", "rows", "columns", "flat")
KINDS = ("INT8", "UINT8", "INT16")


def products(path: Path, kind: str, wanted: str, seed: int) -> None:
    files = tflite()
    net = files.Net(np.random.default_rng(seed), getattr(files.Type, kind))
    x = net.conv(net.input(1, 5, 6, 3), 4, 3)
    gate = gates(net, x, wanted)
    sides = (x, gate) if seed % 2 else (gate, x)
    program = checked(path, net, net.gate(*sides, activation=seed % 4))
    assert len(program.of_kind(Multiply)) == 1


@pytest.mark.parametrize("seed", range(len(WANTED)))
def test_mul_has_litert_s_integers_at_every_tensor(tmp_path: Path, seed: int) -> None:
    products(tmp_path / "m.tflite", KINDS[seed % 3], WANTED[seed], seed)


@pytest.mark.slow
@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("kind", KINDS)
def test_mul_of_every_kind_and_shape(tmp_path: Path, kind: str, wanted: str) -> None:
    for seed in range(8):
        products(tmp_path / "m.tflite", kind, wanted, seed)


def test_squeeze_and_excite_of_a_file(tmp_path: Path) -> None:
    files = tflite()
    net = files.Net(np.random.default_rng(5))
    x = net.conv(net.input(1, 8, 8, 3), 8, 3)
    small = net.conv(net.conv(net.mean(x, keep=True), 2, 1, activation=1), 8, 1)
    gated = net.gate(x, net.function(small, "LOGISTIC"))
    silu = net.gate(gated, net.function(gated, "LOGISTIC"))
    program = checked(tmp_path / "m.tflite", net, net.conv(silu, 4, 1))
    assert len(program.of_kind(Multiply)) == 1  # x * sigmoid(x) is one table
    assert len(program.of_kind(Lookup)) == 2


def test_channels_first_costs_nothing(tmp_path: Path) -> None:
    """As converters from torch write it: both in another layout, and back."""
    files = tflite()
    net = files.Net(np.random.default_rng(6))
    x = net.conv(net.input(1, 5, 6, 3), 4, 3)
    gate = net.conv(net.mean(x, keep=True), 4, 1)
    made = net.gate(net.transpose(x, 0, 3, 1, 2), net.transpose(gate, 0, 3, 1, 2))
    program = checked(tmp_path / "m.tflite", net, net.conv(net.transpose(made, 0, 2, 3, 1), 2, 1))
    assert not program.of_kind(Select)


@pytest.mark.parametrize("wanted", ["each", "pixels"])
def test_mul_in_the_integers_of_litert_s_default(tmp_path: Path, wanted: str) -> None:
    files = tflite()
    for seed in range(3):
        net = files.Net(np.random.default_rng(seed))
        x = net.conv(net.input(1, 5, 6, 3), 4, 3)
        made = net.gate(x, gates(net, x, wanted), activation=seed % 2)
        checked(tmp_path / "m.tflite", net, made, kernels="xnnpack")


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    from intaglio.exchange.from_tflite.importer import imported as read

    files = tflite()
    net = files.Net(np.random.default_rng(1))
    x = net.conv(net.input(1, 5, 6, 3), 4, 3)
    y = net.conv(net.pool(x, "MAX_POOL_2D", 2, 1, files.schema.Padding.VALID), 4, 1)
    net.add("MUL", [x, y], net.activation((1, 5, 6, 4)), files.schema.MulOptionsT(), "MulOptions")
    last = net.conv(len(net.tensors) - 1, 2, 1)
    (tmp_path / "m.tflite").write_bytes(net.content(last))
    with pytest.raises(ModelError, match=r"must have one shape, or one of them sides of 1, not \["):
        read(tmp_path / "m.tflite")
