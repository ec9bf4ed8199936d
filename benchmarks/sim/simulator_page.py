"""docs/speed.md from the measurements of `simulator.py`."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from textwrap import fill
from typing import Any

from intaglio.system.disk import write_text

TIMES = Path(__file__).parent.parent / "results" / "shares.json"
STARTS = Path(__file__).parent.parent / "results" / "start.json"
PAGE = Path(__file__).parent.parent.parent / "docs" / "speed.md"

HEAD = """# Speed of the simulator

Written by `make bench-sim` from `benchmarks/results/sim.json`; do not edit. {processors}
processors; every number is the median of {rounds} rounds in which the programs run turn by turn,
each after a rest and an untimed call, from uint8 planes to planes of maps. Beside the others, above
1 is where the simulator is faster, with the smallest and largest ratio to onnxruntime. The others
round in floats, so that their integers are near the Program's; the simulator's are compared with
the reference's, and the last column counts those that differ.

A ratio holds for the processor it was measured on, and for what ran there: each section says which
unit the simulator multiplied with, and which one every runtime was seen to use, found by stopping
it while it worked and looking at its instructions (`benchmarks/sim/units.py`). Where the sums of a
runtime's int8 products do not fit what it adds them in, its integers are wrong and its speed says
little; a convolution of the largest bytes shows it (`probe` in `benchmarks/sim/peers.py`).

`retinanet-r18` is ResNet18-FPN-RetinaNet with 80 classes. Latency is one image, on one thread or
shared by two; throughput is a batch, an image on each of two threads. The share of the peak is the
network's multiplications a second over those of a bare loop of the same unit's products in the same
round: an exact Winograd transform saves most of a 3x3 convolution's, so that it can exceed 1.
"""

SECTION = """
## {isa}, {processor}

{peers}

| network | size | widths | mode, threads | GMAC/s | onnxruntime int8 | fp32 | torch int8 | fp32 | \
LiteRT int8 | share of peak | wrong |
|---|---:|---|---|---:|---:|---:|---:|---:|---:|---:|---:|
"""

SHARES = """
## What takes the time

One thread; every step of an image by itself, the best of many times, without what calling it takes
(`python benchmarks/sim/shares.py`). Kinds that take less than a hundredth are left out.

| network | size | widths | unit | milliseconds | of which |
|---|---:|---|---|---:|---|
"""

STARTING = """## Starting

`intaglio run` on one picture with `fcos-nano`, a process of its own: {warm[after_s]:.2f} s, and
{cold[after_s]:.1f} s the first time on a machine, when the kernels are compiled, several at a time;
`intaglio info` takes {info[after_s]:.2f} s, `intaglio --version` {version[after_s]:.2f}. Machine
code is kept in `NUMBA_CACHE_DIR`, else in the user's cache folder, under the digest of the sources
it was made from; what is kept is loaded by LLVM, and starting imports neither Numba nor torch.
`intaglio eval` of {eval[images]:,} pictures with `retinanet-small` W4A4, from files to COCO's
figures: {eval[after_s]:.1f} s. The system's load was {warm[load]:.0f}, on {eval[processors]}
processors: where that is more, all seconds are long, and the ratios, of commands that ran turn by
turn, say more.

Whole commands of wheels, the medians of so many rounds beside those of commit {warm[before]}; below
1 is faster, with the smallest and largest ratio, and the ratio of the processors' seconds
(`python benchmarks/sim/start.py --before PATH`):

| command | rounds | before, s | now, s | ratio | of processors |
|---|---:|---:|---:|---:|---:|
{table}
"""

TAIL = """
{starting}
## Beside the RTL

