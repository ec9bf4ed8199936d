"""Registers moved into the hard blocks of an ECP5, in yosys' netlist.

A block RAM has a register behind its output, a multiplier one behind its product and one before
each operand. yosys uses none of them and leaves such a register in the fabric, though nextpnr knows
them: from the clock to the output of a block RAM are 5.6 ns without its register and 1.0 ns with
it (nextpnr's figures for speed grade 6). Here a flip-flop that stands there already, that nothing
resets, and that is on the way of nothing else, becomes the one inside; behind a block RAM also if
something holds all of them together. Nothing comes a cycle later or earlier.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intaglio.chip.toolchain import written_json
from intaglio.system.disk import write_text

Cell = dict[str, Any]
Bit = int | str  # a net by number, or a constant

RAM, MULTIPLIER, FLIPFLOP = "DP16KD", "MULT18X18D", "TRELLIS_FF"
# Logic by what it takes of a cycle, in tables: a carry chain is entered and left by one.
LOGIC = {"LUT4": 1, "CCU2C": 2, "PFUMX": 0, "L6MUX21": 0}
NEAR = 2  # logic that may follow the register of a block RAM, which is far from all logic


@dataclass(frozen=True)
class Moved:
    """Registers of hard blocks that are in use now, and the flip-flops that they took."""

    outputs: int
    products: int
    operands: int
    flipflops: int


def move_into_blocks(netlist: Path) -> Moved:
    """Change a netlist that yosys wrote as JSON. Raises ToolError where it is not whole."""
    design = written_json("yosys", netlist)
    moved = Moved(0, 0, 0, 0)
    for module in design["modules"].values():
        found = Wiring(module).move()
        moved = Moved(
            moved.outputs + found.outputs,
            moved.products + found.products,
            moved.operands + found.operands,
            moved.flipflops + found.flipflops,
        )
    if moved.flipflops:
        write_text(netlist, json.dumps(design))
    return moved


class Wiring:
    """Who drives and who reads every net of a flat module."""

    def __init__(self, module: Cell) -> None:
        self.cells: dict[str, Cell] = module.get("cells", {})
        self.driver: dict[Bit, str] = {}
        self.readers: dict[Bit, list[tuple[str, str]]] = defaultdict(list)  # cell and its port
        for name, cell in self.cells.items():
            for port, bits in cell["connections"].items():
                for bit in bits:
                    if cell["port_directions"][port] == "output":
                        self.driver[bit] = name
                    else:
                        self.readers[bit].append((name, port))
        for name, port in module.get("ports", {}).items():
            for bit in port["bits"]:
                self.readers[bit].append(("", name))

    def move(self) -> Moved:
        """All that can be: outputs of block RAMs first, for they win most."""
        before = len(self.cells)
        rams = [cell for cell in self.cells.values() if cell["type"] == RAM]
        multipliers = [cell for cell in self.cells.values() if cell["type"] == MULTIPLIER]
        return Moved(
            outputs=sum(self.output(ram, sides) for ram in rams for sides in read_sides(ram)),
            products=sum(self.product(multiplier) for multiplier in multipliers),
            operands=2 * sum(self.operands(multiplier) for multiplier in multipliers),
            flipflops=before - len(self.cells),
        )

    def output(self, ram: Cell, sides: str) -> bool:
        """The registers behind the ports `sides` of a block RAM, which are read together."""
        ports = ram["connections"]
        if any(ports.get(f"RST{side}", ["0"]) != ["0"] for side in sides):
            return False
        names = [name for name in ports if name.startswith(tuple(f"DO{side}" for side in sides))]
        registers = [
            r for name in names for bit in ports[name] for r, _ in self.readers.get(bit, ())
        ]
        after = [
            bit
            for r in registers
            for bit in self.cells.get(r, {}).get("connections", {}).get("Q", ())
        ]
        if any(self.far(bit, NEAR) for bit in after):
            return False
        (enable, *others) = {enable_of(self.cells.get(r)) for r in registers} or {None}
        if others or enable is None:
            return False
        if not self.behind(ram, names, ports.get(f"CLK{sides[-1]}"), enable):
            return False
        for side in sides:
            ram["parameters"][f"REGMODE_{side}"] = "OUTREG"
            connect(ram, f"OCE{side}", enable)
        return True

    def far(self, bit: Bit, near: int) -> bool:
        """Whether more logic than `near` follows a net before the next register; a chain of carries
        is one cell."""
        for name, port in self.readers.get(bit, ()):
            cell = self.cells.get(name)
            own = LOGIC.get(cell["type"]) if cell else None
            if cell is None or own is None or port == "CIN":
                continue
            outs = [b for out in ("Z", "S0", "S1") for b in cell["connections"].get(out, ())]
            if own > near or any(self.far(b, near - own) for b in outs):
                return True
        return False

    def product(self, multiplier: Cell) -> bool:
        """The register behind a product."""
        names = [name for name in multiplier["connections"] if numbered(name, "P")]
        clock = self.behind(multiplier, names, None)
        if clock is None:
            return False
        clocked(multiplier, "REG_OUTPUT_CLK", clock)
        return True

    def operands(self, multiplier: Cell) -> bool:
        """The registers before both operands, whose bits go nowhere else. With one alone nextpnr
        times the other as if it came to the product's register."""
        ports, clocks = multiplier["connections"], set(multiplier["connections"].get("CLK0", ()))
        names = [name for name in ports if numbered(name, "A") or numbered(name, "B")]
        found = {}
        for bit in {bit for name in names for bit in ports[name]} - {"0"}:
            name = self.driver.get(bit, "")
            here = (self.cells.get(cell) is multiplier and port in names
                    for cell, port in self.readers[bit])  # fmt: skip
            if not plain(self.cells.get(name)) or not all(here):
                return False
            found[bit] = name
            clocks.add(self.cells[name]["connections"]["CLK"][0])
        if not found or len(clocks - {"0"}) != 1:
            return False
        before = {bit: self.cells.pop(name)["connections"]["DI"][0] for bit, name in found.items()}
        for name in names:
            ports[name] = [before.get(bit, bit) for bit in ports[name]]
        (clock,) = clocks - {"0"}
        for side in "AB":
            clocked(multiplier, f"REG_INPUT{side}_CLK", clock)
        return True

    def behind(
        self, block: Cell, names: list[str], clock: list[Bit] | None, enable: Bit = "1"
    ) -> Bit | None:
        """Take the flip-flops behind these outputs into the block, all or none; their clock, which
        must be `clock` where that is given. All have this enable."""
        ports, found = block["connections"], {}
        clocks: set[Bit] = set()
        for name in names:
            readers = [r for bit in ports[name] for r in self.readers.get(bit, ())]
            if not readers:
                continue
            reader, port = readers[0]
            if len(readers) > 1 or port != "DI" or not plain(self.cells.get(reader), enable):
                return None
            found[name] = reader
            clocks.add(self.cells[reader]["connections"]["CLK"][0])
        if len(clocks) != 1 or (clock is not None and clocks != set(clock)):
            return None
        for name, reader in found.items():
            ports[name] = self.cells.pop(reader)["connections"]["Q"]
        return clocks.pop()


