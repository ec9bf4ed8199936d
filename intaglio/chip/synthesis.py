"""Synthesis: a design's Verilog to the cells of a family, and what they take of a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from intaglio.chip.netlist.registers import move_into_blocks
from intaglio.chip.toolchain import run_tool, written_json
from intaglio.codegen.area.devices import Device
from intaglio.codegen.folder.manifest import BITSTREAM
from intaglio.codegen.folder.scripts import synthesis
from intaglio.system.disk import write_text
from intaglio.system.steps import Steps

FOLDER = BITSTREAM  # inside the build
HEADINGS = ("-v", "3")  # of what yosys prints: its passes alone
# Our models of each family's cells; without them a netlist is made of yosys' own gates, generic.
CELLS = {family: f"cells_{family}.v" for family in ("ecp5", "ice40", "gowin")}
# Look-up tables of the cells that hold more or less than one: a carry cell adds two bits, a LUT
# RAM of 16 x 4 takes six in all, wide multiplexers join the outputs of others. GateMate's count as
# halves of a logic element, without those in its multipliers.
LUTS = {
    "ecp5": {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6},
    "ice40": {"SB_LUT4": 1},
    "gowin": {"LUT1": 1, "LUT2": 1, "LUT3": 1, "LUT4": 1, "ALU": 1, "RAM16SDP4": 6},
    "cyclonev": {f"MISTRAL_ALUT{n}": 1 for n in range(2, 7)}
    | {"MISTRAL_NOT": 1, "MISTRAL_ALUT_ARITH": 1, "MISTRAL_MLAB": 1},
    "gatemate": {"CC_ADDF": 1, "CC_L2T4": 1, "CC_L2T5": 1, "CC_MX2": 1, "CC_MX4": 2}
    | {f"CC_LUT{n}": 1 for n in range(1, 5)},
    "xc7": {f"LUT{n}": 1 for n in range(1, 7)} | {"RAM32M": 4, "RAM32X1D": 2, "RAM64M": 4},
    "xcup": {f"LUT{n}": 1 for n in range(1, 7)}
    | {"RAM32M16": 8, "RAM64M8": 8, "RAM32X1D": 2, "RAM32M": 4, "RAM64M": 4},
}
FLIPFLOPS = {
    "ecp5": "TRELLIS_FF", "ice40": "SB_DFF", "gowin": "DFF", "xc7": "FD", "xcup": "FD",
    "gatemate": "CC_DFF", "cyclonev": "MISTRAL_FF",
}  # fmt: skip
RAMS: dict[str, dict[str, float]] = {
    "ecp5": {"DP16KD": 1, "PDPW16KD": 1},
    "ice40": {"SB_RAM40_4K": 1},
    "gowin": dict.fromkeys(("SDPB", "SDPX9B", "SDP", "SDPX9", "DPB", "DPX9B", "pROM", "pROMX9"), 1),
    "cyclonev": {"MISTRAL_M10K": 1},
    "gatemate": {"CC_BRAM_20K": 1, "CC_BRAM_40K": 2},
    "xc7": {"RAMB36E1": 1, "RAMB18E1": 0.5},
    "xcup": {"RAMB36E2": 1, "RAMB18E2": 0.5},
}
MULTIPLIERS: dict[str, dict[str, float]] = {
    "ecp5": {"MULT18X18D": 1},
    "ice40": {"SB_MAC16": 1},
    "gowin": {"MULT18X18": 1, "MULT9X9": 0.5, "MULT36X36": 4},
    "cyclonev": {"MISTRAL_MUL18X18": 1, "MISTRAL_MUL9X9": 0.5, "MISTRAL_MUL27X27": 2},
    "gatemate": {"CC_MULT": 1},  # made of logic elements
    "xc7": {"DSP48E1": 1},
    "xcup": {"DSP48E2": 1},
}


def synthesise(
    folder: Path,
    chip: Device,
    top: str,
    sources: tuple[str, ...],
    *,
    foreign: bool = False,
    steps: Steps | None = None,
) -> dict[str, float]:
    """yosys: bitstream/{top}.json, .netlist.v, and the resources of `count`. A `foreign` design was
    made for another family: what it says of its memories' form does not count. On ECP5 registers
    are moved into the hard blocks (see `registers`)."""
    base = f"{FOLDER}/{top}"
    script = [f"read_verilog -defer {path}" for path in sources]
    script += (
        [f"hierarchy -top {top}", "setattr -unset ram_style -unset rom_style m:*"]
        if foreign
        else []
    )
    script += [synthesis(chip.family, top).rstrip(), f"write_json {base}.json"]
    counted = [
        f"write_verilog -noattr {base}.netlist.v",
        f"tee -q -o {base}.stat.json stat -json",
    ]
    made = [folder / f"{base}.{end}" for end in ("json", "netlist.v", "stat.json")]
    try:
        if chip.family == "ecp5":
            yosys(folder, base, script, steps)
            move_into_blocks(made[0])
            yosys(folder, f"{base}.moved", [f"read_json {base}.json", *counted], steps)
        else:
            yosys(folder, base, script + counted, steps)
        return stat_resources(made[-1], chip.family)
    except BaseException:
        for part in made:  # of which one is half a file, perhaps
            part.unlink(missing_ok=True)
        raise


def yosys(folder: Path, base: str, script: Sequence[str], steps: Steps | None) -> None:
    """Run {base}.ys."""
    write_text(folder / f"{base}.ys", "\n".join(script) + "\n")
    run_tool("yosys", [*HEADINGS, f"{base}.ys"], folder, f"{base}.yosys.log", steps)


def stat_resources(stat: Path, family: str) -> dict[str, float]:
    """The resources in yosys' statistics."""
    cells = written_json("yosys", stat)["design"]["num_cells_by_type"]
    return count(cells, family)


def count(cells: Mapping[str, int], family: str) -> dict[str, float]:
    """luts, ffs, rams, multipliers of a synthesised netlist, from its cells by type."""

    def weighed(weights: Mapping[str, float]) -> float:
        return sum(weight * cells.get(name, 0) for name, weight in weights.items())

    flipflops = sum(n for name, n in cells.items() if name.startswith(FLIPFLOPS[family]))
    luts = weighed(LUTS[family])
    if family == "ice40":  # a carry sits beside the table of its sum, or alone
        luts = max(luts, cells.get("SB_CARRY", 0))
    return {
        "luts": luts,
        "ffs": flipflops,
        "rams": weighed(RAMS[family]),
        "multipliers": weighed(MULTIPLIERS[family]),
    }
