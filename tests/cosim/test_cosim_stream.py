"""The scoreboard names what differs first; a monitor in a bench sees a broken handshake."""

import contextlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tools import needs

from intaglio.cosim import Port, Scoreboard
from intaglio.cosim.score import Mismatch
from intaglio.fixed import IntType

shapes = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4))


@settings(max_examples=30)
@given(shapes, st.integers(1, 4), st.integers(2, 9), st.booleans(), st.data())
def test_a_scoreboard_finds_the_value_that_was_changed(
    shape: tuple[int, int, int], lanes: int, bits: int, signed: bool, data: st.DataObject
) -> None:
    port = Port("m", "t", "layer", shape, IntType(bits, signed), lanes)
    rng = np.random.default_rng(bits)
    frames = rng.integers(port.type.lo, port.type.hi, (2, *shape), endpoint=True)
    place = tuple(data.draw(st.integers(0, n - 1)) for n in frames.shape)
    wrong = frames.copy()
    wrong[place] = port.type.lo if frames[place] != port.type.lo else port.type.hi
    for played, count in ((frames, 0), (wrong, 1)):
        board = Scoreboard(port, frames)
        for n, beat in enumerate(port.pack(played)):
            board.add(2 * n, beat, int((n + 1) % port.beats == 0))
        assert board.missing == 0
        found, first = board.result()
        assert found == count
        if not count:
            board.check()
            continue
        frame, channel, y, x = place
        beat = ((frame * shape[1] + y) * shape[2] + x) * port.beats_per_pixel + channel // lanes
        got, expected = int(wrong[place]), int(frames[place])
        assert first == Mismatch("t", "layer", *place, 2 * beat, got, expected)
        with pytest.raises(AssertionError) as error:
            board.check()
        total = 2 * port.beats
        assert str(error.value) == (
            f"1 of {total:,} beats differ, first t (from layer): frame {frame}, channel {channel},"
            f" y {y}, x {x}, cycle {2 * beat}: got {got}, expected {expected}"
        )


def test_missing_stray_undefined_and_misplaced_beats_are_told() -> None:
    port = Port("m", "t", "", (1, 1, 2), IntType(8, False), 1)
    frames = np.array([[[[3, 4]]]])

    def reason(*beats: tuple[int, int | None]) -> str:
        board = Scoreboard(port, frames)
        for cycle, (beat, last) in enumerate(beats):
            board.add(cycle, beat, last)
        first = board.result(patience=99)[1]
        return "" if first is None else first.reason

    assert reason((3, 0), (4, 1)) == reason((3, None), (4, None)) == ""
    assert reason((3, None)) == "no beat for 99 cycles"
    assert reason((3, None), (4, None), (4, None)) == "a beat too many"
    assert reason((3, None), (-1, None)) == "undefined bits"
    assert reason((3, 1), (4, 1)) == "tlast is 1"


DESIGN = """
`timescale 1ns / 1ps
module pass (input wire clk, input wire [7:0] in_data, input wire in_valid, output wire in_ready,
  output wire [7:0] out_data, output wire out_valid, input wire out_ready);
  assign in_ready = out_ready;
  reg flip = 0;
  always @(posedge clk) flip <= ~flip;
  assign out_valid = in_valid {valid};
  assign out_data = in_data {data};
endmodule
"""
BENCH = """
import os
import sys
import cocotb, numpy
from cocotb.clock import Clock
from intaglio.cosim import Port, Scoreboard
from intaglio.cosim.stream import Driver, Monitor, Stream
from intaglio.fixed import IntType

@cocotb.test()
async def passes(dut):
    port = Port("m", "t", "", (3, 4, 5), IntType(8, True), 1)
    frames = numpy.random.default_rng(0).integers(-128, 128, (2, 3, 4, 5))
    board = Scoreboard(port, frames)
    driver = Driver(Stream.named(dut, "in"), dut.clk, stalls=0.2)
    monitor = Monitor(Stream.named(dut, "out"), dut.clk, board, back_pressure=0.3)
    Clock(dut.clk, 2, "ns").start()
    cocotb.start_soon(driver.play(port, frames))
    await monitor.take(patience=999)
    board.check()
"""


@pytest.mark.rtl
@pytest.mark.parametrize(
    ("valid", "data", "words"),
    [
        ("", "", ""),
        (
            "& 1'b0",
            "",
            "120 of 120 beats differ, first t: frame 0, channel 0, y 0, x 0, cycle 0: no beat"
            " for 999 cycles",
        ),
        ("& (flip | out_ready)", "", "valid fell before the beat was taken; it must hold."),
        ("", "^ {7'b0, flip & ~out_ready}", "the payload changed before the beat was taken"),
    ],
    ids=["right", "dead", "withdrawn", "altered"],
)
def test_a_monitor_checks_the_handshake(
    valid: str, data: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("icarus")
    from cocotb_tools.runner import get_results, get_runner

    source = tmp_path / "pass.v"
    source.write_text(DESIGN.replace("{valid}", valid).replace("{data}", data))
    (tmp_path / "bench_pass.py").write_text(BENCH)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, sys.path)))
    runner = get_runner("icarus")
    runner.build(sources=[source], hdl_toplevel="pass", build_dir=tmp_path / "sim", always=True)
    results = tmp_path / "results.xml"
    with contextlib.suppress(SystemExit):  # how cocotb's runner tells pytest of a failed test
        runner.test(
            test_module="bench_pass", hdl_toplevel="pass", hdl_toplevel_lang="verilog",
            build_dir=tmp_path / "sim", test_dir=tmp_path, log_file=tmp_path / "log",
            results_xml=str(results),
        )  # fmt: skip
    log = (tmp_path / "log").read_text()
    assert get_results(results) == (1, int(bool(words))), log
    assert words in log
