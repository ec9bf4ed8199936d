"""Quantised ONNX files as their producers write them, imported, and run beside onnxruntime.

    python benchmarks/exchange/producers.py [--tool NAME] [--folder build/producers]

Each tool quantises `producers_networks` by itself, in an environment of pinned packages that is
made here (`producers_rows`). The file is imported in every arithmetic; in the runtime's own, its
integers are compared with those of onnxruntime's default session on random images. Writes
benchmarks/results/producers.json, and the table in docs/exchange.md. What is there already is not
made again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import venv
import warnings
from collections import Counter
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import onnx
import producers_networks
from producers_rows import ROWS, TOOLS, Row, Tool

from intaglio.errors import IntaglioError
from intaglio.exchange.checked import check
from intaglio.exchange.importer import imported
from intaglio.fixed import PRESETS, preset

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "benchmarks/results/producers.json"
PAGE = ROOT / "docs/exchange.md"
BEGIN, END = "<!-- producers: begin -->", "<!-- producers: end -->"
SECONDS = 600  # for one file
IMAGES = 8
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@dataclass
class Found:
    """One row of the table. `made` says why the tool wrote no file, `refused` why the importer or
    the runtime takes none; `floats` counts the layers that the runtime has in float32, `wide` the
    values that the file leaves in float, `own` the integers in which the runtime differs from
    itself without graph optimisation."""

    tool: str
    version: str
    option: str
    network: str
    has: str = ""
    made: str = ""
    refused: str = ""
    arithmetics: list[str] = field(default_factory=list)
    compared: int = 0
    differ: int = 0
    largest: int = 0
    floats: int = 0
    wide: int = 0
    own: int = 0


def interpreter(tool: Tool, folder: Path) -> Path:
    """The Python of a tool's environment, made where it is not there with these pins."""
    if not tool.pins:
        return Path(sys.executable)
    place = folder / "environments" / tool.package
    python, marker = place / "bin/python", place / "pins"
    if not marker.exists() or marker.read_text().split() != list(tool.pins):
        print(f"{tool.package}: installing", flush=True)
        venv.create(place, with_pip=True, clear=True)
        ours = [p for p in sys.path if p.endswith("site-packages")]
        (packages,) = place.glob("lib/*/site-packages")
        (packages / "zz_ours.pth").write_text("\n".join(ours) + "\n")
        pinned = (ROOT / "constraints.txt").read_text()
        kept = "\n".join(re.findall(r"^(?:torch|onnxruntime)==.*$", pinned, re.MULTILINE))
        (place / "constraints").write_text(kept + "\n")
        how = ["-q", "-c", str(place / "constraints"), *([] if tool.whole else ["--no-deps"])]
        subprocess.run([python, "-m", "pip", "install", *how, *tool.pins], check=True)
        marker.write_text("\n".join(tool.pins))
    return python


def written(row: Row, network: str, folder: Path) -> tuple[Path, str]:
    """The tool's file, and the tool's last words where it made none."""
    name = re.sub(r"\W+", "-", f"{row.tool} {row.option} {network}").strip("-")
    out, words = folder / "files" / f"{name}.onnx", folder / "files" / f"{name}.txt"
    out.parent.mkdir(exist_ok=True)
    if not out.exists() and not words.exists():
        source = folder / f"{network}.onnx"
        worker = Path(__file__).with_name("producers_workers.py")
        done = subprocess.run(
            [interpreter(TOOLS[row.tool], folder), worker, row.tool, network,
             json.dumps(row.asked), source, source.with_suffix(".npy"), out],
            env=ENVIRONMENT, capture_output=True, text=True, timeout=SECONDS, check=False,
            cwd=out.parent,
        )  # fmt: skip
        if done.returncode or not out.exists():
            out.unlink(missing_ok=True)
            words.write_text(done.stderr.strip().splitlines()[-1] if done.stderr else "no word")
    return out, "" if out.exists() else words.read_text()


