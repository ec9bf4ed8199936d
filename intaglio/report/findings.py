"""What was proved, routed and scored of a build: its records as a table, with who found it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from intaglio.codegen.folder.manifest import BITSTREAM
from intaglio.codegen.folder.record import Record
from intaglio.system.html import tag, text_of

TITLES = {
    "verify": "Proved",
    "verify-stalls": "Proved, random stalls",
    "gates": "Proved, netlist",
    BITSTREAM: "Routed",
    "build": "Built",
}


def findings(records: Mapping[str, Record]) -> str:
    """The table; "" without records."""
    order = [*TITLES, *sorted(name for name in records if name.startswith("eval-"))]
    rows = []
    for name in order:
        record = records.get(name)
        if record is None:
            continue
        title = TITLES.get(name, f"Scored, {name.removeprefix('eval-')}")
        try:
            said = said_of(name, record.result)
        except (KeyError, TypeError, ValueError):  # of another version
            continue
        made = f"intaglio {record.version}, {record.when} UTC"
        cells = [tag("td", text_of(title)), tag("td", text_of(said), class_="left wrap"),
                 tag("td", tag("code", text_of(record.command)), class_="left wrap"),
                 tag("td", text_of(made), class_="left")]  # fmt: skip
        rows.append(tag("tr", *cells))
    if not rows:
        return ""
    heads = [tag("th", text_of(h), class_="left") for h in ("", "result", "by", "when")]
    return tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows))


def said_of(name: str, r: Mapping[str, Any]) -> str:
    """A result in words."""
    if name.startswith("verify"):
        text = f"{r['frames']:,} frames in {r['simulator']}, {r['beats']:,} beats compared, "
        text += wrong(r)
        if r["cycles_per_frame"] is not None:
            text += (
                f"; {r['cycles_per_frame']:,} cycles a frame measured,"
                f" {r['predicted_cycles_per_frame']:,} predicted"
            )
        return text
    if name == "gates":
        head = f"{r['frames']:,} frames through the {r['cells']} netlist, {r['beats']:,} beats"
        return f"{head}, {wrong(r)}"
    if name == BITSTREAM:
        seeds = ", ".join(f"{seed['fmax_mhz']:.1f}" for seed in r["seeds"])
        clock = f"{r['clock_mhz']:g} MHz {'met' if r['met'] else 'missed'}"
        board = f" for the board {r['board']}" if r["board"] else ""
        gate = ""
        if r["gate"] is not None:
            gate = f"; netlist simulated first: {r['gate']['beats']:,} beats, {wrong(r['gate'])}"
        return f"{r['target']}{board}: {clock}, Fmax of the seeds {seeds} MHz{gate}"
    if name.startswith("eval-"):
        return (
            f"AP {r['ap']:.4f}, AP50 {r['ap50']:.4f}, AP75 {r['ap75']:.4f} on {r['images']:,}"
            f" images of {r['data']}"
        )
    return f"in {r['seconds']:.0f} s"


def wrong(r: Mapping[str, Any]) -> str:
    """How many beats differ, or what else is wrong."""
    if r["mismatches"]:
        return f"{r['mismatches']:,} differ"
    return "all equal" if r.get("passed", True) else "all equal, but a rule or a cycle is wrong"


def measured(records: Mapping[str, Record]) -> dict[str, str]:
    """The figures that people ask for first, as measured."""
    found = {}
    verified, routed = records.get("verify"), records.get(BITSTREAM)
    if verified is not None and verified.result.get("cycles_per_frame") is not None:
        found["Cycles a frame, measured"] = f"{verified.result['cycles_per_frame']:,}"
    if routed is not None and routed.result.get("fmax_mhz"):
        found["Fmax, routed"] = f"{routed.result['fmax_mhz']:.1f} MHz"
        if routed.result.get("board"):
            found["Board"] = str(routed.result["board"])
    scored = [r.result for name, r in sorted(records.items()) if name.startswith("eval-")]
    if scored and isinstance(scored[-1].get("ap"), int | float):
        found["AP"] = f"{scored[-1]['ap']:.4f}"
    return found
