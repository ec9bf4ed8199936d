"""What several S in a layer cost: python benchmarks/codegen/shifts.py [--lanes N]

A requantiser of 32 channels, accumulators of 20 bits to codes of 8, synthesised for an ECP5 by
yosys without place and route: with one S, two, three, four, one for each channel, and with one S
and a wider M, which would hold the same ratios. The table is in decision 0019.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from intaglio.chip.bitstream import FOLDER
from intaglio.chip.synthesis import synthesise
from intaglio.codegen.area.blocks import area_of
from intaglio.codegen.area.devices import device
from intaglio.codegen.area.mapping import need
from intaglio.codegen.structure.verilog import to_verilog_block
from intaglio.fixed import IntType
from intaglio.hdl.requant import Scale, Scaling
from intaglio.hdl.stream import Frame

TARGET, CHANNELS = "ecp5-85k", 32
CASES = [("1 S", 1, 18), ("2 S", 2, 18), ("3 S", 3, 18), ("4 S", 4, 18), ("32 S", 32, 18),
         ("1 S, M of 26 bits", 1, 26), ("1 S, M of 32 bits", 1, 32)]  # fmt: skip


def scale(shifts: int, bits: int, lanes: int) -> Scale:
    """A requantiser on a stream; its S lie between 8 and 39, those of M's width all about 25."""
    rng = np.random.default_rng(shifts + bits)
    m = rng.integers(1 << (bits - 2), 1 << (bits - 1), CHANNELS)
    spread = np.linspace(8, 39, shifts).astype(int) if shifts > 1 else np.array([25 + bits - 18])
    shift = np.resize(spread, CHANNELS)
    bias = rng.integers(-(1 << 36), 1 << 36, CHANNELS)
    scaling = Scaling(tuple(m.tolist()), tuple(bias.tolist()), tuple(shift.tolist()), 0, 255)
    return Scale(
        frames=[Frame(CHANNELS, 8, 8)], lanes=lanes, x=IntType(20, True), y=IntType(8, False),
        scalings=[scaling],
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lanes", type=int, default=4)
    lanes = parser.parse_args().lanes
    print(f"| {lanes} lanes | LUT | FF | DSP | LUT predicted | latency |")
    print("|---|---|---|---|---|---|")
    for name, shifts, bits in CASES:
        made = scale(shifts, bits, lanes)
        chip = device(TARGET)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            (folder / FOLDER).mkdir()
            (folder / "top.v").write_text(to_verilog_block(made, "top"), encoding="utf-8")
            found = synthesise(folder, chip, "top", ("top.v",))
        guess = need(area_of(made), chip)
        print(
            f"| {name} | {found['luts']:.0f} | {found['ffs']:.0f} | {found['multipliers']:.0f} |"
            f" {guess.luts:.0f} | {made.latency} |"
        )


if __name__ == "__main__":
    main()
