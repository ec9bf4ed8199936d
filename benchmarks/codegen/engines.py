"""The clock of single engines.

python benchmarks/codegen/engines.py [--engine NAME ...] [--seeds N] [--anew] [--folder FOLDER]

A 3x3 convolution of 24 to 24 channels, 12 x 12 pixels, W4A4, in three foldings, as `build` makes it
for an ECP5-85k: one product a cycle, 4 x 4 of them in adders, 8 x 8 of them two to a multiplier.
Each stands between shift registers, is synthesised once and routed with every seed, for 150 MHz. A
row is one seed, written to the key "engines" of results/hw.json as soon as it is routed. What is
there is not made again (--anew: it is). The medians are printed, and those of all rows are the
table in docs/hardware.md. With --folder the netlists and what nextpnr wrote are kept.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from amaranth.hdl import Cat, Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from hw_json import HW_JSON, put

from intaglio.chip.bitstream import pin_files, place_and_route
from intaglio.chip.synthesis import FOLDER, synthesise
from intaglio.codegen.area.devices import device
from intaglio.codegen.area.mapping import RULES
from intaglio.codegen.folder.bench import verilog_file
from intaglio.codegen.structure.assemble import suit_memories
from intaglio.codegen.structure.verilog import to_verilog_block
from intaglio.fixed import IntType
from intaglio.hdl.accumulator import Accumulator
from intaglio.hdl.conv import ConvEngine
from intaglio.hdl.products import ProductForm
from intaglio.hdl.requant import Scaling
from intaglio.hdl.stream import Frame
from intaglio.system.disk import write_text

CHIP, CLOCK_MHZ = device("ecp5-85k"), 150.0
CHANNELS, SIDE, KERNEL = 24, 12, 3
WATCHED = 16  # bits of the output that are joined to one
PAGE = Path(__file__).parent.parent.parent / "docs" / "hardware.md"
START, END = "<!-- table: python benchmarks/codegen/engines.py -->\n", "<!-- end of engines -->\n"


@dataclass(frozen=True)
class Folding:
    """An engine: results and terms a cycle, what products are made of, lanes of the output."""

    name: str
    pe: int
    simd: int
    form: ProductForm
    out_lanes: int


ENGINES = (
    Folding("e1x1", 1, 1, "lut", 1),
    Folding("e4x4lut", 4, 4, "lut", 1),
    Folding("e8x8packed", 8, 8, "packed", 1),
)


@dataclass(frozen=True)
class Row:
    """One seed of one engine; resources are the engine's and those of the shift registers."""

    engine: str
    seed: int
    fmax_mhz: float
    luts: float
    ffs: float
    rams: float
    multipliers: float
    seconds: float


