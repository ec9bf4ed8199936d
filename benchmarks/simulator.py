"""Speed of the simulator beside onnxruntime's int8 and torch's fp32: python benchmarks/simulator.py

Every row runs one network on the same uint8 images (N, 3, H, W) in one process: the simulator, then
onnxruntime with int8 operators of the same shapes, then torch fp32, turn by turn, from arrays of
planes to arrays of planes. Ratios are medians over the rounds, above 1 where the simulator is
faster; `peak_share` is the multiplications done beside what the bare `vpdpbusd` loop does in the
same round. Mismatches are those of all outputs of an image against the reference simulator. Latency
is one image on one thread; throughput is a batch, an image at a time on each of two threads.
Written to results/sim.json.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import peer_onnx
import torch

from intaglio.detect import zoo
from intaglio.detect.decode import HeadSpec
from intaglio.detect.retinanet import retinanet_resnet
from intaglio.program import Program
from intaglio.quant import QuantConfig, float_predictor, quantize
from intaglio.sim import dots, reference
from intaglio.sim.engine import Simulator
from intaglio.sim.isa import UNITS, supported
from intaglio.sim.kernels import jit

RESULTS = Path(__file__).parent / "results"
NETS = ("retinanet-r18", *zoo.BUNDLED)
PIXELS = UNITS[0].pixels
TILE_MACS = PIXELS * 32 * 4  # of one step of the bare loop


@dataclass(frozen=True)
class Row:
    """One network, widths, and way to run; the spread is the smallest and largest ratio."""

    net: str
    size: int
    wbits: int
    abits: int
    threads: int
    mode: str
    equal_io: bool
    ratio_ort_int8: float
    ratio_torch_fp32: float
    spread_ort_int8: tuple[float, float]
    peak_share: float
    gmacs: float
    mismatches: int


def main() -> None:
    """Measure, print a table, write sim.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", nargs="+", choices=NETS, default=NETS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=RESULTS / "sim.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    print("| network | size | widths | mode | GMAC/s | beside onnxruntime | torch | peak | wrong |")
    print("|---|---|---|---|---|---|---|---|---|")
    for net in options.net:
        for size in (256, 512) if net == "retinanet-r18" else (zoo.find(net).size[0],):
            for row in measure(net, size, options.rounds):
                rows.append(row)
                low, high = row.spread_ort_int8
                print(
                    f"| {row.net} | {row.size} | W{row.wbits}A{row.abits} | {row.mode},"
                    f" {row.threads} | {row.gmacs:.0f} | {row.ratio_ort_int8:.2f}"
                    f" ({low:.2f}-{high:.2f}) | {row.ratio_torch_fp32:.2f} | {row.peak_share:.2f}"
                    f" | {row.mismatches} |",
                    flush=True,
                )
    options.out.write_text(json.dumps({"rows": [asdict(row) for row in rows]}, indent=1) + "\n")


def network(net: str) -> Any:
    """A bundled detector, or ResNet18-FPN-RetinaNet of 80 classes with random weights."""
    if net != "retinanet-r18":
        return zoo.load(net)
    torch.manual_seed(0)
    strides = (8, 16, 32, 64, 128)
    sizes = tuple(tuple(4.0 * s * 2 ** (i / 3) for i in range(3)) for s in strides)
    classes = tuple(str(i) for i in range(80))
    spec = HeadSpec("retinanet", classes, strides, anchor_sizes=sizes, anchor_ratios=(0.5, 1, 2))
    return retinanet_resnet(18, spec).eval()


