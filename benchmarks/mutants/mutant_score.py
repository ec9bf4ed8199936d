"""How many mutants of small designs `verify` finds: python benchmarks/mutants/mutant_score.py

Every mutant of every design and kind is judged, in rounds in which each kind has its turn; then
those that `verify` does not find are proved to be the design itself in other words, where they are.
A line for each is kept under results/partial/, so that a stopped run goes on where it stopped;
results/mutants.json and the table of docs/proofs.md are written at the end, or at once by --table.
--again judges the missed ones again, by the bench as it is now.

A row of "rows", for a kind, a design and a block of it:

mutants     all of them; a mutant differs from the design in its text, and compiles.
equivalent  proved to be: not counted.
undecided   not found and not proved to be within --limit seconds, nor proved not to be by an input
            of the module alone that shows it; among the missed.
caught      found, and missed: not found and not proved equivalent.
named       of the caught ones, those where the stream that `verify` names first begins or ends at
            the mutant's block, or that are in the block of a port and no stream inside is wrong.
seconds     of all verdicts and proofs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mutant import KINDS, Kind, Mutant, Sources
from mutant_designs import DESIGNS
from mutant_logic import logic
from mutant_proofs import proofs, prove
from mutant_streams import protocol, times
from mutant_table import named, rows, table
from mutant_texts import constants, resets, roms, timetable
from mutant_verdict import Judge

from intaglio.system.disk import write_text

RESULTS = Path(__file__).resolve().parent.parent / "results"
PARTIAL = RESULTS / "partial" / "mutants.jsonl"
PAGE = RESULTS.parent.parent / "docs" / "proofs.md"
START = "<!-- table: make mutants -->\n"
END = "<!-- end of the mutants' table -->\n"
SEED, EACH, ROUND = 1, 36, 6


def timing(sources: Sources, count: int, seed: int) -> Iterator[Mutant]:
    """Two thirds later streams, a third other numbers of the timetable."""
    yield from times(sources, count - count // 3, seed)
    yield from timetable(sources, count // 3, seed)


MAKERS: dict[Kind, Callable[[Sources, int, int], Iterator[Mutant]]] = {
    "logic": logic,
    "constant": constants,
    "rom": roms,
    "protocol": protocol,
    "reset": resets,
    "timing": timing,
}


def main() -> int:
    """Judge what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [design.name for design in DESIGNS]
    parser.add_argument("--net", nargs="+", choices=names, default=names)
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--each", type=int, default=EACH, help="mutants a kind and design")
    parser.add_argument("--limit", type=int, default=10, help="seconds of a solver")
    parser.add_argument("--table", action="store_true", help="write what there is")
    parser.add_argument("--again", action="store_true", help="judge the missed ones again")
    options = parser.parse_args()
    if not options.table:
        with tempfile.TemporaryDirectory() as scratch:
            judge_all(options, Path(scratch))
    found = rows(lines().values(), proofs())
    text = json.dumps({"rows": found}, indent=1)
    write_text(RESULTS / "mutants.json", f"{text}\n")
    before, rest = PAGE.read_text(encoding="utf-8").split(START)
    write_text(PAGE, before + START + table(found) + END + rest.split(END)[1])
    print(table(found))
    return 0


def judge_all(options: argparse.Namespace, scratch: Path) -> None:
    """Every mutant that has no line yet, or is to be judged again."""
    made = prepared(options, scratch)
    total = sum(len(of_kind) for _, by_kind in made.values() for of_kind in by_kind.values())
    done = 0
    for start in range(0, options.each, ROUND):
        for net, (judge, by_kind) in made.items():
            for mutants in by_kind.values():
                for mutant in mutants[start : start + ROUND]:
                    done += 1
                    told = judge_one(net, judge, mutant, options)
                    if told:
                        print(f"[{done}/{total}] {net}: {mutant.name}: {told}", flush=True)


def judge_one(net: str, judge: Judge, mutant: Mutant, options: argparse.Namespace) -> str:
    """Judge a mutant, and prove one that is missed; "" where that was done before."""
    line, proof = lines().get((net, mutant.name)), proofs().get((net, mutant.name))
    told = ""
    if line is None or (options.again and not (named(line) or same_as(proof))):
        found = judge.judged(judge.sources, mutant)
        line = {"net": net, "name": mutant.name, "kind": mutant.kind, "block": mutant.block,
                **asdict(found)}  # fmt: skip
        keep(line)
        told = found.how if found.caught else "MISSED"
    if not line["caught"] and options.limit and proof is None:
        answer = prove(net, judge.sources, mutant, options.limit)
        told = f"missed before, {answer}" if not told else f"{told}, {answer}"
    return told


def same_as(proof: dict[str, Any] | None) -> bool:
    """Whether it proves the mutant equivalent."""
    return proof is not None and proof["answer"] == "same"


def prepared(
    options: argparse.Namespace, scratch: Path
) -> dict[str, tuple[Judge, dict[str, list[Mutant]]]]:
    """The builds and mutants of the designs. Each must pass itself."""
    found = {}
    for design in DESIGNS:
        if design.name not in options.net:
            continue
        judge = Judge(design.bundle(), scratch / design.name)
        good = judge.judged(judge.sources, None, plainly=True)
        if good.caught:
            raise AssertionError(f"{design.name}: {good.sentence}")
        makers = {kind: MAKERS[kind] for kind in options.kind}
        found[design.name] = (
            judge,
            {kind: list(make(judge.sources, options.each, SEED)) for kind, make in makers.items()},
        )
    return found


def lines() -> dict[tuple[str, str], dict[str, Any]]:
    """By design and name, of the mutants that are judged, the last of each."""
    if not PARTIAL.exists():
        return {}
    found = [json.loads(line) for line in PARTIAL.read_text(encoding="utf-8").splitlines()]
    return {(line["net"], line["name"]): line for line in found}


def keep(line: dict[str, Any]) -> None:
    """One more."""
    PARTIAL.parent.mkdir(exist_ok=True)
    with PARTIAL.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    sys.exit(main())
