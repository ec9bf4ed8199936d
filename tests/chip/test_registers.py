"""Which flip-flops become registers of an ECP5's hard blocks, in netlists made by hand; that the
netlist still does the same is tested with cell models in test_cells.py."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intaglio.chip.netlist.registers import Moved, move_into_blocks

NONE = Moved(0, 0, 0, 0)
PLAIN: dict[str, Any] = {"CEMUX": "1 ", "CLKMUX": "CLK", "LSRMUX": "LSR", "REGSET": "RESET"}
KEEPS = (  # what one of a row of flip-flops may have that keeps all of them where they are
    {"CEMUX": "CE"}, {"CEMUX": "INV"}, {"CLKMUX": "INV"}, {"REGSET": "SET"}, {"LSRMUX": "INV"},
    {"LSR": 5}, {"CLK": 6}, {"read": "twice"}, {"read": "as it is"}, {"read": "outside"},
)  # fmt: skip
CLOCK, ENABLE, WIDTH = 2, 7, 4


class Netlist:
    """A module of cells, whose nets are numbers."""

    def __init__(self) -> None:
        self.cells: dict[str, Any] = {}
        self.ports: dict[str, Any] = {}
        self.nets = 100

    def net(self) -> int:
        self.nets += 1
        return self.nets

    def cell(self, name: str, type: str, parameters: dict[str, str], **ports: Any) -> None:
        outputs = ("Q", "Z", "DO", "P", "S0")
        self.cells[name] = {
            "type": type,
            "parameters": parameters,
            "port_directions": {
                port: "output" if port.startswith(outputs) else "input" for port in ports
            },
            "connections": {port: [bit] for port, bit in ports.items()},
        }

    def row(
        self, name: str, bits: list[int], odd: dict[str, Any], which: int, held: bool = False
    ) -> list[int]:
        """A flip-flop for each bit, all held by one enable or none, one of which is odd; what they
        give."""
        outs = []
        for k, bit in enumerate(bits):
            own = odd if k == which else {}
            said = (
                PLAIN
                | ({"CEMUX": "CE"} if held else {})
                | {key: own[key] for key in own if key in PLAIN}
            )
            wires = {"CLK": own.get("CLK", CLOCK), "LSR": own.get("LSR", "0"), "CE": ENABLE}
            outs.append(self.net())
            if own.get("read") == "as it is":
                self.cell(f"{name}_lut{k}", "LUT4", {}, A=bit, Z=outs[-1])
                continue
            self.cell(f"{name}_ff{k}", "TRELLIS_FF", said, DI=bit, Q=outs[-1], **wires)
            if own.get("read") == "twice":
                self.cell(f"{name}_lut{k}", "LUT4", {}, A=bit, Z=self.net())
            if own.get("read") == "outside":
                self.ports[name] = {"direction": "output", "bits": [bit]}
        return outs

    def moved(self, folder: Path) -> Moved:
        path = folder / "top.json"
        design = {"modules": {"top": {"cells": self.cells, "ports": self.ports}}}
        path.write_text(json.dumps(design))
        moved = move_into_blocks(path)
        after = json.loads(path.read_text())
        self.cells = after["modules"]["top"]["cells"]
        return moved


def flipflops(found: Netlist) -> int:
    return sum(cell["type"] == "TRELLIS_FF" for cell in found.cells.values())


odd_ones = st.sampled_from(({}, *KEEPS))
examples = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@examples
@given(
    odd=odd_ones,
    which=st.integers(0, WIDTH - 1),
    wide=st.booleans(),
    reset=st.booleans(),
    held=st.booleans(),
)
def test_registers_behind_a_block_ram(
    tmp_path: Path, odd: dict[str, Any], which: int, wide: bool, reset: bool, held: bool
) -> None:
    if held and odd == {"CEMUX": "CE"}:
        odd = {"CEMUX": "1"}
    made = Netlist()
    sides = "AB" if wide else "B"
    bits = [made.net() for _ in range(WIDTH)]
    outs = {f"DO{sides[k % len(sides)]}{k}": bit for k, bit in enumerate(bits)}
    resets = {f"RST{side}": 9 if reset else "0" for side in "AB"}
    width = {"DATA_WIDTH_B": f"{36 if wide else 18:b}", "DATA_WIDTH_A": "100100"}
    made.cell("ram", "DP16KD", width, CLKA=CLOCK, CLKB=CLOCK, **resets, **outs)
    given_back = made.row("q", bits, odd, which, held)
    before = flipflops(made)
    moved = made.moved(tmp_path)
    ram = made.cells["ram"]
    if odd or reset:
        assert moved == NONE
        assert flipflops(made) == before
        assert [ram["connections"][port] for port in outs] == [[bit] for bit in bits]
        assert not any(name.startswith("REGMODE") for name in ram["parameters"])
        return
    assert moved == Moved(1, 0, 0, WIDTH)
    assert flipflops(made) == 0
    assert [ram["connections"][port] for port in outs] == [[bit] for bit in given_back]
    for side in sides:
        assert ram["parameters"][f"REGMODE_{side}"] == "OUTREG"
        assert ram["connections"][f"OCE{side}"] == [ENABLE if held else "1"]


@examples
@given(odd=odd_ones, which=st.integers(0, WIDTH - 1), place=st.sampled_from(("A", "B", "P")))
def test_registers_of_a_multiplier(
    tmp_path: Path, odd: dict[str, Any], which: int, place: str
) -> None:
    """One of the three rows of registers may be odd: then it stays, and an operand's keeps the
    other operand's."""
    made = Netlist()
    sources = {side: [made.net() for _ in range(WIDTH)] for side in "AB"}
    rows = {
        side: made.row(side, bits, odd if side == place else {}, which)
        for side, bits in sources.items()
    }
    product = [made.net() for _ in range(WIDTH)]
    operands = {f"{side}{k}": bit for side in "AB" for k, bit in enumerate(rows[side])}
    operands |= {f"{side}{WIDTH}": rows[side][-1] for side in "AB"}  # the sign, twice
    operands |= {f"{side}{WIDTH + 1}": "0" for side in "AB"}
    made.cell(
        "product", "MULT18X18D", {}, **operands, **{f"P{k}": b for k, b in enumerate(product)}
    )
    made.row("P", product, odd if place == "P" else {}, which)
    before = flipflops(made)
    moved = made.moved(tmp_path)
    # A net that is read twice or outside is the source of a register before an operand: no matter.
    stay = odd and (place == "P" or odd.get("read") in (None, "as it is"))
    product_moves, operands_move = not (stay and place == "P"), not (stay and place != "P")
    assert moved.products == product_moves
    assert moved.operands == 2 * operands_move
    taken = WIDTH * (product_moves + 2 * operands_move)
    assert before - flipflops(made) == moved.flipflops == taken
    cell = made.cells["product"]
    for side in "AB" if operands_move else "":
        assert cell["parameters"][f"REG_INPUT{side}_CLK"] == "CLK0"
        got = [cell["connections"][f"{side}{k}"][0] for k in range(WIDTH + 2)]
        assert got == [*sources[side], sources[side][-1], "0"]
    assert [cell["connections"][p] for p in ("CLK0", "CE0", "RST0")] == [[CLOCK], ["1"], ["0"]]


