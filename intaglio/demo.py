"""`intaglio demo`: the whole path on the bundled detector, with a report and pictures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from intaglio import __version__
from intaglio.api import Engine, compare_with_simulator, evaluate, predictor
from intaglio.codegen.folder.manifest import is_build, made_since
from intaglio.codegen.folder.record import keep
from intaglio.detect.coco import CocoData
from intaglio.detect.decode import Detections, decode
from intaglio.detect.draw import draw, sheet
from intaglio.detect.images import stack
from intaglio.detect.scenes import DATA, IMAGES, is_scenes, write_calibration, write_held_out
from intaglio.file import save
from intaglio.models import spec_in
from intaglio.system.copies import Copies, meanwhile
from intaglio.system.disk import write_bytes, write_text
from intaglio.system.places import Kind
from intaglio.system.spread import HERE
from intaglio.system.steps import Steps
from intaglio.system.threads import most

if TYPE_CHECKING:
    from PIL.Image import Image

    from intaglio.quant import Quantized

DETECTOR, SIDE = "fcos-nano", 96  # pixels of its input
EVALUATED = 300
CALIBRATED = 64
SETS = ("calibration", "held-out")
VERIFIED = 3
DRAWN = 6
NAMES = ("w8a8", "w4a4")  # in the order in which they are shown


# Seconds of each chapter on two idle cores of an x86-64 server, as `make demo` printed them there,
# in a fresh clone: 60 s in all. "w4a4" begins "float" and the hardware, and "verify" the pictures.
CHAPTERS = {
    "data": 2, "w4a4": 12, "w8a8": 5, "float": 1, "hardware": 8, "verify": 28, "pictures": 2,
}  # fmt: skip


class Story:
    """Says each chapter, how long it takes as measured elsewhere, and the steps inside it, with the
    seconds since the start."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.out = say
        self.started = time.perf_counter()
        self.chapter = 0

    def seconds(self) -> float:
        """Since the start."""
        return round(time.perf_counter() - self.started, 1)

    def say(self, line: str) -> None:
        """One line."""
        self.out(f"[{self.seconds():5.0f} s] {line}")

    def begin(self, name: str, what: str) -> None:
        """The next chapter."""
        self.chapter += 1
        self.say(f"{self.chapter}/{len(CHAPTERS)} {what} (about {CHAPTERS[name]} s)")

    def steps(self) -> Steps:
        """What a long call of this chapter is told."""
        return Steps(lambda line: self.say(f"    {line}"))


def made_in_build(out: Path) -> str:
    """What is in the build of an earlier demo that the demo did not make."""
    found = made_since(out / "build", "sim") if is_build(out / "build") else ""
    return f"{found} in its build" if found else ""


DEMO = Kind("an earlier demo", lambda out: is_scenes(out / "held-out"), made_in_build)


