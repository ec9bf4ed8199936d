"""The device catalogue: what a target holds, from the vendors' data sheets.

Those of Xilinx: DS180 (7 series), DS190 (Zynq-7000), DS891 (Zynq UltraScale+), DS987 (the module
K26 of the KV260, which holds an xczu5ev); that of Cologne Chip is DS1001, Intel's the
Cyclone V device overview (CV-51001).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from intaglio.errors import BuildError

Family = Literal["ecp5", "ice40", "gowin", "xc7", "xcup", "gatemate", "cyclonev", "generic"]


@dataclass(frozen=True)
class Device:
    """One FPGA.

    luts        4-input look-up tables (6-input for xc7 and xcup).
    ram_bits    one block RAM's data bits; ram_widths its widest port.
    rams        number of block RAMs.
    multipliers number of hard multipliers, `dsp` (a, b) bits each.
    part        what the vendor's or nextpnr's command line calls it.
    chipdb      Gowin: what the open tools call its family; pins: as many as a byte link needs.
    processor   beside the logic: "ps7" of a Zynq-7000, "psu" of a Zynq UltraScale+; "" for none.
    clock_mhz   of a build that asks for none: what routed designs reach there with some to spare.
    """

    name: str
    family: Family
    luts: int
    ffs: int
    rams: int
    ram_bits: int
    ram_width: int
    multipliers: int
    dsp: tuple[int, int]
    part: str
    chipdb: str = ""
    pins: str = ""
    processor: str = ""
    clock_mhz: float = 75.0

    @property
    def cells(self) -> int:
        """Logic cells, where a register goes without a table only into a cell of its own: iCE40.
        Elsewhere 0, for they limit nothing."""
        return self.luts if self.family == "ice40" else 0

    @property
    def memory_bits(self) -> int:
        """All block RAM."""
        return self.rams * self.ram_bits


DEVICES = {
    device.name: device
    for device in (
        Device("ecp5-85k", "ecp5", 83_640, 83_640, 208, 18_432, 36, 156, (18, 18), "85k"),
        Device("ecp5-25k", "ecp5", 24_288, 24_288, 56, 18_432, 36, 28, (18, 18), "25k"),
        Device("ice40-up5k", "ice40", 5_280, 5_280, 30, 4_096, 16, 8, (16, 16), "up5k",
               clock_mhz=24.0),
        Device("gowin-gw2a-18", "gowin", 20_736, 15_552, 46, 18_432, 36, 48, (18, 18),
               "GW2A-LV18PG256C8/I7", "GW2A-18",
               "H11 T10 T11 R11 T12 R12 P11 P12 R13 T13 T14 P13 R14 T15 P15 P16 N15 N16 N14 L16 L14"
               " M15"),
        Device("gowin-gw1nr-9c", "gowin", 8_640, 6_480, 26, 18_432, 36, 20, (18, 18),
               "GW1NR-LV9QN88PC6/I5", "GW1N-9C",
               "52 3 25 26 27 28 29 30 31 32 33 34 40 35 41 42 51 53 54 55 56 57"),
        Device("gowin-gw2ar-18c", "gowin", 20_736, 15_552, 46, 18_432, 36, 48, (18, 18),
               "GW2AR-LV18QN88C8/I7", "GW2A-18C",
               "4 88 73 74 75 85 77 15 16 27 28 25 26 29 30 31 17 20 19 18 76 80"),
        # Tables and registers are two a logic element, of which multipliers are made too; block
        # RAMs are halves of 20 kbit.
        Device("gatemate-a1", "gatemate", 40_960, 40_960, 64, 20_480, 40, 0, (18, 18), "CCGM1A1",
               clock_mhz=30.0),
        # Of the DE10-Nano: two tables and four registers an ALM, M10K, two multipliers a DSP block.
        Device("cyclonev-a6", "cyclonev", 83_820, 167_640, 553, 10_240, 40, 224, (18, 18),
               "5CSEBA6U23I7"),
        Device("xc7z020", "xc7", 53_200, 106_400, 140, 36_864, 72, 220, (18, 25),
               "xc7z020clg400-1", processor="ps7"),
        Device("xc7a35t", "xc7", 20_800, 41_600, 50, 36_864, 72, 90, (18, 25), "xc7a35ticsg324-1L"),
        Device("xc7a100t", "xc7", 63_400, 126_800, 135, 36_864, 72, 240, (18, 25),
               "xc7a100tcsg324-1"),
        Device("xc7a200t", "xc7", 134_600, 269_200, 365, 36_864, 72, 740, (18, 25),
               "xc7a200tsbg484-1"),
        Device("xczu5ev", "xcup", 117_120, 234_240, 144, 36_864, 72, 1_248, (18, 27),
               "xck26-sfvc784-2LV-c", processor="psu"),
        Device("xczu7ev", "xcup", 230_400, 460_800, 312, 36_864, 72, 1_728, (18, 27),
               "xczu7ev-ffvc1156-2-e", processor="psu"),
        Device("generic", "generic", 1 << 30, 1 << 30, 1 << 20, 18_432, 36, 256, (18, 18), "any"),
    )
}  # fmt: skip


def device(name: str) -> Device:
    """The device called `name`. Raises BuildError with the names there are."""
    if name not in DEVICES:
        raise BuildError(f"The target must be one of {', '.join(DEVICES)}, not {name!r}.")
    return DEVICES[name]
