"""The Vivado script: run in a real Tcl interpreter whose tools only note what they are told, and
its design through yosys' own synthesis for the same family."""

import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from networks import tiny
from tools import needs_tools

from intaglio.chip.synthesis import FOLDER, synthesise
from intaglio.codegen.area.devices import device
from intaglio.codegen.bundle import build
from intaglio.codegen.folder.scripts import SOURCES

TOOLS = (
    "create_project", "read_verilog", "read_xdc", "synth_design", "opt_design", "place_design",
    "route_design", "report_timing_summary", "report_utilization", "write_checkpoint",
    "create_clock",
)  # fmt: skip


def tkinter() -> Any:
    """The module that brings a Tcl interpreter."""
    try:
        return import_module("tkinter")
    except ModuleNotFoundError:
        if os.environ.get("CI"):
            pytest.fail("tkinter must be installed where CI is set")
        pytest.skip("tkinter, which brings a Tcl interpreter, is not installed")


def vivado(folder: Path, slack: float) -> list[list[str]]:
    """The commands of the script in their order, where the longest path has this slack in ns."""
    tcl: Any = tkinter().Tcl()
    called: list[list[str]] = []
    for name in TOOLS:

        def note(*words: str, name: str = name) -> str:
            called.append([name, *words])
            if name.startswith("read_"):
                path = folder / words[-1]
                assert path.is_file(), path
                if name == "read_xdc":
                    tcl.eval(path.read_text())
            return ""

        tcl.createcommand(name, note)
    tcl.createcommand("get_ports", lambda name: f"port:{name}")
    tcl.createcommand("get_timing_paths", lambda: "path")
    tcl.createcommand("get_property", lambda key, path: {("SLACK", "path"): slack}[key, path])
    tcl.eval((folder / "scripts" / "vivado.tcl").read_text())
    return called


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build(tiny(), target="xc7z020", lanes=8, clock_mhz=80).write(tmp_path / "build")
    return tmp_path / "build"


def test_every_step_is_there_and_in_order(folder: Path) -> None:
    called = vivado(folder, slack=0.0)
    assert [name for name, *_ in called] == [
        "create_project", "read_verilog", "read_verilog", "read_xdc", "create_clock",
        "synth_design", "opt_design", "place_design", "route_design", "report_timing_summary",
        "report_utilization", "write_checkpoint",
    ]  # fmt: skip
    assert called[0] == ["create_project", "-in_memory", "-part", "xc7z020clg400-1"]
    assert [words[-1] for words in called[1:3]] == list(SOURCES)
    assert called[4] == ["create_clock", "-name", "clk", "-period", "12.500", "port:clk"]
    assert called[5] == ["synth_design", "-top", "top", "-mode", "out_of_context"]


def test_a_missed_clock_is_an_error_and_leaves_no_checkpoint(folder: Path) -> None:
    with pytest.raises(tkinter().TclError, match="the clock is not met"):
        vivado(folder, slack=-0.001)


def test_a_generic_build_has_a_script_too(tmp_path: Path) -> None:
    build(tiny(), target="generic", lanes=8).write(tmp_path / "build")
    names = [name for name, *_ in vivado(tmp_path / "build", slack=1.0)]
    assert "read_xdc" not in names
    assert names[-1] == "write_checkpoint"


@pytest.mark.slow
def test_the_design_synthesises_for_the_family(folder: Path) -> None:
    needs_tools("yosys")
    chip = device("xc7z020")
    (folder / FOLDER).mkdir()
    found = synthesise(folder, chip, "top", SOURCES)
    assert found["multipliers"] > 0
    assert found["ffs"] > 100
    assert 100 < found["luts"] < chip.luts
    # Nothing but cells of the family is left.
    stat = json.loads((folder / FOLDER / "top.stat.json").read_text())
    cells = stat["design"]["num_cells_by_type"]
    assert cells["DSP48E1"] == found["multipliers"]
    assert not [name for name in cells if name.startswith("$")]