def read_sides(ram: Cell) -> tuple[str, ...]:
    """The ports of a block RAM; of one of 36 bits both are one, read with the clock of B."""
    return ("AB",) if int(ram["parameters"]["DATA_WIDTH_B"], 2) == 36 else ("A", "B")


def enable_of(cell: Cell | None) -> Bit | None:
    """What lets a flip-flop take its input, "1" if nothing holds it; None for another cell."""
    if cell is None or cell["type"] != FLIPFLOP:
        return None
    mux = cell["parameters"].get("CEMUX", "CE").strip()
    enables: list[Bit] = cell["connections"].get("CE", []) if mux == "CE" else ["1"]
    return enables[0] if mux in ("CE", "1") and len(enables) == 1 else None


def plain(cell: Cell | None, enable: Bit = "1") -> bool:
    """Whether it is a flip-flop that starts at 0 and takes its input at every rising edge that
    `enable` allows."""
    if cell is None or enable_of(cell) != enable:
        return False
    ports = cell["connections"]
    said = {name: value.strip() for name, value in cell["parameters"].items()}
    held = said.get("LSRMUX", "LSR") != "LSR" or ports.get("LSR", ["0"]) != ["0"]
    rising = said.get("CLKMUX", "CLK") == "CLK"
    return not held and rising and said.get("REGSET", "RESET") == "RESET"


def numbered(port: str, letter: str) -> bool:
    """Whether it is one of a block's ports P0, P1, ..."""
    return port[0] == letter and port[1:].isdecimal()


def clocked(multiplier: Cell, register: str, clock: Bit) -> None:
    """Use a register of a multiplier."""
    multiplier["parameters"][register] = "CLK0"
    for port, bit in (("CLK0", clock), ("CE0", "1"), ("RST0", "0")):
        connect(multiplier, port, bit)


def connect(cell: Cell, port: str, bit: Bit) -> None:
    """Drive an input of a cell."""
    cell["connections"][port] = [bit]
    cell["port_directions"][port] = "input"
