"""Our integers against programs written by others: `make conformance`.

Every case is a Program of one operation (or a form of `intaglio/forms.py`), run by the simulator,
and the same case in an independent program. Operands are random, or all extremes, or all of one
sign; scales are random, powers of two (every result near a tie), or at the limits of the shifts.
Writes benchmarks/results/conformance.json and docs/conformance.md; `--oracle NAME` runs only the
rows of the programs whose name has NAME in it, and leaves the others as they were.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import conformance_tosa as tosa
from conformance_rows import Row, plan

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "benchmarks/results/conformance.json"
PAGE = ROOT / "docs/conformance.md"


def rows(scale: float, seed: int, oracle: str) -> Iterator[Row]:
    """Every comparison whose oracle has that in its name; `scale` is the share of all cases."""

    def many(count: int) -> int:
        return max(2, round(count * scale))

    chosen = [entry for entry in plan(many, seed) if oracle.lower() in entry[0].oracle.lower()]
    if any("TOSA" in row.oracle for row, _, _ in chosen):
        tosa.model()  # where it is missing, that is said before the hours and not after
    for row, cases, judge in chosen:
        for case in cases:
            row.add(case.ours(), judge(case))
        print(f"{row.profile:12} {row.op:16} {row.oracle:46} {row.compared:12,} {row.mismatches}")
        yield row


def merged(found: list[Row]) -> list[Row]:
    """The rows of the last run, with those found now in their places, and new ones last."""
    before = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    known = {(r["profile"], r["op"], r["oracle"]): Row(**r) for r in before}
    return list((known | {(r.profile, r.op, r.oracle): r for r in found}).values())


def page(found: list[Row], total: int, wrong: int) -> str:
    """The table as Markdown."""
    lines = [
        "# Conformance",
        "",
        "Written by `make conformance`; do not edit. Every row compares the simulator's integers",
        "with those of an independent program on random and adversarial operands. Of NVDLA and the",
        "DPU no program is published: there a second implementation was written from the published",
        "formulas (`benchmarks/conformance/conformance_second.py`), and programs of others that",
        "round as they do were told their scales. CMSIS-NN's C is on no package index; its row is",
        "Arm's own statement of it in torch, which ExecuTorch brings. A mismatch that is explained",
        "is one where the other program's integer is that of its published steps, written a second",
        "time (`conformance_second.py`); the run stops at any other.",
        "",
        f"{total:,} integers compared, {wrong:,} mismatches.",
        "",
        "| profile | op | oracle | compared | mismatches | note |",
        "|---|---|---|---:|---:|---|",
    ]
    for r in found:
        cells = (f"`{r.profile}`", r.op, r.oracle, f"{r.compared:,}", f"{r.mismatches:,}", r.note)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--oracle", default="", help="only programs with this in their name")
    arguments = parser.parse_args()
    found = list(rows(arguments.scale, arguments.seed, arguments.oracle))
    print(f"{sum(r.compared for r in found):,} integers,"
          f" {sum(r.mismatches for r in found):,} mismatches")  # fmt: skip
    if arguments.scale >= 1:
        found = merged(found) if arguments.oracle else found
        total, wrong = sum(r.compared for r in found), sum(r.mismatches for r in found)
        RESULTS.write_text(json.dumps({"rows": [asdict(r) for r in found]}, indent=1) + "\n")
        PAGE.write_text(page(found, total, wrong))


if __name__ == "__main__":
    main()
