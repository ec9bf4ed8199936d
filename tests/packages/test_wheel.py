"""The wheel in empty environments: every command works, or names the extra that it wants in words
that work. docs/install.md is the expectation."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from environment import ROOT, Environment, built_wheel

from intaglio.file import load
from intaglio.system.extras import extras

pytestmark = pytest.mark.xdist_group("packages")
EVERY = Path(__file__).parent.parent / "every_command.py"
ASKED = re.compile(r"must be installed.*?: (\S+/python -m pip install .*)$", re.M)
WORKS = "✓"
FAST = ("images",)


def table() -> dict[str, dict[str, str]]:
    """docs/install.md: of each column, extras joined by commas, what it says of commands."""
    text = (ROOT / "docs/install.md").read_text(encoding="utf-8")
    lines = [line.strip("| ").split("|") for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line] for line in lines]
    head = next(row for row in rows if row[0] == "command")
    body = [row for row in rows[rows.index(head) + 2 :] if len(row) == len(head)]
    columns = [name.replace("`", "").replace(" ", "") for name in head]
    return {
        name: {row[0].strip("`"): row[number] for row in body}
        for number, name in enumerate(columns)
        if number
    }


VERSIONS = ("3.12", "3.13")  # and 3.11, or whatever runs this, with everything
SLOW = [name for name in table() if name not in ("core", *FAST)]


def other_python(version: str) -> str:
    """An interpreter of this version, on PATH or of pyenv; without it the test is skipped, or fails
    when CI is set."""
    beside = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for name in (f"python{version}", *map(str, beside)):
        asked = [name, "-c", "import sys; print(sys.executable, *sys.version_info[:2])"]
        with suppress(OSError):
            said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
            if said[1:] == version.split("."):
                return said[0]
    if os.environ.get("CI"):
        pytest.fail(f"Python {version} must be installed where CI is set")
    pytest.skip(f"Python {version} is not installed")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands read, made where everything is installed."""
    folder = tmp_path_factory.mktemp("inputs")
    subprocess.run(
        [sys.executable, EVERY, "prepare", folder], check=True, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{EVERY.parent}"},
    )  # fmt: skip
    shape = load(folder / "in/net.intaglio").inputs[0].shape
    (folder / "in/arrays").mkdir()
    for n in range(2):
        pixels = np.random.default_rng(n).integers(0, 256, shape, dtype=np.uint8)
        np.save(folder / f"in/arrays/{n}.npy", pixels)
    return folder / "in"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> tuple[Environment, Path]:
    """An environment with the wheel and no extra, and a copy to set it back to."""
    folder = tmp_path_factory.mktemp("core")
    made = Environment(folder / "venv", folder / "home")
    made.make(sys.executable, str(wheel))
    return made, made.keep()


@pytest.fixture
def environment(core: tuple[Environment, Path]) -> Iterator[Environment]:
    """The core alone."""
    made, kept = core
    made.set_back(kept)
    return made


def lines(commands: list[str], inputs: Path, out: Path) -> list[list[str]]:
    """The table's commands with the names in it replaced by files."""
    names = {
        "NET": inputs / "net.intaglio",
        "DET": inputs / "det.intaglio",
        "TOSA": inputs / "tosa.intaglio",
        "A.npy": inputs / "arrays/0.npy",
        "ARRAYS": inputs / "arrays",
        "IMAGE.png": inputs / "data/images/000000.png",
        "IMAGES": inputs / "data/images",
        "BOXES.json": inputs / "data/scenes.json",
        "FILE.onnx": inputs / "pooled.onnx",
    }
    found = []
    for number, command in enumerate(commands):
        if "BUILD" in command:  # one each, as commands write into it
            names["BUILD"] = out / f"{number}-build"
            shutil.copytree(inputs / "build", names["BUILD"])
        parts = [str(names.get(part, part)) for part in command.split()]
        found.append([part.replace("OUT", str(out / str(number)), 1) if part.startswith("OUT")
                      else part for part in parts])  # fmt: skip
    return found


def packages(requirements: Iterable[str]) -> set[str]:
    """Their names."""
    return {re.split("[<>=]", requirement)[0] for requirement in requirements}


def agree(made: Environment, column: str, inputs: Path) -> dict[str, str]:
    """Every command of a column, as the table says; of each extra asked for, the line it named."""
    expected = table()[column]
    asked, out = {}, made.home / column
    shutil.rmtree(out, ignore_errors=True)  # of the test before
    answers = made.run(lines(list(expected), inputs, out))
    for (command, cell), (code, err) in zip(expected.items(), answers, strict=True):
        assert "Traceback" not in err, (column, command, err)
        if cell == WORKS:
            assert code == 0, (column, command, err)
        else:
            line = ASKED.search(err)
            assert line, (column, command, code, err)
            assert code == 2, (column, command, err)
            assert line[1].startswith(f"{made.python} ")
            named = packages(shlex.split(line[1])[4:])
            assert named == packages(extras()[cell]), (command, err)
            asked[cell] = line[1]
    return asked


def brings(made: Environment, line: str, wheel: Path, extra: str) -> None:
    """The line that a refusal named brings what the extra is."""
    made.sh(line)
    again = made.pip(f"{wheel}[{extra}]")
    assert "Collecting" not in again


def test_the_core_and_the_smaller_extras(
    environment: Environment, core: tuple[Environment, Path], wheel: Path, inputs: Path
) -> None:
    asked = agree(environment, "core", inputs)
    assert set(asked) == {"images", "scenes", "detect", "exchange", "hdl"}
    for extra in FAST:
        environment.set_back(core[1])
        brings(environment, asked[extra], wheel, extra)
        agree(environment, extra, inputs)


@pytest.mark.slow
@pytest.mark.parametrize("column", SLOW)
def test_the_larger_extras(
    environment: Environment, wheel: Path, inputs: Path, column: str
) -> None:
    asked = agree(environment, "core", inputs)
    if column in asked:
        brings(environment, asked[column], wheel, column)
    else:
        environment.pip(f"{wheel}[{column}]")
    agree(environment, column, inputs)


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("column", ["core", "images,hdl", "exchange", "detect"])
def test_another_python(
    tmp_path: Path, wheel: Path, inputs: Path, version: str, column: str
) -> None:
    made = Environment(tmp_path / "venv", tmp_path / "home")
    made.make(other_python(version), f"{wheel}[{column}]" if column != "core" else str(wheel))
    agree(made, column, inputs)


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "intaglio"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    sources = {name for name in listed if (ROOT / name).is_file()}
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if name.startswith("intaglio/")} == sources
    assert "intaglio/py.typed" in sources
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_table_names_every_command_and_extra() -> None:
    from intaglio.cli.verb import ORDER

    cells = table()
    assert {command.split()[0] for command in cells["core"]} == set(ORDER)
    named = {extra for column in cells for extra in column.split(",")} - {"core"}
    named |= {cell for column in cells.values() for cell in column.values()} - {WORKS}
    assert named <= set(extras())
