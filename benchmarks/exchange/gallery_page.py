"""docs/gallery.md, from the rows of results/gallery.json and the table of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "gallery.md"
HEAD = """# Trained networks of others

Written by `make gallery` from `benchmarks/results/gallery.json`; do not edit. Every row is a file
that others trained and published, taken by one command as it is: `intaglio import FILE.tflite -o
FILE.intaglio`. None of the files is part of this project. `INTAGLIO_MODELS=FOLDER make gallery`
measures again what FOLDER has of the files below; they are known by their digests.

*Integers* are those of all tensors that the file's own runtime keeps and the Program has, of two
photographs and of random codes, compared one by one with LiteRT's reference kernels. *Cut* are
operators behind the last layer, which decode boxes or odds; the console names them, and the
Program's `meta["cut"]`. Milliseconds are an image on one thread, turn by turn, in the simulator
and in LiteRT as it comes (XNNPACK), on the processor of the last run. *RTL* says whether the
network was built for a device, and verified there bit by bit.

| file | from | operations | MMAC | images | integers | differ | cut | ms | owner's ms | RTL |
|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|
"""

FLOATS = """
## Float networks

`intaglio quantize FILE.onnx --wbits 8 --abits 8 --asymmetric` and what *with* says: 8-bit weights,
and 8-bit codes between all layers. `--images` are 24 pictures: of scikit-image astronaut, brick,
camera, cell, chelsea, clock_motion, coffee, coins, grass, gravel, hubble_deep_field, ihc, moon,
motorcycle_left and _right, page, retina and rocket, and of BCCD the first six. The first of these
is kept for the test with the two photographs of scikit-learn; the other 23 calibrate. *Cosine* is
the least of any map on these three, beside onnxruntime's maps of the float file, and then that of
onnxruntime's own int8 network, calibrated on the same 23.

| file | from | operations | MMAC | cut | with | cosine | onnxruntime int8 |
|---|---|---:|---:|---:|---|---:|---:|
"""


def write(rows: Sequence[Mapping[str, Any]], known: Mapping[str, Any]) -> None:
    """The page."""
    lines = [line(row) for row in rows if row["ops"] and row["format"] == "tflite"]
    total = sum(row["compared"] for row in rows)
    wrong = sum(row["mismatches"] for row in rows)
    text = HEAD + "\n".join(lines)
    text += f"\n\nTogether {total:,} integers, of which {wrong:,} differ.\n"
    floats = [row for row in rows if row["cosine_min"] is not None]
    if floats:
        text += FLOATS + "\n".join(map(float_line, floats)) + "\n"
    refused = [row for row in rows if row["reason"]]
    if refused:
        text += "\n## What is not compared\n\n"
        text += "".join(f"- `{row['file']}`: {row['reason']}\n" for row in refused)
    text += "\n## Where the files are from\n\n"
    for repo, entry in known.items():
        text += f"`{repo}` on GitHub at `{entry['commit']}` (licence: {entry['licence']}):\n\n"
        text += "".join(f"- `{path}`, SHA-256 `{sha}`\n" for path, sha in entry["files"].items())
        text += "\n"
    PAGE.write_text(text.rstrip() + "\n", encoding="utf-8")


def float_line(row: Mapping[str, Any]) -> str:
    """A row of the other."""
    cells = (
        f"`{row['file']}`", row["repo"].partition("/")[0], row["ops"], f"{row['mmac']:.1f}",
        row["cut"], flags(row.get("settings", {})), f"{row['cosine_min']:.4f}",
        f"{row['cosine_owner']:.4f}",
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def flags(settings: Mapping[str, Any]) -> str:
    """The options of the command that set them."""
    words = (
        f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}")
        for name, value in settings.items()
    )
    return " ".join(f"`{word}`" for word in words)


def line(row: Mapping[str, Any]) -> str:
    """A row of the table."""

    def time(key: str) -> str:
        return "-" if row[key] is None else f"{row[key]:.2f}"

    cells = (
        f"`{row['file']}`", row["repo"].partition("/")[0], row["ops"], f"{row['mmac']:.1f}",
        row["images"], f"{row['compared']:,}", row["mismatches"], row["cut"], time("ms"),
        time("ms_owner"), row["rtl"],
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"
