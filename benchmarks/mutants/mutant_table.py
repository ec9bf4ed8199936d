"""The rows of the score, and the table of a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mutant import KINDS

Row = dict[str, Any]
COUNTS = ("mutants", "equivalent", "undecided", "caught", "missed", "named")


def rows(
    lines: Iterable[Mapping[str, Any]], proofs: Mapping[tuple[str, str], Mapping[str, Any]]
) -> list[Row]:
    """By design, kind and block, of the mutants' lines and proofs."""
    found: dict[tuple[str, str, str], Row] = {}
    for line in lines:
        key = line["net"], line["kind"], line["block"]
        row = found.setdefault(key, {"net": key[0], "kind": key[1], "block": key[2],
                                     **dict.fromkeys(COUNTS, 0), "seconds": 0.0})  # fmt: skip
        proof = proofs.get((line["net"], line["name"]), {"answer": "undecided", "seconds": 0.0})
        same = not line["caught"] and proof["answer"] == "same"
        row["mutants"] += 1
        row["caught"] += line["caught"]
        row["named"] += line["caught"] and named(line)
        row["equivalent"] += same
        row["missed"] += not line["caught"] and not same
        row["undecided"] += not line["caught"] and proof["answer"] == "undecided"
        seconds = line["seconds"] + (0.0 if line["caught"] else proof["seconds"])
        row["seconds"] = round(row["seconds"] + seconds, 2)
    return [found[key] for key in sorted(found)]


def named(line: Mapping[str, Any]) -> bool:
    """Whether a mutant is caught, and what is first wrong inside laid to its block; in that of a
    port, behind the last stream, whether no stream is wrong."""
    if not line["caught"]:
        return False
    if line["block"].endswith("_sink") and not line["driver"]:
        return True
    return bool(line["block"] == line.get("laid", line["driver"]))


def table(found: Sequence[Row]) -> str:
    """A kind each, then a network each, in Markdown."""
    text = head("kind")
    text += "".join(cells(kind, [row for row in found if row["kind"] == kind]) for kind in KINDS)
    text += cells("all", found)
    nets = sorted({row["net"] for row in found})
    text += "\n" + head("network")
    return text + "".join(cells(net, [row for row in found if row["net"] == net]) for net in nets)


def head(what: str) -> str:
    """Two lines."""
    names = (what, "mutants", "proved equivalent", "others", "caught", "share", "block named")
    return "| " + " | ".join(names) + " |\n| --- |" + " ---: |" * (len(names) - 1) + "\n"


def cells(name: str, found: Sequence[Row]) -> str:
    """A line of sums."""
    total = {key: sum(row[key] for row in found) for key in COUNTS}
    others = total["mutants"] - total["equivalent"]
    numbers = (total["mutants"], total["equivalent"], others, total["caught"])
    shares = share(total["caught"], others), share(total["named"], total["caught"])
    return f"| {name} | " + " | ".join([*(f"{n:,}" for n in numbers), *shares]) + " |\n"


def share(part: int, whole: int) -> str:
    """In per cent."""
    return f"{100 * part / whole:.1f} %" if whole else ""
