"""Somebody else's RTL against the golden model in C, without cocotb.

`foreign/rescale_axis.v` is a block with AXI4-Streams, whose tables are filled from a trace. Its
benches, `bench_dpi.sv` for Verilator and `bench_vpi.v` for Icarus Verilog, put random images into
the C model that `intaglio golden` writes, feed the block the model's accumulators and compare every
code. They end in PASS; with a line of the block broken, in FAIL and the first place that differs.

    python examples/foreign_golden.py [icarus|verilator]
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from intaglio.cmodel.folder import write_c_model
from intaglio.codegen.folder import verilated
from intaglio.cosim import write_trace

HERE = Path(__file__).resolve().parent / "foreign"
sys.path.insert(0, str(HERE))

from tflite_layer import layer, tables  # noqa: E402  # it lies there

BLOCK = ("rescale_unit.v", "rescale_axis.v")
MODEL = ("intaglio_dpi.sv", "net_dpi.sv")
BROKEN = {  # what is changed in the block
    "right": ("", ""),
    "rounding": ("(mask >>> 1) + (hi < 0 ? 32'sd1 : 32'sd0)", "(mask >>> 1)"),
    "channel": ("(ch == CHANNELS - 1) ? 0", "(ch == CHANNELS - 2) ? 0"),
    "clamp": ("8'sd127", "8'sd126"),
    "tlast": ("{last[1:0], s_axis_tlast}", "{last[1:0], last[2]}"),
    "dead": ("act_vld <= vld2", "act_vld <= 0"),
    "undefined": ("8'sd127", "8'bx"),  # Verilator has no undefined bits
}


def prepare(work: Path) -> None:
    """The block's tables, the model, and the benches, in one folder."""
    program = layer()
    images = np.zeros((1, 3, 12, 14), dtype=np.uint8)  # the tables are the same for any
    trace = write_trace(program, images, work / "trace", tensors=["conv"])
    for stem, table in tables(trace).items():
        (work / f"{stem}.hex").write_text(table)
    model = write_c_model(program, work / "c", "net")
    for path in (*(model.folder / name for name in MODEL), *HERE.glob("bench_*.*v")):
        shutil.copy(path, work)


def write_block(work: Path, kind: str) -> None:
    """The block's sources, right or broken."""
    right, wrong = BROKEN[kind]
    sources = {name: (HERE / name).read_text() for name in BLOCK}
    assert any(right in text for text in sources.values())
    for name, text in sources.items():
        (work / name).write_text(text.replace(right, wrong) if right else text)


def by_verilator(work: Path) -> list[str]:
    """The command that runs the bench: `verilator --binary` makes one too, with make."""
    subprocess.run(["make", "-s", "-C", "c", "libnet.a"], cwd=work, check=True)
    options = ["--cc", "--main", "--timing", "--top-module", "bench_dpi", "--prefix", "Vbench",
               "-Wno-lint"]  # fmt: skip
    verilated.make(
        work, options, [*MODEL, "bench_dpi.sv", *BLOCK], [], "bench",
        flags=["-fcoroutines"], link=["c/libnet.a"], kept=work / "kept",
    )  # fmt: skip
    return ["./bench"]


def by_icarus(work: Path) -> list[str]:
    """The same for Icarus Verilog."""
    subprocess.run(["make", "-s", "-C", "c", "vpi"], cwd=work, check=True, capture_output=True)
    compiler = ["iverilog", "-g2005-sv", "-Lc", "-mnet", "-o", "bench", "bench_vpi.v", *BLOCK]
    subprocess.run(compiler, cwd=work, check=True)
    return ["vvp", "-Mc", "-mnet", "bench"]


def main() -> None:
    """The block as it is, and broken."""
    found = "icarus" if shutil.which("iverilog") else "verilator"
    simulator = sys.argv[1] if len(sys.argv) > 1 else found
    kinds = sys.argv[2:] or [k for k in BROKEN if k != "undefined" or simulator == "icarus"]
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        prepare(work)
        for kind in kinds:
            write_block(work, kind)
            shutil.rmtree(work / "obj", ignore_errors=True)  # what Verilator wrote
            command = by_icarus(work) if simulator == "icarus" else by_verilator(work)
            done = subprocess.run(command, cwd=work, capture_output=True, text=True)
            said = [line for line in done.stdout.splitlines() if line[:4] in ("PASS", "FAIL")]
            assert said, done.stdout + done.stderr
            assert said[0].startswith("PASS") == (kind == "right"), said[0]
            print(f"{kind}: {said[0]}", flush=True)


if __name__ == "__main__":
    main()