`fcos-nano` W4A4 in Verilog, compiled by Verilator, one thread: {rtl_frame_seconds} s a frame, after
{rtl_build_seconds} s to build and compile it. The simulator, with the same integers, is
{simulator_times_faster} times faster.
"""


PEERS = {
    "ort_int8": "onnxruntime int8",
    "ort_fp32": "onnxruntime fp32",
    "torch_int8": "torch int8",
    "torch_fp32": "torch fp32",
    "litert_int8": "LiteRT int8",
}


def write(made: dict[str, Any]) -> None:
    """The page of everything that sim.json holds: a section for each processor and instruction
    set."""
    page = HEAD.format(**made["machine"])
    for (name, isa), rows in groupby(made["rows"], lambda row: (row["processor"], row["isa"])):
        page += section(name, isa, list(rows))
    if TIMES.exists():
        times = json.loads(TIMES.read_text())["rows"]
        page += SHARES + "\n".join(map(share_line, times)) + "\n"
    write_text(PAGE, page + TAIL.format(starting=starting(), **made["rtl"]))


def starting() -> str:
    """The section of start.json."""
    rows = {row["what"]: row for row in json.loads(STARTS.read_text())["rows"]}
    short = {name.partition(",")[0]: row for name, row in rows.items()}
    lines = []
    for row in rows.values():
        low, high = row["ratio_spread"]
        cells = (
            row["what"], row["rounds"], f"{row['before_s']:.2f}", f"{row['after_s']:.2f}",
            f"{row['ratio']:.2f} ({low:.2f}-{high:.2f})", f"{row['cpu_ratio']:.2f}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    named = short | {"warm": rows["run, warm"], "cold": rows["run, cold"]}
    return STARTING.format(**named, table="\n".join(lines))


def write_starting() -> None:
    """That section alone, into the page as it is."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition("## Starting\n")
    write_text(PAGE, f"{before}{starting()}\n## {rest.partition('## ')[2]}")


def share_line(row: dict[str, Any]) -> str:
    """One network's row of the shares."""
    parts = [f"{kind} {share:.0%}" for kind, share in row["shares"].items() if share >= 0.01]
    cells = (
        f"`{row['net']}`", row["size"], row["widths"], row["isa"], f"{row['milliseconds']:.2f}",
        ", ".join(parts),
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def section(name: str, isa: str, rows: list[dict[str, Any]]) -> str:
    """Rows of one processor and instruction set, behind what the others ran on there."""
    used = {peer: sorted({row["peer_isa"][peer] for row in rows}) for peer in PEERS}
    words = [f"{PEERS[peer]} on {' and '.join(units)}" for peer, units in used.items()]
    wrong = {peer for row in rows for peer, count in row["peer_wrong"].items() if count}
    bad = [PEERS[peer] for peer in PEERS if peer in wrong]
    said = f"The simulator ran on {isa}; {', '.join(words)}. "
    said += (
        f"Sums of {' and '.join(bad)} went wrong on the probe."
        if bad
        else "No runtime's sums went wrong on the probe."
    )
    least = [
        f"{min(row['quartiles'][peer] for row in rows):.2f} of {PEERS[peer]}"
        for peer in ("ort_int8", "torch_int8", "litert_int8")
        if all(peer in row.get("quartiles", {}) for row in rows)
    ]
    if least:
        said += f" The least lower quartile of any row's rounds is {', '.join(least)}."
    table = "\n".join(map(line, rows)) + "\n"
    return SECTION.format(isa=isa, processor=name, peers=fill(said, 100)) + table


def line(row: dict[str, Any]) -> str:
    """One row of the table."""
    low, high = row["spread_ort_int8"]
    cells = (
        f"`{row['net']}`",
        row["size"],
        f"W{row['wbits']}A{row['abits']}",
        f"{row['mode']}, {row['threads']}",
        f"{row['gmacs']:.0f}",
        f"{row['ratio_ort_int8']:.2f} ({low:.2f}-{high:.2f})",
        *(
            f"{row[f'ratio_{peer}']:.2f}"
            for peer in ("ort_fp32", "torch_int8", "torch_fp32", "litert_int8")
        ),
        f"{row['peak_share']:.2f}",
        row["mismatches"],
    )
    return f"| {' | '.join(map(str, cells))} |"
