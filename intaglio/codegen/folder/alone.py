"""bench/alone.sv: the bench without Python, for anybody with a simulator."""

from __future__ import annotations

from collections.abc import Sequence

from intaglio.codegen.folder.plan import RESET
from intaglio.codegen.structure.ports import FRAME_ERROR, Fault, Port

ALONE, LISTED = "bench/alone.sv", "bench/alone.f"
FILES = ("rtl/intaglio_rom.v", "rtl/top.v", "bench/bench_parts.v", "bench/bench.v", ALONE)
# In the folder of a build; what each of them prints last is PASS or FAIL.
ICARUS = f"iverilog -g2012 -s alone -o sim/alone.vvp -f {LISTED} && vvp -n sim/alone.vvp"
VERILATOR = (
    "verilator --binary --timing -CFLAGS -fcoroutines -Wno-fatal -Wno-lint -Wno-style"
    f" --top-module alone --Mdir sim/alone -f {LISTED} && sim/alone/Valone +verilator+quiet"
)


def alone_files(source: Port, sinks: Sequence[Port]) -> dict[str, str]:
    """The bench of these streams, and the list of its sources."""
    return {ALONE: alone_text(source, sinks), LISTED: "".join(f"{name}\n" for name in FILES)}


def alone_text(source: Port, sinks: Sequence[Port]) -> str:
    """Module `alone`: a clock, a reset, the module `bench`, and a watcher of each output."""
    watched = "".join(watcher(sink) for sink in sinks)
    return f"""\
// The bench without Python. In the folder of the build:
//
//   $ mkdir -p sim
//   $ {ICARUS}
//   $ {VERILATOR}
//
// The last line is PASS or FAIL, before it the first faults of each stream; the exit status of the
// simulator is 0 only with PASS. bench/plan.hex says what is played; +seed=N, +plan=FILE and
// +wave=FILE (Verilator: --trace) are as in bench.v.
`timescale 1ns / 1ps
module alone;
  reg clk = 0, rst = 1;
  wire done, hung, failed;
  bench bench (.clk(clk), .rst(rst), .done(done), .hung(hung), .failed(failed));
  always #1 clk = ~clk;
{watched}
  reg told = 0;
  always @(posedge clk) if (~bench.reset & ~told & bench.{FRAME_ERROR} === 1'b1) begin
    told <= 1;
    $display("{source.name}: run %0d, cycle %0d: {FRAME_ERROR} must be 0, for every frame is whole",
      bench.run, bench.cycle);
  end

  initial begin
    repeat ({RESET}) @(posedge clk);
    #1 rst = 0;
    @(posedge done, posedge hung);
    repeat (2) @(posedge clk);
    if (hung !== 1'b0)
      $display("run %0d, cycle %0d: no beat for too long", bench.run, bench.cycle);
    if (failed === 1'b0 && hung === 1'b0) begin
      $display("PASS: %0d runs, seed %0d", bench.run, bench.seed);
      $finish;
    end else begin
      $display("FAIL: run %0d, seed %0d", bench.run, bench.seed);
      $fatal(1);
    end
  end
endmodule

// Asserts the rules of one output and tells of the first fault of each kind. `fault` and `wrong`
// are what bench_check and bench_expect find (bench_parts.v), who alone decide on PASS. Verilator
// has the rules of the protocol as properties; Icarus knows none.
module alone_stream #(
  parameter NAME = "",
  parameter WIDTH = 8
) (
  input wire clk,
  input wire rst,
  input wire [31:0] run,
  input wire [31:0] cycle,
  input wire [31:0] frame,
  input wire [31:0] beat,
  input wire [WIDTH - 1:0] tdata,
  input wire [WIDTH - 1:0] wanted,
  input wire tlast,
  input wire tvalid,
  input wire tready,
  input wire [2:0] fault,
  input wire [2:0] wrong
);
  reg [7:0] told = 0;  // a bit a kind
  task tell(input [2:0] kind);
    if (~told[kind]) begin
      told[kind] = 1;
      case (kind)
{words()}        5: $display(
          "%0s: run %0d, cycle %0d: beat %0d of frame %0d is %h (tlast %b), not %h",
          NAME, run, cycle, beat, frame, tdata, tlast, wanted);
        6: $display(
          "%0s: run %0d, cycle %0d: frame %0d must begin and end in the predicted cycle",
          NAME, run, cycle, frame);
        default: ;
      endcase
    end
  endtask
`ifdef VERILATOR
  assert property (@(posedge clk) disable iff (rst) tvalid & ~tready |=> tvalid) else tell(1);
  assert property (@(posedge clk) disable iff (rst)
    tvalid & ~tready |=> ~tvalid | $stable({{tlast, tdata}})) else tell(2);
  assert property (@(posedge clk) rst & $past(rst) |-> ~tvalid) else tell(3);
`else
  always @(posedge clk) begin
    assert (fault != 1) else tell(1);
    assert (fault != 2) else tell(2);
    assert (fault != 3) else tell(3);
    assert (fault != 4) else tell(4);
  end
`endif
  always @(posedge clk) begin
    assert (wrong != 5) else tell(5);
    assert (wrong != 6) else tell(6);
  end
endmodule
"""


def words() -> str:
    """What is told of each rule of the protocol."""
    return "".join(
        f'        {int(fault)}: $display("%0s: run %0d, cycle %0d: {fault.words}",\n'
        "          NAME, run, cycle);\n"
        for fault in Fault
    )


def watcher(sink: Port) -> str:
    """An output of `bench`, and what its checks find."""
    n = f"bench.{sink.name}"
    return f"""
  alone_stream #(.NAME("{sink.name}"), .WIDTH({sink.data_width}))
    {sink.name} (.clk(clk), .rst(bench.reset), .run(bench.run), .cycle(bench.cycle),
    .frame({n}_expect.frame), .beat({n}_expect.beat), .tdata({n}_tdata),
    .wanted({n}_expect.beats[3 * {n}_expect.at + 1]), .tlast({n}_tlast), .tvalid({n}_tvalid),
    .tready({n}_tready), .fault({n}_fault), .wrong({n}_wrong));
"""