def engine(folding: Folding) -> ConvEngine:
    """The convolution, with random weights and scalings."""
    rng = np.random.default_rng(0)
    x = IntType(4, False)
    weights = rng.integers(-8, 8, (CHANNELS, CHANNELS, KERNEL, KERNEL))
    most = int(np.abs(weights).sum((1, 2, 3)).max()) * x.hi
    multipliers = rng.integers(1 << 15, 1 << 17, CHANNELS).tolist()
    biases = rng.integers(-(1 << 24), 1 << 24, CHANNELS).tolist()
    made = ConvEngine(
        frames=[Frame(CHANNELS, SIDE, SIDE)],
        weights=weights,
        x=x,
        w=IntType(4, True),
        form=folding.form,
        y=x,
        accumulator=Accumulator(IntType.accumulating(-most, most).bits),
        scalings=[Scaling(tuple(multipliers), tuple(biases), (22,), 0, x.hi)],
        simd=folding.simd,
        pe=folding.pe,
        out_lanes=folding.out_lanes,
        padding=(KERNEL // 2,) * 4,
        hard=RULES[CHIP.family].hard,
        rom=None,
    )
    assert made.weights is not None
    made.weights.style = "block"
    suit_memories(made, CHIP.family)
    return made


class Alone(wiring.Component):
    """An engine between shift registers: nothing of it can be left out, and no pin is near it."""

    def __init__(self, inner: ConvEngine) -> None:
        self.inner = inner
        super().__init__({"si": In(1), "so": Out(1)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.inner = inner = self.inner
        ins = Cat(inner.i.payload, inner.i.valid, inner.o.ready)
        outs = Cat(inner.o.payload, inner.o.valid, inner.i.ready)
        shifted, seen = Signal(len(ins)), Signal(len(outs))
        joined = Signal(range(1 << -(-len(outs) // WATCHED)))
        m.d.comb += ins.eq(shifted)
        m.d.sync += [
            shifted.eq(Cat(self.si, shifted)),
            seen.eq(outs),
            joined.eq(Cat(seen[at : at + WATCHED].xor() for at in range(0, len(seen), WATCHED))),
            self.so.eq(joined.xor()),
        ]
        return m


def measure(folding: Folding, seeds: Sequence[int], folder: Path) -> None:
    """Synthesise, and route the seeds, each its row."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    (folder / "rtl").mkdir(exist_ok=True)
    write_text(folder / "rtl/top.v", to_verilog_block(Alone(engine(folding)), folding.name))
    write_text(folder / "rtl/intaglio_rom.v", verilog_file("intaglio_rom.v"))
    for text in pin_files(CHIP, CLOCK_MHZ).values():
        write_text(folder / FOLDER / f"{folding.name}.lpf", text)
    found = synthesise(folder, CHIP, folding.name, ("rtl/top.v",))
    print(f"{folding.name}: {found}", flush=True)
    for seed in seeds:
        routed = place_and_route(folder, CHIP, CLOCK_MHZ, seed, folding.name)
        row = Row(folding.name, seed, routed.fmax_mhz, **found, seconds=routed.seconds)
        others = [r for r in rows() if (r.engine, r.seed) != (row.engine, row.seed)]
        every = sorted([*others, row], key=lambda r: (r.engine, r.seed))
        put("engines", [asdict(r) for r in every])
        print(f"{folding.name}, seed {seed}: {routed.fmax_mhz} MHz", flush=True)


def rows() -> list[Row]:
    """The seeds that are routed."""
    found: dict[str, Any] = json.loads(HW_JSON.read_text(encoding="utf-8"))
    return [Row(**row) for row in found.get("engines", ())]


def table(found: Sequence[Row]) -> list[str]:
    """Markdown lines: an engine each, its seeds together."""
    head = ["engine", "Fmax of the seeds, MHz", "median", "LUTs", "flip-flops", "block RAMs",
            "multipliers"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    for name in dict.fromkeys(row.engine for row in found):
        seeds = [row for row in found if row.engine == name]
        first, reached = seeds[0], [row.fmax_mhz for row in seeds]
        lines.append(
            f"| {name} | {', '.join(f'{mhz:.1f}' for mhz in reached)} | {median(reached):.1f} |"
            f" {first.luts:,.0f} | {first.ffs:,.0f} | {first.rams:g} | {first.multipliers:g} |"
        )
    return lines


def main() -> None:
    """Make what is missing, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [folding.name for folding in ENGINES]
    parser.add_argument("--engine", nargs="+", choices=names, default=names)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--anew", action="store_true", help="Also what is there.")
    parser.add_argument("--folder", type=Path, help="Where netlists are kept.")
    options = parser.parse_args()
    for folding in ENGINES:
        there = {row.seed for row in rows() if row.engine == folding.name}
        seeds = [n for n in range(1, options.seeds + 1) if options.anew or n not in there]
        if folding.name in options.engine and seeds:
            with tempfile.TemporaryDirectory() as scratch:
                measure(folding, seeds, (options.folder or Path(scratch)) / folding.name)
    text = "".join(f"{line}\n" for line in table(rows()))
    before, rest = PAGE.read_text(encoding="utf-8").split(START)
    write_text(PAGE, before + START + text + END + rest.split(END)[1])
    print(text)


if __name__ == "__main__":
    sys.exit(main())
