"""The commands on turned, grey and large pictures, and on annotation files of other people."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tools import Cli, refused, sentences

from intaglio.detect.pictures import TURNS

TURNED = "warning: Pictures are turned as their EXIF orientation says, as viewers and cv2.imread do"

NETWORKS = '''
import torch
from torch import nn
from intaglio.detect.networks.spec import HeadSpec


def grey():
    return nn.Conv2d(1, 4, 3, padding=1)


def four():
    return nn.Conv2d(4, 4, 3, padding=1)


class Corner(nn.Module):
    """The box (0, 16, 16, 32) of the class cat in every picture of 32 rows and 16 columns."""

    input_size = (32, 16)
    head_spec = HeadSpec("fcos", ("cat",), (8,))

    def __init__(self, channels):
        super().__init__()
        self.read = nn.Conv2d(channels, 1, 1)

    def forward(self, x):
        nothing = 0 * self.read(x)[:, :, ::8, ::8]
        maps = ((1, -20.0), (4, 1.0), (1, 20.0))
        classes, boxes, centre = (torch.full((len(x), n, 4, 2), v) for n, v in maps)
        classes[:, 0, 3, 1] = 20.0
        return [[classes + nothing, boxes + nothing, centre + nothing]]


class Random(nn.Module):
    input_size = (32, 16)
    head_spec = HeadSpec("fcos", ("cat",), (8,))

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.maps = nn.ModuleList(nn.Conv2d(3, n, 8, stride=8) for n in (1, 4, 1))

    def forward(self, x):
        return [[m(x) for m in self.maps]]


def corner():
    return Corner(3)


def grey_corner():
    return Corner(1)
'''


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "nets_of_pictures.py").write_text(NETWORKS)
    return tmp_path


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def grey_files(folder: Path, size: tuple[int, int] = (9, 8)) -> Path:
    folder.mkdir()
    for n in range(4):
        pixels = np.random.default_rng(n).integers(0, 256, size[::-1]).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{n}.png")
    return folder


def test_grey_pictures_fit_a_network_of_one_channel(cli: Cli, here: Path) -> None:
    folder = grey_files(here / "grey")
    model = ("quantize", "nets_of_pictures:grey", "-o", "grey.intaglio", "--images")
    assert cli(*model, folder)[0] == 0
    assert cli("run", "grey.intaglio", folder / "0.png", "--raw")[0] == 0
    assert cli("trace", "grey.intaglio", folder / "0.png", "-o", "trace")[0] == 0
    colours = here / "colours.png"
    Image.new("RGB", (9, 8)).save(colours)
    words = "must be a grey picture for a network of one channel, not one of colours"
    refused(cli("run", "grey.intaglio", colours, "--raw"), f"{colours} {words}")
    refused(cli("trace", "grey.intaglio", colours, "-o", "other"), f"{colours} {words}")
    Image.new("RGB", (9, 8)).save(folder / "4.png")
    refused(cli(*model, folder), "picture files are read as RGB", ".npy")


def test_other_channels_are_told_of_arrays(cli: Cli, here: Path) -> None:
    folder = grey_files(here / "grey")
    model = ("quantize", "nets_of_pictures:four", "-o", "four.intaglio", "--images")
    refused(cli(*model, folder), "picture files are read as RGB", ".npy")
    for file in folder.iterdir():
        file.unlink()
    np.save(folder / "0.npy", np.random.default_rng(1).integers(0, 256, (4, 8, 9), np.uint8))
    assert cli(*model, folder)[0] == 0
    assert cli("run", "four.intaglio", folder / "0.npy", "--raw")[0] == 0


def annotated(folder: Path, size: tuple[int, int], box: list[int], orientation: int) -> None:
    """Two grey pictures stored as 32 x 16, that are 16 x 32, and what a file says of them."""
    images = [
        {"id": n, "file_name": f"{n}.png", "width": size[0], "height": size[1]} for n in (0, 1)
    ]
    for n in (0, 1):
        Image.new("L", (32, 16), 90).save(folder / f"{n}.png", exif=exif(orientation))
    boxes = [
        {"id": 0, "image_id": n, "category_id": "c", "bbox": box, "area": None} for n in (0, 1)
    ]
    document = {"images": images, "categories": [{"id": "c", "name": "cat"}], "annotations": boxes}
    (folder / "data.json").write_text(json.dumps(document))


@pytest.mark.parametrize("network", ["corner", "grey_corner"])
def test_turned_pictures_are_evaluated_as_they_are_seen(cli: Cli, here: Path, network: str) -> None:
    command = ("eval", f"nets_of_pictures:{network}", "--data", "data.json", "--images", here)
    annotated(here, (16, 32), [0, 16, 16, 16], 6)
    code, out, told = cli(*command)
    assert (code, sentences(told)) == (0, [f"intaglio: {TURNED}: 2 of 2, {here}/0.png first."])
    assert "AP 1.0000" in out
    annotated(here, (32, 16), [16, 0, 16, 16], 6)  # the same box before the picture is turned
    code, out, told = cli(*command)
    assert code == 0
    assert sentences(told) == [
        f"intaglio: {TURNED}: 2 of 2, {here}/0.png first.",
        "intaglio: warning: Boxes in data.json are turned with their pictures, whose width and"
        " height are given as before their EXIF orientation turns them: 2 of 2,"
        f" {here}/0.png first.",
    ]
    assert "AP 1.0000" in out
    annotated(here, (32, 32), [0, 16, 16, 16], 6)
    refused(cli(*command), "data.json must give", "16 and 32, not 32 and 32")
    annotated(here, (32, 16), [0, 0, 16, 16], 1)
    refused(cli(*command), "must be 32x16 pixels (height x width), not 16x32", "--resize")


@pytest.mark.parametrize("orientation", [3, 6, 7])
def test_boxes_are_drawn_where_they_are_seen(cli: Cli, here: Path, orientation: int) -> None:
    """A picture that is stored turned gives the boxes and the drawing of the upright one."""
    pixels = np.random.default_rng(4).integers(0, 256, (32, 16, 3)).astype(np.uint8)
    backwards = {6: 8, 8: 6}.get(orientation, orientation)
    lying = Image.fromarray(pixels).transpose(Image.Transpose[TURNS[backwards]])
    for name, picture, mark in (
        ("upright", Image.fromarray(pixels), 1),
        ("lying", lying, orientation),
    ):
        (here / name).mkdir()
        picture.save(here / name / "a.png", exif=exif(mark))
        model = ("quantize", "nets_of_pictures:Random", "--images", here / name, "--abits", 8)
        assert cli(*model, "-o", f"{name}.intaglio")[0] == 0
        run = ("run", f"{name}.intaglio", f"{name}/a.png", "-o", f"{name}/runs", "--threshold", 0.1)
        code, _, told = cli(*run, "--json", f"{name}.json")
        assert code == 0
        assert sentences(told) == (
            [] if mark == 1 else [f"intaglio: {TURNED}: 1 of 1, lying/a.png first."]
        )
    assert (here / "upright.intaglio").read_bytes() == (here / "lying.intaglio").read_bytes()
    upright, turned = (
        json.loads((here / f"{name}.json").read_text())["detections"][0]
        for name in ("upright", "lying")
    )
    assert upright["boxes"] == turned["boxes"] != []
    drawings = [(here / name / "runs/a.boxes.png").read_bytes() for name in ("upright", "lying")]
    assert drawings[0] == drawings[1]


def test_large_and_broken_pictures_are_refused(
    cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = grey_files(here / "grey")
    model = ("quantize", "nets_of_pictures:grey", "-o", "grey.intaglio", "--images", folder)
    assert cli(*model)[0] == 0
    whole = (folder / "0.png").read_bytes()
    (folder / "0.png").write_bytes(whole[:-30])
    refused(cli("run", "grey.intaglio", folder / "0.png", "--raw"), "0.png must be an image that")
    refused(cli(*model), "0.png must be an image that Pillow can read")
    (folder / "0.png").write_bytes(whole)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    refused(cli("run", "grey.intaglio", folder / "0.png", "--raw"), "must have at most 60 pixels")
    refused(cli(*model), "0.png must have at most 60 pixels, the limit of Pillow")


def test_work_beyond_memory_is_one_sentence(
    cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise MemoryError(f"Unable to allocate 64. GiB for {path}")

    monkeypatch.setattr("intaglio.file.load", fail)
    refused(cli("info", "a.intaglio"), "must fit into memory, but: Unable to allocate 64. GiB")
