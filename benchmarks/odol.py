"""What each part of DetPTQ's loss is worth: python benchmarks/odol.py [NAME] [options].

AP of W4A4 Programs whose p were chosen by variants of `OdolTerms`, over disjoint draws of
calibration scenes; prints the table of docs/detptq.md. Finished cells are lines of odol-cells.jsonl
in the results folder and are not run again, so that a stopped run goes on where it was, inside a
search too; `--report` prints the table of what there is.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from quant import ROOT, Bench, Plan, positive
from quant_cells import Cell, Task, append_cell, read_cells
from quant_methods import model_digest
from quant_page import ABSENT, mean_std, points, whole
from quant_rows import Row
from threadpoolctl import threadpool_limits

from intaglio.detect import zoo
from intaglio.errors import IntaglioError
from intaglio.quant import QuantConfig
from intaglio.quant.odol import OdolTerms
from intaglio.sim.engine import processors

BITS = (4, 4)
NOWHERE = 1e-12  # a score below that of any candidate

# What the table calls a variant, and what it changes of the terms; none: one fixed p, no search.
VARIANTS: dict[str, OdolTerms | None] = {
    "every term, foreground 0.01": OdolTerms(),
    "class only": OdolTerms(by_box=0.0, by_centre=0.0),
    "box only": OdolTerms(by_class=0.0, by_centre=0.0),
    "without centre-ness": OdolTerms(by_centre=0.0),
    "foreground 0.001": OdolTerms(foreground=0.001),
    "foreground 0.05": OdolTerms(foreground=0.05),
    "every candidate": OdolTerms(foreground=NOWHERE),
    "p = 2.4 everywhere": None,
}
REFERENCE = "every term, foreground 0.01"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, then print the table."""
    options = parse(arguments)
    plan = make_plan(options)
    wanted = tasks(plan, options.variant or list(VARIANTS))
    torch.set_num_threads(plan.threads)
    with threadpool_limits(plan.threads):
        if not options.report:
            measure(plan, wanted)
    print(table(read_cells(plan.cells), wanted))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", default="fcos-nano", choices=list(zoo.BUNDLED))
    parser.add_argument("--variant", nargs="+", action="extend", choices=list(VARIANTS))
    parser.add_argument("--draws", type=positive, default=3, help="of calibration scenes")
    parser.add_argument("--images", type=positive, default=zoo.HELD_OUT_COUNT, help="for AP")
    parser.add_argument("--calibrated", type=positive, default=64, help="scenes of a draw")
    parser.add_argument("--threads", type=positive, default=processors())
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--report", action="store_true", help="run nothing, print the table")
    return parser.parse_args(arguments)


def make_plan(options: argparse.Namespace) -> Plan:
    """What `Bench` needs to know."""
    return Plan(
        detectors=[options.name],
        methods=[],
        widths=[BITS],
        draws=options.draws,
        images={options.name: options.images},
        calibrated=options.calibrated,
        threads=options.threads,
        cells=options.out / "odol-cells.jsonl",
        results=options.out / "odol.json",
        page=options.out / "odol.md",
        trained=None,
    )


def tasks(plan: Plan, variants: Iterable[str]) -> list[Task]:
    """Every cell, draw after draw."""
    (name,) = plan.detectors
    images = plan.images[name]
    depends = {"model": model_digest(name), "calibrated": plan.calibrated}
    made = {v: {**depends, "settings": described(v)} for v in variants}
    return [Task(name, v, *BITS, draw, images, made[v]) for draw in range(plan.draws) for v in made]


def described(variant: str) -> Mapping[str, Any]:
    """A variant's settings as JSON values: other ones are other cells."""
    terms = VARIANTS[variant]
    return {"method": "lp"} if terms is None else {"method": "detptq", "odol": asdict(terms)}


def settings(variant: str) -> QuantConfig:
    """The configuration of a variant."""
    terms = VARIANTS[variant]
    wbits, abits = BITS
    if terms is None:
        return QuantConfig(wbits=wbits, abits=abits, method="lp")
    return QuantConfig(wbits=wbits, abits=abits, method="detptq", odol=terms)


def measure(plan: Plan, wanted: Sequence[Task]) -> None:
    """Run what is missing, in order."""
    done = {cell.task.key for cell in read_cells(plan.cells)}
    missing = [task for task in wanted if task.key not in done]
    print(f"{len(missing)} of {len(wanted)} cells to measure, kept in {plan.cells}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(plan, Path(folder))
        for number, task in enumerate(missing, start=1):
            cell = bench.quantised(task, settings(task.method))
            append_cell(plan.cells, cell)
            print(f"{task.name}: AP {cell.ap:.4f}  ({number} of {len(missing)})", flush=True)


def table(cells: Iterable[Cell], wanted: Sequence[Task]) -> str:
    """Markdown of the finished cells among those wanted, a row for each variant."""
    keys = {task.key for task in wanted}
    found = {cell.task.key: cell for cell in cells if cell.task.key in keys}.values()
    lines = [
        "| ODOL | AP | AP50 | AP75 | draws | AP beside the first | other p | forwards |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    reference = {c.task.draw: c for c in found if c.task.method == REFERENCE}
    for variant in dict.fromkeys(task.method for task in wanted):
        own = tuple(c for c in found if c.task.method == variant)
        lines.append(f"| {variant} | " + " | ".join(values(own, reference)) + " |")
    return "\n".join(lines)


def values(own: tuple[Cell, ...], reference: Mapping[int, Cell]) -> list[str]:
    """A row's cells; the differences are means over the draws that both have."""
    if not own:
        return [ABSENT] * 7
    task = own[0].task
    row = Row(task.detector, task.method, task.wbits, task.abits, own)
    pairs = [(c, reference[c.task.draw]) for c in own if c.task.draw in reference]
    beside = steps = ABSENT
    if pairs and task.method != REFERENCE:
        beside = f"{sum(a.ap - b.ap for a, b in pairs) / len(pairs):+.4f}"
        if all(a.chosen for a, _ in pairs):
            steps = f"{sum(changed(a, b) for a, b in pairs) / len(pairs):.0%}"
    return [
        mean_std(row), points(row.mean("ap50")), points(row.mean("ap75")), str(len(own)),
        beside, steps, whole(row.mean("forwards")),
    ]  # fmt: skip


def changed(a: Cell, b: Cell) -> float:
    """Of the steps of two searches those with different p, 0..1."""
    differ = [tuple(x) != tuple(y) for x, y in zip(a.chosen, b.chosen, strict=True)]
    return sum(differ) / len(differ)


if __name__ == "__main__":
    try:
        main()
    except IntaglioError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
