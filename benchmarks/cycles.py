"""Predicted and measured cycles: python benchmarks/cycles.py [--net NAME ...] [--random N]

Every bundled network in at least five foldings, and random detectors, built and run as RTL
compiled by Verilator. Of four frames back to back, every output's first beat and the end of each
frame must be the predicted ones; a row is the frame interval of one build. Written to the key
"cycles" of results/hw.json.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from networks import pyramid

from intaglio.codegen.bundle import build
from intaglio.codegen.fold import plan_for_cycles
from intaglio.codegen.graph import hardware_graph
from intaglio.program import Program

RESULTS = Path(__file__).parent / "results" / "hw.json"
EXTRA = (0, 10, 40, 100, 250)  # multipliers beyond the fewest there can be


def bundled(name: str) -> Program:
    """A bundled detector, quantised quickly: cycles do not depend on the weights' values."""
    from intaglio.detect import zoo
    from intaglio.detect.images import stack
    from intaglio.quant import QuantConfig, quantize

    with tempfile.TemporaryDirectory() as folder:
        data = zoo.calibration(name, Path(folder), 4)
        images = stack([data.file(i) for i in data.ids[:4]], None)
        return quantize(zoo.load(name), images, QuantConfig(method="minmax"))


def cases(nets: list[str], count: int) -> Iterator[tuple[str, Program, int]]:
    """(name, Program, multipliers)."""
    for seed in range(count):
        draw = random.Random(seed)
        size = (draw.randint(9, 20), draw.randint(9, 20))
        c3, c4, c5, n = (draw.randint(1, 8) for _ in range(4))
        program = pyramid(seed, size, (c3, c4, c5, n))
        yield f"random-{seed}", program, fewest(program) + draw.randint(0, 60)
    for name in nets:
        program = bundled(name)
        for extra in EXTRA:
            yield name, program, fewest(program) + extra


def fewest(program: Program) -> int:
    """Multipliers of the slowest folding."""
    return plan_for_cycles(hardware_graph(program), 1 << 62).multipliers


def main() -> int:
    """Measure, print, write; 1 where a cycle differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", nargs="*", default=["fcos-nano", "retinanet-small"])
    parser.add_argument("--random", type=int, default=20)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    wrong = 0
    for net, program, lanes in cases(options.net, options.random):
        bundle = build(program, target="generic", lanes=lanes)
        measured = bundle.compile(threads=1).measure(4)
        first = {name: beats[0] for name, beats in measured.first.items()}
        equal = (list(measured.finished), first) == (
            bundle.manifest["frame_ends"],
            bundle.manifest["first_outputs"],
        )
        wrong += not equal
        rows.append({"net": net, "folding": f"{lanes} multipliers",
                     "predicted": bundle.manifest["cycles_per_frame"],
                     "measured": measured.interval})  # fmt: skip
        print(json.dumps(rows[-1]), "equal" if equal else "DIFFERENT", flush=True)
        write(rows)
    print(f"{len(rows)} builds, {wrong} whose cycles differ")
    return int(wrong > 0)


def write(rows: list[dict[str, Any]]) -> None:
    """Replace the rows of the same networks."""
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    nets = {row["net"] for row in rows}
    kept = [row for row in found.get("cycles", []) if row["net"] not in nets]
    found["cycles"] = kept + rows
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
