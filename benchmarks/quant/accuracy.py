"""AP of the bundled detectors in float and on integers.

python benchmarks/quant/accuracy.py [--images N]

Prints the table of the README. Scenes are the held-out ones; calibration is on 64 scenes of the
training digits; both are generated, so the figures depend on nothing outside the repository.
"""

import argparse
import tempfile
from pathlib import Path

from rich.console import Console

from intaglio.api import evaluate
from intaglio.detect import zoo
from intaglio.detect.images import stack
from intaglio.quant import QuantConfig, quantize

CALIBRATED = 64


def main() -> None:
    """One row per detector."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=zoo.HELD_OUT_COUNT)
    images: int = parser.parse_args().images
    console = Console(highlight=False, soft_wrap=True)
    console.print("| detector | parameters | MMAC | float AP | W8A8 fake | W8A8 integers |", end="")
    console.print(" W4A4 fake | W4A4 integers |\n|" + "---|" * 8)
    for name in zoo.BUNDLED:
        console.print(row(name, images))


def row(name: str, images: int) -> str:
    """A line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        model = zoo.load(name)
        held_out = zoo.held_out(name, Path(folder) / "held-out", images)
        chosen = zoo.calibration(name, Path(folder) / "calibration", CALIBRATED)
        pixels = stack([chosen.file(i) for i in chosen.ids], None)
        notes = zoo.metadata(name)
        cells = [name, f"{int(notes['parameters']):,}", f"{int(notes['macs']) / 1e6:.1f}"]
        cells.append(f"{evaluate(model, held_out).ap:.4f}")
        for bits in (8, 4):
            done = quantize(model, pixels, QuantConfig(wbits=bits, abits=bits))
            cells.append(f"{evaluate(model, held_out, predict=done.fake).ap:.4f}")
            cells.append(f"{evaluate(done.program, held_out).ap:.4f}")
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
