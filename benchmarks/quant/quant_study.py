"""Variants of one configuration, compared on draws of calibration scenes."""

import argparse
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from quant_bench import ROOT, Bench, Plan, positive
from quant_cells import Cell, Task, append_cell, read_cells
from quant_methods import model_digest
from quant_page import ABSENT, page_part
from threadpoolctl import threadpool_limits

from intaglio.detect import zoo
from intaglio.quant import QuantConfig
from intaglio.system.threads import processors

Drawn = Mapping[int, Cell]  # cells by draw


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is compared, and how it is shown.

    `name` is that of the script; its finished cells are lines of NAME-cells.jsonl in the results
    folder. `variants` are {what the table calls it: its configuration}; the first is what others
    are compared with. `values` makes the columns `head` of a variant's cells and the first's.
    """

    name: str
    title: str
    words: str
    variants: Mapping[str, QuantConfig]
    images: int
    head: Sequence[str]
    values: Callable[[Drawn, Drawn], Sequence[str]]


def main(study: Study, description: str | None, arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, then print the table."""
    options = parse(study, description, arguments)
    plan = make_plan(study, options)
    wanted = tasks(study, plan, options.variant or list(study.variants))
    torch.set_num_threads(plan.threads)
    with threadpool_limits(plan.threads):
        if not options.report:
            measure(study, plan, wanted)
    print("\n".join(table(study, read_cells(plan.cells), wanted)))


def parse(
    study: Study, description: str | None, arguments: Sequence[str] | None
) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("name", nargs="?", default="fcos-nano", choices=list(zoo.BUNDLED))
    parser.add_argument("--variant", nargs="+", action="extend", choices=list(study.variants))
    parser.add_argument("--draws", type=positive, default=3, help="of calibration scenes")
    parser.add_argument("--images", type=positive, default=study.images, help="for AP")
    parser.add_argument("--calibrated", type=positive, default=64, help="scenes of a draw")
    parser.add_argument("--threads", type=positive, default=processors())
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--report", action="store_true", help="run nothing, print the table")
    return parser.parse_args(arguments)


def make_plan(study: Study, options: argparse.Namespace) -> Plan:
    """What `Bench` needs to know."""
    return Plan(
        detectors=[options.name],
        methods=[],
        widths=[],
        draws=options.draws,
        images={options.name: options.images},
        calibrated=options.calibrated,
        threads=options.threads,
        cells=options.out / f"{study.name}-cells.jsonl",
        results=options.out / f"{study.name}.json",
        page=options.out / f"{study.name}.md",
        trained=None,
    )


def tasks(study: Study, plan: Plan, variants: Iterable[str]) -> list[Task]:
    """Every cell, draw after draw; other settings are other cells."""
    (name,) = plan.detectors
    images = plan.images[name]
    depends = {"model": model_digest(name), "calibrated": plan.calibrated}
    made = {
        v: (study.variants[v], {**depends, "settings": repr(study.variants[v])}) for v in variants
    }
    return [
        Task(name, v, config.wbits, config.abits, draw, images, settings)
        for draw in range(plan.draws)
        for v, (config, settings) in made.items()
    ]


def measure(study: Study, plan: Plan, wanted: Sequence[Task]) -> None:
    """Run what is missing, in order."""
    done = {cell.task.key for cell in read_cells(plan.cells)}
    missing = [task for task in wanted if task.key not in done]
    print(f"{len(missing)} of {len(wanted)} cells to measure, kept in {plan.cells}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(plan, Path(folder))
        for number, task in enumerate(missing, start=1):
            cell = bench.quantised(task, study.variants[task.method])
            append_cell(plan.cells, cell)
            print(f"{task.name}: AP {cell.ap:.4f}  ({number} of {len(missing)})", flush=True)


def table(study: Study, cells: Iterable[Cell], wanted: Sequence[Task]) -> list[str]:
    """Lines of Markdown: the finished cells among those wanted, a row for each variant."""
    return page_part([], study.head, body(study, cells, wanted), "").splitlines()[:-2]


def body(study: Study, cells: Iterable[Cell], wanted: Sequence[Task]) -> list[list[str]]:
    """The table's rows."""
    keys = {task.key for task in wanted}
    found: dict[str, dict[int, Cell]] = {task.method: {} for task in wanted}
    for cell in cells:
        if cell.task.key in keys:
            found[cell.task.method][cell.task.draw] = cell
    first = found.get(next(iter(study.variants)), {})
    return [
        [name, *(study.values(own, first) if own else [ABSENT] * (len(study.head) - 1))]
        for name, own in found.items()
    ]


def section(study: Study, folder: Path) -> str:
    """A part of the page of results, of the cells in a folder."""
    plan = make_plan(study, parse(study, None, ["--out", str(folder)]))
    lines = [f"## {study.title}", "", study.words, ""]
    rows = body(study, read_cells(plan.cells), tasks(study, plan, study.variants))
    return page_part(lines, study.head, rows, f"python benchmarks/quant/{study.name}.py")
