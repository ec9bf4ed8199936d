"""Our integers against programs written by others: `make conformance`.

Every case is a Program of one operation (or a form of `intaglio/forms.py`), run by the simulator,
and the same case in an independent program. Operands are random, or all extremes, or all of one
sign; scales are random, powers of two (every result near a tie), or at the limits of the shifts.
Writes benchmarks/results/conformance.json and docs/conformance.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import conformance_litert as litert
import conformance_onnx as onnxrun
import conformance_second as second
import numpy as np
from conformance_cases import Case, add_cases, conv_cases, pool_cases

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results/conformance.json"
PAGE = ROOT / "docs/conformance.md"


@dataclass
class Row:
    """One line of the table."""

    profile: str
    op: str
    oracle: str
    compared: int = 0
    mismatches: int = 0
    note: str = ""

    def add(self, ours: np.ndarray, theirs: np.ndarray) -> None:
        """Compare two arrays of one shape."""
        if ours.shape != theirs.shape:
            raise ValueError(f"{self}: shapes {ours.shape} and {theirs.shape} differ")
        self.compared += ours.size
        self.mismatches += int((ours.astype(np.int64) != theirs.astype(np.int64)).sum())


def rows(scale: float, seed: int) -> Iterator[Row]:
    """Every comparison; `scale` is the share of the full number of cases."""

    def many(count: int) -> int:
        return max(2, round(count * scale))

    x86 = "scale, bias before the multiply, clamp, ties to even"
    plan: list[tuple[Row, Iterator[Case], object]] = [
        (Row("onnxruntime", "conv2d", "onnxruntime QLinearConv", note=x86),
         conv_cases("onnxruntime", many(120), seed), onnxrun.conv),
        (Row("onnxruntime", "add", "onnxruntime QLinearAdd", note="x86 with AVX2 and FMA"),
         add_cases("onnxruntime", many(500), seed), onnxrun.add),
        (Row("tflite", "conv2d", "LiteRT BUILTIN_REF", note="two roundings"),
         conv_cases("tflite", many(60), seed), litert.reference_conv),
        (Row("tflite", "add", "LiteRT BUILTIN_REF", note="gemmlowp form of intaglio.forms"),
         add_cases("tflite", many(150), seed), litert.reference_add),
        (Row("tflite", "average pool", "LiteRT BUILTIN_REF", note="windows within the image"),
         pool_cases("tflite", many(60), seed), litert.reference_pool),
        (Row("onnxruntime", "conv2d", "LiteRT XNNPACK", note="XNNPACK's float32 requantisation"),
         conv_cases("xnnpack", many(60), seed), litert.fast_conv),
        (Row("tosa", "add", "LiteRT XNNPACK", note="21-bit form of intaglio.forms"),
         add_cases("xnnpack", many(300), seed), litert.fast_add),
        (Row("nvdla", "conv2d", "formulas in a second implementation"),
         conv_cases("nvdla", many(60), seed), second.nvdla_conv),
        (Row("nvdla", "average pool", "formulas in a second implementation", note="two stages"),
         pool_cases("nvdla", many(20), seed), second.nvdla_pool),
        (Row("dpu", "conv2d", "formulas in a second implementation"),
         conv_cases("dpu", many(60), seed), second.dpu_conv),
    ]  # fmt: skip
    for row, cases, oracle in plan:
        for case in cases:
            row.add(case.ours(), oracle(case))  # type: ignore[operator]  # a function of a Case
        print(f"{row.profile:12} {row.op:13} {row.oracle:36} {row.compared:12,} {row.mismatches}")
        yield row


def page(found: list[Row], total: int, wrong: int) -> str:
    """The table as Markdown."""
    lines = [
        "# Conformance",
        "",
        "Written by `make conformance`; do not edit. Every row compares the simulator's integers",
        "with those of an independent program on random and adversarial operands. For NVDLA and",
        "the DPU no such program is published; there a second implementation was written from the",
        "published formulas (`benchmarks/conformance_second.py`).",
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
    arguments = parser.parse_args()
    found = list(rows(arguments.scale, arguments.seed))
    total, wrong = sum(r.compared for r in found), sum(r.mismatches for r in found)
    print(f"{total:,} integers, {wrong:,} mismatches")
    if arguments.scale >= 1:
        RESULTS.write_text(json.dumps({"rows": [asdict(r) for r in found]}, indent=1) + "\n")
        PAGE.write_text(page(found, total, wrong))


if __name__ == "__main__":
    main()
