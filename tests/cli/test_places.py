"""Nothing of a user's is lost: where the results of every command may go, and where they may not."""

import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import skip
from PIL import Image
from tools import Cli, namespace, refused

from intaglio.file import load, save
from intaglio.program import Program

TESTS = Path(__file__).parent.parent
ROOT = TESTS.parent
UNLOCKED = "-dac_override,-dac_read_search"  # what lets root write everywhere


def environment() -> dict[str, str]:
    """Of a process that imports what this one does."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(TESTS), *sys.path])}


def trials(folder: Path, kind: str, count: int, seed: int) -> Any:
    """What place_trials.py found."""
    (folder / "small").mkdir()
    command = (sys.executable, TESTS / "place_trials.py", kind, folder, count, seed)
    mounts = f"mount -t tmpfs -o size=4m none '{folder}/small'"
    locked = f'{mounts}\nexec setpriv --bounding-set={UNLOCKED} "$@"'
    done = subprocess.run(
        [*namespace(), "sh", "-ec", locked, "sh", *map(str, command)], env=environment(),
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert sum(found["kinds"].values()) == count
    return found


def test_thirty_results_to_places_of_all_kinds(tmp_path: Path) -> None:
    found = trials(tmp_path, "quick", 30, 1)
    assert found["wrong"] == []
    assert {"0", "2", "130", "143"} <= found["codes"].keys()


@pytest.mark.slow
def test_six_hundred_results_to_places_of_all_kinds(tmp_path: Path) -> None:
    found = trials(tmp_path, "all", 600, 2)
    assert found["wrong"] == []
    assert set(found["codes"]) == {"0", "2", "129", "130", "143"}
    assert len(found["kinds"]) > 350


START = "import sys; from intaglio.cli import main; sys.exit(main())"


def interrupted(folder: Path, words: list[object], after: float, number: int) -> tuple[int, str]:
    """Exit code and last words of a process that gets a signal."""
    process = subprocess.Popen(
        [sys.executable, "-c", START, *map(str, words)], cwd=folder, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        time.sleep(after)
        process.send_signal(number)
        _, err = process.communicate()
    return process.returncode, err


def interruptions(folder: Path, count: int, seed: int) -> None:
    """Commands in processes of their own, stopped at random moments from Python's start on."""
    rng = random.Random(seed)
    save(skip(), folder / "net.intaglio")
    (folder / "kept.json").write_text('{"old": true}')
    words = ["info", "net.intaglio", "--json", "kept.json"]
    started = time.monotonic()
    assert interrupted(folder, words, 60, signal.SIGCONT)[0] == 0
    length = time.monotonic() - started - 60
    for _ in range(count):
        (folder / "kept.json").write_text('{"old": true}')
        number = rng.choice([signal.SIGINT, signal.SIGTERM])
        code, err = interrupted(folder, words, rng.uniform(0, length), number)
        early = code == -number or "site" in err  # Python itself was only starting
        if not early:
            assert (code, err) in ((0, ""), (128 + number, "intaglio: interrupted.\n"))
        assert json.loads((folder / "kept.json").read_text())
        assert {path.name for path in folder.iterdir()} == {"net.intaglio", "kept.json"}
