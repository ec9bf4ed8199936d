"""A simulation that is stopped stops its own programs, and puts away what they were making."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from networks import skip
from tools import needs

from intaglio.codegen.bundle import build
from intaglio.system.disk import PART

ROOT = Path(__file__).parent.parent.parent
START = "import sys; from intaglio.cli import main; sys.exit(main())"
PATIENCE = 120.0  # seconds, on a machine that does much else


def below(folder: Path) -> set[str]:
    """Names of all that is in a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def running(folder: Path) -> list[str]:
    """Commands of processes that work in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(process / "cwd")).is_relative_to(folder):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it has ended, or is not ours to look at
            continue
    return found


@pytest.mark.slow
@pytest.mark.rtl
@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
def test_a_stopped_bench_leaves_nothing_running_and_nothing_half_made(
    tmp_path: Path, simulator: str, number: signal.Signals
) -> None:
    needs(simulator)
    folder = tmp_path / "b"
    build(skip(), target="ice40-up5k", clock_mhz=12).write(folder)
    command = [sys.executable, "-c", START, "verify", str(folder), "--simulator", simulator]
    paths = os.pathsep.join([str(ROOT), *sys.path])
    with subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": paths}, stderr=subprocess.PIPE, text=True
    ) as process:
        end = time.monotonic() + PATIENCE
        while not list(folder.glob(f"sim/{PART}*/*")) and time.monotonic() < end:
            assert process.poll() is None
            time.sleep(0.01)
        assert running(folder)
        process.send_signal(number)
        _, err = process.communicate()
    assert process.returncode == 128 + number
    assert err.endswith("intaglio: interrupted.\n")
    assert "Traceback" not in err
    assert running(folder) == []
    assert {name for name in below(folder) if PART in name} == set()
