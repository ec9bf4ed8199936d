"""Which result maps cost the AP: python benchmarks/quant/maps.py [--images N] [PROGRAM ...].

A line for each Program: its AP, and what it would be if the maps of one kind (classes, boxes,
centre-ness) were those of the float detector. Without a Program, DetPTQ's at W4A4, with 4 and with
8 bits in the tensors that only sums read.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from quant_bench import positive
from rich.console import Console

from intaglio.api import evaluate
from intaglio.detect import zoo
from intaglio.detect.coco import CocoData
from intaglio.detect.evaluate import Predict
from intaglio.detect.images import stack
from intaglio.errors import DataError, IntaglioError
from intaglio.file import load
from intaglio.models import head_of
from intaglio.program import Program
from intaglio.quant import QuantConfig, float_predictor, quantize
from intaglio.sim.engine import Simulator

CALIBRATED = 64
KINDS = ("class", "box", "centre")


def main() -> None:
    """One line per Program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("programs", nargs="*", type=Path)
    parser.add_argument("--detector", choices=list(zoo.BUNDLED), default="fcos-nano")
    parser.add_argument("--images", type=positive, default=zoo.HELD_OUT_COUNT)
    options = parser.parse_args()
    spec = zoo.load(options.detector).head_spec
    kinds = KINDS[: len(spec.channels) // spec.levels]
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"| {options.detector} | AP |", *(f"float {kind} |" for kind in kinds))
    console.print("|" + "---|" * (2 + len(kinds)))
    with tempfile.TemporaryDirectory() as folder:
        held_out = zoo.held_out(options.detector, Path(folder) / "held-out", options.images)
        for name, program in programs(options.programs, options.detector, Path(folder)):
            found = (f"{ap:.4f}" for ap in by_kind(program, options.detector, held_out))
            console.print("|", name, "|", " | ".join(found), "|")


def programs(paths: Sequence[Path], detector: str, folder: Path) -> Iterator[tuple[str, Program]]:
    """Names and Programs."""
    yield from ((path.stem, load(path)) for path in paths)
    if not paths:
        chosen = zoo.calibration(detector, folder / "calibration", CALIBRATED)
        pixels = stack([chosen.file(i) for i in chosen.ids], None)
        for bits in (4, 8):
            config = QuantConfig(method="detptq", sum_bits=bits)
            program = quantize(zoo.load(detector), pixels, config).program
            yield f"detptq W4A4, sums read {bits} bits", program


def by_kind(program: Program, detector: str, held_out: CocoData) -> Iterator[float]:
    """AP of the Program, then with each kind of map from the float detector."""
    model = zoo.load(detector)
    spec = model.head_spec
    if head_of(program, "the Program") != spec:
        raise DataError(
            f"The Program must have the outputs of {detector}, not those of another detector;"
            " name its detector with --detector."
        )
    simulator, real = Simulator(program), float_predictor(model)
    kinds = len(spec.channels) // spec.levels

    def predictor(kind: int) -> Predict:
        def predict(pixels: NDArray[np.uint8]) -> list[NDArray[np.floating]]:
            ours, theirs = simulator.run_dequantised(pixels), real(pixels)
            taken = [n // spec.levels == kind for n in range(len(spec.channels))]
            return [theirs[n] if other else ours[n] for n, other in enumerate(taken)]

        return predict

    for kind in (-1, *range(kinds)):
        yield evaluate(program, held_out, predict=predictor(kind)).ap


if __name__ == "__main__":
    try:
        main()
    except IntaglioError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
