"""--head and --decode, from files and modules of a user's to boxes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tools import Cli, refused

from intaglio.detect.networks.spec import HeadSpec

pytest.importorskip("torch")

NETWORK = '''
import numpy as np
import torch
from torch import nn


class Face(nn.Module):
    """A face at (8, 8, 24, 24) where pixels are white from row and column 16 to 24, its landmarks
    in the corners and the middle."""

    input_size = (32, 32)

    def __init__(self, channels=(1, 1, 4, 10)):
        super().__init__()
        torch.manual_seed(0)
        self.maps = nn.ModuleList(nn.Conv2d(3, n, 8, stride=8) for n in channels)
        for layer in self.maps:
            layer.weight.data *= 0.01
            layer.bias.data[:] = 0
            if len(layer.bias) == 1:
                layer.weight.data[:] = 12 / 192
                layer.bias.data[:] = -6
            if len(layer.bias) == 4:
                layer.bias.data[2:] = float(np.log(2))
            if len(layer.bias) == 10:
                layer.bias.data[:] = torch.tensor([-1.0, -1, 1, -1, 0, 0, -1, 1, 1, 1])

    def forward(self, x):
        return [map(x) for map in self.maps]


def other():
    return Face((1, 4))


def boxes(maps, size):
    likely = 1 / (1 + np.exp(-maps[0][0]))
    rows, columns = np.nonzero(likely > 0.5)
    centres = np.stack([columns, rows, columns, rows], axis=1) * 8.0
    return centres + [-8, -8, 8, 8], likely[rows, columns], np.zeros(len(rows), int)


boxes.classes = ("face",)


def nameless(maps, size):
    return [], [], []
'''
SPEC = HeadSpec("yunet", ("face",), (8,), points=5, score_threshold=0.3)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "faces.py").write_text(NETWORK)
    (tmp_path / "yunet.json").write_text(SPEC.to_json())
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(3):
        pixels = rng.integers(0, 30, (32, 32, 3), dtype=np.uint8)
        pixels[16:24, 16:24] = rng.integers(230, 256, (8, 8, 3))
        Image.fromarray(pixels).save(folder / f"{n}.png")
    images = [{"id": n, "file_name": f"{n}.png", "width": 32, "height": 32} for n in range(3)]
    truth = [
        {"id": n + 1, "image_id": n, "category_id": 1, "bbox": [8, 8, 16, 16], "area": 256,
         "iscrowd": 0} for n in range(3)
    ]  # fmt: skip
    document = {"images": images, "annotations": truth, "categories": [{"id": 1, "name": "face"}]}
    (tmp_path / "data.json").write_text(json.dumps(document))
    return tmp_path


def test_a_head_from_a_file_goes_with_the_program(cli: Cli, here: Path) -> None:
    quantise = ("quantize", "faces:Face", "--images", "pictures", "--wbits", "8", "--abits", "8")
    code, _, err = cli(*quantise, "--head", "yunet.json", "-o", "faces.intaglio")
    assert code == 0, err
    code, out, err = cli("run", "faces.intaglio", "pictures", "--json", "found.json")
    assert code == 0, err
    found = json.loads((here / "found.json").read_text())["detections"][0]
    assert found["labels"] == ["face"]
    np.testing.assert_allclose(found["boxes"], [[8, 8, 24, 24]], atol=1)
    points = [[[8, 8], [24, 8], [16, 16], [8, 24], [24, 24]]]
    np.testing.assert_allclose(found["landmarks"], points, atol=1)
    evaluate = ("eval", "faces.intaglio", "--data", "data.json", "--images", "pictures")
    code, out, err = cli(*evaluate)
    assert code == 0, err
    assert "AP50" in out
    code, given, err = cli(*evaluate, "--head", "yunet.json", "--engine", "reference")
    assert code == 0, err
    assert "AP50" in given


def test_a_function_of_ones_own_makes_the_boxes(cli: Cli, here: Path) -> None:
    decode = ("--decode", "faces:boxes")
    quantise = ("quantize", "faces:Face", "--images", "pictures", "-o", "faces.intaglio")
    code, _, err = cli(*quantise, "--method", "detptq", "--bits", "6", *decode)
    assert code == 0, err
    refused(
        cli("run", "faces.intaglio", "pictures"),
        "faces.intaglio must carry a head description to decode boxes; give the torch model an"
        " attribute `head_spec`, or --head FILE.json, or use `intaglio run --raw`.",
    )
    code, out, err = cli("run", "faces.intaglio", "pictures", *decode, "--json", "found.json")
    assert code == 0, err
    found = json.loads((here / "found.json").read_text())["detections"]
    assert [one["boxes"] for one in found] == [[[8, 8, 24, 24]]] * 3
    assert "landmarks" not in found[0]
    evaluate = ("eval", "faces.intaglio", "--data", "data.json", "--images", "pictures", *decode)
    code, out, err = cli(*evaluate, "--json", "scores.json")
    assert code == 0, err
    assert json.loads((here / "scores.json").read_text())["ap"] == pytest.approx(1)
    code, out, err = cli("eval", "faces:Face", *evaluate[2:], "--jobs", "2")
    assert code == 0, err
    assert "AP 1.0000" in out


def test_what_cannot_be_is_one_sentence(cli: Cli, here: Path) -> None:
    quantise = ("quantize", "faces:Face", "--images", "pictures", "-o", "faces.intaglio")
    decode = ("--decode", "faces:boxes")
    refused(
        cli(*quantise, "--head", "yunet.json", *decode),
        "--head and --decode must not be given together; leave one out, as both make boxes.",
    )
    refused(
        cli(*quantise, "--decode", "faces:nameless"),
        "--decode faces:nameless must have an attribute `classes`, the names of what its labels"
        " number: nameless.classes = ('cat', 'dog').",
    )
    refused(
        cli(*quantise, "--reconstruct", *decode),
        "A model reconstructed by ODOL must have a HeadSpec, not a function of your own, which has"
        " no gradient; use Reconstruction(odol=False), on the command line --no-odol.",
    )
    refused(
        cli("quantize", "faces:other", *quantise[2:], "--head", "yunet.json"),
        "a yunet head with 1 levels must have 4 output maps (class, object, box, points of each"
        " level), not 2; give the model the head description that fits it",
    )
    train = (
        "train",
        "faces:Face",
        "--images",
        "pictures",
        "--data",
        "data.json",
        "-o",
        "t.intaglio",
    )
    refused(
        cli(*train, *decode),
        "A model to be trained must have a head of kind fcos or retinanet, not boxes by"
        " faces:boxes, which is no loss; quantise it, with --reconstruct --no-odol for fewer bits.",
    )
    refused(
        cli(*train, "--head", "yunet.json"),
        "A model to be trained must have a head of kind fcos or retinanet, not yunet: no other loss"
        " is known here; quantise it, with --reconstruct for fewer bits.",
    )
    (here / "wrong.json").write_text(SPEC.to_json().replace("yunet", "yolo"))
    refused(
        cli(*quantise, "--head", "wrong.json"), "--head wrong.json: head kind must be one of fcos,"
    )
    assert not (here / "faces.intaglio").exists()
    refused(cli(*quantise, "--head", "none.json"), "none.json")
    assert cli(*quantise)[0] == 0
    refused(
        cli("run", "faces.intaglio", "pictures", "--raw", *decode),
        "--raw must go without --head and --decode: it makes no boxes.",
    )


def quantised_onnx(path: Path) -> None:
    """The same network as a file of QuantizeLinear and DequantizeLinear, of pixels over 255."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    points = [-1.0, -1, 1, -1, 0, 0, -1, 1, 1, 1]
    layers = [(12 / 192, [-6.0]), (12 / 192, [-6.0]), (0.0, [0, 0, np.log(2), np.log(2)])]
    layers.append((0.0, points))
    known = {"s": np.float32(1 / 255), "z": np.uint8(0), "so": np.float32(1 / 16),
             "zo": np.uint8(128), "sw": np.float32(12 / 192 / 127)}  # fmt: skip
    known["sb"] = np.float32(known["s"] * known["sw"])
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
             helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"])]  # fmt: skip
    outputs = []
    for n, (weight, bias) in enumerate(layers):
        shape = (len(bias), 3, 8, 8)
        known[f"w{n}"] = np.full(shape, round(weight / known["sw"]), np.int8)
        known[f"b{n}"] = np.rint(np.array(bias) / known["sb"]).astype(np.int32)
        nodes += [
            helper.make_node("DequantizeLinear", [f"w{n}", "sw"], [f"wd{n}"]),
            helper.make_node("DequantizeLinear", [f"b{n}", "sb"], [f"bd{n}"]),
            helper.make_node("Conv", ["xd", f"wd{n}", f"bd{n}"], [f"y{n}"], strides=[8, 8]),
            helper.make_node("QuantizeLinear", [f"y{n}", "so", "zo"], [f"yq{n}"]),
            helper.make_node("DequantizeLinear", [f"yq{n}", "so", "zo"], [f"out{n}"]),
        ]
        size = [1, len(bias), 4, 4]
        outputs.append(helper.make_tensor_value_info(f"out{n}", TensorProto.FLOAT, size))
    graph = helper.make_graph(
        nodes, "faces", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])],
        outputs, [numpy_helper.from_array(np.asarray(v), k) for k, v in known.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, path)


def test_an_imported_file_is_told_of_its_head(cli: Cli, here: Path) -> None:
    pytest.importorskip("onnxruntime")
    quantised_onnx(here / "faces.onnx")
    brought = ("import", "faces.onnx", "--mean", "0,0,0", "--std", "1,1,1")
    code, _, err = cli(*brought, "-o", "faces.intaglio", "--head", "yunet.json")
    assert code == 0, err
    code, _, err = cli("run", "faces.intaglio", "pictures", "--json", "found.json")
    assert code == 0, err
    found = json.loads((here / "found.json").read_text())["detections"][0]
    np.testing.assert_allclose(found["boxes"], [[8, 8, 24, 24]], atol=1)
    assert np.array(found["landmarks"]).shape == (1, 5, 2)
    (here / "levels.json").write_text(HeadSpec("yunet", ("face",), (8, 16), points=5).to_json())
    refused(
        cli(*brought, "-o", "other.intaglio", "--head", "levels.json"),
        "a yunet head with 2 levels must have 8 output maps (class, object, box, points of each"
        " level), not 4; give the model the head description that fits it",
    )
    assert not (here / "other.intaglio").exists()
