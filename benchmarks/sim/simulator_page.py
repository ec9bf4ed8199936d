"""docs/speed.md from the measurements of `simulator.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from intaglio.system.disk import write_text

PAGE = Path(__file__).parent.parent.parent / "docs" / "speed.md"

HEAD = """# Speed of the simulator

Written by `make bench-sim` from `benchmarks/results/sim.json`; do not edit. {processors} processors
with {isa}; every number is the median of {rounds} rounds in which the programs run turn by turn,
each after a rest and an untimed call, from uint8 planes to planes of maps. Beside the others, above
1 is where the simulator is faster, with the smallest and largest ratio to onnxruntime. The others
round in floats, so that their integers are near the Program's; the simulator's are compared with
the reference's, and the last column counts those that differ.

`retinanet-r18` is ResNet18-FPN-RetinaNet with 80 classes. Latency is one image, on one thread or
shared by two; throughput is a batch, an image on each of two threads. The share of the peak is the
network's multiplications a second over those of a bare `vpdpbusd` loop in the same round: an exact
Winograd transform saves most of a 3x3 convolution's, so that it can exceed 1.

| network | size | widths | mode, threads | GMAC/s | onnxruntime int8 | fp32 | torch int8 | fp32 | \
LiteRT int8 | share of peak | wrong |
|---|---:|---|---|---:|---:|---:|---:|---:|---:|---:|---:|
"""

TAIL = """
## Starting

`intaglio run` on one picture with `fcos-nano`, a process of its own: {warm_seconds} s (median of
five), {cold_seconds} s the first time on a machine, when the kernels are compiled; at most
{peak_mib} MiB of memory. Machine code is kept in `NUMBA_CACHE_DIR`, else in the user's cache
folder, under the digest of the sources it was made from.

## Beside the RTL

`fcos-nano` W4A4 in Verilog, compiled by Verilator, one thread: {rtl_frame_seconds} s a frame, after
{rtl_build_seconds} s to build and compile it. The simulator, with the same integers, is
{simulator_times_faster} times faster.
"""


def write(made: dict[str, Any]) -> None:
    """The page of everything that sim.json holds."""
    rows = "\n".join(line(row) for row in made["rows"]) + "\n"
    write_text(
        PAGE, HEAD.format(**made["machine"]) + rows + TAIL.format(**made["start"], **made["rtl"])
    )


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
