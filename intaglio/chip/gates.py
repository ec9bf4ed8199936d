"""Gate level: a synthesised netlist in Verilator, with our own models of the device's cells,
compared with the simulator beat by beat."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from intaglio.chip import host
from intaglio.chip.boards import LINE
from intaglio.chip.line import SimulatedLine, SimulatedSpi
from intaglio.chip.netlist.routed import routed_netlist
from intaglio.chip.protocol import CREDIT_BYTES, Decoder, to_bytes
from intaglio.chip.shell import BOARD, SHELL
from intaglio.chip.spi_line import SpiLine
from intaglio.chip.synthesis import CELLS, FOLDER, synthesise, yosys
from intaglio.codegen.area.devices import device
from intaglio.codegen.folder import verilated
from intaglio.codegen.folder.bench import recording
from intaglio.codegen.folder.manifest import read_manifest
from intaglio.codegen.folder.plan import Phase, Run, patience, plan_text, stalled
from intaglio.codegen.folder.scripts import SOURCES
from intaglio.codegen.running.noted import read_recording
from intaglio.codegen.running.simulate import PLAYED
from intaglio.codegen.running.tools import check_compiler, check_simulator
from intaglio.codegen.running.verify import expected, stored_frames
from intaglio.cosim.port import Port
from intaglio.cosim.score import Mismatch, Recording, compare
from intaglio.errors import BuildError, ToolError
from intaglio.file import load
from intaglio.system.disk import empty_folder, make_folder, without_files, write_text
from intaglio.system.processes import complaint, environment, kept_folder, run_logged
from intaglio.system.steps import Steps

ANY = {"ecp5": "ecp5-85k", "ice40": "ice40-up5k", "gowin": "gowin-gw2a-18"}  # one of the family
SMALL = 12_000  # look-up tables that are simulated without being asked: about a minute
OPTIONS = ("--x-initial", "0", "-Wno-fatal", "-Wno-lint", "-Wno-style", "-Wno-TIMESCALEMOD")
SENT = f"{FOLDER}/sent.txt"
LOG = "sim/gates.log"
SILENCE = 120.0  # seconds: a netlist is slow
WHOLE = (1 << 32) - 1  # cycles behind the first wrong beat: everything is played

MAIN = """\
#include "Vbench.h"
#include "verilated.h"

