"""Speed of the simulator beside onnxruntime's int8 and torch's fp32.

python benchmarks/sim/simulator.py

Every row runs one network on the same uint8 images (N, 3, H, W) in one process: the simulator, then
onnxruntime, torch (oneDNN) and LiteRT (XNNPACK) with int8 operators of the same shapes, and
onnxruntime and torch in fp32, turn by turn, from arrays of planes to arrays of planes; a turn is a
rest (the threads of the last one fall asleep), an untimed call, and a timed one. Ratios are medians
over the rounds, above 1 where the simulator is faster; `peak_share` is the network's
multiplications a second beside those of the bare loop of products in the same round, above 1 where
Winograd's transform saves most of them. Mismatches are those of all outputs of an image against the
reference simulator. Latency is one image, on one thread or shared by two; throughput is a batch, an
image at a time on each of two threads. `--isa` holds the simulator, and the runtimes that can be
held, to one instruction set; a row names ours and what every runtime was seen to multiply with
(`units.py`), and the runtimes whose sums went wrong there (`peers.probe`). Rows of other processors
and instruction sets stay in the results. `start` is the command `intaglio run` on one picture as a
process of its own: with nothing compiled, and again with the kernels kept; its seconds, and its
largest resident memory. `rtl` is the same network in Verilog, compiled by Verilator, for scale.
Written to results/sim.json, and docs/speed.md from it.
"""

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bare import bare, macs_of
from peers import facts_of, network, peers_of
from simulator_page import line, write
from timed import turns
from units import HELD

from intaglio.codegen.bundle import build
from intaglio.detect import zoo
from intaglio.program import Program
from intaglio.quant import QuantConfig, quantize
from intaglio.sim import reference
from intaglio.sim.engine import Simulator
from intaglio.sim.isa import UNITS, Isa, supported
from intaglio.system.threads import processors

RESULTS = Path(__file__).parent.parent / "results"
NETS = ("retinanet-r18", *zoo.BUNDLED)


@dataclass(frozen=True)
class Row:
    """One network, widths, and way to run; the spread is the smallest and largest ratio.

    quartiles   the lower one of the ratios to each runtime
    isa         what the simulator ran on
    peer_isa    what each runtime was seen to run on
    peer_wrong  codes of `peers.probe` that each int8 runtime had wrong, of 4,096
    """

    processor: str
    isa: Isa
    peer_isa: dict[str, str]
    peer_wrong: dict[str, int]
    net: str
    size: int
    wbits: int
    abits: int
    threads: int
    mode: str
    equal_io: bool
    ratio_ort_int8: float
    ratio_ort_fp32: float
    ratio_torch_int8: float
    ratio_torch_fp32: float
    ratio_litert_int8: float
    spread_ort_int8: tuple[float, float]
    quartiles: dict[str, float]
    peak_share: float
    gmacs: float
    mismatches: int


