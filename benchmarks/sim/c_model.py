"""Speed of the C model beside the fast simulator.

python benchmarks/sim/c_model.py

Each row runs one bundled detector on the same uint8 images, one thread each, turn by turn in one
process, in seconds of the processor: the simulator for the Outputs alone; the simulator for every
tensor; the C model, which has every tensor in any case, compiled with `cc -std=c99` and the flags
of the row. Ratios are the simulator's frames a second over the C model's, medians over the rounds
with the smallest and the largest; `text_kib` is the size of the C text. Mismatches are those of all
tensors of two images. Written to results/c_model.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from timed import turns

from intaglio.cmodel.compiled import FLAGS, CModel, compare, compile_library
from intaglio.cmodel.folder import write_c_model
from intaglio.detect import zoo
from intaglio.quant import QuantConfig, quantize
from intaglio.sim.engine import Simulator

RESULTS = Path(__file__).parent.parent / "results" / "c_model.json"
BUILDS = {"as written by make": FLAGS, "for this processor": (*FLAGS, "-march=native")}


def main() -> None:
    """Measure, print, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", nargs="+", choices=zoo.BUNDLED, default=list(zoo.BUNDLED))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = []
    for net in options.net:
        for bits in (4, 8):
            for row in measure(net, bits, options.rounds, options.images):
                rows.append(row)
                print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    made = {"rounds": options.rounds, "images": options.images, "rows": rows}
    options.out.write_text(json.dumps(made, indent=1) + "\n")


def measure(net: str, bits: int, rounds: int, count: int) -> list[dict[str, Any]]:
    """A row for each way to compile."""
    shape = (count, 3, *zoo.find(net).size)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    config = QuantConfig(method="minmax", wbits=bits, abits=bits, compensate=False)
    program = quantize(zoo.load(net), images[:4], config).program
    outputs = Simulator(program, threads=1)
    every = Simulator(program, threads=1, trace=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        model = write_c_model(program, work / "c", "net")
        wrong = compare(program, model, images[:2]).mismatches
        for name, flags in BUILDS.items():
            (work / name).mkdir()
            c_model = CModel(compile_library(model, work / name, flags=flags), program, "net")

            def frames(batch: Any, c_model: CModel = c_model) -> None:
                for image in batch:
                    c_model.run(image)

            fast, whole, slow = turns((outputs, every, frames), images, rounds)
            text = (model.folder / "net.c").stat().st_size / 1024
            rows.append(
                {
                    "net": net,
                    "bits": bits,
                    "compiled": name,
                    "ratio_outputs": spread(slow, fast),
                    "ratio_every_tensor": spread(slow, whole),
                    "text_kib": round(text),
                    "mismatches": wrong,
                }
            )
            c_model.close()
    return rows


def spread(a: list[float], b: list[float]) -> tuple[float, float, float]:
    """Median, smallest and largest ratio, round by round."""
    found = sorted(x / y for x, y in zip(a, b, strict=True))
    return (round(statistics.median(found), 2), round(found[0], 2), round(found[-1], 2))


if __name__ == "__main__":
    main()
