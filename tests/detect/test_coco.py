"""COCO 2017's layout and torchvision's state dicts, through the data classes and the commands."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from tools import Cli, refused

from intaglio.detect.coco import CocoData
from intaglio.detect.decode import HeadSpec
from intaglio.detect.evaluate import evaluate
from intaglio.detect.images import read
from intaglio.detect.networks import torchvision
from intaglio.detect.resolve import load_weights
from intaglio.errors import DataError
from intaglio.file import load
from intaglio.quant import float_predictor
from intaglio.quant.train import Pictures
from intaglio.sim.engine import Simulator

torch.set_num_threads(1)
SIZE = (128, 160)

# File name, (width, height), Pillow's mode, and boxes as (category id, x, y, w, h, is a crowd).
FILES: dict[int, tuple[str, tuple[int, int], str, list[tuple[int, int, int, int, int, int]]]] = {
    139: ("000000000139", (120, 90), "RGB", [(64, 70, 30, 40, 50, 0), (72, 10, 20, 44, 61, 0)]),
    285: ("000000000285", (75, 110), "RGB", [(90, 20, 60, 55, 50, 0)]),
    632: ("000000000632", (64, 64), "L", [(1, 4, 6, 30, 40, 0), (17, 30, 30, 30, 28, 0)]),
    724: ("000000000724", (90, 66), "RGB", []),
    776: ("000000000776", (200, 310), "RGB", [(88, 20, 40, 90, 90, 0), (1, 100, 150, 90, 140, 1)]),
}  # fmt: skip
KNOWN = {1: "person", 13: "stop sign", 17: "cat", 27: "backpack", 31: "handbag", 44: "bottle",
         46: "wine glass", 64: "potted plant", 67: "dining table", 70: "toilet", 72: "tv",
         84: "book", 88: "teddy bear", 90: "toothbrush"}  # fmt: skip


def write_coco(folder: Path) -> tuple[Path, Path]:
    """annotations/instances_val2017.json and val2017/*.jpg; both paths."""
    images, path = folder / "val2017", folder / "annotations" / "instances_val2017.json"
    images.mkdir(parents=True)
    path.parent.mkdir()
    rng = np.random.default_rng(3)
    listed, boxes = [], []
    for image_id, (name, (width, height), mode, found) in FILES.items():
        coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        picture.convert(mode).save(images / f"{name}.jpg", quality=90)
        listed.append(
            {"id": image_id, "file_name": f"{name}.jpg", "width": width, "height": height,
             "license": 1}
        )  # fmt: skip
        for category, x, y, w, h, crowd in found:
            outline: Any = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            if crowd:
                outline = {"counts": [0, width * height], "size": [height, width]}
            boxes.append(
                {"id": 100 + len(boxes), "image_id": image_id, "category_id": category,
                 "bbox": [float(x), float(y), float(w), float(h)], "area": float(w * h),
                 "iscrowd": crowd, "segmentation": outline}
            )  # fmt: skip
    ids = [i for i, name in enumerate(torchvision.classes_by_id()) if name in COCO_NAMES]
    categories = [
        {"id": i, "name": torchvision.classes_by_id()[i], "supercategory": "thing"} for i in ids
    ]
    document = {"info": {"year": 2017}, "licenses": [{"id": 1}], "images": listed,
                "annotations": boxes, "categories": categories}  # fmt: skip
    path.write_text(json.dumps(document))
    return path, images


COCO_NAMES = frozenset(torchvision.COCO_CATEGORIES)


@pytest.fixture
def coco(tmp_path: Path) -> CocoData:
    return CocoData(*write_coco(tmp_path / "coco"))


# --- classes and boxes ----------------------------------------------------------------------------


def test_a_class_has_the_number_of_its_category() -> None:
    names = torchvision.classes_by_id()
    assert len(names) == 91
    assert len(COCO_NAMES) == 80
    assert {i: names[i] for i in KNOWN} == KNOWN
    assert names.count("N/A") == 10
    assert names.index("__background__") == 0
    with torch.device("meta"):
        models = [make() for make in torchvision.MODELS.values()]
    for model in models:
        assert model.head_spec.classes == names
        assert HeadSpec.from_json(model.head_spec.to_json()) == model.head_spec


class Oracle:
    """Answers each batch with maps of stride 2 that hold what the file of annotations says, the
    class numbered as the category; boxes at the right and lower edge reach far beyond it."""

    spec = HeadSpec("fcos", torchvision.classes_by_id(), strides=(2,))

    def __init__(self, data: CocoData) -> None:
        self.data = data
        self.ids = iter(data.ids)

    def __call__(self, images: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
        shape = (len(images), images.shape[2] // 2, images.shape[3] // 2)
        cls, reg, centre = (np.full((shape[0], c, *shape[1:]), -20.0) for c in (91, 4, 1))
        for n, image_id in zip(range(len(images)), self.ids, strict=False):
            _, (width, height), _, boxes = FILES[image_id]
            scale = min(images.shape[2] / height, images.shape[3] / width) / 2
            for category, x, y, w, h, crowd in boxes:
                w, h = (w // 2, h // 2) if crowd else (w, h)  # one of the many
                x0, y0, x1, y1 = (scale * v for v in (x, y, x + w, y + h))
                column, row = int((x0 + x1) / 2), int((y0 + y1) / 2)
                right = x1 + 50 * (x + w == width)
                below = y1 + 50 * (y + h == height)
                assert cls[n, :, row, column].max() < 0
                cls[n, category, row, column] = centre[n, 0, row, column] = 5.0
                reg[n, :, row, column] = [column - x0, row - y0, right - column, below - row]
        return [cls, reg, centre]


@pytest.mark.parametrize("batch", [None, 2])
def test_the_annotated_boxes_have_an_ap_of_one(coco: CocoData, batch: int | None) -> None:
    """Sizes, orientations, ids with gaps, an image without boxes, and a crowd region, which must
    count neither as found nor as missed."""
    result = evaluate(Oracle(coco), coco, Oracle.spec, SIZE, resize=True, batch=batch)
    assert (result.ap, result.images) == (pytest.approx(1.0, abs=1e-9), len(FILES))


def test_images_that_show_nothing_have_no_ap(coco: CocoData) -> None:
    coco.ids = [724]
    with pytest.raises(DataError) as error:
        evaluate(Oracle(coco), coco, Oracle.spec, SIZE, resize=True)
    assert str(error.value) == (
        f"{coco.path} must have at least one box in the 1 images evaluated, not 0; take more"
        " images."
    )


def test_pictures_for_training_have_coco_boxes_in_their_own_scale(coco: CocoData) -> None:
    pictures = Pictures(coco, torchvision.classes_by_id(), SIZE, resize=True)
    for n, (_, (width, height), _, boxes) in enumerate(FILES.values()):
        image, found, labels = pictures[n]
        assert image.shape == (3, *SIZE)
        scale = min(SIZE[0] / height, SIZE[1] / width)
        wanted = [b for b in boxes if not b[5]]
        assert labels[labels >= 0].tolist() == [b[0] for b in wanted]
        for box, (_, x, y, w, h, _) in zip(found.tolist(), wanted, strict=False):
            assert box == pytest.approx([scale * v for v in (x, y, x + w, y + h)], rel=1e-6)


# --- weights --------------------------------------------------------------------------------------


def as_published(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A RetinaNet's state dict as torchvision named it before 2022, with frozen norms."""
    found = {}
    for name, value in state.items():
        parts = name.split(".")
        if parts[-1] == "num_batches_tracked":
            continue
        if parts[2] in ("inner_blocks", "layer_blocks"):
            del parts[4]  # backbone.fpn.inner_blocks.0.0.weight
        if parts[2] == "conv":
            parts[3:5] = [str(2 * int(parts[3]))]  # head.classification_head.conv.1.0.weight
        found[".".join(parts)] = value
    return found


def test_the_names_before_2022_load_into_the_places_of_today(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = torchvision.retinanet_resnet50_fpn()
    state = model.state_dict()
    old = as_published(state)
    assert "backbone.fpn.layer_blocks.2.bias" in old
    assert "head.regression_head.conv.6.weight" in old
    assert not old.keys() <= state.keys()
    torch.save(old, tmp_path / "old.pth")
    again = torchvision.retinanet_resnet50_fpn()
    load_weights(again, tmp_path / "old.pth")
    for name, value in again.state_dict().items():
        assert (value == state[name]).all(), name
    with torch.device("meta"):
        for make in torchvision.MODELS.values():
            own = make().state_dict()
            assert torchvision.present_names(own, own.keys()).keys() == own.keys()


# --- the commands ---------------------------------------------------------------------------------


def test_a_resnet50_retinanet_goes_through_the_commands(cli: Cli, tmp_path: Path) -> None:
    data, images = write_coco(tmp_path / "coco")
    torch.manual_seed(0)
    model = torchvision.retinanet_resnet50_fpn().eval()
    torch.save(as_published(model.state_dict()), tmp_path / "weights.pth")
    net = ("retinanet_resnet50_fpn", "--weights", "weights.pth")
    where = ("--images", images, "--data", data, "--size", "128x160", "--resize")
    cheap = ("--method", "minmax", "--nearest", "--wbits", 8, "--abits", 8, "--count", 3)
    code, _, err = cli("quantize", *net, *where, *cheap, "-o", "r.intaglio", "--json", "q.json")
    assert code == 0, err
    rows = json.loads((tmp_path / "q.json").read_text())["layers"]
    assert {"backbone.body.layer4.2.conv3", "head.classification_head.cls_logits"} <= {
        row["layer"].partition("@")[0] for row in rows
    }
    for target, engine in ((net, "float"), (("r.intaglio",), "sim")):
        answer = ("--engine", engine, "--limit", 3, "--json", f"{engine}.json")
        code, _, err = cli("eval", *target, *where, *answer)
        assert code == 0, err
        found = json.loads((tmp_path / f"{engine}.json").read_text())
        assert (found["images"], found["engine"]) == (3, engine)
        assert 0 <= found["ap"] <= found["ap50"] <= 1

    program = load(tmp_path / "r.intaglio")
    file = images / f"{FILES[285][0]}.jpg"
    pixels = read(file, SIZE, resize=True)[None]
    ours, theirs = Simulator(program).run_dequantised(pixels), float_predictor(model)(pixels)
    for a, b in zip(ours, theirs, strict=True):
        assert np.abs(a - b).std() < 0.2 * b.std()

    code, _, err = cli("run", "r.intaglio", file, "--resize", "-o", "drawn", "--json", "run.json")
    assert code == 0, err
    (seen,) = json.loads((tmp_path / "run.json").read_text())["detections"]
    boxes = np.array(seen["boxes"])
    assert len(boxes) > 0
    assert (boxes >= 0).all()
    assert (boxes <= [75, 110, 75, 110]).all()
    assert set(seen["labels"]) <= set(torchvision.classes_by_id())
    assert Image.open(tmp_path / "drawn" / f"{file.stem}.boxes.png").size == (3 * 75, 3 * 110)


def test_a_head_with_group_norm_is_refused_by_name(cli: Cli, tmp_path: Path) -> None:
    data, images = write_coco(tmp_path / "coco")
    torch.save(torchvision.fcos_resnet50_fpn().state_dict(), tmp_path / "weights.pth")
    net = ("fcos_resnet50_fpn", "--weights", "weights.pth", "--images", images)
    size = ("--size", "64x64", "--resize")
    code, _, err = cli("eval", *net, "--data", data, *size, "--limit", 1, "--json", "ap.json")
    assert code == 0, err
    assert json.loads((tmp_path / "ap.json").read_text())["ap"] >= 0
    refused(
        cli("quantize", *net, *size, "--count", 1, "-o", "x.intaglio"),
        "aten.group_norm in layer 'head.classification_head.conv.1' (heads.py:",
        "): a norm must have constant statistics, and GroupNorm takes each image's own; train with"
        " BatchNorm2d or MultiLevelNorm, or use a detector without it (retinanet_resnet50_fpn).",
    )
    assert not (tmp_path / "x.intaglio").exists()


SMALL = """
from intaglio.detect.networks.retinanet import retinanet_resnet
from intaglio.detect.networks.torchvision import retinanet_spec

def small():
    return retinanet_resnet(18, retinanet_spec(), width=0.125, channels=8, convs=1, fpn_norm=False)
"""


def test_a_detector_of_cocos_classes_is_trained_and_evaluated(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, images = write_coco(tmp_path / "coco")
    (tmp_path / "coco_small.py").write_text(SMALL)
    monkeypatch.syspath_prepend(str(tmp_path))
    where = ("--images", images, "--data", data, "--resize")
    size = ("--size", "64x64", "-o", "t.intaglio")
    short = ("--epochs", 1, "--batch", 2, "--json", "t.json")
    code, _, err = cli("train", "coco_small:small", *where, *size, *short)
    assert code == 0, err
    agreement = json.loads((tmp_path / "t.json").read_text())["agreement"]
    assert agreement["mismatches"] == 0 < agreement["compared"]
    assert cli("eval", "t.intaglio", *where, "--json", "ap.json")[0] == 0
    assert json.loads((tmp_path / "ap.json").read_text())["images"] == len(FILES)


def test_what_the_commands_refuse(cli: Cli, tmp_path: Path) -> None:
    data, images = write_coco(tmp_path / "coco")
    where = ("--images", images, "--data", data)
    refused(
        cli("eval", "retinanet_resnet50_fpn", *where),
        "retinanet_resnet50_fpn must be given weights",
        "--weights FILE",
    )
    own = ("quantize", "models:Modules", *where, "-o", "x.intaglio")
    refused(cli(*own, "--resize"), "--resize must come with --size HxW")
    torch.save({"model": {}, "epoch": 3}, tmp_path / "training.pth")
    refused(
        cli(*own, "--weights", "training.pth"),
        "training.pth must hold tensors by name, not dict under 'model'",
    )
