"""TFLite's operators that choose or move codes, against LiteRT's reference kernels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tools import needs_modules

from intaglio.errors import ModelError

needs_modules("ai_edge_litert", "flatbuffers")

from tflite_files import Net, Type, schema  # noqa: E402  # after the check

from intaglio.exchange.from_tflite.checked import check  # noqa: E402  # the same
from intaglio.exchange.from_tflite.importer import imported  # noqa: E402  # the same
from intaglio.program import Program  # noqa: E402  # the same

NCHW, NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


def equal(path: Path, net: Net, *outputs: int) -> Program:
    """The Program, whose every tensor is LiteRT's."""
    path.write_bytes(net.content(*outputs))
    made = imported(path)
    found = check(made, images=3)
    assert not found.reason, found.reason
    assert not found.wrong, found.places
    assert found.missing == 0
    assert not made.cut
    return made.program


def kinds(program: Program) -> list[str]:
    """The operations between Input and Output that are no layers."""
    plain = ("Input", "Output", "Conv2d", "Requant")
    return [name for op in program.ops if (name := type(op).__name__) not in plain]


def sliced(net: Net, x: int) -> int:
    return net.slice(x, [0, 1, 0, 2], [1, 4, -1, 3])


def strided(net: Net, x: int) -> int:
    return net.strided(x, [0, 1, -6, 0], [0, 6, 6, -1], [1, 2, 3, 1], begins=0b1001, ends=0b0001)


def channels_turned(net: Net, x: int) -> int:
    return net.strided(x, [0, 0, 0, -1], [0, 0, 0, 0], [1, 1, 1, -1], begins=15, ends=15)


def one_row(net: Net, x: int) -> int:
    y = net.strided(x, [0, 2, 0, 0], [0, 3, 0, 0], [1, 1, 1, 1], begins=13, ends=13, shrinks=2)
    return net.reshape(y, 1, 1, *net.shape(y)[1:])


def split(net: Net, x: int) -> int:
    a, b, c = net.split(x, 3, [2, 2, 2], even=True)
    return net.concat(c, a, b)


def split_unevenly(net: Net, x: int) -> int:
    a, b = net.split(x, 3, [1, 5])
    return net.concat(b, a, a)


def split_rows(net: Net, x: int) -> int:
    a, b = net.split(x, 1, [2, 4])
    return net.concat(net.slice(b, [0, 0, 0, 0], [1, 2, 6, 6]), a)


def unpacked(net: Net, x: int) -> int:
    _, h, w, _ = net.shape(x)
    planes = [net.reshape(y, 1, h, w, 1) for y in net.unpack(x, 3)]
    return net.concat(*planes[::-2])


def focus(net: Net, x: int) -> int:
    parts = [net.strided(x, [0, y, z, 0], [0, 6, 6, 0], [1, 2, 2, 1], begins=9, ends=9)
             for z in (0, 1) for y in (0, 1)]  # fmt: skip
    return net.concat(*parts)


def blocks(net: Net, x: int) -> int:
    return net.blocks(net.blocks(net.blocks(x, 2, True), 2, False), 3, True)


def padded(net: Net, x: int) -> int:
    return net.pad_channels(x, 1, 3)


def shuffled(net: Net, x: int) -> int:
    return net.shuffle(net.shuffle(x, 2), 2)


def channels_first(net: Net, x: int) -> int:
    """What converters from torch write: everything but the layers in another layout."""
    y = net.transpose(x, *NCHW)
    y = net.function(y, "LEAKY_RELU")
    y = net.sum(y, net.transpose(net.transpose(y, *NHWC), *NCHW))
    y = net.concat_along(1, y, y)
    y = net.slice(y, [0, 3, 0, 1], [1, 6, 6, 5])
    a, b = net.split(y, 1, [2, 4])
    return net.transpose(net.concat_along(1, b, a), *NHWC)


