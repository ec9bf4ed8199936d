"""QLinear and QDQ: onnxruntime gives the simulator's integers, and the importer reads them back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from strategies import images_for, programs
from tools import Cli, refused

from intaglio.errors import ModelError, ProgramError
from intaglio.exchange.importer import import_onnx
from intaglio.exchange.runtime import run_onnx
from intaglio.exchange.to_onnx.graph import write
from intaglio.exchange.to_onnx.quantised import to_quantised
from intaglio.file import load, save
from intaglio.fixed import PRESETS, Arithmetic, IntType
from intaglio.ops import Conv2d, Input, Output, Requant, SumPool2d
from intaglio.program import Builder, Program
from intaglio.sim.reference import run

EVEN = Arithmetic(
    name="even", rounding="RND_CONV", power_of_two=True, multiplier_bits=26, per_channel_shift=True
)
BLOCKS = [
    "conv",
    "depthwise",
    "grouped",
    "shared",
    "sumpool",
    "maxpool",
    "upsample",
    "pad",
    "concat",
    "scale",
]


def runtimes_own(program: Program) -> Program:
    """The Program with B of every Requant a multiple of M, as a bias at the scale of the sum."""
    builder = Builder(program.arithmetic)
    builder.constants = dict(program.constants)
    for op in program.ops:
        made = program.tensors[op.output]
        if isinstance(op, Requant):
            m = program.constants[op.multiplier].array.reshape(-1)
            b = program.constants[op.bias].array.reshape(-1)
            size = max(m.size, b.size)
            m, b = np.resize(m, size), np.resize(b, size)
            s = np.resize(np.array(op.shift), size)
            near = np.where(m == 0, b >> s << s, b // np.where(m == 0, 1, m) * m)
            near = np.where(abs(near) > np.where(m == 0, 1 << s, abs(m)) << 22, 0, near)
            name = builder.constant(f"{op.bias}.near", near)
            low = -128 if made.type.signed else 0
            offset = max(low, min(low + 255, op.offset))
            op = replace(op, bias=name, offset=offset, rounding=None)
        sums = isinstance(op, (Conv2d, SumPool2d))
        builder.add(op, None if sums else made.type, made.scale, made.zero_point)
    return builder.build()


@settings(max_examples=25)
@given(st.data(), st.booleans())
def test_onnxruntime_gives_the_reference_integers(data: st.DataObject, qdq: bool) -> None:
    program = runtimes_own(
        data.draw(programs(arithmetic=EVEN, blocks=BLOCKS, weight_bits=7, max_blocks=4))
    )
    try:
        model = to_quantised(program, qdq=qdq)
    except ProgramError as error:
        assert "sums must be below 2^24" in str(error)  # noqa: PT017 - the only refusal there is
        return
    images = data.draw(images_for(program))
    expected, got = run(program, images).tensors, run_onnx(model, images)
    for name, array in got.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


@settings(max_examples=25)
@given(st.data(), st.booleans())
def test_what_was_exported_is_imported_again(data: st.DataObject, qdq: bool) -> None:
    """Equal integers from both Programs; types may be wider, because ONNX has bytes only."""
    blocks = [b for b in BLOCKS if b != "concat"]
    program = runtimes_own(
        data.draw(programs(arithmetic=EVEN, blocks=blocks, weight_bits=7, max_blocks=3))
    )
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        try:
            write(to_quantised(program, qdq=qdq), path)
            again = import_onnx(path, EVEN)
        except ProgramError:  # sums of 2^24 and more
            return
        except ModelError as error:
            # A sign, an odd size; most draws raise nothing, so that no block expects it.
            assert str(error).startswith(("Cast ", "Gather "))  # noqa: PT017 - as said above
            return
    images = data.draw(images_for(program))
    first, second = run(program, images).tensors, run(again, images).tensors
    for one, two in zip(program.outputs, again.outputs, strict=True):
        np.testing.assert_array_equal(first[one.name], second[two.name])


# --- files of other tools -----------------------------------------------------------------------


def model_of(path: Path, nodes: list[Any], constants: dict[str, Any], output: str = "y") -> Path:
    """A file whose input x is 1 x 2 x 4 x 4 floats."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 4, 4])],
        [helper.make_empty_tensor_value_info(output)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


def node(kind: str, inputs: str, output: str, **attributes: Any) -> Any:
    return helper.make_node(
        kind, inputs.split(), [output], name=f"the_{kind.lower()}", **attributes
    )


QUANT = {"s": np.float32(0.25), "z": np.float32(0), "b8": np.float32(8), "b3": np.float32(3)}


def test_qonnx_of_three_bits(tmp_path: Path) -> None:
    """Quant of weights and activations, a sum pool cut by Trunc, against float arithmetic."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(3, 2, 3, 3)).astype(np.float32)
    path = model_of(
        tmp_path / "q.onnx",
        [
            node("Quant", "x s z b8", "xq", signed=0, narrow=0, rounding_mode="ROUND"),
            node("Quant", "w s z b3", "wq", signed=1, narrow=1, rounding_mode="ROUND"),
            node("Conv", "xq wq bias", "c", pads=[1, 1, 1, 1]),
            node("Relu", "c", "r"),
            node("Quant", "r one z b3", "rq", signed=0, narrow=0, rounding_mode="ROUND"),
            node("AveragePool", "rq", "p", kernel_shape=[2, 2], strides=[2, 2]),
            node("Mul", "p four", "m"),
            node("Trunc", "m one z five b3", "y", rounding_mode="FLOOR"),
        ],
        QUANT | {"w": w, "one": np.float32(1), "four": np.float32(4), "five": np.float32(5),
                 "bias": np.array([0.5, -0.25, 3], np.float32)},
    )  # fmt: skip
    program = import_onnx(path, EVEN)
    codes = rng.integers(0, 256, (4, 2, 4, 4))
    (out,) = (run(program, codes).tensors[t.name] for t in program.outputs)
    weights = np.clip(np.rint(w / 0.25), -3, 3)
    padded = np.pad(codes, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    real = np.einsum("nchwij,ocij->nohw", windows, weights) / 16
    real += np.array([0.5, -0.25, 3])[:, None, None]
    q = np.clip(np.rint(np.maximum(real, 0)), 0, 7)
    pooled = q.reshape(4, 3, 2, 2, 2, 2).sum(axis=(3, 5))
    np.testing.assert_array_equal(out, np.floor(pooled / 4))
    assert str(program.tensors[program.outputs[0].name].type) == "u3"


def test_averages_of_onnxruntime_to_the_bit(tmp_path: Path) -> None:
    """Its sums in float32 are a table where the arithmetic is: ties and borders too."""
    constants = {"s": np.float32(0.25), "z": np.uint8(7), "t": np.float32(0.5), "y0": np.uint8(3)}
    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        node("QLinearAveragePool", "q s z t y0", "y", domain="com.microsoft", kernel_shape=[3, 2],
             pads=[1, 1, 1, 0], count_include_pad=1),
    ]  # fmt: skip
    path = model_of(tmp_path / "a.onnx", nodes, constants)
    program = import_onnx(path, PRESETS["onnxruntime"])
    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model.ir_version = 10
    codes = np.random.default_rng(0).integers(0, 256, (50, 2, 4, 4))
    (theirs,) = run_onnx(model, (codes - 7.0) * 0.25).values()
    (ours,) = (run(program, codes).tensors[t.name] for t in program.outputs)
    np.testing.assert_array_equal(ours, theirs)


def test_resize_of_some_axes(tmp_path: Path) -> None:
    """`axes` names the sides that are given; a policy that would choose the size is refused."""
    constants = {"s": np.float32(1), "z": np.uint8(0), "n": np.array([9, 6])}
    way = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    first = node("QuantizeLinear", "x s z", "q")
    resize = node("Resize", "q", "y", axes=[3, 2], **way)
    resize.input[:] = ["q", "", "", "n"]
    program = import_onnx(model_of(tmp_path / "r.onnx", [first, resize], constants))
    assert program.outputs[0].shape == (2, 6, 9)
    for policy in ("not_larger", "not_smaller"):
        resize = node("Resize", "q", "y", axes=[3, 2], keep_aspect_ratio_policy=policy, **way)
        resize.input[:] = ["q", "", "", "n"]
        path = model_of(tmp_path / "r.onnx", [first, resize], constants)
        with pytest.raises(ModelError, match=r"Resize 'the_resize': .*must be stretch, not"):
            import_onnx(path)


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        (
            [node("QuantizeLinear", "x s0 z0", "q"), node("ConvInteger", "q q", "y")],
            "ConvInteger 'the_convinteger': its input must be an integer activation",
        ),
        ([node("Softmax", "x", "y")], "Softmax 'the_softmax': .*cut the model before it"),
        ([node("Conv", "x w", "y")], "must be a quantised network, not a float one: use `intagl"),
        (
            [
                node("QuantizeLinear", "x s0 z0", "q"),
                node("DequantizeLinear", "q s0 z0", "d"),
                node("Conv", "d w", "y"),
            ],
            "Conv 'the_conv': its weights must be .*quantised",
        ),
        ([node("Relu", "x", "y")], "output 'y' must be quantised, not float"),
        (
            [node("Quant", "x s z half", "y")],
            "Quant 'the_quant': its bit width must be one whole number",
        ),
        ([node("Quant", "x three z b8", "y")], "activations must have one scale"),
        (
            [
                node("Quant", "x s z b8", "q"),
                node("MaxPool", "q", "p", kernel_shape=[2, 2]),
                node("Mul", "q p", "y"),
            ],
            "Mul 'the_mul': its operands must have one shape, or one of them sides of 1, not",
        ),
        (
            [node("Resize", "x scales scales", "y", mode="cubic")],
            "Resize 'the_resize': .*must be nearest or linear, not cubic",
        ),
    ],
)
def test_refusals_name_the_node_and_the_remedy(
    nodes: list[Any], words: str, tmp_path: Path
) -> None:
    constants = QUANT | {
        "w": np.ones((2, 2, 1, 1), np.float32),
        "half": np.float32(2.5),
        "s0": np.float32(1),
        "z0": np.uint8(0),
        "three": np.array([1, 2, 3], np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    if words.startswith("output"):
        nodes = [*nodes[:0], node("Sigmoid", "x", "y")]
    with pytest.raises(ModelError, match=words):
        import_onnx(model_of(tmp_path / "m.onnx", nodes, constants))


def test_damaged_files_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"must be an existing \.onnx file"):
        import_onnx(tmp_path / "absent.onnx")
    (tmp_path / "noise.onnx").write_bytes(bytes(range(256)))
    with pytest.raises(ModelError, match="must be a whole ONNX model"):
        import_onnx(tmp_path / "noise.onnx")


def test_the_commands_go_there_and_back(cli: Cli, tmp_path: Path) -> None:
    builder = Builder(EVEN)
    builder.add(Input(output="x", shape=(2, 5, 5), type=IntType(8, False)))
    weight = builder.constant("w", np.arange(54).reshape(3, 2, 3, 3) - 20)
    builder.add(Conv2d(output="a", input="x", weight=weight, padding=(1, 1, 1, 1)))
    builder.add(
        Requant(output="y", input="a", multiplier=builder.constant("m", [4]),
                bias=builder.constant("b", [12]), shift=(10,), lo=0, hi=15)
    )  # fmt: skip
    builder.add(Output(output="out", input="y"))
    save(builder.build(), tmp_path / "p.intaglio")
    for form in ("qlinear", "qdq"):
        code, out, err = cli("export", "p.intaglio", "-o", "p.onnx", "--form", form)
        assert code == 0, out + err
        assert "0 of 150 output integers differ" in out
        code, out, err = cli("import", "p.onnx", "-o", f"{form}.intaglio", "--json", "i.json")
        assert code == 0, out + err
        assert load(tmp_path / f"{form}.intaglio").outputs[0].hi == 15
    refused(cli("import", "absent.onnx", "-o", "a.intaglio"), "must be an existing .onnx file")
    refused(cli("import", "p.onnx", "-o", "a.intaglio", "--mean", "a"), "--mean must be numbers")
    assert not (tmp_path / "a.intaglio").exists()


def test_other_arithmetic_is_refused_with_the_remedy() -> None:
    builder = Builder()
    builder.add(Input(output="x", shape=(1, 2, 2), type=IntType(8, False)))
    builder.add(
        Requant(output="y", input="x", multiplier=builder.constant("m", [3]),
                bias=builder.constant("b", [0]), shift=(2,), lo=0, hi=255)
    )  # fmt: skip
    builder.add(Output(output="out", input="y"))
    with pytest.raises(ProgramError, match=r"^Requant 'y': .*rounds to even.*--form integer"):
        to_quantised(builder.build(), qdq=True)
