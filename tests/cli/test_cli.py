"""The command line: what it prints for bad input, and the path of a network from outside."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from safetensors.torch import save_file
from tools import Cli, needs, refused

import intaglio
from intaglio.detect.scenes import digits

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Eight random 27x41 images."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(7)
    for n in range(8):
        pixels = rng.integers(0, 256, (27, 41, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{n}.png")
    return folder


def test_quantize_refuses_what_it_cannot_use(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    own = "examples.own_network:skyline"
    out = ("-o", "x.intaglio")
    refused(cli("quantize", "nothing", "--images", pictures, *out), "MODEL must be one of", "fcos-")
    refused(cli("quantize", "no.such:thing", "--images", pictures, *out), "must be importable")
    refused(cli("quantize", own, "--images", "absent", *out), "absent must be an image or a folder")
    (tmp_path / "empty").mkdir()
    refused(
        cli("quantize", own, "--images", "empty", *out), "must hold at least one image", "not 0"
    )
    refused(
        cli("quantize", own, "--images", pictures, "--count", 0, *out),
        "--limit must be at least 1, not 0",
    )
    refused(cli("quantize", own, "--images", pictures, "--wbits", 1, *out), "2 to 8", "not 1")
    refused(cli("quantize", own, "--images", pictures, "--abits", 17, *out), "2 to 16", "not 17")
    refused(cli("quantize", own, "--images", pictures, "--size", "27", *out), "--size must be HxW")
    refused(cli("quantize", own, "--images", pictures, "--override", "a=4", *out), "GLOB=WxA")
    refused(
        cli("quantize", own, "--images", pictures, "--arithmetic", "x87", *out),
        "Arithmetic must be one of intaglio",
    )
    for option in (("--no-odol",), ("--iterations", 9), ("--block-iterations", 9)):
        refused(cli("quantize", own, "--images", pictures, *option, *out), "go with --reconstruct")
    refused(cli("quantize", own, "--images", pictures, "--sum-bits", 1, *out), "sum_bits", "not 1")
    assert not (tmp_path / "x.intaglio").exists()


def test_images_of_the_wrong_kind_are_refused(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    own = "examples.own_network:skyline"
    assert cli("quantize", own, "--images", pictures, "-o", "own.intaglio")[0] == 0
    Image.new("RGB", (30, 20)).save(tmp_path / "small.png")
    refused(
        cli("run", "own.intaglio", "small.png", "--raw"), "small.png must be 27x41", "not 20x30"
    )
    (tmp_path / "text.png").write_text("not a picture")
    refused(cli("run", "own.intaglio", "text.png", "--raw"), "text.png must be an image")
    Image.fromarray(np.zeros((27, 41), np.float32)).save(tmp_path / "deep.tif")
    refused(cli("run", "own.intaglio", "deep.tif", "--raw"), "deep.tif must be", "8 or 16 bits")
    np.save(tmp_path / "wrong.npy", np.zeros((3, 27, 41), np.float32))
    refused(cli("run", "own.intaglio", "wrong.npy", "--raw"), "must be uint8", "float32")
    refused(cli("run", "own.intaglio", pictures / "0.png"), "head description", "--raw")


def test_damaged_files_are_refused(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    refused(cli("info", "absent.intaglio"), "must be an existing .intaglio file")
    own = "examples.own_network:skyline"
    assert cli("quantize", own, "--images", pictures, "-o", "own.intaglio")[0] == 0
    whole = (tmp_path / "own.intaglio").read_bytes()
    for name, data in (("cut", whole[: len(whole) // 2]), ("noise", b"\x00" * 64), ("none", b"")):
        (tmp_path / f"{name}.intaglio").write_bytes(data)
        refused(cli("info", f"{name}.intaglio"), f"{name}.intaglio must be a whole .intaglio file")
    newer = whole.replace(b'\\"format\\": 1', b'\\"format\\": 9')
    assert newer != whole
    (tmp_path / "newer.intaglio").write_bytes(newer)
    refused(cli("info", "newer.intaglio"), "must have format 1 to 5, not 9")


def test_a_coco_set_without_its_images_is_refused(cli: Cli, tmp_path: Path) -> None:
    assert cli("scenes", "data", "--count", 3)[0] == 0
    (annotations,) = (tmp_path / "data").glob("*.json")
    next((tmp_path / "data" / "images").iterdir()).unlink()
    refused(
        cli("eval", "fcos-nano", "--data", annotations, "--images", "data/images"),
        "3 images that must exist, but 1 do not",
    )


def test_folding_targets_that_cannot_be_met(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    own = "examples.own_network:skyline"
    assert cli("quantize", own, "--images", pictures, "-o", "own.intaglio")[0] == 0
    refused(cli("build", "own.intaglio", "-o", "b", "--fps", 1e9), "fps must be at most", "layer")
    refused(cli("build", "own.intaglio", "-o", "b", "--target", "abacus"), "must be one of")
    assert not (tmp_path / "b").exists()
    refused(cli("verify", "b"), "b must be a folder written by `intaglio build`")


@pytest.mark.rtl
def test_a_network_from_outside_goes_all_the_way(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    needs("verilator")
    own = "examples.own_network:skyline"
    code, out, err = cli("quantize", own, "--images", pictures, "-o", "own.intaglio")
    assert code == 0, err
    assert cli("info", "own.intaglio", "--json", "info.json")[0] == 0
    assert json.loads((tmp_path / "info.json").read_text())["macs"] > 0
    code, out, err = cli("run", "own.intaglio", pictures / "0.png", "--raw", "-o", "raw")
    assert code == 0, err
    maps = np.load(tmp_path / "raw" / "0.maps.npz")
    assert sorted(m.shape for m in maps.values()) == [
        (1, 7, 10),
        (1, 14, 21),
        (2, 7, 10),
        (2, 14, 21),
    ]
    images = [part for n in (0, 1) for part in ("--image", pictures / f"{n}.png")]
    code, out, err = cli("build", "own.intaglio", "-o", "b", *images, "--json", "build.json")
    assert code == 0, err
    assert json.loads((tmp_path / "build.json").read_text())["target"] == "ecp5-85k"
    code, out, err = cli("verify", "b", "--seed", 3, "--json", "verify.json")
    assert code == 0, out + err
    assert "seed 3: all equal" in out
    assert "Every file is as it was built." in out
    verified = json.loads((tmp_path / "verify.json").read_text())
    assert (verified["passed"], verified["mismatches"], verified["changed"]) == (True, 0, [])
    assert (verified["frames"], verified["seed"]) == (12, 3)
    assert verified["beats"] > 0


def test_compare_names_the_first_difference(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    own = "examples.own_network:skyline"
    assert cli("quantize", own, "--images", pictures, "-o", "a.intaglio")[0] == 0
    assert cli("compare", "a.intaglio", "a.intaglio", "--json", "same.json")[0] == 0
    assert json.loads((tmp_path / "same.json").read_text())["equal"] is True
    more = ("--method", "minmax", "-o", "b.intaglio")
    assert cli("quantize", own, "--images", pictures, *more)[0] == 0
    code, _, _ = cli("compare", "a.intaglio", "b.intaglio", "--json", "other.json")
    assert code == 1
    assert json.loads((tmp_path / "other.json").read_text())["first_difference"]


def pycocotools_alone(annotations: Path, predictions: Path) -> list[float]:
    """COCO's twelve figures."""
    truth = COCO(str(annotations))
    evaluation = COCOeval(truth, truth.loadRes(str(predictions)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return [float(value) for value in evaluation.stats]


def test_a_bundled_detector_is_quantised_evaluated_and_drawn(cli: Cli, tmp_path: Path) -> None:
    assert cli("scenes", "data", "--count", 12, "--split", "train")[0] == 0
    (annotations,) = (tmp_path / "data").glob("*.json")
    data = ("--data", annotations, "--images", "data/images")
    wide = ("--wbits", 8, "--abits", 8, "-o", "nano.intaglio", "--json", "nano.json")
    assert cli("quantize", "fcos-nano", *data, *wide)[0] == 0
    quantised = json.loads((tmp_path / "nano.json").read_text())
    assert quantised["layers"]
    assert quantised["intaglio"] == intaglio.__version__
    assert quantised["settings"]["wbits"] == 8
    assert quantised["settings"]["images"] == ["data/images"]
    found = {}
    for model, engine in (("fcos-nano", "float"), ("nano.intaglio", "sim")):
        files = ("--json", "ap.json", "--predictions", "seen.json")
        code, _, err = cli("eval", model, *data, "--engine", engine, *files)
        assert code == 0, err
        found[engine] = json.loads((tmp_path / "ap.json").read_text())
        assert found[engine]["engine"] == engine
        assert found[engine]["data"] == str(annotations)
        assert found[engine]["settings"]["limit"] is None
        assert len(found[engine]["digest"]) == 64
        assert [c["name"] for c in found[engine]["classes"]] == list("0123456789")
        assert found[engine]["images"] == 12
        alone = pycocotools_alone(annotations, tmp_path / "seen.json")
        assert list(found[engine]["figures"].values()) == [None if v < 0 else v for v in alone]
        assert found[engine]["ap"] == alone[0]
        text = (tmp_path / "seen.json").read_text()
        seen = json.loads(text)
        assert text == json.dumps(seen) + "\n"
        assert {key for row in seen for key in row} == {"image_id", "category_id", "bbox", "score"}
    assert abs(found["sim"]["ap"] - found["float"]["ap"]) < 0.05
    first = sorted((tmp_path / "data" / "images").iterdir())[0]
    code, out, _ = cli("run", "nano.intaglio", first, "-o", "drawn", "--json", "run.json")
    assert code == 0
    assert re.search(r"000000.png: class \d \(score 0.\d\d\)", out)
    assert Image.open(tmp_path / "drawn" / f"{first.stem}.boxes.png").size == (4 * 96, 4 * 96)
    assert json.loads((tmp_path / "run.json").read_text())["detections"][0]["boxes"]
    refused(
        cli("eval", "nano.intaglio", *data, "--engine", "float"), "must run in sim or reference"
    )
    refused(cli("eval", "fcos-nano", *data, "--engine", "fake"), "--calibration DIR")
    refused(cli("eval", "fcos-nano", *data, "--engine", "sim"), "must run in float or fake")


BROKEN = {
    "unsupported": (
        "import torch\nclass M(torch.nn.Module):\n    def forward(self, x):\n"
        "        return torch.fft.fft2(x).real\nmake = M\n",
        ("fft",),
    ),
    "branching": (
        "import torch\nclass M(torch.nn.Module):\n    def forward(self, x):\n"
        "        return x * 2 if x.sum() > 0 else x\nmake = M\n",
        ("export",),
    ),
    "poisoned": (
        "import torch\ndef make():\n    m = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))\n"
        "    m[0].weight.data[0] = float('nan')\n    return m\n",
        ("0.weight", "finite"),
    ),
    "garbled": ("def make(:\n", ("must be importable", "SyntaxError")),
    "raising": ("def make():\n    return 1 / 0\n", ("ZeroDivisionError",)),
    "number": ("def make():\n    return 7\n", ("must return an nn.Module, not int",)),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_models_that_cannot_be_quantised(
    kind: str, cli: Cli, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, words = BROKEN[kind]
    (tmp_path / f"model_{kind}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    refused(cli("quantize", f"model_{kind}:make", "--images", pictures, "-o", "x.intaglio"), *words)
    assert not (tmp_path / "x.intaglio").exists()


def test_weights_that_do_not_fit(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    own = ("quantize", "examples.own_network:skyline", "--images", pictures, "-o", "x.intaglio")
    refused(cli(*own, "--weights", "absent.pt"), "absent.pt must be an existing weights file")
    (tmp_path / "noise.safetensors").write_bytes(b"no tensors")
    refused(cli(*own, "--weights", "noise.safetensors"), "noise.safetensors must be a state dict")
    save_file({"stem.weight": torch.zeros(1, 2)}, tmp_path / "small.safetensors")
    refused(cli(*own, "--weights", "small.safetensors"), "stem.weight is (1, 2) there")
    save_file({"steam.weight": torch.zeros(1, 2)}, tmp_path / "other.safetensors")
    refused(cli(*own, "--weights", "other.safetensors"), "parameters missing", "1 unknown")


def test_places_that_cannot_be_written(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    own = ("quantize", "examples.own_network:skyline", "--images", pictures)
    assert cli(*own, "-o", "own.intaglio")[0] == 0
    (tmp_path / "file").write_text("in the way")
    refused(
        cli("run", "own.intaglio", pictures / "0.png", "--raw", "-o", "file"), "file must be a f"
    )
    refused(cli("scenes", "file/data", "--count", 1), "must be a folder")
    refused(cli("scenes", "data", "--seed", -1), "--seed must be 0 to")
    refused(cli("info", "own.intaglio", "--json", pictures), "--json must be a file, not")
    refused(cli(*own, "-o", "file/x.intaglio"), "file must be a folder")
    left = {"file", "own.intaglio", "own.steps.json", "pictures"}
    assert {f.name for f in tmp_path.iterdir()} == left
    again = tmp_path / "again"
    again.mkdir()
    Image.open(pictures / "0.png").save(again / "0.png")
    twice = (pictures / "0.png", again / "0.png", "--raw")
    refused(cli("run", "own.intaglio", *twice), "different names, but 0 comes twice")


def test_annotations_that_make_no_sense(cli: Cli, tmp_path: Path) -> None:
    assert cli("scenes", "data", "--count", 2)[0] == 0
    path = tmp_path / "data" / "scenes.json"
    whole = json.loads(path.read_text())
    args = ("eval", "fcos-nano", "--images", "data/images", "--data")
    for change, words in (
        ({"bbox": [1, 2, 3]}, "must have a bbox of 4 numbers"),
        ({"bbox": [1, 2, 3, "4"]}, "must have a bbox of 4 numbers"),
        ({"category_id": 99}, "must have the category_id of a category in the file, not 99"),
    ):
        broken = whole | {"annotations": [whole["annotations"][0] | change]}
        (tmp_path / "broken.json").write_text(json.dumps(broken))
        refused(cli(*args, "broken.json"), "broken.json: annotations[0]", words)
    refused(cli(*args, path, "--limit", 0), "--limit must be at least 1, not 0")


def test_a_missing_package_is_one_sentence(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    digits.cache_clear()
    refused(
        cli("scenes", "data", "--count", 1),
        "sklearn.datasets must be installed for this command, with the extra scenes:"
        f" {sys.executable} -m pip install 'pillow>=10' 'pycocotools>=2.0.8' 'scikit-learn>=1.4'",
    )


def test_the_readme_names_commands_and_flags_that_exist(cli: Cli) -> None:
    text = (ROOT / "README.md").read_text().replace("\n.venv/bin/intaglio ", "\nintaglio ")
    lines = text.splitlines()
    commands = [line.split("#")[0].split() for line in lines if line.startswith("intaglio ")]
    assert len(commands) >= 9
    for _, command, *arguments in commands:
        code, out, _ = cli(command, "--help")
        assert code == 0
        for flag in [a for a in arguments if a.startswith("-")]:
            assert flag in out, f"{command} {flag}"


def test_the_module_is_the_command(tmp_path: Path) -> None:
    """`python -m intaglio.cli`, its exit code too."""
    command = [sys.executable, "-m", "intaglio.cli"]
    helped = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
    assert "verify" in helped.stdout
    absent = subprocess.run(
        [*command, "info", str(tmp_path / "absent.intaglio")], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert absent.returncode == 2
    assert "Traceback" not in absent.stderr
