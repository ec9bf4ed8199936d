"""Every stream between two blocks: what is on it, and what it is called in the Verilog."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from intaglio.codegen.structure.netlist import Cell, Netlist
from intaglio.ops import Ints

MOST = 512  # beats whose cycles are kept


@dataclass(frozen=True)
class Stream:
    """From one cell to an input of another, in the netlist's words.

    tensors  of the Program, whose frames are on it in turn, `lanes` channels of `type` a beat.
    layer    the torch module whose block drives it.
    depth    cells on the longest way from the image to its end.
    cycles   in which its first beats are taken where no port pauses, at most `MOST`.
    """

    driver: str
    reader: str
    port: str
    layer: str
    tensors: tuple[str, ...]
    type: str
    lanes: int
    depth: int
    cycles: tuple[int, ...] = ()

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> Stream:
        """The inverse of `asdict`."""
        tuples = {name: tuple(stored[name]) for name in ("tensors", "cycles")}
        return Stream(**{**stored, **tuples})


def streams(n: Netlist, taken: Sequence[Ints]) -> list[dict[str, Any]]:
    """All of them, as plain values; `taken` is when the beats of each wire are."""
    drivers = {wire: cell for cell in n.cells for wire in cell.outs}
    found = []
    for cell in n.cells:
        for port, wire in zip(input_ports(cell), cell.ins, strict=True):
            driver, carried = drivers[wire], n.wires[wire]
            layer = n.graph.blocks[driver.block].origin or driver.name
            stream = Stream(
                driver.name, cell.name, port, layer, tuple(carried.key), str(carried.type),
                carried.lanes, 0, tuple(taken[wire][:MOST].tolist()),
            )  # fmt: skip
            found.append(asdict(stream))
    return deepened(found)


def deepened(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With their depths: the netlist has no circle."""
    depths: dict[str, int] = {}
    changed = True
    while changed:
        changed = False
        for stream in found:
            depth = depths.get(stream["driver"], 0) + 1
            if depth > depths.get(stream["reader"], 0):
                depths[stream["reader"]], changed = depth, True
    return [{**stream, "depth": depths.get(stream["driver"], 0)} for stream in found]


def input_ports(cell: Cell) -> list[str]:
    """What the component of a cell calls its inputs."""
    match cell.kind:
        case "add" | "multiply":
            return ["a", "b"]
        case "mux" | "concat":
            return [f"i_{k}" for k in range(len(cell.ins))]
    return ["i"] * len(cell.ins)


def nets(verilog: str, top: str) -> dict[str, dict[str, str]]:
    """By instance of the top module, what each of its ports is connected to."""
    found = re.search(rf"^module {top}\b.*?^endmodule", verilog, re.S | re.M)
    body = found[0] if found else ""
    blocks = re.findall(r"^  \w+ +(\w+) \(\n(.*?)\n  \);", body, re.S | re.M)
    return {
        name: dict(re.findall(r"\.(\w+) ?\(\s*([^()]*?)\s*\)", ports)) for name, ports in blocks
    }
