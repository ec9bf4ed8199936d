"""AP of every method and width, from integer outputs: python benchmarks/quant/quant.py [options].

Every finished cell (detector, method, widths, draw) is a line of quant-cells.jsonl in the results
folder; what stands there is not run again, so that a stopped run goes on where it was, inside a
search too. From the cells it writes quant.json, docs/results.md and the figures; `--report` does
that alone. `--quick` shows all of it in a minute or two, in another folder; its AP means nothing.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import companions
import odol
import torch
from quant_bench import ROOT, Bench, Plan, positive
from quant_cells import FLOAT, FLOAT_BITS, Task, append_cell, read_cells, width
from quant_methods import METHODS, WIDTHS, Trained, has_width, model_digest, trained
from quant_page import write_results
from quant_study import section
from threadpoolctl import threadpool_limits

from intaglio.detect import zoo
from intaglio.errors import IntaglioError
from intaglio.system.threads import processors

TRAINED = ROOT / "build" / "aqd"  # where benchmarks/quant/aqd.py leaves Programs
IMAGES = {"fcos-nano": 1000, "retinanet-small": 500}
# At widths other than the first these wait until all else is done.
LAST = ("detptq-thorough", "detptq-sums8", "detptq+reconstruction")
QUICK_METHODS = ("minmax", "lp1", "lp2", "lp2.4", "lp3", "lp4", "detptq")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, then write the results."""
    options = parse(arguments)
    plan = make_plan(options)
    torch.set_num_threads(plan.threads)
    with threadpool_limits(plan.threads):
        if not options.report:
            measure(plan)
        studies = [section(study, plan.cells.parent) for study in (odol.STUDY, companions.STUDY)]
        write_results(read_cells(plan.cells), plan.images, plan.results, plan.page, studies)
    print(f"wrote {plan.results} and {plan.page}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    widths = [width(*w) for w in WIDTHS]
    several: dict[str, Any] = {"nargs": "+", "action": "extend"}
    parser.add_argument("--detector", choices=list(zoo.BUNDLED), **several)
    parser.add_argument("--method", choices=list(METHODS), **several)
    parser.add_argument("--width", choices=widths, **several)
    parser.add_argument("--draws", type=positive, default=3, help="of calibration scenes")
    parser.add_argument("--images", type=positive, help="held-out scenes for AP")
    parser.add_argument("--calibrated", type=positive, default=64, help="scenes of a draw")
    parser.add_argument("--threads", type=positive, default=processors())
    parser.add_argument(
        "--trained", type=Path, help="folder of trained Programs (build/aqd, without --out)"
    )
    parser.add_argument("--out", type=Path, help="folder instead of benchmarks/results and docs")
    parser.add_argument("--report", action="store_true", help="run nothing, write the results")
    parser.add_argument("--quick", action="store_true", help="few cells, into build/bench-quick")
    return parser.parse_args(arguments)


def make_plan(options: argparse.Namespace) -> Plan:
    """The command line, with what it leaves open."""
    names = options.detector or list(IMAGES)
    widths = [w for w in WIDTHS if width(*w) in (options.width or [width(*w)])]
    plan = Plan(
        detectors=names,
        methods=options.method or list(METHODS),
        widths=widths,
        draws=options.draws,
        images={name: options.images or IMAGES.get(name, 500) for name in zoo.BUNDLED},
        calibrated=options.calibrated,
        threads=options.threads,
        cells=(options.out or ROOT / "benchmarks" / "results") / "quant-cells.jsonl",
        results=(options.out or ROOT / "benchmarks" / "results") / "quant.json",
        page=(options.out or ROOT / "docs") / "results.md",
        trained=options.trained or (TRAINED if TRAINED.is_dir() and not options.out else None),
    )
    if not options.quick:
        return plan
    out = options.out or ROOT / "build" / "bench-quick"
    return replace(
        plan,
        detectors=options.detector or ["fcos-nano"],
        methods=options.method or QUICK_METHODS,
        widths=widths if options.width else [(4, 4), (8, 8)],
        draws=1,
        trained=options.trained,
        images=dict.fromkeys(plan.images, options.images or 24),
        calibrated=16,
        cells=out / "quant-cells.jsonl",
        results=out / "quant.json",
        page=out / "results.md",
    )


# --- what there is to do --------------------------------------------------------------------------


def tasks(plan: Plan, programs: Sequence[Trained]) -> list[Task]:
    """Every cell, the most telling first: float and trained, then width after width, and within
    one detector after detector and draw after draw."""
    weights = {name: model_digest(name) for name in zoo.BUNDLED}
    found = []
    for name in plan.detectors:
        depends = {"model": weights[name]}
        bits = (FLOAT_BITS, FLOAT_BITS)
        found.append(Task(name, FLOAT, *bits, 0, plan.images[name], depends))
    found += [trained_task(one, weights[one.detector], plan) for one in programs]
    untrained = [
        Task(name, method, *bits, draw, plan.images[name], {
            "model": weights[name], "calibrated": plan.calibrated, "settings": dict(METHODS[method])
        })
        for bits in plan.widths
        for name in plan.detectors
        for draw in range(plan.draws)
        for method in plan.methods
        if has_width(method, bits)
    ]  # fmt: skip
    waiting = [t for t in untrained if t.method in LAST and (t.wbits, t.abits) != WIDTHS[0]]
    return found + [t for t in untrained if t not in waiting] + waiting


def trained_task(one: Trained, weights: str, plan: Plan) -> Task:
    """The cell of a trained Program."""
    depends = {"model": weights, "program": one.program.digest()}
    count = plan.images[one.detector]
    bits = (one.wbits, one.abits)
    return Task(one.detector, one.method, *bits, one.run, count, depends, one.ablation)


def measure(plan: Plan) -> None:
    """Run what is missing, in order."""
    programs = trained(plan.trained)
    by_digest = {one.program.digest(): one.program for one in programs}
    done = {cell.task.key for cell in read_cells(plan.cells)}
    wanted = tasks(plan, programs)
    missing = [task for task in wanted if task.key not in done]
    print(f"{len(missing)} of {len(wanted)} cells to measure, kept in {plan.cells}", flush=True)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(plan, Path(folder))
        for number, task in enumerate(missing, start=1):
            cell = bench.cell(task, by_digest)
            append_cell(plan.cells, cell)
            hours = (time.perf_counter() - begin) / 3600
            print(
                f"{task.name}: AP {cell.ap:.4f}  ({number} of {len(missing)}, {hours:.2f} h)",
                flush=True,
            )


if __name__ == "__main__":
    try:
        main()
    except IntaglioError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
