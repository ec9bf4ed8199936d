"""AP with and without equalisation and mixed precision: python benchmarks/companions.py
[--detector NAME] [--images N] [--draws N] [--row NAME ...].

Prints the tables of docs/quantisation.md: AP of the integer outputs on held-out scenes for draws of
64 calibration scenes, and the averages that the last draw's Program comes to.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.api import evaluate
from intaglio.detect import zoo
from intaglio.detect.images import stack
from intaglio.quant import Budget, QuantConfig, quantize
from intaglio.quant.budget import spent

CALIBRATED = 64
W8A8 = {"wbits": 8, "abits": 8}
ROWS: dict[str, dict[str, Any]] = {
    "W4A4": {},
    "W4A4 --equalize": {"equalize": True},
    "W4A4 --per-tensor": {"per_channel": False},
    "W4A4 --per-tensor --equalize": {"per_channel": False, "equalize": True},
    "W8A8 --per-tensor": {**W8A8, "per_channel": False},
    "W8A8 --per-tensor --equalize": {**W8A8, "per_channel": False, "equalize": True},
    "--budget weight-bits=4": {"budgets": ("weight-bits=4",)},
    "--budget bops=19.31": {"budgets": ("bops=19.31",)},
}


def main() -> None:
    """One line per row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detector", default="fcos-nano", choices=list(zoo.BUNDLED))
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--row", nargs="+", default=list(ROWS), choices=list(ROWS))
    options = parser.parse_args()
    model = zoo.load(options.detector)
    print("| | AP, mean | of each draw | bits of a weight | bit operations |", flush=True)
    print("|---|---:|---|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        held_out = zoo.held_out(options.detector, Path(folder) / "held-out", options.images)
        count = options.draws * CALIBRATED
        scenes = zoo.calibration(options.detector, Path(folder) / "calibration", count)
        pixels = stack([scenes.file(i) for i in scenes.ids], None)
        for name in options.row:
            found = []
            for draw in np.split(pixels, options.draws):
                program = quantize(model, draw, config(name)).program
                found.append(evaluate(program, held_out).ap)
            each = ", ".join(f"{ap:.4f}" for ap in found)
            used = (f"{float(spent(program, kind)):.3f}" for kind in ("weight-bits", "bops"))
            print(f"| {name} | {np.mean(found):.4f} | {each} | {' | '.join(used)} |", flush=True)


def config(name: str) -> QuantConfig:
    """The configuration of a row."""
    settings = dict(ROWS[name])
    settings["budgets"] = tuple(Budget.parse(text) for text in settings.get("budgets", ()))
    return QuantConfig(**settings)


if __name__ == "__main__":
    main()
