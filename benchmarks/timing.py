"""Place and route of bundled designs: python benchmarks/timing.py [--net NAME ...] [--seeds N].

`fcos-nano` W4A4 in an ECP5-85k, fast enough for 100 frames/s at 75 MHz, and a residual block in
an iCE40UP5K and in a Gowin part. Each is synthesised once, routed with every seed, and packed; a
row is one seed, written to the key "timing" of results/hw.json as soon as it is routed. What is
there is not made again (--anew: it is), and with --folder a netlist is used again while its build
is the same, so a run that was cut off goes on. Exit 1 where a design's best seed misses the clock.
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

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from networks import skip

from intaglio.codegen.bitstream import (
    BAUD,
    FOLDER,
    pack,
    place_and_route,
    stat_resources,
    surrounding,
    synthesise_within,
)
from intaglio.codegen.bundle import build
from intaglio.codegen.devices import device
from intaglio.codegen.shell import SHELL
from intaglio.codegen.verify import read_manifest
from intaglio.program import Program

CALIBRATED = 64


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
        there = {row.seed for row in rows() if same(row, design)}
        seeds = [n for n in range(1, options.seeds + 1) if options.anew or n not in there]
        if options.build_only:
            make(design, folder_of(design, options.folder))
            continue
        if seeds:
            with tempfile.TemporaryDirectory() as scratch:
                measure(design, seeds, options.folder or Path(scratch), options.built)
        found = [row for row in rows() if same(row, design)]
        for row in found:
            print(row, flush=True)
        missed += not met(found)
    return int(missed > 0)


def rows() -> list[Row]:
    """Those there are."""
    stored = json.loads(HW_JSON.read_text(encoding="utf-8")) if HW_JSON.exists() else {}
    return [Row(**row) for row in stored.get("timing", ())]


def same(row: Row, design: Design) -> bool:
    """Whether the row is of the design, with the clock that is asked for now."""
    asked = (design.net, design.target, design.clock_mhz)
    return (row.net, row.target, row.constraint_mhz) == asked


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


def measure(design: Design, seeds: Sequence[int], kept: Path, built: bool) -> None:
    """Build, synthesise once, route the seeds, each its row; pack the best of them."""
    folder = folder_of(design, kept)
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
        bundle.write(folder)


def netlist(folder: Path) -> dict[str, float]:
    """The resources of the build's netlist, which is made where it is not there."""
    facts = read_manifest(folder)
    stat = folder / FOLDER / f"{SHELL}.stat.json"
    if stat.exists():  # written last
        return stat_resources(stat, device(facts["target"]).family)
    started = time.perf_counter()
    resources = synthesise_within(folder, surrounding(facts, None, BAUD))
    print(f"synthesised in {time.perf_counter() - started:.0f} s: {resources}", flush=True)
    return resources


if __name__ == "__main__":
    sys.exit(main())
