"""Predicted and measured cycles: python benchmarks/codegen/cycles.py [--net NAME ...] [--random N]

Every bundled network in at least five foldings, and random detectors and networks of concatenated
branches, built and run as RTL compiled by Verilator. Of four or more frames back to back, every
output's first beat and the end of each frame must be the predicted ones.

Written to the key "cycles" of results/hw.json, a row for each build as soon as it is measured, so
that a stopped run goes on where it stopped; `--anew` measures everything again. A row:

predicted, measured    cycles per frame; latency_* from reset to the first frame's last beat;
                       first_* from reset to the first beat of each output.
bottleneck             the layer that sets the rate.
utilisation, measured_utilisation
                       of the bottleneck's multipliers, where it is a convolution: products of the
                       layer over those its multipliers could make in a frame interval.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tests"))

from hw_json import HW_JSON, put
from networks import branches, pyramid

from intaglio.codegen.area.devices import device
from intaglio.codegen.bundle import Bundle, build
from intaglio.codegen.running.compile import Cycles
from intaglio.codegen.structure.fold import plan_for_cycles
from intaglio.codegen.structure.graph import hardware_graph
from intaglio.program import Program

# Multipliers beyond the fewest there can be; with the most, engines make several pixels at once.
EXTRA = {"fcos-nano": (150, 100, 40, 10, 0, 1300), "retinanet-small": (150, 120, 90, 60, 30, 1100)}
SMALL, LARGE = "generic", "xc7a200t"  # targets, by their multipliers; yosys is not asked
WIDE, MORE = 22, 200  # random networks from this number on have so many multipliers more


def bundled(name: str) -> Program:
    """A bundled detector, quantised quickly: cycles do not depend on the weights' values."""
    from intaglio.detect import zoo
    from intaglio.detect.images import stack
    from intaglio.quant import QuantConfig, quantize

    with tempfile.TemporaryDirectory() as folder:
        data = zoo.calibration(name, Path(folder), 4)
        images = stack([data.file(i) for i in data.ids[:4]], None)
        return quantize(zoo.load(name), images, QuantConfig(method="minmax")).program


def drawn(seed: int) -> tuple[str, Program, int]:
    """A random network: its name, and how many multipliers. Every third concatenates; those from
    `WIDE` on make several pixels at once."""
    draw = random.Random(seed)
    if seed % 3 == 2:
        size = draw.randint(5, 12), draw.randint(5, 12)
        widths = draw.randint(1, 8), draw.randint(1, 8), draw.randint(1, 8)
        name, program = f"branches-{seed}", branches(seed, size, widths)
    else:
        size = draw.randint(9, 20), draw.randint(9, 20)
        c3, c4, c5, n = (draw.randint(1, 8) for _ in range(4))
        name, program = f"pyramid-{seed}", pyramid(seed, size, (c3, c4, c5, n))
    return name, program, fewest(program) + draw.randint(0, 60) + (seed >= WIDE) * MORE


def fewest(program: Program) -> int:
    """Multipliers of the slowest folding."""
    return plan_for_cycles(hardware_graph(program), 1 << 62).multipliers


def cases(nets: list[str], count: int) -> Iterator[tuple[str, Program, int]]:
    """(name, Program, multipliers)."""
    yield from map(drawn, range(count))
    for name in nets:
        program = bundled(name)
        for extra in EXTRA[name]:
            yield name, program, fewest(program) + extra


def row(net: str, lanes: int, bundle: Bundle, cycles: Cycles) -> dict[str, Any]:
    """What was predicted and what was measured."""
    manifest = bundle.manifest
    engines = json.loads(bundle.files["schedule.json"])["engines"]
    bottleneck = manifest["bottleneck"]
    used = next((e["utilisation"] for e in engines if e["layer"] == bottleneck), None)
    predicted = manifest["cycles_per_frame"]
    measured = None if used is None else used * predicted / (cycles.interval or predicted)
    first = {name: beats[0] for name, beats in cycles.first.items()}
    ends = manifest["frame_ends"]
    return {
        "net": net,
        "folding": f"{lanes} multipliers",
        "predicted": predicted,
        "measured": cycles.interval,
        "latency_predicted": manifest["latency_cycles"],
        "latency_measured": cycles.latency,
        "first_predicted": manifest["first_outputs"],
        "first_measured": first,
        "equal": (ends, manifest["first_outputs"]) == (list(cycles.finished), first),
        "bottleneck": bottleneck,
        "utilisation": used,
        "measured_utilisation": measured,
    }


def main() -> int:
    """Measure, print, write; 1 where a cycle differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", nargs="*", default=list(EXTRA))
    parser.add_argument("--random", type=int, default=30)
    parser.add_argument("--anew", action="store_true", help="measure what has a row, too")
    options = parser.parse_args()
    rows = kept()
    for net, program, lanes in cases(options.net, options.random):
        others = [r for r in rows if (r["net"], r["folding"]) != (net, f"{lanes} multipliers")]
        if len(others) < len(rows) and not options.anew:
            continue
        small = lanes <= device(SMALL).multipliers
        bundle = build(program, target=SMALL if small else LARGE, lanes=lanes)
        frames = len(bundle.manifest["frame_ends"])
        rows = [*others, row(net, lanes, bundle, bundle.compile(threads=1).measure(frames))]
        put("cycles", rows)
        print(sentence(rows[-1]), flush=True)
    wrong = sum(not r["equal"] for r in rows)
    print(f"{len(rows)} builds of {len({r['net'] for r in rows})} networks, {wrong} differ")
    return int(wrong > 0)


def kept() -> list[dict[str, Any]]:
    """The rows of earlier runs that need not be measured again."""
    found = json.loads(HW_JSON.read_text(encoding="utf-8")) if HW_JSON.exists() else {}
    return [r for r in found.get("cycles", []) if r.get("equal")]


def sentence(r: dict[str, Any]) -> str:
    """One line of a row."""
    used = "" if r["utilisation"] is None else f", {r['measured_utilisation']:.1%} used"
    return (
        f"{r['net']}, {r['folding']}: {r['measured']:,} cycles a frame, latency"
        f" {r['latency_measured']:,}; {'as predicted' if r['equal'] else 'NOT AS PREDICTED'};"
        f" {r['bottleneck']}{used}"
    )


if __name__ == "__main__":
    sys.exit(main())
