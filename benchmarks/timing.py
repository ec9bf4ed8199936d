"""Place and route of bundled designs: python benchmarks/timing.py [--net NAME ...] [--seeds N].

`fcos-nano` W4A4 in an ECP5-85k, fast enough for 100 frames/s at 75 MHz, and a residual block in
an iCE40UP5K and in a Gowin part. Each is synthesised once and routed with every seed; a row is one
seed, written to the key "timing" of results/hw.json when the design is done. A design whose rows
are there is not made again (--anew: it is), so a run that was cut off goes on. Exit 1 where a
design's best seed misses the clock.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hw_json import HW_JSON, put

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from networks import skip

from intaglio.codegen.bitstream import BitstreamResult, bitstream
from intaglio.codegen.bundle import build
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
    nets = sorted({design.net for design in DESIGNS})
    parser.add_argument("--net", nargs="+", choices=nets, default=nets)
    parser.add_argument("--target", nargs="+", default=sorted({d.target for d in DESIGNS}))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--anew", action="store_true", help="Also what is there.")
    parser.add_argument("--folder", type=Path, help="Where builds and bitstreams are kept.")
    options = parser.parse_args()
    missed = 0
    for design in DESIGNS:
        if design.net not in options.net or design.target not in options.target:
            continue
        found = [row for row in rows() if same(row, design)]
        if len(found) < options.seeds or options.anew:
            found = measure(design, options.seeds, options.folder)
            put("timing", [asdict(r) for r in merged(rows(), design, found)])
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


def merged(old: Iterable[Row], design: Design, new: Iterable[Row]) -> list[Row]:
    """The rows of other designs, and the new ones."""
    others = [row for row in old if (row.net, row.target) != (design.net, design.target)]
    return sorted([*others, *new], key=lambda row: (row.net, row.target, row.seed))


def met(found: Sequence[Row]) -> bool:
    """Whether the best seed is as fast as the clock."""
    return max(row.fmax_mhz for row in found) >= found[0].constraint_mhz


def measure(design: Design, seeds: int, kept: Path | None) -> list[Row]:
    """Build, synthesise once, route every seed."""
    bundle = build(
        design.program(), target=design.target, clock_mhz=design.clock_mhz, **design.options
    )
    print(f"{design.net} on {design.target}: {bundle.summary()}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        name = f"{design.net}-{design.target}".replace(" ", "-")
        folder = (kept or Path(scratch)) / name
        bundle.write(folder)
        result = bitstream(folder, seeds=seeds, say=lambda text: print(text, flush=True))
    print(result.sentence(), flush=True)
    return rows_of(design.net, result)


def rows_of(net: str, result: BitstreamResult) -> list[Row]:
    """One row a seed."""
    return [
        Row(
            net=net,
            target=result.target,
            seed=routed.seed,
            constraint_mhz=result.clock_mhz,
            fmax_mhz=routed.fmax_mhz,
            fps=round(result.fps, 2),
            cycles_per_frame=result.cycles_per_frame,
            seconds=routed.seconds,
            **{kind: result.resources[kind] for kind in ("luts", "ffs", "rams", "multipliers")},
        )
        for routed in result.seeds
    ]


if __name__ == "__main__":
    sys.exit(main())
