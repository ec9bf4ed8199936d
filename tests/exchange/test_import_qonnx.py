"""QONNX's quantisers: the codes of the `qonnx` package, in every arithmetic that can round so."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tools import qonnx_operators

from intaglio.errors import ModelError, ProgramError
from intaglio.exchange.importer import import_onnx
from intaglio.fixed import PRESETS, Arithmetic
from intaglio.ops import Conv2d
from intaglio.program import Program
from intaglio.sim.reference import run

DOMAIN = "qonnx.custom_op.general"
ROUND_NUMBERS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.3, 0.5, 0.7, 1.0]
WAYS = ["ROUND", "HALF_EVEN", "FLOOR", "CEIL", "UP", "DOWN", "HALF_UP", "HALF_DOWN"]


def qnode(kind: str, inputs: str, output: str, **attributes: Any) -> Any:
    return helper.make_node(
        kind, inputs.split(), [output], name=f"the_{kind.lower()}", domain=DOMAIN, **attributes
    )


def quant(inputs: str, output: str, signed: int = 1, narrow: int = 0, way: str = "ROUND") -> Any:
    return qnode("Quant", inputs, output, signed=signed, narrow=narrow, rounding_mode=way)


def node(kind: str, inputs: str, output: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def imported(
    nodes: list[Any],
    arithmetic: Arithmetic,
    shape: tuple[int, int, int],
    version: int = 2,
    **constants: Any,
) -> Program:
    """A file whose input x is floats of this shape, and output y."""
    base = {"one": 1, "zero": 0, "b8": 8, "b16": 16, "b1": 1} | constants
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in base.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, version)]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(helper.make_model(graph, opset_imports=opsets).SerializeToString())
        return import_onnx(path, arithmetic)


@settings(max_examples=60)
@given(
    kind=st.sampled_from(["Quant", "IntQuant", "BipolarQuant"]),
    bits=st.integers(1, 8),
    scales=st.lists(st.sampled_from(ROUND_NUMBERS) | st.floats(0.01, 2), min_size=1, max_size=1)
    | st.lists(st.sampled_from(ROUND_NUMBERS) | st.floats(0.01, 2), min_size=4, max_size=4),
    signed=st.booleans(),
    narrow=st.booleans(),
    way=st.sampled_from(WAYS),
    seed=st.integers(0, 999),
)
def test_weights_are_those_of_the_package(
    kind: str, bits: int, scales: list[float], signed: bool, narrow: bool, way: str, seed: int
) -> None:
    """Weights of round numbers, many of them ties that float32 decides, and signs of one bit."""
    operators = qonnx_operators()
    w = (np.random.default_rng(seed).integers(-40, 40, (4, 3, 1, 1)) / 20).astype(np.float32)
    s = np.array(scales, np.float32).reshape(-1, 1, 1, 1)
    first = quant("x one zero b8", "q")
    if kind == "BipolarQuant":
        made = qnode(kind, "w s", "wq")
        expected = operators.binary_quant(w, s)
    else:
        attributes = {"signed": int(signed), "narrow": int(narrow)}
        made = qnode(kind, "w s zero b", "wq", rounding_mode=way, **attributes)
        expected = operators.int_quant(
            w, s, np.float32(0), np.float32(bits), *attributes.values(), way
        )
    last = [node("Conv", "q wq", "c"), quant("c s0 zero b16", "y")]
    program = imported([first, made, *last], Arithmetic(), (3, 2, 2), w=w, s=s, s0=64, b=bits)
    (conv,) = (op for op in program.ops if isinstance(op, Conv2d))
    np.testing.assert_array_equal(program.constants[conv.weight].array, np.rint(expected / s))


@settings(max_examples=30)
@given(
    data=st.data(),
    scale=st.sampled_from(ROUND_NUMBERS),
    name=st.sampled_from([n for n in PRESETS if n != "dpu"]),
)
def test_a_signed_bit_is_a_sign(data: st.DataObject, scale: float, name: str) -> None:
    """+1 where the real is at least 0, whatever the sign of the channel's factor; never 0."""
    gain = data.draw(st.lists(st.sampled_from([-2.0, -1.0, 1.0, 4.0]), min_size=3, max_size=3))
    moved = data.draw(st.lists(st.integers(-150, 150), min_size=3, max_size=3))
    g = np.array(gain, np.float32)
    add = (np.float32(scale) * g * np.array(moved, np.float32)).astype(np.float32)
    kind = data.draw(st.sampled_from(["Quant", "BipolarQuant", "Relu", "HardSwish"]))
    last = (
        qnode("BipolarQuant", "r one", "y")
        if kind == "BipolarQuant"
        else quant("r one zero b1", "y")
    )
    between = [node("Mul", "q g", "m"), node("Add", "m a", "r")]
    if kind in ("Relu", "HardSwish"):
        between = [node(kind, "q", "r")]
    program = imported(
        [quant("x s zero b8", "q"), *between, last],
        PRESETS[name],
        (3, 16, 16),
        s=scale,
        g=g.reshape(3, 1, 1),
        a=add.reshape(3, 1, 1),
    )
    codes = np.broadcast_to(np.arange(-128, 128).reshape(1, 1, 16, 16), (1, 3, 16, 16))
    (out,) = (run(program, codes).tensors[t.name] for t in program.outputs)
    real = codes.astype(np.int64) + np.array(moved).reshape(3, 1, 1)
    real = real * g.reshape(3, 1, 1)
    if kind in ("Relu", "HardSwish"):
        real = np.maximum(codes, 0) if kind == "Relu" else np.where(codes * scale > -3, codes, 0)
    np.testing.assert_array_equal(out, np.where(real >= 0, 1, -1))
    assert program.outputs[0].type.bits == 2


