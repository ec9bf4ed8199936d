"""One cell of a benchmark: quantise a bundled detector on a draw of scenes, and evaluate it."""

import argparse
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from quant_cells import FLOAT, Cell, Task
from quant_methods import config

from intaglio.api import evaluate
from intaglio.detect import zoo
from intaglio.detect.coco import CocoData
from intaglio.detect.images import stack
from intaglio.program import Program
from intaglio.quant import QuantConfig, float_predictor, quantize
from intaglio.quant.settings.budget import BudgetKind, spent
from intaglio.sim.engine import Simulator
from intaglio.system.disk import make_folder

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure, and where it is kept."""

    detectors: Sequence[str]
    methods: Sequence[str]
    widths: Sequence[tuple[int, int]]
    draws: int
    images: dict[str, int]
    calibrated: int
    threads: int
    cells: Path
    results: Path
    page: Path
    trained: Path | None


class Bench:
    """The scenes of each detector, written once into a folder."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self.opened: dict[str, tuple[NDArray[np.uint8], CocoData]] = {}

    def scenes(self, name: str) -> tuple[NDArray[np.uint8], CocoData]:
        """All draws of calibration scenes (N, 3, H, W), and the held-out scenes."""
        if name not in self.opened:
            count = self.plan.draws * self.plan.calibrated
            chosen = zoo.calibration(name, self.folder / name / "calibration", count)
            pixels = stack([chosen.file(i) for i in chosen.ids], None)
            held_out = zoo.held_out(name, self.folder / name / "held-out", self.plan.images[name])
            self.opened[name] = pixels, held_out
        return self.opened[name]

    def cell(self, task: Task, programs: dict[str, Program]) -> Cell:
        """Quantise, or take the trained Program, and evaluate."""
        if task.method == FLOAT:
            _, held_out = self.scenes(task.detector)
            model = zoo.load(task.detector)
            found = evaluate(model, held_out, predict=float_predictor(model))
            return Cell(task, found.ap, found.ap50, found.ap75)
        digest = task.depends.get("program")
        if digest is not None:
            return self.evaluated(Cell(task, 0, 0, 0, digest=digest), programs[digest])
        return self.quantised(task, config(task.method, task.wbits, task.abits))

    def quantised(self, task: Task, settings: QuantConfig) -> Cell:
        """Quantise on the task's draw and evaluate; a killed search goes on."""
        pixels, _ = self.scenes(task.detector)
        first = task.draw * self.plan.calibrated
        images = pixels[first : first + self.plan.calibrated]
        folder = make_folder(self.plan.cells.parent / "partial")
        state = folder / f"{hashlib.sha256(task.key.encode()).hexdigest()[:16]}.json"
        clock = Clock(state)
        model = zoo.load(task.detector)
        done = quantize(model, images, settings, state=state, progress=lambda *_: clock.write())
        seconds, wall = clock.stop()
        kinds = get_args(BudgetKind)
        cell = Cell(
            task, 0, 0, 0, seconds, wall, digest=done.program.digest(),
            spent={kind: float(spent(done.program, kind)) for kind in kinds},
        )  # fmt: skip
        if done.search is not None:
            search = done.search
            cell = replace(
                cell, forwards=search.forwards, naive_forwards=search.naive_forwards,
                odol=(search.start, search.end), kept=search.kept,
                chosen=[(c.kind, c.name, c.p) for c in search.choices],
            )  # fmt: skip
        return self.evaluated(cell, done.program)

    def evaluated(self, cell: Cell, program: Program) -> Cell:
        """With AP of the Program's integers."""
        _, held_out = self.scenes(cell.task.detector)
        simulator = Simulator(program, threads=self.plan.threads)
        found = evaluate(program, held_out, predict=simulator.run_dequantised)
        return replace(cell, ap=found.ap, ap50=found.ap50, ap75=found.ap75)


class Clock:
    """Processor seconds and passed seconds from here on, and those of killed runs from whose
    `state` a search goes on. They are kept beside it."""

    def __init__(self, state: Path) -> None:
        self.path = state.with_suffix(".seconds")
        known = state.exists() and self.path.exists()
        text = self.path.read_text().split() if known else []
        self.before = [float(part) for part in text] if len(text) == 2 else [0.0, 0.0]
        self.begin = [time.process_time(), time.perf_counter()]

    def read(self) -> tuple[float, float]:
        """Both, so far."""
        now = [time.process_time(), time.perf_counter()]
        passed = zip(self.before, now, self.begin, strict=True)
        cpu, wall = (a + b - c for a, b, c in passed)
        return cpu, wall

    def write(self) -> None:
        """Keep what was taken so far."""
        self.path.write_text(" ".join(f"{value:.3f}" for value in self.read()))

    def stop(self) -> tuple[float, float]:
        """Both, and nothing is kept."""
        self.path.unlink(missing_ok=True)
        return self.read()


def positive(text: str) -> int:
    """An integer of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number
