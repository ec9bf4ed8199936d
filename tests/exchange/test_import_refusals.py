"""What the importer refuses of an ONNX file, in words, and that the remedy works: the file made so
is accepted and gives onnxruntime's integers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_cases import Act, Case, Raw, Weight
from onnx_judge import images_for, judge
from onnx_runtime import Runtime

from intaglio.errors import ModelError
from intaglio.exchange.importer import import_onnx
from intaglio.fixed import PRESETS
from intaglio.sim.reference import run


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with Runtime() as made:
        yield made


def sizes(*values: Any, kind: Any = np.int64) -> Any:
    return np.array(values, kind)


def floats(*values: float) -> Any:
    return np.array(values, np.float32)


def weights(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(np.int8)


FLOOR = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
BY = Case("Resize", 13, (Act(), None, floats(1, 1, 1.3, 2)), FLOOR)
AVERAGE = Case("AveragePool", 19, (Act(),), {"kernel_shape": [2, 2], "pads": [1, 0, 0, 1]})
ONES = floats(1, 1, 1)
NORM = Case("BatchNormalization", 15, (Act(), ONES, 2 * ONES, 0 * ONES, 4 * ONES),
            {"epsilon": 0.0})  # fmt: skip
NET = Weight(weights(4, 3, 2, 2), 2.0 ** -sizes(4, 5, 6, 4))
GRID = (np.float32(2.0**-5), np.uint8(3))
AGAIN = (("QuantizeLinear", GRID, {}), ("DequantizeLinear", GRID, {}))
CONV = ("Conv", (Weight(weights(2, 3, 1, 1), 0.25),), {})
MATRIX = Weight(weights(6, 6), 2.0 ** -sizes(3, 4, 5, 3, 4, 5), None, 1)
DENSE = Case("Gemm", 13, (Act(), MATRIX), {"alpha": 0.5}, shape=(6, 1, 1), flat=True)
BORDER = sizes(0, 0, 1, 1, 0, 0, 0, 2)
WIDE = Case("Pad", 18, (Act(), BORDER, np.float32(-0.25)),
            then=(("AveragePool", (), {"kernel_shape": [2, 2]}),))  # fmt: skip

# name: (what is refused, the words, what is accepted)
PAIRS: dict[str, tuple[Case, str, Case]] = {
    "codes resized in thirds": (
        replace(BY, inputs=(Raw(), None, floats(1, 1, 3, 3)), attributes={"mode": "linear"},
                made="codes"),
        "its factors must be powers of two where it resizes codes, of which float32 may lose one",
        replace(BY, inputs=(Raw(), None, floats(1, 1, 4, 2)), attributes={"mode": "linear"},
                made="codes"),
    ),
    "a crop": (
        replace(BY, inputs=(Act(), floats(0, 0, 0, 0, 1, 1, 0.5, 0.5), floats(1, 1, 1.3, 2)),
                attributes={"coordinate_transformation_mode": "tf_crop_and_resize"}),
        "'coordinate_transformation_mode' must be half_pixel or half_pixel_symmetric or",
        BY,
    ),
    "interpolation": (
        replace(BY, attributes={"mode": "cubic"}),
        "'mode' must be nearest or linear, not cubic; train and export it with one of these.",
        BY,
    ),
    "a policy of sizes": (
        replace(BY, opset=18, attributes=FLOOR | {"keep_aspect_ratio_policy": "not_larger"}),
        "must be stretch, not not_larger; give the size of each side",
        replace(BY, opset=18, inputs=(Act(), None, None, sizes(1, 3, 7, 9))),
    ),
    "a factor for channels": (
        replace(BY, inputs=(Act(), None, floats(1, 2, 2, 2))),
        "it must resize height and width only; leave channels alone.",
        replace(BY, inputs=(Act(), None, floats(1, 1, 2, 2))),
    ),
    "windows of two sizes": (
        AVERAGE,
        "its windows must all have one size: count_include_pad=1 or no padding",
        replace(AVERAGE, attributes=AVERAGE.attributes | {"count_include_pad": 1}),
    ),
    "a border that is no code": (
        replace(WIDE, inputs=(Act(), BORDER, np.float32(-100))),
        "the border that it reads is -100, which no code of scale 0.0625 stands for; pad with 0",
        WIDE,
    ),
    "a border that is no code, quantised behind": (
        replace(WIDE, inputs=(Act(), BORDER, np.float32(0.3))),
        "which no code of scale 0.0625 stands for; pad with 0, or quantise behind the Pad.",
        replace(WIDE, inputs=(Act(), BORDER, np.float32(0.3)), then=(*AGAIN, *WIDE.then)),
    ),
    "a mirrored border": (
        replace(WIDE, attributes={"mode": "reflect"}),
        "'mode' must be constant, not reflect; pad with a constant, and train with it.",
        WIDE,
    ),
    "pixels cut off": (
        replace(WIDE, inputs=(Act(), sizes(0, 0, -1, 0, 0, 0, 0, 0))),
        "its pads must be 0 to 65536; export a model that cuts nothing off.",
        WIDE,
    ),
    "statistics of the batch": (
        replace(NORM, attributes={"training_mode": 1, "epsilon": 0.0}),
        "'training_mode' must be 0, not 1; export the model for inference (eval mode).",
        NORM,
    ),
    "dropping out": (
        Case("Dropout", 13, (Act(), np.float32(0.5), np.bool_(True))),
        "training_mode must be false; export it for inference.",
        Case("Dropout", 13, (Act(), np.float32(0.5), np.bool_(False))),
    ),
    "channels made of pixels": (
        Case("Reshape", 13, (Act(), sizes(1, 4, 2)), shape=(8, 1, 1)),
        "output 'y' must be N x C, or N x C x H x W, not [1, 4, 2]; leave its last Reshape out",
        Case("Reshape", 13, (Act(), sizes(0, -1)), shape=(8, 1, 1)),
    ),
    "a bound that is no code": (
        Case("Clip", 13, (Act(), None, np.float32(0.3)), then=(CONV,)),
        "the bound 0.3 of its input must be a code of scale 0.0625; quantise again behind it",
        Case("Clip", 13, (Act(), None, np.float32(0.3)), then=(*AGAIN, CONV)),
    ),
    "scales of inputs": (
        replace(DENSE, inputs=(Act(), replace(MATRIX, axis=0))),
        "scales of its weights must follow axis 1, the outputs, not axis 0; quantise by output",
        DENSE,
    ),
    "scales of input channels": (
        Case("Conv", 13, (Act(), replace(NET, scale=0.5 ** sizes(1, 2, 3), axis=1))),
        "scales of its weights must follow axis 0, the output channels, not axis 1",
        Case("Conv", 13, (Act(), NET)),
    ),
    "a factor for columns": (
        Case("Mul", 13, (Act(), floats(1, 2, 0.5, 1, 2))),
        "its constant must have one value, or one for each channel",
        Case("Mul", 13, (Act(), floats(1, 2, 0.5).reshape(1, 3, 1, 1))),
    ),
    "codes in the place of reals": (
        Case("AveragePool", 13, (Raw(),), {"kernel_shape": [2, 2]}, made="codes"),
        "its input must be float, not integer codes; put DequantizeLinear before it.",
        Case("AveragePool", 13, (Act(),), {"kernel_shape": [2, 2]}),
    ),
    "a set that is too old": (
        Case("Relu", 6, (Act(),)),
        "its operator set must be 7 to 27, not 6; convert the model with onnx.version_converter.",
        Case("Relu", 7, (Act(),)),
    ),
    "an attribute of another version": (
        Case("MaxPool", 8, (Act(),), {"kernel_shape": [2, 2], "ceil_mode": 1}),
        "its attribute 'ceil_mode' must be one of operator set 8",
        Case("MaxPool", 10, (Act(),), {"kernel_shape": [2, 2], "ceil_mode": 1}),
    ),
    "an operator of another domain": (
        Case("Relu", 13, (Act(),), domain="com.microsoft"),
        "a quantised network must not contain this operator",
        Case("Relu", 13, (Act(),)),
    ),
    "blocks of scales": (
        Case("DequantizeLinear", 21, (Raw(), np.float32(0.5)), {"block_size": 2}),
        "'block_size' must be 0, not 2; quantise by tensor or by channel, not in blocks.",
        Case("DequantizeLinear", 21, (Raw(), np.float32(0.5)), {"block_size": 0}),
    ),
    "roots of negative numbers": (
        Case("Sqrt", 13, (Act(),)),
        "its input must not be below 0; quantise it with its zero point at the lowest code.",
        Case("Sqrt", 13, (Act(),), zero=0),
    ),
    "a transposed convolution, scaled by its input channels": (
        Case("ConvTranspose", 13, (Act(), Weight(weights(3, 4, 2, 2), 0.5 ** sizes(4, 5, 4), None,
                                                 0))),
        "scales of its weights must follow axis 1, the output channels, not axis 0; quantise by",
        Case("ConvTranspose", 13, (Act(), Weight(weights(3, 4, 2, 2), 0.5 ** sizes(4, 5, 6, 4),
                                                 None, 1))),
    ),
    "sums without codes, added": (
        Case("Conv", 13, (Act(), replace(NET, codes=NET.codes[:3], scale=0.5)), zero=99,
             attributes={"pads": [1, 1, 0, 0]}, then=(("Add", (Act(),), {}),)),
        "its operands must be quantised before they are added; put QuantizeLinear and",
        Case("Conv", 13, (Act(), replace(NET, codes=NET.codes[:3], scale=0.5)), zero=99,
             attributes={"pads": [1, 1, 0, 0]}, then=(*AGAIN, ("Add", (Act(),), {}))),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_refused_and_its_remedy(name: str, runtime: Runtime, tmp_path: Path) -> None:
    refused, words, mended = PAIRS[name]
    seen = judge(refused, runtime, tmp_path / "m.onnx")
    assert seen.word == "refused", seen
    assert words in seen.detail
    seen = judge(mended, runtime, tmp_path / "m.onnx")
    assert seen.word == "equal", seen


# What once gave other integers, or none, and is right.
RIGHT: dict[str, Case] = {
    "factors that are no quotient": replace(BY, inputs=(Act(), None, floats(1, 1, 2.3, 3.7))),
    "a factor read in the middle of pixels": replace(
        BY, attributes={"coordinate_transformation_mode": "half_pixel"}
    ),
    "a factor that float32 divides by unevenly": replace(
        BY, shape=(1, 16, 3), inputs=(Act(), None, floats(1, 1, 2.4, 2))
    ),
    "a smaller map": replace(BY, shape=(1, 16, 9), inputs=(Act(), None, floats(1, 1, 0.3, 0.7))),
    "pixels between two, of codes": replace(
        BY, inputs=(Raw(), None, floats(1, 1, 2, 2)), attributes={"mode": "linear"}, made="codes"
    ),
    "factors without modes": Case("Resize", 10, (Act(), floats(1, 1, 1.7, 2))),
    "factors of codes": replace(BY, inputs=(Raw(), None, floats(1, 1, 1.25, 1.9)), made="codes"),
    "an average of distant pixels": Case(
        "AveragePool", 19, (Act(),), {"kernel_shape": [2, 2], "dilations": [2, 3]}
    ),
    "sides in another order": Case(
        "Pad", 18, (Act(), sizes(0, 0, 1, 3, 0, 0, 2, 0), None, sizes(0, 1, 3, 2))
    ),
    "sides alone": Case("Pad", 18, (Act(), sizes(1, 1, 2, 0), None, sizes(2, -1))),
    "a border of minus infinity": replace(
        WIDE, inputs=(Act(), BORDER, np.float32(-np.inf)),
        then=(("MaxPool", (), {"kernel_shape": [3, 3], "strides": [2, 2]}),),
    ),
    "a border off the grid": replace(WIDE, inputs=(Act(), BORDER, np.float32(0.3)), then=()),
    "no upper bound": Case("Clip", 13, (Act(), np.float32(0), np.float32(np.inf))),
    "no lower bound": Case("Clip", 7, (Act(),), {"min": -np.inf, "max": 1.0}),
    "bounds that cross": Case("Clip", 13, (Act(), np.float32(2), np.float32(-1))),
    "a factor and a bias's own": replace(
        DENSE, inputs=(Act(), MATRIX, floats(1, -2, 3, 0.5, 0, 4)),
        attributes={"alpha": 0.5, "beta": 2.0},
    ),
    "the last axis of N x C": Case(
        "Concat", 13, (Act(), Act(1)), {"axis": -1}, shape=(6, 1, 1), flat=True
    ),
    "a map that keeps its shape, and another behind it": Case(
        "Reshape", 13, (Act(), sizes(0, 0, 0, 0)),
        then=(("MaxPool", (), {"kernel_shape": [2, 3]}),
              ("Add", (floats(1, 2, 3).reshape(3, 1, 1),), {})),
    ),
    "a part of a shape": Case("Shape", 15, (Act(),), {"start": -4, "end": 4}, feeds="Reshape"),
}  # fmt: skip


LINEAR = {"mode": "linear"}


@pytest.mark.parametrize(
    "case",
    [
        replace(BY, inputs=(Act(), None, floats(1, 1, 2, 4)), attributes=LINEAR),
        replace(BY, inputs=(Act(), None, None, sizes(1, 3, 9, 5)), attributes=LINEAR),
        replace(
            BY, shape=(1, 3, 5), inputs=(Act(), None, None, sizes(1, 1, 5, 9)),
            attributes=LINEAR | {"coordinate_transformation_mode": "align_corners"},
        ),
    ],
)  # fmt: skip
def test_pixels_between_two_are_those_of_floats_but_for_halves(
    case: Case, runtime: Runtime, tmp_path: Path
) -> None:
    """The runtime resizes what codes stand for, and float32 takes a half to either side."""
    assert judge(case, runtime, tmp_path / "m.onnx").word in ("equal", "near")


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_read(name: str, runtime: Runtime, tmp_path: Path) -> None:
    seen = judge(RIGHT[name], runtime, tmp_path / "m.onnx")
    assert seen.word == "equal", seen


def changed(case: Case, path: Path) -> Any:
    """The file of a case, to be changed by hand."""
    path.write_bytes(case.model())
    return onnx.load(path)


def test_second_outputs_must_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    model = changed(Case("MaxPool", 13, (Act(),), {"kernel_shape": [2, 2]}), path)
    next(n for n in model.graph.node if n.name == "it").output.append("places")
    onnx.save(model, path)
    import_onnx(path)
    model.graph.output.append(helper.make_empty_tensor_value_info("places"))
    onnx.save(model, path)
    with pytest.raises(ModelError, match=r"^MaxPool 'it': its output 'places' must not be read"):
        import_onnx(path)


def test_functions_of_the_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    model = changed(Case("Relu", 13, (Act(),)), path)
    body = [helper.make_node("Neg", ["a"], ["b"])]
    sets = [helper.make_opsetid("", 13)]
    model.functions.append(helper.make_function("", "Relu", ["a"], ["b"], body, sets))
    onnx.save(model, path)
    with pytest.raises(ModelError, match="must be an operator, not a function of the file; inline"):
        import_onnx(path)


def test_weights_in_files_of_their_own(tmp_path: Path) -> None:
    """Read where they are there, and missed in words."""
    path = tmp_path / "m.onnx"
    model = changed(Case("Conv", 13, (Act(), NET)), path)
    before = import_onnx(path).digest()
    onnx.save(model, path, save_as_external_data=True, location="m.data", size_threshold=0)
    assert import_onnx(path).digest() == before
    (tmp_path / "m.data").unlink()
    with pytest.raises(ModelError, match="must have the files of its weights beside it"):
        import_onnx(path)


def test_tensors_made_twice_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    model = changed(Case("Relu", 13, (Act(),)), path)
    model.graph.node.append(helper.make_node("Relu", ["a0"], ["y"]))
    onnx.save(model, path)
    with pytest.raises(ModelError, match="must make each tensor once, not 'y' twice"):
        import_onnx(path)


def test_sixteen_bits_of_both_have_a_remedy(tmp_path: Path) -> None:
    """In float32 the sums are of 32 bits; integers hold them, and so do weights of fewer bits."""
    path = tmp_path / "m.onnx"
    codes = np.full((2, 3, 3, 3), 32767, np.int16)
    for kind, width in ((np.int16, "weights"), (np.int8, "")):
        case = Case("Conv", 21, (Act(), Weight((codes >> (8 if not width else 0)).astype(kind),
                                               np.float32(2.0**-14))), zero=9)  # fmt: skip
        model = changed(case, path)
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.UINT8 and not len(tensor.dims):
                wide = onnx.numpy_helper.to_array(tensor).astype(np.uint16) * 256
                tensor.CopyFrom(onnx.numpy_helper.from_array(wide, tensor.name))
        onnx.save(model, path)
        if width:
            words = "must fit into i32.*use another (arithmetic|one), or weights of fewer bits"
            with pytest.raises(ModelError, match=words):
                import_onnx(path, PRESETS["onnxruntime"])
            program = import_onnx(path, PRESETS["intaglio"])
            assert run(program, images_for(case)[0]).tensors
        else:
            import_onnx(path, PRESETS["onnxruntime"])