def run_demo(out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Everything, into `out`; returns what `demo.json` holds."""
    story = Story(say)
    story.begin("data", f"writing {EVALUATED} held-out and {CALIBRATED} calibration scenes")
    with story.steps().step("scenes"), meanwhile(write_data, out) as written:
        from intaglio.codegen.bundle import build
        from intaglio.codegen.running.verify import verify
        from intaglio.detect import zoo
        from intaglio.quant import QuantConfig, quantize

        model = zoo.load(DETECTOR)
        written()
        calibration, held_out = (CocoData(out / n / DATA, out / n / IMAGES) for n in SETS)
        pixels = images_of(calibration, CALIBRATED)
        shown = images_of(held_out, VERIFIED + DRAWN)
    ap, quantised, differences = {}, {}, {}
    with ExitStack() as left:  # copies of this process, at work while it goes on
        graph = None  # of the float network, for both
        average = left.enter_context(meanwhile(partial(average_precision, model), held_out))
        for bits in (4, 8):
            name = f"w{bits}a{bits}"
            story.begin(name, f"quantising to W{bits}A{bits}, evaluating the integers")
            config = QuantConfig(wbits=bits, abits=bits)
            done = quantize(model, pixels, config, steps=story.steps(), captured=graph)
            quantised[name], graph = done, done.captured
            if bits == 4:
                make = partial(build, target="ecp5-85k", images=shown[:VERIFIED])
                built = left.enter_context(meanwhile(make, done.program))
            save(done.program, out / f"{DETECTOR}-{name}.intaglio")
            ap[f"sim_{name}"] = measure(story, done.program, held_out, "sim")
            ap[f"fake_{name}"] = measure(story, model, held_out, "float", predict=done.fake)
            with story.steps().step("comparison layer by layer"):
                differences[name] = compare_with_simulator(done, shown)
        story.begin("float", f"evaluating {DETECTOR} in float, begun in chapter 2")
        with story.steps().step("images"):
            ap["float"] = average()
        truth = [held_out.truth(i) for i in held_out.ids[VERIFIED : VERIFIED + DRAWN]]
        programs = {name: quantised[name].program for name in NAMES}
        draws = partial(draw_detections, model, programs, shown[-DRAWN:], truth)
        story.begin("hardware", "generating hardware for the W4A4 Program, begun in chapter 2")
        with story.steps().step("hardware"):
            bundle = built()
            bundle.write(out / "build", force=True)  # what else is there was looked at before
        story.begin("verify", "simulating the RTL: whole frames, with pauses and without")
        drawn = left.enter_context(meanwhile(draws, out))
        result = verify(out / "build", steps=story.steps())
        story.say(result.sentence())
        keep(
            out / "build", "verify", result.to_json(), command="intaglio demo", version=__version__
        )
        story.begin("pictures", "drawing detections, begun in chapter 6, and the page")
        with story.steps().step("pictures"):
            page = report_page(quantised["w4a4"], out / "build", shown[-DRAWN:], truth)
            write_text(out / "report.html", page)
            drawn()

    numbers: dict[str, Any] = {
        "detector": DETECTOR,
        "images": EVALUATED,
        "map_float": round(ap["float"], 4),
        **{f"map_{by}_{k}": round(ap[f"{by}_{k}"], 4) for k in NAMES for by in ("sim", "fake")},
        "frames_verified": result.frames,
        "beats_compared": result.beats,
        "mismatches": result.mismatches,
        "passed": result.passed,
        "cycles_per_frame": result.cycles_per_frame,
        "predicted_cycles_per_frame": result.predicted_cycles_per_frame,
        "seconds_total": story.seconds(),
    }
    named = {name: differences[name] for name in NAMES}
    write_text(out / "report.md", report_text(numbers, named, bundle.report()))
    write_text(out / "demo.json", json.dumps(numbers, indent=2) + "\n")
    say(summary_line(numbers))
    say(
        f"report: {out / 'report.md'}, pictures: {out / 'report.html'}, numbers:"
        f" {out / 'demo.json'}"
    )
    return numbers


def write_data(out: Path) -> None:
    """The scenes; their digits come with a package that takes as long to import as torch."""
    write_calibration(out / SETS[0], CALIBRATED, SIDE)
    write_held_out(out / SETS[1], EVALUATED, SIDE)


def images_of(data: CocoData, count: int) -> NDArray[np.uint8]:
    """The first images of a data set, uint8 (N, 3, H, W)."""
    return stack([data.file(i) for i in data.ids[:count]], None)


def measure(story: Story, model: Any, data: CocoData, engine: Engine, predict: Any = None) -> float:
    """AP at IoU 0.50:0.95. Batches go to copies of this process: torch has one thread for a network
    as small as this."""
    pool = HERE if engine == "sim" else Copies(most())  # a simulator sees to that itself
    found = evaluate(model, data, engine=engine, predict=predict, pool=pool, steps=story.steps())
    return found.ap


def average_precision(model: Any, data: CocoData) -> float:
    """The same in float, by this process alone."""
    return evaluate(model, data, engine="float").ap


def draw_detections(
    model: Any, programs: dict[str, Any], images: NDArray[np.uint8],
    truth: Sequence[Detections], out: Path,
) -> None:  # fmt: skip
    """One sheet: ground truth, float, W8A8 and W4A4 above each other, on images that no one
    chose."""
    spec = model.head_spec
    size = (images.shape[2], images.shape[3])
    engines = {"float": predictor(model, "float")}
    engines |= {f"{k.upper()}, integers": predictor(p, "sim") for k, p in programs.items()}
    rows = [pictures(images, truth, spec.classes)]
    for predict in engines.values():
        maps = predict(images)
        found = [decode(spec, [m[n] for m in maps], size) for n in range(len(images))]
        rows.append(pictures(images, found, spec.classes))
    data = BytesIO()
    sheet(rows, ["ground truth", *engines]).save(data, format="PNG")
    write_bytes(out / "detections.png", data.getvalue())


def pictures(
    images: NDArray[np.uint8], boxes: Sequence[Detections], classes: Sequence[str]
) -> list[Image]:
    """Each image with its boxes, enlarged."""
    return [draw(i, b, classes, zoom=3) for i, b in zip(images, boxes, strict=True)]


def report_page(
    done: Quantized, build: Path, images: NDArray[np.uint8], truth: Sequence[Detections]
) -> str:
    """The page of `intaglio report` on a build, with what quantisation measured and the boxes that
    its integers find beside the true ones."""
    from intaglio.report.layers import read_quality
    from intaglio.report.page import Picture, page, subject

    spec, size = spec_in(done.program, DETECTOR), (images.shape[2], images.shape[3])
    maps = predictor(done.program, "sim")(images)
    found = [decode(spec, [m[n] for m in maps], size) for n in range(len(images))]
    shown = []
    for n, (true, seen) in enumerate(
        zip(pictures(images, truth, spec.classes), pictures(images, found, spec.classes),
            strict=True)
    ):  # fmt: skip
        data = BytesIO()
        sheet([[true, seen]], ["ground truth and what the integers find"]).save(data, format="PNG")
        shown.append(Picture(data.getvalue(), f"held-out scene {VERIFIED + n + 1}"))
    measured = {"layers": [row.to_json() for row in done.layers]}
    quality = read_quality(measured, done.program, "the quantisation")
    return page(replace(subject(build), name=f"{DETECTOR} W4A4", quality=quality), shown)


def summary_line(numbers: dict[str, Any]) -> str:
    """The result in one sentence; cycles are known only where every beat was right."""
    cycles = numbers["cycles_per_frame"]
    rate = f"{cycles:,} cycles a frame" if cycles is not None else "no frame interval"
    return (
        f"AP {numbers['map_float']:.3f} in float, {numbers['map_sim_w8a8']:.3f} in W8A8 integers,"
        f" {numbers['map_sim_w4a4']:.3f} in W4A4; {numbers['frames_verified']} frames of RTL,"
        f" {numbers['beats_compared']:,} beats compared, {numbers['mismatches']} mismatches;"
        f" {rate}; {numbers['seconds_total']:.0f} s"
    )


def report_text(
    numbers: dict[str, Any], differences: dict[str, Any], hardware: dict[str, Any]
) -> str:
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
        f"Target {hardware['target']}; measured {n['cycles_per_frame']} cycles a frame, predicted"
        f" {n['predicted_cycles_per_frame']}.",
        "",
        "| layer | op | PE | SIMD | pixels | cycles | multipliers | ROM bits |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in hardware["layers"]:
        keys = ("name", "op", "pe", "simd", "pixels", "cycles", "multipliers", "rom_bits")
        lines.append("| " + " | ".join("-" if row[k] is None else str(row[k]) for k in keys) + " |")
    for key, found in differences.items():
        lines += ["", f"## {key.upper()}: fake-quantised model against the simulator", ""]
        lines += found.markdown()
    return "\n".join(lines) + "\n"