@pytest.mark.parametrize("elsewhere", ["A", "B", ""])
def test_an_operand_that_goes_elsewhere_too_keeps_both_registers(
    tmp_path: Path, elsewhere: str
) -> None:
    made = Netlist()
    shared = made.row("x", [made.net()], {}, -1)[0]
    alone = made.row("w", [made.net()], {}, -1)[0]
    made.cell("product", "MULT18X18D", {}, A0=shared, B0=alone, P0=made.net())
    if elsewhere:
        made.cell("other", "MULT18X18D", {}, **{f"{elsewhere}0": shared, "P0": made.net()})
    assert made.moved(tmp_path) == (NONE if elsewhere else Moved(0, 0, 2, 2))


LUTS, ADDER = ("LUT4",), ("CCU2C",)


@pytest.mark.parametrize(
    ("logic", "moves"), [((), 1), (2 * LUTS, 1), (ADDER, 1), (LUTS + ADDER, 0), (3 * LUTS, 0)]
)
def test_a_register_before_much_logic_stays_near_it(
    tmp_path: Path, logic: tuple[str, ...], moves: int
) -> None:
    """A block RAM is far from the logic, and the way there is in the same cycle."""
    made = Netlist()
    bit = made.net()
    made.cell("ram", "DP16KD", {"DATA_WIDTH_B": "1001"}, CLKB=CLOCK, DOB0=bit)
    (bit,) = made.row("q", [bit], {}, -1)
    for k, kind in enumerate(logic):
        last, bit = bit, made.net()
        made.cell(f"logic{k}", kind, {}, A=last, **{"Z" if kind == "LUT4" else "S0": bit})
    made.row("after", [bit], {}, -1)
    assert made.moved(tmp_path).outputs == moves
