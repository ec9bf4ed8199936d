"""The command line: what it prints for bad input, and the path of a network from outside."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tools import needs

from intaglio.cli import main

Cli = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parent.parent


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Runs the command line inside an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["intaglio", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


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


def refused(result: tuple[int, str, str], *words: str) -> None:
    """Exit code 2, one sentence with these words, no traceback."""
    code, _, err = result
    assert code == 2, err
    for word in words:
        assert word in err, err
    assert "Traceback" not in err
    assert err.strip().count("\n") == 0, err


def test_quantize_refuses_what_it_cannot_use(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    own = "examples.own_network:skyline"
    out = ("-o", "x.intaglio")
    refused(cli("quantize", "nothing", "--images", pictures, *out), "MODEL must be one of", "fcos-")
    refused(cli("quantize", "no.such:thing", "--images", pictures, *out), "must be importable")
    refused(cli("quantize", own, "--images", "absent", *out), "absent must be an existing folder")
    (tmp_path / "empty").mkdir()
    refused(
        cli("quantize", own, "--images", "empty", *out), "must hold at least one image", "not 0"
    )
    refused(
        cli("quantize", own, "--images", pictures, "--count", 0, *out), "at least 1 image, not 0"
    )
    refused(cli("quantize", own, "--images", pictures, "--wbits", 1, *out), "2 to 8", "not 1")
    refused(cli("quantize", own, "--images", pictures, "--abits", 17, *out), "2 to 16", "not 17")
    refused(cli("quantize", own, "--images", pictures, "--size", "27", *out), "--size must be HxW")
    refused(cli("quantize", own, "--images", pictures, "--override", "a=4", *out), "GLOB=WxA")
    refused(
        cli("quantize", own, "--images", pictures, "--arithmetic", "x87", *out),
        "Arithmetic must be one of intaglio",
    )
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
    Image.fromarray(np.zeros((27, 41), np.uint16)).save(tmp_path / "deep.png")
    refused(cli("run", "own.intaglio", "deep.png", "--raw"), "deep.png must be", "8 bits")
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
    refused(cli("info", "newer.intaglio"), "must have format 1, not 9")


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
    maps = np.load(tmp_path / "raw" / "0.npz")
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
    code, out, err = cli("verify", "b", "--stalls", "--json", "verify.json")
    assert code == 0, out + err
    verified = json.loads((tmp_path / "verify.json").read_text())
    assert verified["mismatches"] == 0
    assert verified["frames"] == 2
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


def test_a_bundled_detector_is_quantised_evaluated_and_drawn(cli: Cli, tmp_path: Path) -> None:
    assert cli("scenes", "data", "--count", 12, "--split", "train")[0] == 0
    (annotations,) = (tmp_path / "data").glob("*.json")
    data = ("--data", annotations, "--images", "data/images")
    wide = ("--wbits", 8, "--abits", 8, "-o", "nano.intaglio", "--json", "nano.json")
    assert cli("quantize", "fcos-nano", *data, *wide)[0] == 0
    assert json.loads((tmp_path / "nano.json").read_text())["layers"]
    found = {}
    for model, engine in (("fcos-nano", "float"), ("nano.intaglio", "sim")):
        code, _, err = cli("eval", model, *data, "--engine", engine, "--json", "ap.json")
        assert code == 0, err
        found[engine] = json.loads((tmp_path / "ap.json").read_text())
        assert set(found[engine]) == {"ap", "ap50", "ap75", "images", "engine", "seconds"}
        assert found[engine]["engine"] == engine
        assert found[engine]["images"] == 12
    assert abs(found["sim"]["ap"] - found["float"]["ap"]) < 0.05
    first = sorted((tmp_path / "data" / "images").iterdir())[0]
    assert cli("run", "nano.intaglio", first, "-o", "drawn", "--json", "run.json")[0] == 0
    assert Image.open(tmp_path / "drawn" / f"{first.stem}.png").size == (4 * 96, 4 * 96)
    assert json.loads((tmp_path / "run.json").read_text())["detections"][0]["boxes"]
    refused(
        cli("eval", "nano.intaglio", *data, "--engine", "float"), "must run in sim or reference"
    )
    refused(cli("eval", "fcos-nano", *data, "--engine", "fake"), "--calibration DIR")
    refused(cli("eval", "fcos-nano", *data, "--engine", "sim"), "must run in float or fake")
