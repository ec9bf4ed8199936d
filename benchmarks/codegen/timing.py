"""Place and route of bundled designs.

python benchmarks/codegen/timing.py [--net NAME ...] [--seeds N]

`fcos-nano` W4A4 in an ECP5-85k, fast enough for 100 frames/s at 75 MHz, and a residual block in
an iCE40UP5K and in a Gowin part. Each is synthesised once, routed with every seed, and packed; a
row is one seed, written to the key "timing" of results/hw.json as soon as it is routed. What is
there is not made again (--anew: it is), and with --folder a netlist is used again while its build
is the same, so a run that was cut off goes on. Exit 1 where a design's best seed misses the clock.

Two of them are also synthesised for a Zynq 7020, whose bitstreams only the vendor makes: what yosys
counts of each is a row of the key "synthesis". The table in docs/hardware.md is rewritten.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hw_json import HW_JSON, put

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tests"))

from networks import skip

from intaglio.chip.bitstream import (
    PACKED,
    pack,
    place_and_route,
    surrounding,
    synthesise_within,
)
from intaglio.chip.shell import SHELL
from intaglio.chip.synthesis import FOLDER, stat_resources, synthesise
from intaglio.codegen.area.devices import device
from intaglio.codegen.bundle import build
from intaglio.codegen.folder.manifest import read_manifest
from intaglio.codegen.folder.scripts import SOURCES
from intaglio.program import Program
from intaglio.system.disk import write_text

CALIBRATED = 64
NONE = "\N{EN DASH}"
PAGE = Path(__file__).parent.parent.parent / "docs" / "hardware.md"
START, END = "<!-- table: python benchmarks/codegen/timing.py -->\n", "<!-- end of table -->\n"


@dataclass(frozen=True)
class Design:
    """One network in one device; `options` are those of `build`."""

    net: str
    target: str
    clock_mhz: float
    program: Callable[[], Program]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One seed of one design: what its router reached. seconds are the seed's placement, routing
    and timing; resources are counted after synthesis, which is the same for every seed."""

    net: str
    target: str
    seed: int
    constraint_mhz: float
    fmax_mhz: float
    fps: float
    cycles_per_frame: int
    luts: float
    ffs: float
    rams: float
    multipliers: float
    seconds: float


@dataclass(frozen=True)
class Count:
    """A design as synthesised, without a place for it."""

    net: str
    target: str
    cycles_per_frame: int
    luts: float
    ffs: float
    rams: float
    multipliers: float
    seconds: float


def fcos_nano() -> Program:
    """The bundled detector at W4A4."""
    from intaglio.detect import zoo
    from intaglio.detect.images import stack
    from intaglio.quant import QuantConfig, quantize

    with tempfile.TemporaryDirectory() as folder:
        scenes = zoo.calibration("fcos-nano", Path(folder), CALIBRATED)
        images = stack([scenes.file(i) for i in scenes.ids], None)
        config = QuantConfig(wbits=4, abits=4, method="mse")
        return quantize(zoo.load("fcos-nano"), images, config).program


DESIGNS = (
    Design("residual-block", "ice40-up5k", 12, skip, {"lanes": 8}),
    Design("residual-block", "gowin-gw2a-18", 50, skip, {"lanes": 8}),
    Design("fcos-nano W4A4", "ecp5-85k", 75, fcos_nano, {"fps": 100}),
    Design("residual-block", "xc7z020", 75, skip, {"lanes": 8}),
    Design("fcos-nano W4A4", "xc7z020", 75, fcos_nano, {"fps": 100}),
)


def main() -> int:
    """Make what is missing, print, write; 1 where a clock is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    nets, targets = ({getattr(d, key) for d in DESIGNS} for key in ("net", "target"))
    parser.add_argument("--net", nargs="+", choices=sorted(nets), default=nets)
    parser.add_argument("--target", nargs="+", choices=sorted(targets), default=targets)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--anew", action="store_true", help="Also what is there.")
    parser.add_argument("--folder", type=Path, help="Where builds and bitstreams are kept.")
    parser.add_argument("--built", action="store_true", help="Take the builds that are there.")
    parser.add_argument("--build-only", action="store_true")
    options = parser.parse_args()
    if (options.built or options.build_only) and options.folder is None:
        parser.error("--built and --build-only must come with --folder")
    missed = 0
    for design in DESIGNS:
        if design.net not in options.net or design.target not in options.target:
            continue
        kept = options.folder
        with tempfile.TemporaryDirectory() as scratch:
            folder = folder_of(design, kept or Path(scratch))
            if options.build_only:
                make(design, folder)
            elif device(design.target).family in PACKED:
                missed += not routed(design, folder, options)
            elif options.anew or not any(same(count, design) for count in counts()):
                counted(design, folder, options.built)
    text = "".join(f"{line}\n" for line in table(rows(), counts()))
    before, rest = PAGE.read_text(encoding="utf-8").split(START)
    write_text(PAGE, before + START + text + END + rest.split(END)[1])
    print(text)
    return int(missed > 0)


def routed(design: Design, folder: Path, options: argparse.Namespace) -> bool:
    """Route the seeds that are missing; whether the clock is met."""
    there = {row.seed for row in rows() if same(row, design)}
    seeds = [n for n in range(1, options.seeds + 1) if options.anew or n not in there]
    if seeds:
        measure(design, seeds, folder, options.built)
    return met([row for row in rows() if same(row, design)])


def counts() -> list[Count]:
    """The designs that are synthesised alone."""
    return [Count(**count) for count in stored("synthesis")]


def counted(design: Design, folder: Path, built: bool) -> None:
    """Synthesise for a device without open tools behind it; its row."""
    if not built:
        make(design, folder)
    facts = read_manifest(folder)
    (folder / FOLDER).mkdir(exist_ok=True)
    started = time.perf_counter()
    found = synthesise(folder, device(design.target), facts["name"], SOURCES)
    row = Count(
        net=design.net,
        target=design.target,
        cycles_per_frame=facts["cycles_per_frame"],
        seconds=round(time.perf_counter() - started, 1),
        **found,
    )
    others = [c for c in counts() if not same(c, design)]
    every = sorted([*others, row], key=lambda c: (c.net, c.target))
    put("synthesis", [asdict(c) for c in every])
    print(row, flush=True)


def table(found: Sequence[Row], alone: Sequence[Count]) -> list[str]:
    """Markdown lines: a design each, its seeds together."""
    head = ["network", "device", "clock, MHz", "Fmax of the seeds, MHz", "frames/s", "LUTs",
            "flip-flops", "block RAMs", "multipliers", "routing, s"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "| --- | --- |" + " ---: |" * (len(head) - 2)]
    for net, target in dict.fromkeys((row.net, row.target) for row in found):
        seeds = [row for row in found if (row.net, row.target) == (net, target)]
        first = seeds[0]
        fmaxes = ", ".join(f"{row.fmax_mhz:.1f}" for row in seeds)
        seconds = ", ".join(f"{row.seconds:.0f}" for row in seeds)
        lines.append(
            f"| {net} | `{target}` | {first.constraint_mhz:g} | {fmaxes} | {first.fps:,.1f} |"
            f" {size(first)} | {seconds} |"
        )
    lines += [
        f"| {c.net} | `{c.target}` | {NONE} | {NONE} | {NONE} | {size(c)} | {NONE} |" for c in alone
    ]
    return lines


def size(row: Row | Count) -> str:
    """The resources' cells of a table."""
    return f"{row.luts:,.0f} | {row.ffs:,.0f} | {row.rams:g} | {row.multipliers:g}"


