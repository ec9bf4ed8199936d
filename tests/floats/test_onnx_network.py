"""Float ONNX files: what their module computes is what onnxruntime does, and where it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx_files import File, detector
from tools import Cli, needs_modules, refused

from intaglio.errors import ModelError
from intaglio.floats.compared import compared
from intaglio.floats.onnx_network import onnx_network
from intaglio.models import Reading, opened
from intaglio.quant.capture.execute import run
from intaglio.quant.capture.export import capture
from intaglio.quant.capture.graph import Conv, Lookup
from intaglio.quant.capture.passes import simplify

torch.set_num_threads(1)


def resized(mode: str, how: str, near: str, size: tuple[int, int], f: File) -> str:
    """A resize between two layers."""
    made = f.add(
        "Resize", f.conv("x", 3, 8), "", "", f.ints(1, 8, *size), mode=mode, nearest_mode=near,
        coordinate_transformation_mode=how,
    )  # fmt: skip
    return str(f.conv(made, 8, 4))


CASES: dict[str, Callable[[File], str]] = {
    "norm and ReLU": lambda f: f.add("Relu", f.norm(f.conv("x", 3, 8), 8)),
    "ReLU6": lambda f: f.add("Clip", f.conv("x", 3, 8), f.constant(0.0), f.constant(6.0)),
    "hard-swish written out": lambda f: hard_swish(f, f.conv("x", 3, 8)),
    "SiLU": lambda f: silu(f, f.conv("x", 3, 8)),
    "HardSigmoid": lambda f: f.add("HardSigmoid", f.conv("x", 3, 8), alpha=0.25, beta=0.4),
    "HardSwish": lambda f: f.add("HardSwish", f.conv("x", 3, 8)),
    "Tanh": lambda f: f.add("Tanh", f.conv("x", 3, 8)),
    "residual": lambda f: residual(f, f.conv("x", 3, 8)),
    "Sub and Div": lambda f: f.add(
        "Div", f.add("Sub", f.conv("x", 3, 8), f.constant(np.ones((1, 8, 1, 1)))), f.constant(3.0)
    ),
    "Sub from a constant": lambda f: f.add("Sub", f.constant(1.0), f.conv("x", 3, 8)),
    "PRelu of one slope": lambda f: f.add("PRelu", f.conv("x", 3, 8), f.constant([[[0.2]]])),
    "PRelu of a slope for each channel": lambda f: f.add(
        "PRelu", f.conv("x", 3, 8), f.weight(8, 1, 1)
    ),
    "depthwise": lambda f: f.conv(f.conv("x", 3, 8), 8, 8, group=8, strides=[2, 2]),
    "same": lambda f: f.conv("x", 3, 8, 3, auto_pad="SAME_UPPER", strides=[2, 2]),
    "uneven pads": lambda f: f.conv("x", 3, 8, 3, pads=[0, 0, 1, 1], strides=[2, 2]),
    "dilated": lambda f: f.conv("x", 3, 8, 3, pads=[2] * 4, dilations=[2, 2]),
    "MaxPool": lambda f: f.add("MaxPool", f.conv("x", 3, 8), kernel_shape=[2, 2], strides=[2, 2]),
    "MaxPool that overhangs": lambda f: f.add(
        "MaxPool", f.conv("x", 3, 8), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1
    ),
    "AveragePool": lambda f: f.add(
        "AveragePool", f.conv("x", 3, 8), kernel_shape=[2, 2], strides=[2, 2]
    ),
    "GlobalAveragePool": lambda f: f.add("GlobalAveragePool", f.conv("x", 3, 8)),
    "ReduceMean": lambda f: f.add("ReduceMean", f.conv("x", 3, 8), axes=[2, 3]),
    "Resize": lambda f: f.add(
        "Resize", f.conv("x", 3, 8), "", f.constant([1, 1, 2, 2]), mode="nearest",
        coordinate_transformation_mode="asymmetric", nearest_mode="floor",
    ),
    "Resize to sizes": lambda f: f.add(
        "Resize", f.conv("x", 3, 8), "", "", f.ints(1, 8, 48, 48), mode="nearest",
        coordinate_transformation_mode="asymmetric", nearest_mode="floor",
    ),
    **{
        f"Resize {mode} {how} {near} to {size}": partial(resized, mode, how, near, size)
        for mode, how, near, size in (
            ("linear", "half_pixel", "floor", (32, 32)),
            ("linear", "align_corners", "floor", (9, 40)),
            ("linear", "asymmetric", "floor", (32, 48)), ("linear", "half_pixel", "floor", (5, 13)),
            ("nearest", "half_pixel", "round_prefer_floor", (40, 9)),
            ("nearest", "align_corners", "ceil", (20, 31)),
        )
    },
    "Pad": lambda f: f.add("Pad", f.conv("x", 3, 8), f.ints(0, 0, 1, 2, 0, 0, 3, 4)),
    "Concat": lambda f: f.conv(f.add("Concat", f.conv("x", 3, 4), f.conv("x", 3, 4), axis=1), 8, 8),
    "Gemm": lambda f: f.add(
        "Gemm", f.add("Flatten", f.conv("x", 3, 4)), f.weight(5, 1024), f.weight(5), transB=1
    ),
    "MatMul": lambda f: f.add(
        "MatMul", f.add("Reshape", f.conv("x", 3, 4), f.ints(1, -1)), f.weight(1024, 5)
    ),
    "Identity, Cast and Dropout": lambda f: f.add(
        "Dropout", f.add("Cast", f.add("Identity", f.conv("x", 3, 4)), to=1)
    ),
    "constants made of constants": lambda f: f.add(
        "Mul", f.conv("x", 3, 4), f.add("Sqrt", f.add("Exp", f.constant(0.3)))
    ),
    "shuffle": lambda f: f.conv(shuffled(f, f.conv("x", 3, 8)), 8, 4),
    "halves of a shuffle": lambda f: f.conv(halves(f, f.conv("x", 3, 8)), 4, 4),
    "Focus": lambda f: f.conv(focus(f), 12, 4),
    "SpaceToDepth": lambda f: f.conv(f.add("SpaceToDepth", f.conv("x", 3, 4), blocksize=2), 16, 4),
    "DepthToSpace": lambda f: f.conv(f.add("DepthToSpace", f.conv("x", 3, 8), blocksize=2), 2, 4),
    "Split": lambda f: f.conv(
        f.add("Concat", *f.add("Split", f.conv("x", 3, 8), count=2, axis=1)[::-1], axis=1), 8, 4
    ),
    "Slice": lambda f: f.conv(
        f.add("Slice", f.conv("x", 3, 8), f.ints(2), f.ints(2**62), f.ints(1)), 6, 4
    ),
    "a shape that is computed": lambda f: f.add("Relu", f.add("Reshape", "x", shape_of(f))),
}  # fmt: skip


def shuffled(file: File, x: str) -> str:
    """Channel shuffle."""
    pairs = file.add("Reshape", x, file.ints(1, 2, 4, 16, 16))
    turned = file.add("Transpose", pairs, perm=[0, 2, 1, 3, 4])
    return str(file.add("Reshape", turned, file.ints(1, 8, 16, 16)))


def halves(file: File, x: str) -> str:
    """Every second channel, by shapes in which the one image is no dimension."""
    pairs = file.add("Reshape", x, file.ints(4, 2, 256))
    turned = file.add("Transpose", pairs, perm=[1, 0, 2])
    both = file.add("Reshape", turned, file.ints(2, -1, 4, 16, 16))
    first, second = (file.add("Gather", both, file.constant(n, np.int64), axis=0) for n in range(2))
    return str(file.add("Add", file.conv(first, 4, 4), second))


def focus(file: File) -> str:
    """Pixels to channels, as YOLOX begins."""
    parts = []
    for row, column in ((0, 0), (1, 0), (0, 1), (1, 1)):
        part = "x"
        for axis, start in ((2, row), (3, column)):
            ends = (file.ints(start), file.ints(2**62), file.ints(axis), file.ints(2))
            part = file.add("Slice", part, *ends)
        parts.append(part)
    return str(file.add("Concat", *parts, axis=1))


def hard_swish(file: File, x: str) -> str:
    three = file.add("Add", x, file.constant(3.0))
    clipped = file.add("Clip", three, file.constant(0.0), file.constant(6.0))
    return file.add("Div", file.add("Mul", x, clipped), file.constant(6.0))


def silu(file: File, x: str) -> str:
    return file.add("Mul", x, file.add("Sigmoid", x))


def residual(file: File, x: str) -> str:
    return file.add("Relu", file.add("Add", x, file.conv(x, 8, 8)))


def shape_of(file: File) -> str:
    """The shape of x, put together from its parts."""
    shape = file.add("Shape", "x")
    parts = [file.add("Gather", shape, file.constant(n, np.int64)) for n in range(4)]
    ones = [file.add("Unsqueeze", part, file.ints(0)) for part in parts]
    return str(file.add("Concat", *ones, axis=0))


@pytest.mark.parametrize("name", CASES)
def test_a_module_and_its_integers_graph_are_the_file(name: str, tmp_path: Path) -> None:
    needs_modules("onnxruntime")
    file = File()
    path = file.save(tmp_path / "a.onnx", CASES[name](file))
    network = onnx_network(path)
    assert "are those of the module" in compared(path, network, (3, 16, 16))
    graph = simplify(capture(network, (3, 16, 16)))
    pixels = np.random.default_rng(1).integers(0, 256, (2, 3, 16, 16)).astype(np.float32)
    for image in pixels:
        (ours,) = run(graph, torch.from_numpy(image[None])).values()
        theirs = in_runtime(path, image[None] / 255)
        assert (
            np.abs(ours.numpy().reshape(theirs.shape) - theirs).max() <= 2e-5 * np.abs(theirs).max()
        )


def in_runtime(path: Path, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"x": x})[0]
    return found


def test_hard_swish_is_one_table_and_weights_are_shared(tmp_path: Path) -> None:
    file = File()
    graph = simplify(
        capture(onnx_network(file.save(tmp_path / "a.onnx", CASES["hard-swish written out"](file))),
                (3, 16, 16))
    )  # fmt: skip
    assert [type(node) for node in graph.nodes[1:]] == [Conv, Lookup]
    whole = capture(onnx_network(detector(tmp_path / "d.onnx")), (3, 32, 32))
    assert len(whole.weights) == 5
    assert sorted(map(len, whole.call_sites.values())) == [1, 1, 1, 2, 2]


def test_a_detector_ends_at_its_last_layers(tmp_path: Path) -> None:
    network = onnx_network(detector(tmp_path / "d.onnx"))
    nodes = onnx.load(tmp_path / "d.onnx").graph.node
    heads = [n.output[0] for n in nodes if n.op_type == "Conv" and len(n.input) == 2]
    assert list(network.outputs) == heads  # of each level its score, then its box
    kinds = {words.split()[0] for words in network.cut}
    assert kinds == {"Sigmoid", "Concat", "Reshape", "Transpose", "Slice", "Mul"}
    graph = capture(network, (3, 32, 32))
    assert set(network.cut) <= set(graph.cut)
    assert [graph.producer[t].shape for t in graph.outputs.values()] == [
        (5, 8, 8), (4, 8, 8), (5, 4, 4), (4, 4, 4)
    ]  # fmt: skip


@pytest.mark.parametrize("size", ["side", -1])
def test_a_dynamic_size_is_given(tmp_path: Path, size: str | int) -> None:
    path = detector(tmp_path / "d.onnx", size=size)
    network = opened(path, reading=Reading((48, 64)))
    assert network.input_size is None
    graph = capture(network, (3, 48, 64))
    assert [graph.producer[t].shape[1:] for t in graph.outputs.values()] == [(12, 16)] * 2 + [
        (6, 8)
    ] * 2
    fixed = detector(tmp_path / "f.onnx")
    with pytest.raises(ModelError, match=r"--size must be 32x32 for .*f\.onnx, which is made for"):
        opened(fixed, reading=Reading((48, 64)))


def test_outputs_that_are_asked_for(tmp_path: Path) -> None:
    path = detector(tmp_path / "d.onnx")
    network = onnx_network(path, ["t2", "t6"])
    assert list(network.outputs) == ["t2", "t6"]
    with pytest.raises(
        ModelError, match=r"Outputs must be tensors of .*, as t\d+.*, not 'nothing'"
    ):
        onnx_network(path, ["nothing"])


def test_weights_of_quantize_dynamic_are_floats(tmp_path: Path) -> None:
    needs_modules("onnxruntime")
    from onnxruntime.quantization import QuantType, quantize_dynamic

    file = File()
    plain = file.save(tmp_path / "a.onnx", CASES["residual"](file))
    quantize_dynamic(plain, tmp_path / "q.onnx", weight_type=QuantType.QUInt8)
    network = onnx_network(tmp_path / "q.onnx")
    assert "was quantised by quantize_dynamic: its weights are read as floats" in network.notes[0]
    x = torch.rand(1, 3, 16, 16)
    (ours,) = network(x).values()
    (float_,) = onnx_network(plain)(x).values()
    assert 0 < float((ours - float_).abs().max()) < 0.03 * float(float_.abs().max())


def broken(file: File, kind: str, **attributes: Any) -> str:
    return str(file.conv(file.add(kind, file.conv("x", 3, 4), **attributes), 4, 4))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda f: broken(f, "Det"),
            "Det 'det.1': a float network must not contain this operator;",
        ),
        (lambda f: broken(f, "Transpose", perm=[0, 2, 3, 1]), "Conv"),
        (lambda f: f.conv("x", 5, 4), "its inputs must be those of its kind, but:"),
    ],
)
def test_what_no_module_can_be_made_of(
    make: Callable[[File], str], words: str, tmp_path: Path
) -> None:
    file = File()
    path = file.save(tmp_path / "a.onnx", make(file))
    with pytest.raises(ModelError) as refusal:
        capture(onnx_network(path), (3, 16, 16))
    assert words in str(refusal.value)


def test_a_fault_of_ours_would_be_found(tmp_path: Path) -> None:
    needs_modules("onnxruntime")
    file = File()
    path = file.save(tmp_path / "a.onnx", CASES["residual"](file))
    network = onnx_network(path)
    network.calls[0].operator.weight.data *= 1.01
    with pytest.raises(ModelError, match=r"Conv 'conv\.0': its result must be onnxruntime's, not"):
        compared(path, network, (3, 16, 16))


def test_from_the_command_line(cli: Cli, tmp_path: Path) -> None:
    needs_modules("onnxruntime")
    detector(tmp_path / "d.onnx")
    (tmp_path / "p").mkdir()
    for n in range(2):
        np.save(
            tmp_path / f"p/{n}.npy",
            np.random.default_rng(n).integers(0, 256, (3, 32, 32), np.uint8),
        )
    made = ("--images", "p", "--bits", "8", "-o", "d.intaglio")
    code, out, err = cli("quantize", "d.onnx", *made, "--mean", "0.5", "--std", "0.5")
    assert code == 0, err
    assert "tensors of the file are those of the module" in out
    assert "cut off, with no layer behind: Sigmoid" in out
    code, out, err = cli("info", "d.intaglio", "--json", "info.json")
    assert code == 0, err
    assert "cut off, with no layer behind: " in out
    code, out, err = cli("info", "d.onnx", "--json", "float.json")
    assert code == 0, err
    assert "cut off, with no layer behind: Sigmoid" in out
    assert json.loads(Path("float.json").read_text())["shape"] == [3, 32, 32]
    detector(tmp_path / "any.onnx", size="side")
    refused(cli("info", "any.onnx"), "--size must be given for any.onnx")
    assert cli("info", "any.onnx", "--size", "48x64")[0] == 0
    refused(cli("run", "d.onnx", "p", "-o", "r"), "make one with `intaglio quantize` (of float .on")
    refused(cli("import", "d.onnx", "-o", "e.intaglio"), "d.onnx must be a",
            "not a float one: use `intaglio quantize d.onnx --images DIR")  # fmt: skip
    refused(
        cli("quantize", "d.onnx", *made, "--force", "--outputs", "a,,b"), "--outputs must be names"
    )
    refused(cli("quantize", "d.onnx", *made, "--force", "--outputs", "zz"), "not 'zz'")
    refused(
        cli("quantize", "d.onnx", *made, "--force", "--size", "16x16"), "--size must be 32x32 for"
    )
    refused(cli("quantize", "d.onnx", *made, "--force", "--weights", "d.onnx"), "--weights must go")
    refused(
        cli("quantize", "d.intaglio", "--images", "p", "-o", "e.intaglio", "--outputs", "t2"),
        "--outputs must go with a float",
    )
