"""AP of fcos-nano W4A4 from its RTL: python benchmarks/codegen/rtl_map.py [--images N] [--lanes N].

The Verilog that `intaglio build` writes runs every held-out scene, compiled by Verilator; the
simulator runs the same. Output integers, boxes and AP are compared, and the longest frame interval
that one thread's model counted with the schedule's. Written to results/hw.json as "rtl_map".
"""

import argparse
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hw_json import put

from intaglio.codegen.bundle import build
from intaglio.detect import zoo
from intaglio.detect.coco import CocoData
from intaglio.detect.decode import Detections, decode
from intaglio.detect.images import stack
from intaglio.detect.score import score as coco_score
from intaglio.models import head_of
from intaglio.ops import dequantise
from intaglio.program import Program
from intaglio.quant import QuantConfig, quantize
from intaglio.sim.engine import Simulator

NET, BITS, CALIBRATED = "fcos-nano", 4, 64


@dataclass(frozen=True)
class Row:
    """mismatches: output integers that differ; detections: boxes found, boxes_differ of them with
    another corner, score or label, or found by one alone."""

    net: str
    images: int
    target: str
    lanes: int
    ap_rtl: float
    ap_sim: float
    integers: int
    mismatches: int
    detections: int
    boxes_differ: int
    cycles_per_frame: int | None
    predicted_cycles_per_frame: int


def main() -> None:
    """Measure, print the row, write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--target", default="ecp5-85k")
    parser.add_argument("--lanes", type=int, default=400, help="Multipliers at most.")
    parser.add_argument("--folder", type=Path, help="Where the compiled design is kept.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        row = measure(options.images, options.target, options.lanes, Path(folder), options.folder)
    put("rtl_map", asdict(row))
    print("| network | images | AP, RTL | AP, simulator | integers that differ | boxes that differ"
          " | cycles a frame | predicted |")  # fmt: skip
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    print(
        f"| {row.net} W{BITS}A{BITS}, {row.lanes} multipliers at most | {row.images} |"
        f" {row.ap_rtl:.4f} | {row.ap_sim:.4f} | {row.mismatches} of {row.integers:,} |"
        f" {row.boxes_differ} of {row.detections:,} | {row.cycles_per_frame:,} |"
        f" {row.predicted_cycles_per_frame:,} |"
    )


def measure(images: int, target: str, lanes: int, folder: Path, kept: Path | None) -> Row:
    """Quantise, build, run both."""
    scenes = zoo.calibration(NET, folder / "calibration", CALIBRATED)
    config = QuantConfig(wbits=BITS, abits=BITS, method="mse")
    program = quantize(zoo.load(NET), pixels(scenes), config).program
    held_out = zoo.held_out(NET, folder / "held-out", images)
    stimulus = pixels(held_out)
    expected = Simulator(program)(stimulus)
    bundle = build(program, target=target, lanes=lanes)
    print(bundle.summary(), flush=True)
    played = bundle.compile(kept).play(stimulus)
    ap_rtl, from_rtl = score(program, held_out, played.outputs)
    ap_sim, from_sim = score(program, held_out, expected)
    return Row(
        net=NET,
        images=images,
        target=target,
        lanes=lanes,
        ap_rtl=ap_rtl,
        ap_sim=ap_sim,
        integers=sum(maps.size for maps in expected.values()),
        mismatches=sum(int((expected[n] != played.outputs[n]).sum()) for n in expected),
        detections=sum(len(d.scores) for d in from_sim),
        boxes_differ=sum(map(different, from_rtl, from_sim)),
        cycles_per_frame=played.cycles.interval,
        predicted_cycles_per_frame=bundle.manifest["cycles_per_frame"],
    )


def pixels(data: CocoData) -> Any:
    """All images of a data set, uint8 (N, 3, H, W)."""
    return stack([data.file(i) for i in data.ids], None)


def score(program: Program, data: CocoData, maps: Any) -> tuple[float, list[Detections]]:
    """AP at IoU 0.50:0.95 and the boxes of each image, from integer maps by Output's name."""
    real = [dequantise(t, maps[t.name]) for t in program.outputs]
    spec, (_, height, width) = head_of(program, NET), program.inputs[0].shape
    found = [decode(spec, [m[n] for m in real], (height, width)) for n in range(len(data))]
    return coco_score(data, list(zip(data.ids, found, strict=True)), spec.classes).ap, found


def different(a: Detections, b: Detections) -> int:
    """Boxes that are not equal in every bit, in order."""
    both = min(len(a.scores), len(b.scores))
    equal = (
        (a.boxes[:both] == b.boxes[:both]).all(axis=1)
        & (a.scores[:both] == b.scores[:both])
        & (a.labels[:both] == b.labels[:both])
    )
    return max(len(a.scores), len(b.scores)) - int(np.count_nonzero(equal))


if __name__ == "__main__":
    main()
