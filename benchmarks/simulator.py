"""Speed of the simulator beside torch fp32: python benchmarks/simulator.py [--rounds N].

Both run the same bundled detector on the same images with the same number of threads, turn by turn
in one process; printed are the medians and spread of the ratio, so that a noisy machine shows.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from intaglio.detect import zoo
from intaglio.quant import QuantConfig, float_predictor, quantize
from intaglio.sim.engine import Simulator

IMAGES = 32


def main() -> None:
    """One row per detector and width."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds: int = parser.parse_args().rounds
    torch.set_num_threads(1)
    print("| detector | widths | images/s | GMAC/s | speed beside torch fp32 (min-max) |")
    print("|---|---|---|---|---|")
    for name in zoo.BUNDLED:
        model = zoo.load(name)
        size = zoo.find(name).size
        images = np.random.default_rng(0).integers(0, 256, (IMAGES, 3, *size), dtype=np.uint8)
        peer = float_predictor(model)
        for bits in (8, 4):
            program = quantize(model, images, QuantConfig(wbits=bits, abits=bits)).program
            simulator = Simulator(program, threads=1)
            ours, theirs = alternate(simulator, peer, images, rounds)
            ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
            rate = IMAGES / statistics.median(ours)
            macs = sum(program.macs().values()) * rate / 1e9
            print(
                f"| {name} | W{bits}A{bits} | {rate:.0f} | {macs:.1f} |"
                f" {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) |"
            )


def alternate(
    a: Callable[[Any], Any], b: Callable[[Any], Any], images: Any, rounds: int
) -> tuple[list[float], list[float]]:
    """Seconds of each call on `images`, turn by turn, after one call each to warm up."""
    a(images)
    b(images)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for call, kept in ((a, times[0]), (b, times[1])):
            begin = time.perf_counter()
            call(images)
            kept.append(time.perf_counter() - begin)
    return times


if __name__ == "__main__":
    main()
