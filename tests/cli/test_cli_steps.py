"""The step log of every command that takes long: as many steps as it said, the same in the JSON and
in the result's folder."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from networks import skip
from PIL import Image
from silence import all_steps_of, heard
from tools import Cli, needs, needs_tools

from intaglio.codegen.bundle import STEPS as BUILT
from intaglio.detect.evaluate import STEPS as EVALUATED
from intaglio.file import save
from intaglio.quant.pipeline import planned
from intaglio.quant.settings.budget import Budget
from intaglio.quant.settings.config import QuantConfig, Reconstruction

OWN = "examples.own_network:skyline"
DETECTOR = "every_command:detector"
ROOT = Path(__file__).parent.parent.parent


def recorded(path: Path) -> list[str]:
    """The names in a record of steps, whose numbers must make sense."""
    steps = json.loads(path.read_text())["steps"]
    for step in steps:
        assert 0 <= step["seconds"] < 600
        assert step["peak_bytes"] > 1 << 20
        assert sum(step["parts"].values()) <= step["seconds"] + 0.01
    return [step["name"] for step in steps]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four random 27x41 images."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(7)
    for n in range(4):
        Image.fromarray(rng.integers(0, 256, (27, 41, 3), dtype=np.uint8)).save(folder / f"{n}.png")
    return folder


def test_quantize_names_what_its_settings_ask_for(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    more = ("--equalize", "--reconstruct", "--no-odol", "--iterations", 2, "--nearest")
    out = ("-o", "own.intaglio", "--json", "own.json")
    code, _, err = cli("quantize", OWN, "--images", pictures, *more, *out)
    assert code == 0, err
    names = all_steps_of(err.splitlines())
    assert names == [
        "pictures", "capture", "equalisation", "calibration", "ranges", "bias correction",
        "reconstruction", "integers", "layers measured",
    ]  # fmt: skip
    assert recorded(tmp_path / "own.json") == recorded(tmp_path / "own.steps.json") == names


def test_the_plan_of_every_setting() -> None:
    assert planned(QuantConfig())[:2] == ("capture", "calibration")
    assert "search" in planned(QuantConfig(method="detptq"))
    assert "compensation" not in planned(QuantConfig(method="detptq"))
    budget = QuantConfig(budgets=(Budget.parse("bops=16"),), correct_bias=False)
    assert "widths" in planned(budget)
    assert "bias correction" not in planned(budget)
    assert "reconstruction" in planned(QuantConfig(reconstruct=Reconstruction()))


def test_commands_on_data(cli: Cli, tmp_path: Path) -> None:
    def steps(*arguments: object) -> list[str]:
        code, _, err = cli(*arguments)
        assert code == 0, err
        return all_steps_of(err.splitlines())

    data = ("--data", "data/scenes.json", "--images", "data/images")
    assert steps("scenes", "-o", "data", "--count", 4, "--side", 32, "--split", "train") == [
        "scenes"
    ]
    train = ("--epochs", 1, "--batch", 2, "-o", "t.intaglio", "--json", "t.json")
    names = steps("train", DETECTOR, *data, *train)
    assert names == ["pictures", "first ranges", "training", "integers",
                     "comparison with the simulator"]  # fmt: skip
    assert recorded(tmp_path / "t.json") == recorded(tmp_path / "t.steps.json") == names
    assert steps("eval", "t.intaglio", *data, "--json", "e.json") == list(EVALUATED)
    assert recorded(tmp_path / "e.json") == list(EVALUATED)
    fake = ("--engine", "fake", "--calibration", "data/images")
    names = steps("eval", DETECTOR, *data, *fake)
    assert names == ["pictures", *planned(QuantConfig()), *EVALUATED]
    budget = ("--budget", "weight-bits=4", "--method", "detptq", "-o", "q.intaglio")
    names = steps("quantize", DETECTOR, *data[2:], *budget)
    assert {"widths", "search"} < set(names)
    assert steps("diverge", "t.intaglio", *data, "--rounding", "RND") == [
        "tensors", "average precision",
    ]  # fmt: skip
    assert steps("run", "t.intaglio", "data/images/000000.png", "--raw") == ["images"]
    assert steps("trace", "t.intaglio", "data/images/000000.png", "-o", "tr") == ["tensors"]


@pytest.mark.rtl
def test_commands_on_hardware(cli: Cli, tmp_path: Path) -> None:
    needs("icarus")
    save(skip(), tmp_path / "net.intaglio")
    small = ("--target", "ice40-up5k", "--clock", 12)
    code, _, err = cli("build", "net.intaglio", *small, "-o", "b", "--json", "b.json")
    assert code == 0, err
    names = all_steps_of(err.splitlines())
    assert names == [*BUILT, "writing"]
    assert recorded(tmp_path / "b.json") == recorded(tmp_path / "b/steps.json") == names
    first = json.loads((tmp_path / "b.json").read_text())["steps"][0]
    assert set(first["parts"]) == {"folding", "queues"}
    code, _, err = cli("verify", "b", "--simulator", "icarus", "--json", "v.json")
    assert code == 0, err
    names = all_steps_of(err.splitlines())
    assert names == ["expected beats", "simulation", "comparison"]
    assert recorded(tmp_path / "v.json") == recorded(tmp_path / "b/sim/steps.json") == names


@pytest.mark.slow
@pytest.mark.rtl
def test_a_bitstream_and_its_netlist(cli: Cli, tmp_path: Path) -> None:
    needs("verilator")
    needs_tools("yosys", "nextpnr-ice40", "icepack")
    save(skip(), tmp_path / "net.intaglio")
    small = ("--target", "ice40-up5k", "--clock", 12)
    assert cli("build", "net.intaglio", *small, "-o", "b")[0] == 0
    code, out, err = cli("bitstream", "b", "--seeds", 2, "--json", "s.json")
    assert code == 0, out + err
    names = all_steps_of(err.splitlines())
    assert names == ["synthesis", "netlist simulated", "seed 1, place and route",
                     "seed 2, place and route", "packing"]  # fmt: skip
    assert recorded(tmp_path / "s.json") == recorded(tmp_path / "b/bitstream/steps.json") == names
    for log in ("shell.yosys.log", "seed1.log", "seed2.log"):
        assert (tmp_path / "b/bitstream" / log).stat().st_size > 2_000
    code, out, err = cli("verify", "b", "--gates")
    assert code == 0, out + err
    assert all_steps_of(err.splitlines()) == ["synthesis", "expected beats", "simulation"]


@pytest.mark.slow
@pytest.mark.rtl
def test_no_command_is_silent_for_long(tmp_path: Path) -> None:
    """Of the README, on its detector. Seconds of a clock, so that a busy machine may need a second
    try; what is measured is far below where nothing else runs."""
    needs("verilator")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    data = ("--images", "held-out/images", "--data", "held-out/scenes.json")
    commands = (
        ("scenes", "-o", "calibration", "--split", "train", "--count", 64, "--seed", 2),
        ("scenes", "-o", "held-out", "--count", 100),
        ("quantize", "fcos-nano", "--images", "calibration/images", "-o", "nano.intaglio"),
        ("info", "nano.intaglio"),
        ("eval", "nano.intaglio", *data),
        ("diverge", "nano.intaglio", *data, "--acc-bits", 16, "--limit", 20),
        ("build", "nano.intaglio", "--fps", 300, "-o", "build"),
        ("verify", "build", "--stalls"),
        ("eval", "build", "--engine", "rtl", "--limit", 4, *data),
        ("report", "build", "-o", "nano.html"),
    )
    for arguments in commands:
        command = [sys.executable, "-m", "intaglio.cli", *arguments]
        found = heard(command, tmp_path, environment)
        assert found.code == 0, found.lines
        if found.longest >= 5:
            found = heard(command, tmp_path, environment)
        assert found.longest < 5, (arguments, found.longest, found.lines)
