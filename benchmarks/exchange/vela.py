"""Bundled networks as TFLite files, in LiteRT's reference kernels and through Arm's compiler.

    python -m venv .venv-vela && .venv-vela/bin/pip install ethos-u-vela==5.2.0
    python benchmarks/exchange/vela.py .venv-vela/bin/vela [--images 20]

Each network is quantised with arithmetic tflite and 8-bit outputs, exported, and run in LiteRT on
random codes and on generated scenes; every output integer is compared with the simulator's. Then
Vela compiles the file for an Ethos-U55 of 128 multipliers. The table is printed: operators of the
file, integers compared and that differ, Vela's exit code, operators that it gives to the NPU and
those that it leaves to the CPU, by name.
"""

from __future__ import annotations

import argparse
import re
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from intaglio.detect.scenes import make_scene
from intaglio.exchange.compared import compare, random_codes
from intaglio.exchange.from_tflite.flat import read
from intaglio.exchange.to_tflite.run import run_tflite
from intaglio.exchange.to_tflite.tflite import to_tflite
from intaglio.fixed import preset
from intaglio.models import to_be_quantised
from intaglio.program import Program
from intaglio.quant import QuantConfig, quantize

TARGET = "ethos-u55-128"
WIDTHS = (8, 4)
NETWORKS, SIDE = ("fcos-nano", "retinanet-small"), 96  # of their pictures
HEAD = ("network", "weights, activations", "operators", "integers compared", "differ",
        "Vela exits", "NPU", "left to the CPU")  # fmt: skip


def main() -> None:
    """A row a network and width."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vela", type=Path, help="The program.")
    parser.add_argument("--images", type=int, default=20, help="Of each kind that are compared.")
    options = parser.parse_args()
    print(f"| {' | '.join(HEAD)} |\n| --- | --- |{' ---: |' * 5} --- |", flush=True)
    for name in NETWORKS:
        scenes = scenes_of(SIDE, 16, 1)
        for bits in WIDTHS:
            config = QuantConfig(
                wbits=bits, abits=bits, output_bits=8, method="mse", arithmetic=preset("tflite")
            )
            program = quantize(to_be_quantised(name), scenes, config).program
            print(f"| {name} | {bits}, {bits} | {row(program, options)} |", flush=True)


def scenes_of(side: int, count: int, seed: int) -> NDArray[np.uint8]:
    """Pictures (N, 3, side, side)."""
    made = [make_scene(n, size=side, seed=seed, split="train").image for n in range(count)]
    return np.stack(made)


def row(program: Program, options: argparse.Namespace) -> str:
    """The cells of a Program's file."""
    made, compared, differ = to_tflite(program), 0, 0
    for images in (random_codes(program, options.images), scenes_of(SIDE, options.images, 2)):
        codes = images.astype(np.int64)
        found = compare(program, run_tflite(program, made, codes), codes)
        compared, differ = compared + found.compared, differ + found.mismatches
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "net.tflite"
        path.write_bytes(made.content)
        kinds = {op.kind for op in read(path).operators}
        done = subprocess.run(
            [options.vela, path, "--output-dir", scratch, "--accelerator-config", TARGET,
             "--show-cpu-operations"], capture_output=True, text=True,
        )  # fmt: skip
    npu = re.search(r"NPU operators = (\d+)", done.stdout)
    left = sorted(kind for kind in kinds if re.search(rf"\b{kind}\b.* CPU", done.stdout))
    cpu = re.search(r"CPU operators = (\d+)", done.stdout)
    names = "nothing" if cpu and cpu[1] == "0" else ", ".join(left) or done.stdout[-300:]
    cells = (len(made.kinds), f"{compared:,}", differ, done.returncode, npu and npu[1], names)
    return " | ".join(map(str, cells))


if __name__ == "__main__":
    main()
