"""The netlist as nextpnr packed, placed and routed it, for simulation: iCE40.

Its cells are those of the device (`ICESTORM_LC`: a table, its carry and its flip-flop). They are
what the configuration was written from, and unpacking the bitstream gives that configuration.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from intaglio.chip.synthesis import FOLDER
from intaglio.chip.toolchain import run_tool, written_json
from intaglio.errors import ToolError
from intaglio.system.disk import write_text

ONE_UNLESS_CONNECTED = {"CEN", "CE", "RCLKE", "WCLKE"}
WIDE = {"ICESTORM_RAM": "SB_RAM40_4K", "ICESTORM_DSP": "SB_MAC16"}  # whose models have buses


def routed_netlist(folder: Path, seed: int, top: str) -> str:
    """Write the routed design of a seed as Verilog module `top`; its name in the build.

    Raises ToolError for a cell that has no model.
    """
    base = f"{FOLDER}/seed{seed}.routed"
    design = written_json("nextpnr", folder / f"{base}.json")
    (module,) = design["modules"].values()
    cells = module["cells"].values()
    used = [bit for cell in cells for bits in cell["connections"].values() for bit in bits]
    unused = count(1 + max(bit for bit in used if isinstance(bit, int)))
    for cell in cells:
        plain(cell, unused)
    patched = {"modules": {top: module}}
    write_text(folder / f"{base}.plain.json", json.dumps(patched))
    script = f"read_json {base}.plain.json; hierarchy -top {top}; write_verilog -noattr {base}.v"
    run_tool("yosys", ["-q", "-p", script], folder, f"{base}.log")
    return f"{base}.v"


def plain(cell: dict[str, Any], unused: Iterator[int]) -> None:
    """Give a cell a type that has a model: pins with a direction, buses, enables that are on.
    `unused` are numbers of nets."""
    ports, directions = cell["connections"], cell["port_directions"]
    for name in ONE_UNLESS_CONNECTED & ports.keys():
        ports[name] = ports[name] or ["1"]
    if cell["type"] == "SB_IO":
        out = int(cell["parameters"]["PIN_TYPE"], 2) >> 2 != 0
        cell["type"] = "PIN_OUT" if out else "PIN_IN"
        keep = {"PACKAGE_PIN": "output", "D_OUT_0": "input"}
        if not out:
            keep = {"PACKAGE_PIN": "input", "D_IN_0": "output"}
        cell["connections"] = {name: ports[name] for name in keep}
        cell["port_directions"], cell["parameters"] = keep, {}
    elif cell["type"] in WIDE:
        cell["type"] = WIDE[cell["type"]]
        cell["connections"], cell["port_directions"] = buses(ports, directions, unused)
        for name in ("NEG_CLK_R", "NEG_CLK_W"):
            if int(cell["parameters"].pop(name, "0"), 2):
                raise ToolError(f"{name} must be 0 for the cell models, but nextpnr set it.")


def buses(
    ports: dict[str, list[Any]], directions: dict[str, str], unused: Iterator[int]
) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """Ports A_0, A_1, ... as A; an input bit that is not connected is 0, an output's goes to a net
    of its own."""
    wide: dict[str, dict[int, Any]] = defaultdict(dict)
    ways = {}
    for name, bits in ports.items():
        found = re.fullmatch(r"(.+)_(\d+)", name)
        bus, at = (found[1], int(found[2])) if found else (name, 0)
        ways[bus] = directions[name]
        open_end = "0" if directions[name] == "input" else next(unused)
        wide[bus][at] = bits[0] if bits else open_end
    return {name: [bits[n] for n in range(len(bits))] for name, bits in wide.items()}, ways
