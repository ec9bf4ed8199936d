"""The parts of a bench: the rules of streams in Verilog are those of Python, and plans."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tools import needs

from intaglio.codegen.folder.bench import verilog_file
from intaglio.codegen.folder.plan import (
    KINDS,
    RESETS,
    SHORT,
    WORDS,
    Run,
    default_frames,
    plan_text,
    planned,
    stalled,
)
from intaglio.cosim.protocol import Fault, Rules

DRIVER = """
module drive;
  reg clk = 0;
  reg [6:0] edges [0:{last}];
  reg [6:0] now;
  integer n;
  wire [2:0] fault;
  bench_check #(.WIDTH(3)) check (.clk(clk), .rst(now[6]), .payload(now[5:3]), .valid(now[2]),
    .ready(now[1]), .fault(fault));
  initial begin
    $readmemb("edges.txt", edges);
    for (n = 0; n <= {last}; n = n + 1) begin
      now = edges[n];
      #1 $display("%0d", fault);
      clk = 1;
      #1 clk = 0;
    end
  end
endmodule
"""
EDGES = 24
BITS = st.sampled_from("01x")
EDGE = st.tuples(
    st.sampled_from("0001"), st.tuples(BITS, st.sampled_from("01"), st.sampled_from("01")),
    st.sampled_from("00111x"), st.sampled_from("0011x"),
)  # fmt: skip


@cache
def compiled() -> Path:
    """A bench_check with a driver, in a folder that stays."""
    folder = Path(mkdtemp(prefix="intaglio-test-"))
    (folder / "drive.v").write_text(DRIVER.replace("{last}", str(EDGES - 1)))
    (folder / "bench_parts.v").write_text(verilog_file("bench_parts.v"))
    tool = ["iverilog", "-g2005", "-s", "drive", "-o", "drive.vvp", "drive.v", "bench_parts.v"]
    subprocess.run(tool, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.rtl
@settings(max_examples=60)
@given(st.lists(EDGE, min_size=EDGES, max_size=EDGES))
def test_the_rules_of_a_stream_are_the_same_in_verilog(
    edges: list[tuple[str, tuple[str, str, str], str, str]],
) -> None:
    needs("icarus")
    folder = compiled()
    lines = [f"{rst}{''.join(data)}{valid}{ready}0\n" for rst, data, valid, ready in edges]
    (folder / "edges.txt").write_text("".join(lines))
    run = ["vvp", "-n", "drive.vvp"]
    said = subprocess.run(run, cwd=folder, check=True, capture_output=True, text=True).stdout
    rules, known = Rules(), {"0": False, "1": True, "x": None}
    for line, (rst, data, valid, ready) in zip(said.split(), edges, strict=True):
        payload = None if "x" in data else data
        fault = rules.look(known[valid], known[ready], payload, reset=rst == "1")
        assert line == str(fault or 0)


def test_every_fault_has_words() -> None:
    assert len({fault.words for fault in Fault}) == len(Fault)


@given(
    st.integers(1, 200), st.integers(1, 10**6), st.integers(1, 9), st.integers(1, 10**6),
    st.integers(0, 99),
)  # fmt: skip
def test_a_plan_has_every_frame(
    frames: int, interval: int, outputs: int, latency: int, seed: int
) -> None:
    runs = planned(frames, interval, outputs, latency, seed=seed)
    assert sum(run.frames for run in runs) == frames
    assert runs[-1].timed
    assert runs[-1].more is None
    assert all(run.more is not None and not run.timed for run in runs[:-1])
    short = [run for run in runs if not run.phases]
    assert short == [run for run in runs if run.reset == 1]
    assert len(short) <= RESETS
    if interval >= 2 * RESETS:
        assert len({run.more for run in short}) == len(short)
    assert sum(run.more or 0 for run in short) <= SHORT
    assert len(plan_text(runs).split()) == WORDS
    assert plan_text(runs).endswith("0" * 16 + "\n")
    phases = [phase for run in runs for phase in run.phases]
    assert all(0 <= phase.blocked < outputs for phase in phases)
    if frames >= 12:
        assert {(phase.source, phase.sinks) for phase in phases} == {*KINDS, ("none", "none")}
        assert runs[-1].frames >= 4


@given(st.integers(1, 100))
def test_the_default_plays_every_stored_frame_with_pauses(stored: int) -> None:
    first, *_ = planned(default_frames(stored), 100, 1, 100)
    assert first.frames >= max(8, stored)
    assert stalled(stored) == (Run(stalled(stored)[0].phases),)