def main() -> None:
    """Measure, print a table, write sim.json and its page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", nargs="+", choices=NETS, default=NETS)
    parser.add_argument("--size", type=int, nargs="+", help="Others stay, if measured alike.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--isa", choices=tuple(HELD), help="Hold to; default: what there is.")
    parser.add_argument("--out", type=Path, default=RESULTS / "sim.json")
    options = parser.parse_args()
    held = HELD.get(options.isa, {})
    if held.items() - os.environ.items():  # read when a process starts
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | held)
    torch.set_num_threads(1)
    scale = rtl()
    print(", ".join(f"{name} {value}" for name, value in scale.items()), flush=True)
    machine = {"processors": processors(), "rounds": options.rounds}
    isa = supported()[0]
    here = {"processor": processor(), "isa": isa}
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    rows = found["rows"] if found.get("machine") == machine else []
    made = {"machine": machine, "rtl": scale}
    for net in options.net:
        for size in (256, 512) if net == "retinanet-r18" else (zoo.find(net).size[0],):
            if options.size and size not in options.size:
                continue
            this = here | {"net": net, "size": size}
            rows = [row for row in rows if any(row[key] != this[key] for key in this)]
            for row in map(asdict, measure(net, size, options.rounds, isa)):
                rows.append(row)
                print(line(row), flush=True)
            rows.sort(key=place)
            options.out.write_text(json.dumps(made | {"rows": rows}, indent=1) + "\n")
    if options.out == RESULTS / "sim.json":
        write(made | {"rows": rows})


def rtl(frames: int = 32) -> dict[str, float]:
    """Seconds a frame of fcos-nano W4A4 in RTL, as Verilator compiles it, and how much faster the
    simulator is, one thread each; seconds to build and compile it."""
    images = np.random.default_rng(0).integers(0, 256, (frames, 3, 96, 96), dtype=np.uint8)
    config = QuantConfig(method="minmax", wbits=4, abits=4, compensate=False)
    program = quantize(zoo.load("fcos-nano"), images, config).program
    begin = time.perf_counter()
    compiled = build(program, target="ecp5-85k", lanes=400).compile(threads=1)
    made = time.perf_counter() - begin
    (slow,), (fast,) = turns((compiled, Simulator(program, threads=1)), images, 1)
    return {
        "rtl_build_seconds": round(made, 1),
        "rtl_frame_seconds": round(slow / frames, 4),
        "simulator_times_faster": round(slow / fast),
    }


def processor() -> str:
    """As the system names it, with its family and model: one name has many."""
    facts = {}
    for text in Path("/proc/cpuinfo").read_text(encoding="ascii").splitlines():
        key, _, value = text.partition(":")
        facts.setdefault(key.strip(), value.strip())
    return "{model name}, family {cpu family}, model {model}".format(**facts)


def place(row: dict[str, Any]) -> tuple[Any, ...]:
    """Of a row among the others."""
    isas = [unit.isa for unit in UNITS]
    isa = isas.index(row["isa"]) if row["isa"] in isas else len(isas)
    return row["processor"], isa, NETS.index(row["net"]), row["size"], -row["wbits"]


def measure(net: str, size: int, rounds: int, isa: Isa) -> list[Row]:
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
    facts = facts_of(programs[0], net)
    rows = []
    for bits, program in zip((8, 4), programs, strict=True):
        wrong = mismatches(program, images[:1], isa)
        for mode, threads in (("latency", 1), ("latency", 2), ("throughput", 2)):
            each = threads if mode == "latency" else 1  # threads that share an image
            batch = images[:1] if mode == "latency" else images
            torch.set_num_threads(each)
            peers = peers_of(programs[0], model, each, threads // each)
            calls = (
                Simulator(program, threads=threads, isa=isa),
                bare(threads, isa),
                *peers.values(),
            )
            ours, peak, *theirs = turns(calls, batch, rounds)
            ratios = dict(zip(peers, (sorted(ratio(t, ours)) for t in theirs), strict=True))
            macs = sum(program.macs().values()) * len(batch)
            most = macs_of(isa) * max(len(batch), threads)
            share = [macs / a / (most / p) for a, p in zip(ours, peak, strict=True)]
            row = Row(
                processor=processor(),
                isa=isa,
                peer_isa={name: found["unit"] for name, found in facts.items()},
                peer_wrong={n: f["wrong"] for n, f in facts.items() if "wrong" in f},
                net=net,
                size=size,
                wbits=bits,
                abits=bits,
                threads=threads,
                mode=mode,
                equal_io=True,
                **{f"ratio_{n}": round(statistics.median(r), 3) for n, r in ratios.items()},
                spread_ort_int8=(round(ratios["ort_int8"][0], 3), round(ratios["ort_int8"][-1], 3)),
                quartiles={n: round(lower_quartile(r), 3) for n, r in ratios.items()},
                peak_share=round(statistics.median(share), 3),
                gmacs=round(macs / statistics.median(ours) / 1e9, 1),
                mismatches=wrong,
            )
            rows.append(row)
    return rows


def mismatches(program: Program, images: Any, isa: Isa) -> int:
    """Output integers that differ from the reference's."""
    expected = reference.run(program, images).tensors
    got = Simulator(program, isa=isa)(images)
    return sum(int(np.count_nonzero(got[name] != expected[name])) for name in got)


def lower_quartile(values: list[float]) -> float:
    """Three quarters of the rounds are above it."""
    return statistics.quantiles(values, n=4, method="inclusive")[0]


def ratio(a: list[float], b: list[float]) -> list[float]:
    """Round by round."""
    return [x / y for x, y in zip(a, b, strict=True)]


if __name__ == "__main__":
    main()
