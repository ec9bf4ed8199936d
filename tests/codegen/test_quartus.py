"""The Quartus script: run in a real Tcl interpreter whose tools only note what they are told, and
its design through yosys' own synthesis for the same family."""

import json
from pathlib import Path
from typing import Any

import pytest
from networks import tiny
from test_vivado import tkinter
from tools import needs_tools

from intaglio.chip.synthesis import FOLDER, synthesise
from intaglio.codegen.area.devices import device
from intaglio.codegen.bundle import build
from intaglio.codegen.folder.scripts import SOURCES


def quartus(folder: Path, slack: float) -> list[list[str]]:
    """The commands of the script in their order, where the longest path has this slack in ns."""
    tcl: Any = tkinter().Tcl()
    called: list[list[str]] = []
    for name in ("load_package", "project_new", "set_global_assignment", "set_instance_assignment",
                 "execute_flow", "load_report", "project_close"):  # fmt: skip

        def note(*words: str, name: str = name) -> str:
            called.append([name, *words])
            if "_FILE" in " ".join(words[:2]):
                assert (folder / words[-1]).is_file(), words
            return ""

        tcl.createcommand(name, note)
    tcl.createcommand("get_report_panel_data", lambda *words: slack)
    tcl.eval(f"cd {{{folder}}}")
    tcl.eval((folder / "scripts" / "quartus.tcl").read_text())
    return called


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build(tiny(), target="cyclonev-a6", lanes=8, clock_mhz=80).write(tmp_path / "build")
    return tmp_path / "build"


def test_every_step_is_there_and_in_order(folder: Path) -> None:
    called = quartus(folder, slack=0.0)
    told = {words[2]: words[3] for words in called if words[0] == "set_global_assignment"}
    assert told["DEVICE"] == "5CSEBA6U23I7"
    assert told["TOP_LEVEL_ENTITY"] == "top"
    assert told["VERILOG_MACRO"] == f'INTAGLIO_ROM_PATH="{folder}/"'
    files = [words[3] for words in called if words[2:3] == ["VERILOG_FILE"]]
    assert files == list(SOURCES)
    assert "-period 12.500" in (folder / told["SDC_FILE"]).read_text()
    names = [name for name, *_ in called]
    assert names.index("project_new") < names.index("execute_flow") < names.index("load_report")
    assert names[-1] == "project_close"


def test_a_missed_clock_is_an_error(folder: Path) -> None:
    with pytest.raises(tkinter().TclError, match="the clock is not met"):
        quartus(folder, slack=-0.001)


@pytest.mark.slow
def test_the_design_synthesises_for_the_family(folder: Path) -> None:
    needs_tools("yosys")
    chip = device("cyclonev-a6")
    (folder / FOLDER).mkdir()
    found = synthesise(folder, chip, "top", SOURCES)
    assert found["multipliers"] > 0
    assert found["ffs"] > 100
    assert 100 < found["luts"] < chip.luts
    stat = json.loads((folder / FOLDER / "top.stat.json").read_text())
    assert not [name for name in stat["design"]["num_cells_by_type"] if name.startswith("$")]
