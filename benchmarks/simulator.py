"""Speed of the simulator beside onnxruntime's int8 and torch's fp32: python benchmarks/simulator.py

Every row runs one network on the same uint8 images (N, 3, H, W) in one process: the simulator, then
onnxruntime with int8 operators of the same shapes, then torch fp32, turn by turn, from arrays of
planes to arrays of planes. Ratios are medians over the rounds, above 1 where the simulator is
faster; `peak_share` is the network's multiplications a second beside those of the bare `vpdpbusd`
loop in the same round, above 1 where Winograd's transform saves most of them. Mismatches are those
of all outputs of an image against the reference simulator. Latency is one image, on one thread or
shared by two; throughput is a batch, an image at a time on each of two threads. `start` is the
command `intaglio run` on one picture as a process of its own: with nothing compiled, and again with
Numba's cache there; its seconds, and its largest resident memory. Written to results/sim.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
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
from PIL import Image

from intaglio.detect import zoo
from intaglio.detect.decode import HeadSpec
from intaglio.detect.retinanet import retinanet_resnet
from intaglio.file import save
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
    start, rows = starts(), []
    print(", ".join(f"{name} {value}" for name, value in start.items()))
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
                made = {"rows": [asdict(row) for row in rows], "start": start}
                options.out.write_text(json.dumps(made, indent=1) + "\n")


def starts() -> dict[str, float]:
    """Seconds and MiB of `intaglio run` on fcos-nano and one picture: cold once, warm the median
    of five."""
    program = quantize(zoo.load("fcos-nano"), np.zeros((1, 3, 96, 96), np.uint8)).program
    with tempfile.TemporaryDirectory() as folder:
        model, picture = Path(folder) / "nano.intaglio", Path(folder) / "picture.png"
        save(program, model)
        Image.fromarray(np.zeros((96, 96, 3), np.uint8)).save(picture)
        runs = [run_process(folder, model, picture) for _ in range(6)]
    warm = runs[1:]
    return {
        "cold_seconds": round(runs[0][0], 2),
        "warm_seconds": round(statistics.median(seconds for seconds, _ in warm), 2),
        "peak_mib": round(statistics.median(size for _, size in warm)),
    }


def run_process(folder: str, model: Path, picture: Path) -> tuple[float, float]:
    """Seconds and peak MiB of one run of the command line."""
    start = "from intaglio.cli import main; main()"
    command = [sys.executable, "-c", start, "run", model, picture, "-o", f"{folder}/out"]
    cache = os.environ | {"NUMBA_CACHE_DIR": f"{folder}/cache"}
    begin = time.perf_counter()
    process = subprocess.Popen(command, env=cache, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("intaglio run must succeed to be timed; run it by hand to see why.")
    return time.perf_counter() - begin, usage.ru_maxrss / 1024


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
        quantize(
            model, images, QuantConfig(method="minmax", wbits=b, abits=b, compensate=False)
        ).program
        for b in (8, 4)
    ]
    sessions = {threads: int8_session(programs[0], threads) for threads in (1, 2)}
    (x,) = programs[0].inputs
    predict = float_predictor(model)

    def int8(threads: int) -> Callable[[Any], Any]:
        return lambda images: sessions[threads].run(None, {x.name: images})

    rows = []
    for bits, program in zip((8, 4), programs, strict=True):
        wrong = mismatches(program, images[:1])
        for mode, threads in (("latency", 1), ("latency", 2), ("throughput", 2)):
            simulator = Simulator(program, threads=threads)
            batch = images[:1] if mode == "latency" else images
            each = threads if mode == "latency" else 1  # threads that share an image
            torch.set_num_threads(each)
            calls = (
                simulator,
                spread(int8(each), threads // each),
                spread(predict, threads // each),
                bare(threads),
            )
            ours, theirs, floats, peak = turns(calls, batch, rounds)
            ratios = sorted(b / a for a, b in zip(ours, theirs, strict=True))
            macs = sum(program.macs().values()) * len(batch)
            most = STEPS * TILE_MACS * max(len(batch), threads)
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


def int8_session(program: Program, threads: int) -> Any:
    """onnxruntime on so many threads a call."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
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
    every = spread(once, threads)
    return lambda images: every(range(max(len(images), threads)))


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