def shuffled_channels_first(net: Net, x: int) -> int:
    _, h, w, c = net.shape(x)
    y = net.reshape(net.transpose(x, *NCHW), 1, 3, c // 3, h, w)
    y = net.reshape(net.transpose(y, 0, 2, 1, 3, 4), 1, c, h, w)
    return net.transpose(y, *NHWC)


def pixels_shuffled(net: Net, x: int) -> int:
    """torch's pixel_shuffle of 12 channels by 2."""
    y = net.conv(x, 12, 1)
    y = net.reshape(net.transpose(y, *NCHW), 1, 3, 2, 2, 6, 6)
    y = net.reshape(net.transpose(y, 0, 1, 4, 2, 5, 3), 1, 3, 12, 12)
    return net.transpose(y, *NHWC)


def flattened_channels_first(net: Net, x: int) -> int:
    y = net.transpose(x, *NCHW)
    return net.dense(net.reshape(y, 1, int(np.prod(net.shape(y)))), 4)


def pixels_dense(net: Net, x: int) -> int:
    """FULLY_CONNECTED of the channels of every pixel."""
    _, h, w, c = net.shape(x)
    y = net.reshape(x, h * w, c)
    weight = net.weights((5, c), 0)
    dense = net.dense(net.slice(x, [0, 0, 0, 0], [1, 1, 1, -1]), 5)
    operator = net.operators[-1]
    operator.inputs = [y, weight, net.bias(y, weight, 5)]
    net.tensors[dense].shape = [h * w, 5]
    net.operators.pop(-2)
    return net.reshape(dense, 1, h, w, 5)


CASES: list[tuple[Callable[[Net, int], int], list[str]]] = [
    (sliced, ["Crop", "Select"]),
    (strided, ["Crop", "Select"]),
    (channels_turned, ["Select"]),
    (one_row, ["Crop"]),
    (split, ["Select", "Select", "Select", "Concat"]),
    (split_unevenly, ["Select", "Select", "Concat"]),
    (split_rows, ["Crop", "Crop", "Crop", "Concat"]),
    (unpacked, ["Select"] * 6 + ["Concat"]),
    (focus, ["Crop"] * 4 + ["Concat"]),
    (blocks, ["SpaceToDepth", "DepthToSpace", "SpaceToDepth"]),
    (padded, ["Select"]),
    (shuffled, ["Select", "Select"]),
    (channels_first, ["Lookup"] * 3 + ["Add", "Concat", "Crop"] + ["Select"] * 3 + ["Concat"]),
    (shuffled_channels_first, ["Select"]),
    (pixels_shuffled, ["Select", "DepthToSpace"]),
    (flattened_channels_first, []),
]  # fmt: skip


@pytest.mark.parametrize(("made", "wanted"), CASES, ids=lambda c: getattr(c, "__name__", ""))
@pytest.mark.parametrize("kind", [Type.INT8, Type.UINT8], ids=["int8", "uint8"])
def test_every_tensor_is_litert_s(
    tmp_path: Path, made: Callable[[Net, int], int], wanted: list[str], kind: int
) -> None:
    if kind == Type.UINT8 and made is channels_first:
        return  # LiteRT has no such kernel of uint8
    net = Net(np.random.default_rng(7), kind)
    x = net.conv(net.input(1, 6, 6, 3), 6, 3)
    y = made(net, x)
    out = net.conv(y, 2, 1) if len(net.shape(y)) == 4 else y
    assert kinds(equal(tmp_path / "net.tflite", net, out)) == wanted


def test_an_input_that_is_turned_at_once_has_its_channels_first(tmp_path: Path) -> None:
    net = Net(np.random.default_rng(8))
    x = net.input(1, 3, 5, 7)
    program = equal(tmp_path / "net.tflite", net, net.conv(net.transpose(x, *NHWC), 2, 3))
    assert program.inputs[0].shape == (3, 5, 7)
    assert kinds(program) == []


def test_channels_come_first_where_slices_are_taken_before_the_turn(tmp_path: Path) -> None:
    """Every other pixel of both kinds, joined as channels, then a border: a detector's first layers
    as converters from other layouts write them."""
    net = Net(np.random.default_rng(12))
    x = net.input(1, 3, 6, 8)
    parts = [
        net.strided(x, [0, 0, i, j], [1, 3, 6, 8], [1, 1, 2, 2]) for j in (0, 1) for i in (0, 1)
    ]
    y = net.concat_along(1, *parts)
    program = equal(tmp_path / "net.tflite", net, net.conv(net.transpose(y, *NHWC), 4, 3))
    assert program.inputs[0].shape == (3, 6, 8)


def test_dense_of_every_pixel(tmp_path: Path) -> None:
    net = Net(np.random.default_rng(9))
    x = net.input(1, 4, 3, 6)
    program = equal(tmp_path / "net.tflite", net, net.conv(pixels_dense(net, x), 2, 1))
    assert kinds(program) == []


@pytest.mark.parametrize("kind", [Type.INT8, Type.UINT8], ids=["int8", "uint8"])
@pytest.mark.parametrize(
    ("size", "stride", "same", "more"),
    [((2, 2), 2, True, 0), ((3, 3), 2, True, 0), ((4, 4), 2, True, 0), ((3, 2), 1, False, 0),
     ((5, 3), 3, False, 0), ((2, 2), 3, True, 0), ((3, 3), 2, False, 1)],
)  # fmt: skip
def test_transposed_convolutions(
    tmp_path: Path, size: tuple[int, int], stride: int, same: bool, more: int, kind: int
) -> None:
    net = Net(np.random.default_rng(sum(size)), kind)
    x = net.conv(net.input(1, 4, 5, 3), 6, 3)
    y = net.back(x, 5, size, stride, same, more, biased=stride != 3 and kind == Type.INT8)
    program = equal(tmp_path / "net.tflite", net, net.conv(y, 2, 1))
    assert set(kinds(program)) <= {"DepthToSpace", "Crop"}


def test_shapes_that_the_file_computes_are_constants(tmp_path: Path) -> None:
    """SHAPE, STRIDED_SLICE, PACK: how converters say a RESHAPE of an image of any size."""
    net = Net(np.random.default_rng(10))
    x = net.conv(net.input(1, 4, 5, 3), 6, 1)
    shape, options = net.tensor((4,), Type.INT32), schema.ShapeOptionsT()
    options.outType = Type.INT32
    net.add("SHAPE", [x], shape, options, "ShapeOptions")
    sides = []
    for k in (1, 2):
        options = schema.StridedSliceOptionsT()
        options.shrinkAxisMask = 1
        ends = [net.ints([k]), net.ints([k + 1]), net.ints([1])]
        side = net.tensor((), Type.INT32)
        sides.append(net.add("STRIDED_SLICE", [shape, *ends], side, options, "StridedSliceOptions"))
    one, six = (net.tensor((), Type.INT32, data=np.array(n, np.int32)) for n in (1, 6))
    options = schema.PackOptionsT()
    options.valuesCount = 4
    packed = net.tensor((4,), Type.INT32)
    net.add("PACK", [one, *sides, six], packed, options, "PackOptions")
    y = net.add("RESHAPE", [x, packed], net.activation((1, 4, 5, 6), x))
    program = equal(tmp_path / "net.tflite", net, net.conv(y, 2, 3))
    assert kinds(program) == []


def backwards(net: Net) -> int:
    x = net.input(1, 4, 4, 2)
    return net.strided(x, [0, -1, 0, 0], [0, 0, 0, 0], [1, -1, 1, 1], begins=15, ends=15)


def other_grid(net: Net) -> int:
    y = net.slice(net.input(1, 4, 4, 2), [0, 0, 0, 0], [1, 2, 2, 2])
    net.tensors[y].quantization.scale = [0.5]
    return y


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (backwards, "it must not turn rows or columns round; flip the image before."),
        (other_grid, "must have one type, scale and zero point; convert the model anew."),
    ],
)
def test_what_does_not_choose_is_refused(
    tmp_path: Path, made: Callable[[Net], int], words: str
) -> None:
    net = Net(np.random.default_rng(0))
    path = tmp_path / "net.tflite"
    path.write_bytes(net.content(net.conv(made(net), 1, 1)))
    with pytest.raises(ModelError, match=words):
        imported(path)
