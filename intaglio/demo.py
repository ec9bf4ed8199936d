"""`intaglio demo`: the whole path on the bundled detector, with a report and pictures."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from intaglio.api import Engine, evaluate, predictor
from intaglio.detect import zoo
from intaglio.detect.coco import CocoData
from intaglio.detect.decode import decode
from intaglio.detect.draw import draw, sheet
from intaglio.detect.images import stack
from intaglio.file import save

DETECTOR = "fcos-nano"
EVALUATED = 300
CALIBRATED = 64
VERIFIED = 3
DRAWN = 4


@dataclass
class Clock:
    """Prints each step and what it took."""

    console: Console
    started: float

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Time one step."""
        begin = time.perf_counter()
        self.console.print(f"[{begin - self.started:5.0f} s] {title}", markup=False)
        yield

    def seconds(self) -> float:
        """Since the start."""
        return round(time.perf_counter() - self.started, 1)


def run_demo(out: Path, console: Console) -> dict[str, Any]:
    """Everything, into `out`; returns what `demo.json` holds."""
    from intaglio.codegen.bundle import build
    from intaglio.codegen.verify import verify
    from intaglio.quant import QuantConfig, compare_with_simulator, quantize

    clock = Clock(console, time.perf_counter())
    out.mkdir(parents=True, exist_ok=True)
    with clock.step(f"writing {EVALUATED} held-out and {CALIBRATED} calibration scenes"):
        model = zoo.load(DETECTOR)
        held_out = zoo.held_out(DETECTOR, out / "held-out", EVALUATED)
        calibration = zoo.calibration(DETECTOR, out / "calibration", CALIBRATED)
        pixels = images_of(calibration, CALIBRATED)
        shown = images_of(held_out, VERIFIED + DRAWN)
    with clock.step(f"evaluating {DETECTOR} in float"):
        ap = {"float": measure(model, held_out, "float")}

    quantised = {}
    for bits in (8, 4):
        name = f"w{bits}a{bits}"
        with clock.step(f"quantising to W{bits}A{bits}, evaluating the integers"):
            done = quantize(model, pixels, QuantConfig(wbits=bits, abits=bits))
            quantised[name] = done
            save(done.program, out / f"{DETECTOR}-{name}.intaglio")
            ap[f"sim_{name}"] = measure(done.program, held_out, "sim")
            ap[f"fake_{name}"] = measure(model, held_out, "float", predict=done.fake)
            differences = compare_with_simulator(done, shown)
            quantised[name] = (done, differences)

    done, differences = quantised["w4a4"]
    with clock.step("generating hardware for the W4A4 Program"):
        bundle = build(done.program, target="ecp5-85k", images=shown[:VERIFIED])
        bundle.write(out / "build")
    results = {}
    for stalls in (False, True):
        kind = "with random stalls" if stalls else "back to back"
        with clock.step(f"simulating the RTL, {VERIFIED} whole frames {kind}"):
            results[stalls] = verify(out / "build", stalls=stalls)
            console.print(f"          {results[stalls].sentence()}", markup=False)
    with clock.step("drawing detections"):
        draw_detections(model, {k: d.program for k, (d, _) in quantised.items()}, shown, out)

    plain, stalled = results[False], results[True]
    numbers: dict[str, Any] = {
        "detector": DETECTOR,
        "images": EVALUATED,
        **{f"map_{key}": round(value, 4) for key, value in ap.items()},
        "frames_verified": plain.frames + stalled.frames,
        "beats_compared": plain.beats + stalled.beats,
        "mismatches": plain.mismatches + stalled.mismatches,
        "cycles_per_frame": plain.cycles_per_frame,
        "predicted_cycles_per_frame": plain.predicted_cycles_per_frame,
        "seconds_total": clock.seconds(),
    }
    layers = {key: report for key, (_, report) in quantised.items()}
    (out / "report.md").write_text(report_text(numbers, layers, bundle.report()), encoding="utf-8")
    (out / "demo.json").write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    console.print(summary_line(numbers), markup=False)
    console.print(f"report: {out / 'report.md'}, numbers: {out / 'demo.json'}", markup=False)
    return numbers


def images_of(data: CocoData, count: int) -> NDArray[np.uint8]:
    """The first images of a data set, uint8 (N, 3, H, W)."""
    return stack([data.file(i) for i in data.ids[:count]], None)


def measure(model: Any, data: CocoData, engine: Engine, predict: Any = None) -> float:
    """AP at IoU 0.50:0.95."""
    return evaluate(model, data, engine=engine, predict=predict).ap


def draw_detections(
    model: Any, programs: dict[str, Any], images: NDArray[np.uint8], out: Path
) -> None:
    """One sheet: float, W8A8 and W4A4 side by side on images that no one chose."""
    spec = model.head_spec
    images = images[-DRAWN:]
    size = (images.shape[2], images.shape[3])
    columns = {"float": predictor(model, "float")}
    columns |= {f"{k.upper()} integers": predictor(p, "sim") for k, p in programs.items()}
    pictures = []
    for predict in columns.values():
        maps = predict(images)
        found = [decode(spec, [m[n] for m in maps], size) for n in range(len(images))]
        pictures.append(
            [
                draw(image, seen, spec.classes, zoom=3)
                for image, seen in zip(images, found, strict=True)
            ]
        )
    rows = [list(row) for row in zip(*pictures, strict=True)]
    sheet(rows, list(columns)).save(out / "detections.png")


def summary_line(numbers: dict[str, Any]) -> str:
    """The result in one sentence."""
    return (
        f"AP {numbers['map_float']:.3f} in float, {numbers['map_sim_w8a8']:.3f} in W8A8 integers,"
        f" {numbers['map_sim_w4a4']:.3f} in W4A4; {numbers['frames_verified']} frames of RTL,"
        f" {numbers['beats_compared']:,} beats compared, {numbers['mismatches']} mismatches;"
        f" {numbers['cycles_per_frame']:,} cycles a frame; {numbers['seconds_total']:.0f} s"
    )


def report_text(numbers: dict[str, Any], layers: dict[str, Any], hardware: dict[str, Any]) -> str:
    """report.md: the numbers, what each layer does, and where fake-quant and integers part."""
    n = numbers
    lines = [
        f"# {n['detector']}: from torch to verified RTL",
        "",
        summary_line(n),
        "",
        "![detections](detections.png)",
        "",
        f"## mAP on {n['images']} held-out scenes (COCO AP 0.50:0.95)",
        "",
        "| | float | fake-quantised | integers in the simulator |",
        "|---|---|---|---|",
        f"| W8A8 | {n['map_float']:.4f} | {n['map_fake_w8a8']:.4f} | {n['map_sim_w8a8']:.4f} |",
        f"| W4A4 | {n['map_float']:.4f} | {n['map_fake_w4a4']:.4f} | {n['map_sim_w4a4']:.4f} |",
        "",
        "## Hardware of the W4A4 Program",
        "",
        f"Target {hardware['target']}; measured {n['cycles_per_frame']:,} cycles a frame, predicted"
        f" {n['predicted_cycles_per_frame']:,}.",
        "",
        "| layer | op | PE | SIMD | cycles | multipliers | ROM bits |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in hardware["layers"]:
        keys = ("name", "op", "pe", "simd", "cycles", "multipliers", "rom_bits")
        lines.append("| " + " | ".join("-" if row[k] is None else str(row[k]) for k in keys) + " |")
    for key, differences in layers.items():
        lines += ["", f"## {key.upper()}: fake-quantised model against the simulator", ""]
        lines += differences.markdown()
    return "\n".join(lines) + "\n"
