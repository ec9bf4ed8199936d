"""Every command where a disk refuses: full, or nothing can be written but what it is to write."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tools import namespace, needs, sentences, stock_path

TESTS = Path(__file__).parent.parent
ROOT = TESTS.parent
SCRIPT = TESTS / "every_command.py"
FULL, ENOUGH = "size=24m", "size=400m"
# Where a build's tools work, and the script of one that could not begin.
WORKED_IN = {
    "build/sim", "build/bitstream", "build/bitstream/top.ys", "rtl/sim", "rtl/sim/function"
}  # fmt: skip


def run(*arguments: object, mounts: str = "", **env: str) -> Any:
    """What every_command.py found, with file systems of its own when there are `mounts`."""
    paths = os.pathsep.join([str(ROOT), str(TESTS), *sys.path])
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    if mounts:
        command = [*namespace(), "sh", "-ec", mounts + '\nexec "$@"', "sh", *command]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths, **env}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout else None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands read."""
    path = tmp_path_factory.mktemp("disk") / "with space"
    (path / "out").mkdir(parents=True)
    run("prepare", path)
    return path


def full_disk(folder: Path, mode: str, *pages: int) -> None:
    mounts = f"mount -t tmpfs -o {FULL} none '{folder}/out'"
    found = run(mode, folder, *pages, mounts=mounts)
    for row in found:
        assert "Traceback" not in row["err"], row
        if row["left"] == 0 or row["code"] != 0:
            assert row["code"] == 2, row
            (line,) = sentences(row["err"])
            assert line.startswith("intaglio: ")
            assert "No space left on device" in line, row
            told = {name for name in row["new"] if name.endswith(".log")}  # what tools said
            assert set(row["new"]) <= WORKED_IN | told, row


def test_a_full_disk_is_one_sentence_and_nothing_half_written(folder: Path) -> None:
    needs("icarus")
    full_disk(folder, "quick", 0)


@pytest.mark.slow
@pytest.mark.rtl
@pytest.mark.parametrize("mode", ["quick", "long"])
def test_a_disk_that_fills_on_the_way(folder: Path, mode: str) -> None:
    needs("verilator")
    full_disk(folder, mode, 0, 2, 40)


def without_home(folder: Path, tmp_path: Path, mode: str) -> None:
    """Everything is read-only but out and a temporary folder; nothing was ever compiled."""
    (folder / "tmp").mkdir(exist_ok=True)
    (folder / "home").mkdir(exist_ok=True)
    mounts = f"""
mount --make-rprivate /
mount -t tmpfs -o {ENOUGH} none '{folder}/out'
mount -t tmpfs -o size=512m none '{folder}/tmp'
for place in '{folder}/home' '{folder}/in' '{ROOT}' '{sys.prefix}'; do
  mount --bind "$place" "$place"
  mount -o remount,bind,ro "$place"
  if touch "$place/x" 2>/dev/null; then echo "$place can be written" >&2; exit 1; fi
done
"""
    home = str(folder / "home")
    env = {"HOME": home, "TMPDIR": str(folder / "tmp"), "XDG_CACHE_HOME": "", "NUMBA_CACHE_DIR": ""}
    env |= {"PATH": stock_path(tmp_path / "bin"), "YOWASP_CACHE_DIR": ""}
    found = run(mode, folder, mounts=mounts, **env)
    for row in found:
        assert row["code"] == 0, row
        for line in sentences(row["err"]):
            assert line.startswith(f"intaglio: compiled code is kept in {folder}/tmp/intaglio-")
        assert row["new"] or row["name"].startswith("verify"), row
    if mode == "long":
        assert any(row["name"].startswith("demo") for row in found)


@pytest.mark.slow
@pytest.mark.rtl
@pytest.mark.parametrize("mode", ["quick", "long"])
def test_an_installation_and_a_home_that_cannot_be_written(
    folder: Path, tmp_path: Path, mode: str
) -> None:
    needs("verilator")
    without_home(folder, tmp_path, mode)