def measure(net: str, size: int, rounds: int) -> list[Row]:
    """The rows of one network at one size."""
    model = network(net)
    shape = (4 if size > 128 else 32, 3, size, size)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    programs = [
        quantize(model, images, QuantConfig(method="minmax", wbits=b, abits=b)).program
        for b in (8, 4)
    ]
    session = int8_session(programs[0])
    (x,) = programs[0].inputs
    predict = float_predictor(model)

    def int8(images: Any) -> None:
        session.run(None, {x.name: images})

    rows = []
    for bits, program in zip((8, 4), programs, strict=True):
        wrong = mismatches(program, images[:1])
        for mode, threads in (("latency", 1), ("throughput", 2)):
            simulator = Simulator(program, threads=threads)
            calls = (simulator, spread(int8, threads), spread(predict, threads), bare(threads))
            batch = images[:1] if mode == "latency" else images
            ours, theirs, floats, peak = turns(calls, batch, rounds)
            ratios = sorted(b / a for a, b in zip(ours, theirs, strict=True))
            macs = sum(program.macs().values()) * len(batch)
            most = STEPS * TILE_MACS * len(batch)
            share = [macs / a / (most / p) for a, p in zip(ours, peak, strict=True)]
            row = Row(
                net=net,
                size=size,
                wbits=bits,
                abits=bits,
                threads=threads,
                mode=mode,
                equal_io=True,
                ratio_ort_int8=round(statistics.median(ratios), 3),
                ratio_torch_fp32=round(median_ratio(floats, ours), 3),
                spread_ort_int8=(round(ratios[0], 3), round(ratios[-1], 3)),
                peak_share=round(statistics.median(share), 3),
                gmacs=round(macs / statistics.median(ours) / 1e9, 1),
                mismatches=wrong,
            )
            rows.append(row)
    return rows


def int8_session(program: Program) -> Any:
    """onnxruntime on one thread a call."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    made = peer_onnx.model(program)
    return onnxruntime.InferenceSession(made, options, providers=["CPUExecutionProvider"])


def mismatches(program: Program, images: Any) -> int:
    """Output integers that differ from the reference's."""
    expected = reference.run(program, images).tensors
    got = Simulator(program)(images)
    return sum(int(np.count_nonzero(got[name] != expected[name])) for name in got)


def spread(call: Callable[[Any], Any], threads: int) -> Callable[[Any], Any]:
    """`call` on each image by itself, `threads` at a time."""
    pool = ThreadPoolExecutor(threads)

    def run(images: Any) -> None:
        list(pool.map(call, (images[i : i + 1] for i in range(len(images)))))

    return run


STEPS = 12_800_000  # of the bare loop, an image: some 50 ms, beside which starting it is nothing


@jit
def steps(count: int, tile: Any) -> None:
    """Multiplications without anything else: one small tile, again and again."""
    bases, offsets, weight, start, out = tile
    for _ in range(count // 64):
        dots.bytes512_2(
            bases.ctypes.data,
            offsets.ctypes.data,
            1,
            64,
            weight.ctypes.data,
            4096,
            start.ctypes.data,
            out.ctypes.data,
            128,
        )


def bare(threads: int) -> Callable[[Any], Any]:
    """The peak: STEPS of the kernel's innermost loop on every thread."""

    def once(_: Any) -> None:
        codes = np.zeros(4096, np.uint8)
        bases = codes.ctypes.data + np.arange(PIXELS, dtype=np.int64) * 64
        weight, start = np.zeros(2 * 4096, np.int8), np.zeros(32, np.int32)
        out = np.zeros((PIXELS, 32), np.int32)
        steps(STEPS, (bases, np.zeros(1, np.int64), weight, start, out))

    if "avx512vnni" not in supported():
        raise SystemExit("The processor must have AVX512-VNNI for this comparison.")
    return spread(once, threads)


def median_ratio(a: list[float], b: list[float]) -> float:
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def turns(calls: tuple[Callable[[Any], Any], ...], images: Any, rounds: int) -> list[list[float]]:
    """Seconds of each call on `images`, turn by turn, after one of each to warm up."""
    times: list[list[float]] = [[] for _ in calls]
    for n in range(rounds + 1):
        for call, kept in zip(calls, times, strict=True):
            begin = time.perf_counter()
            call(images)
            if n:
                kept.append(time.perf_counter() - begin)
    return times


if __name__ == "__main__":
    main()
