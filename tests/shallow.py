# amaranth: UnusedElaboratable=no
"""Queues in RTL, each at the depth that was computed and with a place less, in Icarus Verilog.

The bench of a build drives the design, but without Python beside the simulator: small designs then
run in a second, each with another queue too shallow.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from intaglio.codegen.area.devices import device
from intaglio.codegen.bundle import around
from intaglio.codegen.folder import plan
from intaglio.codegen.folder.bench import recording
from intaglio.codegen.folding.design import scheduled
from intaglio.codegen.running.noted import frame_ends, longest, read_recording
from intaglio.codegen.running.simulate import PLAYED
from intaglio.codegen.schedule.activity import activity
from intaglio.codegen.schedule.timing import Model, Schedule
from intaglio.codegen.structure.fold import plan_for_cycles, plan_for_multipliers
from intaglio.codegen.structure.graph import Key, hardware_graph
from intaglio.codegen.structure.ports import random_frames
from intaglio.codegen.structure.verilog import to_verilog
from intaglio.cosim.score import compare
from intaglio.program import Program
from intaglio.sim.engine import Simulator

STORED = 2  # frames of stimulus, repeated


DRIVE = """
module drive;
  reg clk = 0, rst = 1;
  wire done, hung, failed;
  bench bench (.clk(clk), .rst(rst), .done(done), .hung(hung), .failed(failed));
  always #1 clk = ~clk;
  initial begin
    repeat (8) @(posedge clk);
    #1 rst = 0;
    @(posedge done, posedge hung);
    repeat (2) @(posedge clk);
    $display("%s", hung ? "hung" : "done");
    $finish;
  end
endmodule
"""


@dataclass(frozen=True)
class Run:
    """Whether it came to its end; cycles a frame; output beats that differ from the simulator's
    (those that never came among them); when each output's first beat came, and each frame ended."""

    finished: bool
    interval: int
    mismatches: int
    first: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()


@dataclass(frozen=True)
class Shallow:
    """A queue with a place less: its name and depth, what was predicted and what the RTL did, with
    None for a deadlock, else the cycles a frame; and the cycles a frame with the place."""

    name: str
    depth: int
    predicted: int | None
    measured: int | None
    full: int

    @property
    def shows(self) -> str:
        """What the missing place does."""
        if self.measured != self.predicted:
            return "not as predicted"
        if self.measured is None:
            return "deadlock"
        return "loss" if self.measured > self.full else "nothing"


class Design:
    """A network in RTL, `extra` multipliers above the fewest, in an empty folder; `sharing` as
    `hardware_graph` takes it."""

    def __init__(
        self, program: Program, extra: int, folder: Path, sharing: Sequence[Key] = ()
    ) -> None:
        graph = hardware_graph(program, sharing)
        least = plan_for_cycles(graph, 1 << 62).multipliers
        folded = plan_for_multipliers(graph, max(1, least + extra))
        _, self.top, self.schedule = scheduled(graph, folded, device("generic"))
        self.folder = folder
        self.depths = {i: self.top.netlist.cells[i].depth for i in self.top.netlist.fifos}
        self.patience = 4 * self.schedule.interval + 2 * self.schedule.latency + 1000
        source, sinks = self.top.source, self.top.sinks
        frames = random_frames(source.type, source.shape, STORED)
        results = Simulator(program)(frames)
        self.want = {s.tensor: s.pack(results[s.tensor].astype(np.int64)) for s in sinks}
        shown = activity(self.top, self.schedule)
        self.files = around(
            self.top, "top", frames.astype(np.int64), results, shown, self.schedule.taken
        )
        self.files["drive.v"] = DRIVE
        for path, text in self.files.items():
            self.write(path, text)
        (folder / "sim").mkdir()
        self.compile()

    def write(self, path: str, text: str) -> None:
        """A file of the folder."""
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(text, encoding="utf-8")

    def compile(self) -> None:
        """The design with the depths that its queues have now."""
        self.write("top.v", to_verilog(self.top, "top"))
        sources = [path for path in self.files if path.endswith(".v")]
        tool = ["iverilog", "-g2005", "-s", "drive", "-o", "drive.vvp", "top.v", *sources]
        subprocess.run(tool, cwd=self.folder, check=True, capture_output=True)

    def play(self, *, stalls: int = 0) -> Run:
        """As many frames back to back as were predicted; `stalls` is a seed of pauses on every
        port, 0: none."""
        frames = len(self.schedule.finished)
        played = plan.stalled(frames) if stalls else (plan.Run((plan.Phase(frames),)),)
        self.write(PLAYED, plan.plan_text(played))
        run = ["vvp", "-n", "drive.vvp", f"+plan={PLAYED}", f"+seed={stalls}",
               f"+patience={self.patience}"]  # fmt: skip
        said = subprocess.run(run, cwd=self.folder, check=True, capture_output=True, text=True)
        sinks = self.top.sinks
        got = {s.tensor: read_recording(self.folder / recording(s)) for s in sinks}
        wrong = [
            compare(s, got[s.tensor], self.want[s.tensor], frames, 0, goes_on=True)[0]
            for s in sinks
        ]
        finished = said.stdout.split()[-1] == "done"
        if not finished:
            return Run(finished, 0, sum(wrong))
        first = tuple(got[s.tensor].cycles[0] for s in sinks)
        ends = frame_ends(sinks, got, frames)
        return Run(finished, longest(ends), sum(wrong), first, tuple(ends))

    def shallow(self) -> Iterator[Shallow]:
        """Every queue that has more than one place, with a place less than it has."""
        model = Model(self.top.netlist, self.top.components)
        for i, depth in self.depths.items():
            if depth == 1:
                continue
            fewer = {**self.depths, i: depth - 1}
            predicted: Schedule = model.run(fewer)
            self.top.set_depths(fewer)
            self.compile()
            run = self.play()
            yield Shallow(
                self.top.netlist.cells[i].name,
                depth,
                predicted.interval if predicted.finished else None,
                run.interval if run.finished else None,
                self.schedule.interval,
            )
        self.top.set_depths(self.depths)
        self.compile()