def rows() -> list[Row]:
    """The seeds that are routed."""
    return [Row(**row) for row in stored("timing")]


def stored(key: str) -> list[dict[str, Any]]:
    """The rows of a key of the results."""
    found = json.loads(HW_JSON.read_text(encoding="utf-8")) if HW_JSON.exists() else {}
    return list(found.get(key, ()))


def same(row: Row | Count, design: Design) -> bool:
    """Whether the row is of the design, with the clock that is asked for now."""
    clock = getattr(row, "constraint_mhz", design.clock_mhz)
    return (row.net, row.target, clock) == (design.net, design.target, design.clock_mhz)


def merged(old: Iterable[Row], new: Row) -> list[Row]:
    """The rows with a new one, which takes the place of the same seed's, and of rows of the design
    with another clock."""
    others = [
        row
        for row in old
        if (row.net, row.target) != (new.net, new.target)
        or (row.seed != new.seed and row.constraint_mhz == new.constraint_mhz)
    ]
    return sorted([*others, new], key=lambda row: (row.net, row.target, row.seed))


def met(found: Sequence[Row]) -> bool:
    """Whether the best seed is as fast as the clock."""
    return max(row.fmax_mhz for row in found) >= found[0].constraint_mhz


def measure(design: Design, seeds: Sequence[int], folder: Path, built: bool) -> None:
    """Build, synthesise once, route the seeds, each its row; pack the best of them."""
    if not built:
        make(design, folder)
    facts = read_manifest(folder)
    resources, chip = netlist(folder), device(design.target)
    found = []
    for seed in seeds:
        routed = place_and_route(folder, chip, design.clock_mhz, seed, SHELL)
        row = Row(
            net=design.net,
            target=design.target,
            seed=seed,
            constraint_mhz=design.clock_mhz,
            fmax_mhz=routed.fmax_mhz,
            fps=round(facts["fps"], 2),
            cycles_per_frame=facts["cycles_per_frame"],
            seconds=routed.seconds,
            **resources,
        )
        put("timing", [asdict(r) for r in merged(rows(), row)])
        print(f"seed {seed}: {routed.fmax_mhz} MHz in {routed.seconds:.0f} s", flush=True)
        found.append(row)
    if met(found):
        print(pack(folder, chip, max(found, key=lambda r: r.fmax_mhz).seed, SHELL), flush=True)


def folder_of(design: Design, kept: Path) -> Path:
    """Where a build is kept."""
    return kept / f"{design.net}-{design.target}".replace(" ", "-")


def make(design: Design, folder: Path) -> None:
    """Quantise and build; the folder is left alone where it holds the same build."""
    bundle = build(
        design.program(), target=design.target, clock_mhz=design.clock_mhz, **design.options
    )
    print(f"{design.net} on {design.target}: {bundle.summary()}", flush=True)
    manifest = folder / "manifest.json"
    if not manifest.exists() or manifest.read_bytes() != bundle.files["manifest.json"]:
        bundle.write(folder, force=True)  # what is there is of another design


def netlist(folder: Path) -> dict[str, float]:
    """The resources of the build's netlist, which is made where it is not there."""
    facts = read_manifest(folder)
    stat = folder / FOLDER / f"{SHELL}.stat.json"
    if stat.exists():  # written last
        return stat_resources(stat, device(facts["target"]).family)
    started = time.perf_counter()
    resources = synthesise_within(folder, surrounding(facts, None, None))
    print(f"synthesised in {time.perf_counter() - started:.0f} s: {resources}", flush=True)
    return resources


if __name__ == "__main__":
    sys.exit(main())
