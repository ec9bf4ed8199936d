"""The RTL is simulated wherever the build lies and whatever programs the system has."""

import atexit
import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from networks import Layers, skip
from strategies import random_images
from tools import needs, needs_tools, stock_path

from intaglio.chip.bitstream import bitstream
from intaglio.chip.gates import verify_gates
from intaglio.codegen.bundle import build
from intaglio.codegen.running import tools
from intaglio.codegen.running.compile import load
from intaglio.codegen.running.library import verilog_string
from intaglio.codegen.running.tools import SimulatorName
from intaglio.codegen.running.verify import verify
from intaglio.errors import DataError, ToolError
from intaglio.program import Program
from intaglio.sim.engine import Simulator

pytestmark = [pytest.mark.rtl, pytest.mark.xdist_group("verilator")]
ROOT = Path(__file__).parent.parent.parent
AWKWARD = "a b $(touch owned) `touch owned` $HOME \"q\" 'q' #;&|<>*?[x]{y}~!\\é:%s"


def chain(layers: int) -> Program:
    """Convolutions in a row."""
    net, last = Layers((3, 6, 7)), "image"
    for k in range(layers):
        last = net.conv(f"c{k}", last, net.weights(f"w{k}", 2, 2 if k else 3, 3))
    return net.finish([last])


@cache
def written(layers: int) -> Path:
    """A build, not simulated yet."""
    parent = Path(tempfile.mkdtemp(prefix="intaglio-test-"))
    atexit.register(shutil.rmtree, parent, ignore_errors=True)
    folder = parent / "build"
    build(chain(layers), lanes=20 * layers, target="generic").write(folder)
    return folder


def command(folder: Path, path: str, simulator: str) -> subprocess.CompletedProcess[str]:
    """`intaglio verify` with this PATH alone."""
    kept = ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR")
    env = {name: os.environ[name] for name in kept if name in os.environ}
    env |= {"PATH": path, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "intaglio.cli", "verify", str(folder), "--frames", "1",
         "--simulator", simulator],
        env=env, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("simulator", ["verilator", "icarus"])
@pytest.mark.parametrize(
    "layers", [1, pytest.param(3, marks=pytest.mark.slow), pytest.param(30, marks=pytest.mark.slow)]
)
def test_a_system_without_a_python_command(
    layers: int, simulator: SimulatorName, tmp_path: Path
) -> None:
    needs(simulator)
    path = stock_path(tmp_path / "bin")
    assert shutil.which("python", path=path) is None
    shutil.copytree(written(layers), tmp_path / "build")
    done = command(tmp_path / "build", path, simulator)
    assert (done.returncode, "all equal" in done.stdout) == (0, True), done.stderr


def test_what_a_failed_compilation_left_is_thrown_away(tmp_path: Path) -> None:
    """A compiler that writes half of its output and fails; then the right one."""
    needs("verilator")
    folder, bad = tmp_path / "build", tmp_path / "bad"
    shutil.copytree(written(1), folder)
    bad.mkdir()
    (bad / "g++").write_text("#!/bin/sh\n[ \"$1\" = --version ] && exit\n"
                             "for last; do :; done\necho half > \"$last\"\n"
                             "echo 'internal compiler error: bad luck' >&2\nexit 1\n")  # fmt: skip
    (bad / "g++").chmod(0o755)
    path = stock_path(tmp_path / "bin")
    done = command(folder, f"{bad}{os.pathsep}{path}", "verilator")
    assert done.returncode == 2
    told, sentence = done.stderr.split("\n", 1)
    assert re.fullmatch(r"\[1/3\] expected beats … [\d.]+ s", told)
    assert sentence == (
        "intaglio: verilator must run the bench, but stopped: internal compiler error: bad luck;"
        f" see {folder}/sim/verilator.log.\n"
    )
    left = sorted(entry.name for entry in (folder / "sim").iterdir())
    assert left == ["plan.hex", "verilator.log"]
    (folder / "sim" / "verilator").mkdir()  # as an older version left it
    (folder / "sim" / "verilator" / "bench").write_text("half")
    done = command(folder, path, "verilator")
    assert (done.returncode, "all equal" in done.stdout) == (0, True), done.stderr


def everything_runs(name: str) -> None:
    """Verification and the compiled function of a small build in a folder of this name."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / name / "build"
        shutil.copytree(written(1), folder)
        for simulator in tools.PROGRAMS:
            assert verify(folder, frames=1, simulator=simulator).mismatches == 0
        images = random_images(chain(1), 2, 0)
        got = load(folder, folder=folder / "sim" / "function", threads=1)(images)
        assert np.array_equal(got["out0"], Simulator(chain(1))(images)["out0"])
        assert [entry.name for entry in Path(parent).iterdir()] == [name]
        moved = Path(parent) / "moved"
        folder.rename(moved)  # what was compiled goes with it
        for path in (moved / "rom").iterdir():
            path.write_text(path.read_text())
        assert verify(moved, frames=1).mismatches == 0
        got = load(moved, folder=moved / "sim" / "function", threads=1)(images)
        assert np.array_equal(got["out0"], Simulator(chain(1))(images)["out0"])


def test_a_folder_may_have_an_awkward_name() -> None:
    needs("verilator")
    needs("icarus")
    everything_runs(AWKWARD)


NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40
).filter(lambda name: name not in (".", ".."))


@pytest.mark.slow
@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(NAMES)
@example("with space")
@example("-leading dash")
@example("new\nline\ttab")
def test_a_folder_may_have_any_name(name: str) -> None:
    needs("verilator")
    needs("icarus")
    everything_runs(name)


@pytest.mark.slow
def test_bitstreams_and_netlists_in_a_folder_with_an_awkward_name(tmp_path: Path) -> None:
    needs("verilator")
    needs_tools("yosys", "nextpnr-ice40", "icepack")
    folder = tmp_path / AWKWARD / "build"
    build(chain(1), lanes=4, target="ice40-up5k", clock_mhz=12).write(folder)
    made = bitstream(folder, seeds=1, gate=True)
    assert made.met
    assert made.equal
    assert verify_gates(folder).mismatches == 0
    assert [entry.name for entry in tmp_path.iterdir()] == [AWKWARD]


@given(st.binary(max_size=20))
def test_any_bytes_in_a_verilog_string(data: bytes) -> None:
    text = verilog_string(data)
    assert text.isascii()
    assert not set(text) & set('"\n%$')
    assert text.encode().decode("unicode_escape").encode("latin-1") == data


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    needs("icarus")
    shutil.copytree(written(1), tmp_path / "build")
    (tmp_path / "build" / "sim").write_text("in the way")
    with pytest.raises(DataError, match=r"build/sim must be writable, not: File exists\.$"):
        verify(tmp_path / "build", simulator="icarus")


def test_a_python_without_a_shared_library_is_named_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("icarus")
    build(skip()).write(tmp_path / "build")
    monkeypatch.setattr("find_libpython.find_libpython", lambda: None)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    with pytest.raises(ToolError) as error:
        verify(tmp_path / "build", simulator="icarus")
    assert str(error.value) == (
        f"libpython{version}.so must be installed for cocotb: apt-get install libpython{version},"
        " or take a Python that was built with --enable-shared."
    )