// Clocks the bench until it is done or hung.
int main(int argc, char **argv) {
  VerilatedContext context;
  context.commandArgs(argc, argv);
  Vbench bench{&context};
  bench.rst = 1;
  for (long cycle = 0; !bench.done && !bench.hung && !context.gotFinish(); ++cycle) {
    if (cycle == 8) bench.rst = 0;
    bench.clk = 0;
    bench.eval();
    bench.clk = 1;
    bench.eval();
  }
  bench.clk = 0;
  bench.eval();
  bench.final();
}
"""


@dataclass(frozen=True)
class GateResult:
    """frames played through the netlist, beats compared, those that differ and the first of them,
    the cells' library, and the resources of the netlist."""

    frames: int
    beats: int
    mismatches: int
    first_mismatch: Mismatch | None
    cells: str
    resources: dict[str, float]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Every field."""
        return asdict(self)

    def sentence(self) -> str:
        """The result in one sentence."""
        head = f"{self.frames} frames through the {self.cells} netlist, {self.beats:,} beats"
        if self.first_mismatch is not None:
            m = self.first_mismatch
            return (
                f"{head}: {self.mismatches:,} differ, first {m.tensor}, frame {m.frame}, channel"
                f" {m.channel}, y {m.y}, x {m.x}: got {m.got}, expected {m.expected}"
            )
        return f"{head}: all equal; {self.seconds:.0f} s"


def verify_gates(
    folder: str | Path,
    *,
    frames: int = 1,
    stalls: bool = False,
    cells: str | None = None,
    steps: Steps | None = None,
) -> GateResult:
    """Synthesise a build's top and run its bench on the netlist.

    cells  ecp5, ice40, gowin, or generic (yosys' own gates); None: those of the target, generic
           where there are no models of them.
    steps  are told how far it is.

    Raises BuildError, ToolError.
    """
    if frames < 1:
        raise BuildError(f"frames must be at least 1, not {frames}.")
    started = time.perf_counter()
    folder = Path(folder)
    manifest = read_manifest(folder)
    family = device(manifest["target"]).family
    library = cells or (family if family in CELLS else "generic")
    if library not in (*CELLS, "generic"):
        raise BuildError(f"cells must be one of {', '.join(CELLS)}, generic, not {library!r}.")
    steps = steps or Steps()
    steps.plan("synthesis", "expected beats", "simulation")
    make_folder(folder / FOLDER)
    with steps.step("synthesis"):
        foreign = library != family
        resources = netlist(folder, manifest["name"], library, foreign=foreign, steps=steps)
    source, sinks = ports(manifest)
    with steps.step("expected beats"):
        want = wanted(folder, source, sinks)
    waited = patience(2 * manifest["cycles_per_frame"], manifest["latency_cycles"])
    sources = [f"{FOLDER}/{manifest['name']}.netlist.v", "bench/bench_parts.v", "bench/bench.v"]
    without_files(folder / "sim", (Path(recording(sink)).name for sink in sinks))
    runs = stalled(frames) if stalls else (Run((Phase(frames),)),)
    write_text(folder / PLAYED, plan_text(runs))
    plusargs = [f"+plan={PLAYED}", f"+patience={waited}", f"+mercy={WHOLE}"]
    with steps.step("simulation"):
        simulate(folder, library, sources, plusargs, steps)
    got = {sink.tensor: read_recording(folder / recording(sink)) for sink in sinks}
    return result(sinks, got, want, frames, waited, library, resources, started)


def wanted(folder: Path, source: Port, sinks: Sequence[Port]) -> dict[str, list[int]]:
    """Beats of every output for the stored frames."""
    frames = stored_frames(folder, source)
    return expected(folder, load(folder / "program.intaglio"), frames, sinks)


def check_shell(
    folder: Path,
    *,
    frames: int = 1,
    stalls: bool = True,
    routed: int | None = None,
    steps: Steps | None = None,
) -> GateResult:
    """The netlist that is placed and routed, its streams behind the link of bytes: the stored
    frames as bytes, and the beats decoded from the bytes that come back.

    routed  the seed whose routed netlist is simulated instead (iCE40).
    """
    started = time.perf_counter()
    manifest = read_manifest(folder)
    library = device(manifest["target"]).family
    source, sinks = ports(manifest)
    want = wanted(folder, source, sinks)
    lines = (folder / "bench/stimulus.hex").read_text().split()
    beats = [int(lines[k % len(lines)], 16) for k in range(frames * source.beats)]
    data = to_bytes(beats, source.data_width)
    write_text(folder / FOLDER / "sent.hex", "".join(f"{byte:02x}\n" for byte in data))
    write_text(folder / FOLDER / "bench.v", shell_bench(len(data)))
    # The design may go on without input (a border), so the bench stops when all is quiet.
    patience = manifest["cycles_per_frame"] + manifest["latency_cycles"] + 10_000
    design = f"{FOLDER}/{SHELL}.netlist.v"
    if routed is not None:
        design = routed_netlist(folder, routed, SHELL)
    sources = [design, "bench/bench_parts.v", f"{FOLDER}/bench.v"]
    plusargs = [f"+stalls={int(stalls)}", f"+patience={patience}"]
    simulate(folder, library, sources, plusargs, steps or Steps())
    received = read_recording(folder / SENT)
    decoder = Decoder([sink.data_width for sink in sinks])
    try:
        decoder.feed(bytes(received.data))
    except ValueError as error:  # also an undefined byte
        raise ToolError(
            f"The netlist must answer with messages of its streams, but {error}."
        ) from error
    if decoder.credits != len(data) // CREDIT_BYTES:
        raise ToolError(
            f"The netlist must give {len(data) // CREDIT_BYTES} credits, not {decoder.credits}."
        )
    got = {}
    for sink, found in zip(sinks, decoder.beats, strict=True):
        whole = found[: frames * sink.beats]
        got[sink.tensor] = Recording(
            list(range(len(whole))), [last for last, _ in whole], [value for _, value in whole]
        )
    return result(sinks, got, want, frames, patience, library, {}, started)


def check_board(
    folder: Path, *, frames: int = 1, netlist: bool = True, steps: Steps | None = None
) -> GateResult:
    """A board's top, its serial line played to by the host program: the netlist that is placed and
    routed or, without `netlist`, the Verilog it was made from (then no PLL: no cells)."""
    started = time.perf_counter()
    manifest = read_manifest(folder)
    library = device(manifest["target"]).family if netlist else "generic"
    sources = [f"{FOLDER}/{BOARD}.netlist.v"] if netlist else [*SOURCES, f"{FOLDER}/{BOARD}.v"]
    steps = steps or Steps()
    said: list[str] = []
    with simulated_board(folder, library, sources, steps) as line:
        steps.tell("simulation, over the line")
        try:
            beats, wrong = host.run(line, folder, frames, patience=SILENCE, say=said.append)
        except (ValueError, OSError) as error:  # a TimeoutError, a closed pipe
            raise ToolError(f"The board must answer with every beat, but {error}.") from error
    return GateResult(
        frames=frames,
        beats=beats,
        mismatches=wrong,
        first_mismatch=None,
        cells=library,
        resources={},
        seconds=round(time.perf_counter() - started, 1),
    )


@contextmanager
def simulated_board(
    folder: Path, library: str, sources: Sequence[str], steps: Steps
) -> Iterator[Any]:
    """The line to a board that is simulated, with the methods of a `serial.Serial`."""
    facts = json.loads((folder / FOLDER / LINE).read_text(encoding="utf-8"))
    name = "spi" if facts["line"] == "spi" else "serial"
    program = compile_netlist(folder, library, BOARD, sources, shipped(f"cpp/{name}.cpp"), steps)
    if name == "spi":
        with SimulatedSpi(program, folder) as board:
            yield SpiLine(board.exchange)
    else:
        with SimulatedLine(program, facts["cycles_per_bit"], folder) as line:
            yield line


def shipped(path: str) -> str:
    """A file of the package's own for simulating netlists."""
    return files("intaglio.chip").joinpath(path).read_text(encoding="utf-8")


def ports(manifest: dict[str, Any]) -> tuple[Port, list[Port]]:
    """The input and the outputs of a build."""
    sinks = [Port.from_json(entry) for entry in manifest["outputs"]]
    return Port.from_json(manifest["input"]), sinks


def result(
    sinks: Sequence[Port],
    got: dict[str, Recording],
    want: dict[str, list[int]],
    frames: int,
    patience: int,
    library: str,
    resources: dict[str, float],
    started: float,
) -> GateResult:
    """What was recorded compared with what was wanted."""
    checks = [
        compare(s, got[s.tensor], want[s.tensor], frames, patience, goes_on=True) for s in sinks
    ]
    wrong = [first for _, first in checks if first is not None]
    return GateResult(
        frames=frames,
        beats=sum(len(got[s.tensor].data) for s in sinks),
        mismatches=sum(n for n, _ in checks),
        first_mismatch=min(wrong, key=lambda m: m.cycle, default=None),
        cells=library,
        resources=resources,
        seconds=round(time.perf_counter() - started, 1),
    )


def netlist(
    folder: Path, top: str, library: str, *, foreign: bool, steps: Steps
) -> dict[str, float]:
    """Synthesise `top` into cells of a library; returns its resources, none for generic ones."""
    if library != "generic":
        chip = device(ANY[library])
        return synthesise(folder, chip, top, SOURCES, foreign=foreign, steps=steps)
    base = f"{FOLDER}/{top}"
    script = [f"read_verilog -defer {path}" for path in SOURCES]
    script += [f"synth -flatten -top {top}", f"write_verilog -noattr {base}.netlist.v"]
    yosys(folder, base, script, steps)
    return {}


def shell_bench(count: int) -> str:
    """Module `bench` around the shell: `count` bytes into it, every byte out of it recorded."""
    return f"""\
module bench (input wire clk, input wire rst, output wire done, output reg hung);
  reg [31:0] patience, pauses;
  reg [31:0] cycle = 0;
  reg [31:0] idle = 0;
  wire stalls = pauses != 0;
  // One phase, the second word of the plan.
  wire [4095:0] plan = {{3968'b0, 8'd1, 7'b0, stalls, 7'b0, stalls, 8'b0, 32'd1, 64'b0}};
  wire [7:0] rx_data, tx_data;
  wire rx_valid, rx_ready, tx_valid, tx_ready, taken, full;
  assign done = 0;
  initial begin
    hung = 0;
    if (!$value$plusargs("stalls=%d", pauses)) pauses = 0;
    if (!$value$plusargs("patience=%d", patience)) patience = 1000000;
  end
  bench_source #(.WIDTH(8), .BEATS({count}), .DEPTH({count}), .FILE("{FOLDER}/sent.hex"))
    source (.clk(clk), .rst(rst), .seed(32'd1), .plan(plan), .from(6'd1), .endless(1'b0),
    .tdata(rx_data), .tlast(), .tvalid(rx_valid), .tready(rx_ready));
  bench_sink #(.WIDTH(8), .BEATS(32'h7fffffff), .FILE("{SENT}"), .SEED(2))
    sink (.clk(clk), .rst(rst), .seed(32'd1), .plan(plan), .from(6'd1), .run(0), .cycle(cycle),
    .close(hung), .tdata(tx_data), .tvalid(tx_valid), .tlast(1'b0), .tready(tx_ready),
    .taken(taken), .full(full));
  {SHELL} dut (.clk(clk), .rst(rst), .rx_data(rx_data), .rx_valid(rx_valid), .rx_ready(rx_ready),
    .tx_data(tx_data), .tx_valid(tx_valid), .tx_ready(tx_ready));
  always @(posedge clk) begin
    cycle <= rst ? 0 : cycle + 1;
    idle <= rst | taken | rx_valid & rx_ready ? 0 : idle + 1;
    if (~rst & idle == patience) hung <= 1;
  end
endmodule
"""


def simulate(
    folder: Path, library: str, sources: Sequence[str], plusargs: Sequence[str], steps: Steps
) -> None:
    """Compile module `bench` from `sources` and the cell models, and run it in the build folder."""
    program = compile_netlist(folder, library, "bench", sources, MAIN, steps)
    steps.tell("simulating")
    run_step(folder, [str(program), *plusargs])


def run_step(folder: Path, command: Sequence[str]) -> None:
    """Run what Verilator made in the build folder. Raises ToolError."""
    code, printed = run_logged(command, folder, folder / LOG)
    if code:
        raise stopped(folder, printed)


def compile_netlist(
    folder: Path,
    library: str,
    top: str,
    sources: Sequence[str],
    main: str,
    steps: Steps | None = None,
) -> Path:
    """Module `top` of `sources` and the cell models around the C++ program `main`; its path."""
    check_simulator("verilator")
    check_compiler()
    work = empty_folder(folder / "sim" / "gates").resolve()
    write_text(work / "main.cpp", main)
    models = []
    if library in CELLS:
        write_text(work / "cells.v", shipped(f"verilog/{CELLS[library]}"))
        models = ["cells.v"]
    options = ["--cc", "--prefix", f"V{top}", "--top-module", top, *OPTIONS]
    verilog = [*models, *(f"../../{path}" for path in sources)]
    kept = kept_folder()
    try:
        verilated.make(
            work, options, verilog, ["main.cpp"], f"V{top}", kept=kept and kept / "intaglio",
            environment=environment(), tell=steps.tell if steps else None,
        )  # fmt: skip
    except verilated.CompileError as error:
        write_text(folder / LOG, error.printed)
        raise stopped(folder, error.printed) from error
    return work / f"V{top}"


def stopped(folder: Path, printed: str) -> ToolError:
    """The sentence about Verilator or what it made; all that was printed is in LOG."""
    return ToolError(
        f"verilator must run the netlist, but stopped: {complaint(printed)}; see {folder / LOG}."
    )