@settings(max_examples=60)
@given(
    data=st.data(),
    drop=st.integers(0, 4),
    way=st.sampled_from(WAYS),
    name=st.sampled_from(sorted(PRESETS)),
    second=st.booleans(),
    side=st.sampled_from([1, 2, 3]),
)
def test_trunc_drops_bits_as_the_package_does(
    data: st.DataObject, drop: int, way: str, name: str, second: bool, side: int
) -> None:
    """Of operator sets 1 and 2: sums of windows, in every rounding, clamped or not."""
    operators = qonnx_operators()
    scale = np.float32(data.draw(st.sampled_from(ROUND_NUMBERS)))
    bits = data.draw(st.integers(2, 8))
    signed, narrow = data.draw(st.booleans()), data.draw(st.booleans())
    clipped = data.draw(st.booleans())
    into = np.float32(scale / side**2)
    before, after = np.float32(bits + drop), np.float32(bits)
    constants = {"s": scale, "t": into, "before": before, "after": after, "out": into * 2**drop}
    inputs = f"p t zero before {'out after' if second else 'after'}"
    attributes = {"signed": int(signed), "narrow": int(narrow)} if second else {}
    nodes = [
        quant("x s zero b8", "q"),
        node("Relu" if clipped else "Identity", "q", "r"),
        node("AveragePool", "r", "p", kernel_shape=[side, side], strides=[side, side]),
        qnode("Trunc", inputs, "y", rounding_mode=way.lower(), **attributes),
    ]
    program = imported(nodes, PRESETS[name], (1, 12, 12), 1 + second, **constants)
    codes = np.random.default_rng(drop).integers(-128, 128, (6, 1, 12, 12))
    (out,) = (run(program, codes).tensors[t.name] for t in program.outputs)
    kept = np.maximum(codes, 0) if clipped else codes
    sums = kept.reshape(6, 12 // side, side, 12 // side, side).sum(axis=(2, 4))
    real = sums.astype(np.float32) * into
    if second:
        expected = operators.trunc_v2(
            real, into, np.float32(0), before, narrow, signed, constants["out"], after, way
        )
        step = constants["out"]
    else:
        expected, step = operators.trunc_v1(real, into, np.float32(0), before, after, way), into
    np.testing.assert_array_equal(out[:, 0], np.rint(expected / step))


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([quant("x s b1 b1", "y")], "Quant 'the_quant': its zero point must be 0"),
        (
            [quant("x s zero b8", "q"), node("Add", "q q", "a"), quant("a s zero b1", "y")],
            "Quant 'the_quant': the sign must be of one quantised tensor; quantise the sum",
        ),
        ([quant("x minus zero b8", "y")], "its scale must be finite and above 0, not -1"),
        (
            [quant("x s zero b8", "q"), qnode("Trunc", "q s zero b8", "y", rounding_mode="FLOOR")],
            "it must have its input 'out_bitwidth'",
        ),
        (
            [
                quant("x s zero b8", "q"),
                qnode("Trunc", "q s zero b16 b8", "y", rounding_mode="ODD"),
            ],
            "Trunc 'the_trunc': its rounding must be one of ROUND, .*, not ODD",
        ),
        (
            [quant("x s zero b16", "q"), node("AveragePool", "q", "p", kernel_shape=[2, 2]),
             qnode("Trunc", "p t zero b16 b8", "y", rounding_mode="ROUND")],
            "must be at most 16 bits wide to be rounded by ROUND in arithmetic 'intaglio', not 18;"
            " pool fewer pixels, or export it with rounding FLOOR",
        ),
    ],
)  # fmt: skip
def test_refusals_name_the_remedy(nodes: list[Any], words: str) -> None:
    with pytest.raises((ModelError, ProgramError), match=words):
        imported(nodes, Arithmetic(), (1, 4, 4), 1, s=0.5, t=0.125, minus=-1)