def contents(path: Path) -> str:
    """What a file has, in a few words."""
    model = onnx.load(path, load_external_data=False)
    constants = {t.name: t for t in model.graph.initializer}
    quantisers = [n for n in model.graph.node if n.op_type == "QuantizeLinear"]
    zeros = [
        constants[n.input[2]] for n in quantisers if len(n.input) > 2 and n.input[2] in constants
    ]
    kinds = Counter(onnx.TensorProto.DataType.Name(z.data_type).lower() for z in zeros)
    own = Counter(n.op_type for n in model.graph.node if n.domain not in ("", "ai.onnx"))
    words = [f"{count} {kind}" for kind, count in sorted(kinds.items())]
    words += [f"{count} {kind}" for kind, count in sorted(own.items())]
    return ", ".join(words) or "no QuantizeLinear"


def judged(row: Row, network: str, folder: Path) -> Found:
    """One file, from the tool to the comparison."""
    tool = TOOLS[row.tool]
    pin = next((p.partition("==")[2] for p in tool.pins if p.startswith(f"{row.tool}==")), "")
    known = pin or ("" if tool.absent else version(row.tool))
    found = Found(row.tool, known, row.option, network, made=tool.absent)
    if tool.absent:
        return found
    path, found.made = written(row, network, folder)
    if found.made:
        return found
    found.has = contents(path)
    for name in PRESETS:
        try:
            made = imported(path, preset(name))
        except IntaglioError as error:
            if name == "onnxruntime":
                found.refused = str(error).replace(f"{path}: ", "")
                return found
        else:
            found.arithmetics.append(name)
            if name == "onnxruntime":
                compared = check(path, made, images=IMAGES)
                found.refused = compared.reason or compared.fault
                found.compared, found.differ = compared.compared, compared.differing
                found.largest = max((d.largest for d in compared.differences), default=0)
                found.floats, found.own = len(compared.floats), compared.own
                found.wide = len(made.wide)
    return found


def sentence(found: Found) -> str:
    """The last column."""
    if found.made:
        return f"the tool makes no file: {found.made[:160]}"
    if found.refused:
        return found.refused[:200]
    words = []
    if found.differ:
        words.append(
            f"by {found.largest} at most; the runtime differs from itself in {found.own:,}"
        )
    if found.wide:
        words.append(f"{found.wide} values left in float, of 16 bits here")
    if found.floats:
        words.append(f"{found.floats} layers in float32 there")
    return "; ".join(words)


def page(rows: list[Found]) -> str:
    """The table as Markdown."""
    lines = [
        BEGIN,
        "| tool | option | network | integers compared | differ | |",
        "|---|---|---|---:|---:|---|",
    ]
    for found in rows:
        numbers = [f"{found.compared:,}", f"{found.differ:,}"] if found.compared else ["", ""]
        text = sentence(found).replace("|", "\\|").replace("<", "&lt;")
        cells = [f"{found.tool} {found.version}", found.option, found.network, *numbers, text]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, END])


def save(known: dict[tuple[str, str, str], Found]) -> None:
    """Figures and table, rows in their order."""
    order = [(r.tool, r.option, n) for r in ROWS for n in r.networks]
    rows = [known[key] for key in order if key in known]
    RESULTS.write_text(json.dumps({"rows": [asdict(r) for r in rows]}, indent=1) + "\n")
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(before + page(rows) + rest.split(END)[1], encoding="utf-8")


def main() -> None:
    """Every row, then the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tool", default="", help="only tools with this in their name")
    parser.add_argument("--folder", type=Path, default=ROOT / "build/producers")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for network in producers_networks.NAMES:
        if not (folder / f"{network}.onnx").exists():
            producers_networks.write_float(network, folder)
    known: dict[tuple[str, str, str], Found] = {}
    if RESULTS.exists():
        for row in json.loads(RESULTS.read_text())["rows"]:
            known[row["tool"], row["option"], row["network"]] = Found(**row)
    warnings.simplefilter("ignore")
    for row in ROWS:
        for network in row.networks:
            if arguments.tool in row.tool:
                found = judged(row, network, folder)
                known[row.tool, row.option, network] = found
                save(known)
                print(f"{row.tool:24} {row.option:44} {network:10} {found.compared:8,}"
                      f" {found.differ:6,}  {sentence(found)[:100]}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
