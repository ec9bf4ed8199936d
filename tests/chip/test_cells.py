"""The models of the devices' cells: yosys maps memories of every shape, multipliers and every kind
of flip-flop to them, and the netlist must do what the Verilog does, cycle by cycle, for random
inputs."""

import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest
from tools import needs, needs_tools

from intaglio.chip.gates import MAIN, compile_netlist, run_step
from intaglio.chip.netlist.registers import move_into_blocks
from intaglio.chip.toolchain import run_tool
from intaglio.codegen.folder.scripts import synthesis

CYCLES = 20_000
# Bits of a word and of an address: each fills one block RAM in the port width that it asks for.
SHAPES = ((36, 9), (18, 10), (9, 11), (4, 12), (2, 13), (1, 14), (4, 4))
# The same, and registers behind the output, which something may hold: those of ECP5 take one in.
MEMORIES = {
    "ecp5": [(*shape, late) for shape in SHAPES for late in (0, 1, 2)],
    "ice40": [(16, 8, 0), (8, 9, 0), (4, 10, 0), (2, 11, 0)],
    "gowin": [(*shape, 0) for shape in SHAPES],
}
# Every kind of flip-flop: the clock's edge, whether it has an enable, what takes it to a value.
KINDS = list(product(("posedge", "negedge"), (False, True), ("", "R", "S", "async R", "async S")))
CELLS = {
    "ecp5": ("DP16KD", "MULT18X18D", "TRELLIS_DPR16X4", "TRELLIS_FF"),
    "ice40": (
        "SB_RAM40_4K", "SB_MAC16",
        *(f"SB_DFF{n}{e}{r}" for n in ("", "N") for e in ("", "E")
          for r in ("", "R", "S", "SR", "SS")),
    ),
    "gowin": (
        "DPB", "DPX9B", "SDPX9B", "MULT18X18", "RAM16SDP4",
        *(f"DFF{n}{r}{e}" for n in ("", "N") for r in ("", "R", "S", "C", "P")
          for e in ("", "E")),
    ),
}  # fmt: skip
# By which the other is made: a set or reset that an enable holds back, or that goes before it.
HELD_BACK = {"ecp5": False, "ice40": True, "gowin": False}
WIDTH = 113 + len(KINDS)  # of everything that is no memory


def memory(bits: int, address: int, late: int) -> str:
    """A memory with contents, a write port and a read port that keeps what it read. It comes a
    cycle later if `late`, and 2 may hold it there; then nothing is read where it is being written,
    and yosys need not care."""
    style = "distributed" if address < 5 else "block"
    care, apart = (", no_rw_check", " & (wa != ra)") if late else ("", "")
    return f"""\
module memory_{bits}_{address}_{late} (
  input clk, we, re, oe, input [{address - 1}:0] wa, ra, input [{bits - 1}:0] d,
  output [{bits - 1}:0] q
);
  (* ram_style = "{style}"{care} *) reg [{bits - 1}:0] words [0:{(1 << address) - 1}];
  integer k;
  reg [{bits - 1}:0] read = 0, kept = 0;
  assign q = {"kept" if late else "read"};
  initial for (k = 0; k < {1 << address}; k = k + 1) words[k] = (k * 40503) ^ (k >> 3);
  always @(posedge clk) begin
    if (we) words[wa] <= d;
    if (re{apart}) read <= words[ra];
    if (oe{" | 1'b1" if late < 2 else ""}) kept <= read;
  end
endmodule
"""


def cells(shapes: Sequence[tuple[int, int, int]]) -> str:
    """Module `cells`: every memory, two multipliers, one of registered operands, two whose products
    are added, and the registers; what they give as one word `out`."""
    parts, outs = [], []
    for bits, address, late in shapes:
        name = f"memory_{bits}_{address}_{late}"
        parts.append(f"  wire [{bits - 1}:0] {name}_q;\n")
        parts.append(
            f"  {name} {name}_i (.clk(clk), .we(noise[63]), .re(noise[62]), .oe(noise[61]),"
            f" .wa(noise[{address - 1}:0]), .ra(noise[{address + 19 + late}:{20 + late}]),"
            f" .d(noise[{bits + 9}:10] ^ noise[{bits + 24}:25]), .q({name}_q));\n"
        )
        outs.append(f"{name}_q")
    width = sum(bits for bits, _, _ in shapes) + WIDTH
    bits = len(KINDS) - 1
    return (
        f"module cells (input clk, input [63:0] noise, output [{width - 1}:0] out);\n"
        + "".join(parts)
        + "  wire signed [15:0] a = noise[15:0], b = noise[40:25];\n"
        + "  wire [15:0] c = noise[22:7], d = noise[60:45];\n"
        + "  reg signed [31:0] p = 0;\n  reg [31:0] r = 0;\n"
        + "  always @(posedge clk) begin\n    p <= a * b;\n    r <= c * d;\n  end\n"
        + "  reg signed [15:0] e = 0, f = 0;\n  reg signed [31:0] s = 0;\n"
        + "  always @(posedge clk) begin\n    e <= a ^ d;\n    f <= b ^ c;\n"
        + "    s <= e * f;\n  end\n"
        # yosys' ice40_dsp takes the register of the second of such products twice.
        + "  reg signed [15:0] first = 0, second = 0;\n"
        + "  always @(posedge clk) begin\n    first <= a[7:0] * b[7:0];\n"
        + "    second <= a[15:8] * b[15:8];\n  end\n"
        + "  wire [16:0] added = first + second;\n"
        + f"  wire [{bits}:0] kept;\n"
        + "  registers registers_i (.clk(clk), .e(noise[11]), .r(noise[5] & noise[29]),"
        + f" .d(noise[{bits + 33}:33]), .q(kept));\n"
        + f"  assign out = {{kept, added, p, r, s, {', '.join(outs)}}};\nendmodule\n"
    )


def registers(family: str) -> str:
    """Module `registers`: a flip-flop of every kind, which starts at 0 or, where it is set, at 1;
    on iCE40 at 0."""
    lines = []
    for k, (edge, enable, to) in enumerate(KINDS):
        one, gate = int(to.endswith("S")), "if (e) " if enable else ""
        start = 0 if family == "ice40" else one
        lines.append(f"  initial q[{k}] = {start};")
        if not to:
            lines.append(f"  always @({edge} clk) {gate}q[{k}] <= d[{k}];")
        elif to.startswith("async"):
            lines.append(
                f"  always @({edge} clk or posedge r) if (r) q[{k}] <= {one};"
                f" else {gate}q[{k}] <= d[{k}];"
            )
        elif enable and HELD_BACK[family]:
            lines.append(f"  always @({edge} clk) if (e) q[{k}] <= r ? {one} : d[{k}];")
        else:
            lines.append(
                f"  always @({edge} clk) if (r) q[{k}] <= {one}; else {gate}q[{k}] <= d[{k}];"
            )
    bits = len(KINDS) - 1
    return (
        f"module registers (input clk, e, r, input [{bits}:0] d, output reg [{bits}:0] q);\n"
        + "\n".join(lines)
        + "\nendmodule\n"
    )


def bench(shapes: Sequence[tuple[int, int, int]]) -> str:
    """Both in step, and how many cycles they differ in; few addresses, so that ports meet."""
    width = sum(bits for bits, _, _ in shapes) + WIDTH
    return f"""\
module bench (input wire clk, input wire rst, output reg done, output wire hung);
  reg [63:0] noise = 64'h243f6a8885a308d3;
  wire [{width - 1}:0] wanted, got;
  integer cycle = 0, wrong = 0;
  assign hung = 0;
  cells rtl (.clk(clk), .noise(noise & {{2'b11, 62'h3fffff0fffff0fff}}), .out(wanted));
  cells_gates gates (.clk(clk), .noise(noise & {{2'b11, 62'h3fffff0fffff0fff}}), .out(got));
  initial done = 0;
  always @(posedge clk) begin
    noise <= {{noise[62:0], noise[63] ^ noise[62] ^ noise[60] ^ noise[59]}}
             ^ {{32'b0, noise[63:32] & {{32{{cycle[0]}}}}}};
    cycle <= cycle + 1;
    if (wanted != got) wrong <= wrong + 1;
    if (cycle == {CYCLES}) begin
      if (wrong != 0) $fatal(1, "Error: %0d cycles differ", wrong);
      done <= 1;
    end
  end
endmodule
"""


def yosys(folder: Path, script: str) -> None:
    (folder / "cells.ys").write_text(script)
    run_tool("yosys", ["-q", "cells.ys"], folder, "yosys.log")


@pytest.mark.slow
@pytest.mark.parametrize("family", ["ecp5", "ice40", "gowin"])
def test_memories_multipliers_and_registers_are_what_the_verilog_says(
    family: str, tmp_path: Path
) -> None:
    needs_tools("yosys")
    needs("verilator")
    shapes = MEMORIES[family]
    source = "".join(memory(*shape) for shape in shapes) + registers(family) + cells(shapes)
    (tmp_path / "cells.v").write_text(source)
    (tmp_path / "bench.v").write_text(bench(shapes))
    yosys(tmp_path, f"read_verilog cells.v\n{synthesis(family, 'cells')}write_json gates.json\n")
    if family == "ecp5":
        moved = move_into_blocks(tmp_path / "gates.json")
        assert (moved.outputs, moved.products, moved.operands) == (2 * (len(SHAPES) - 1), 5, 2)
    yosys(
        tmp_path, "read_json gates.json\nrename cells cells_gates\nwrite_verilog -noattr gates.v\n"
    )
    text = (tmp_path / "gates.v").read_text()
    for cell in CELLS[family]:
        assert re.search(rf"^ *{cell}\b", text, re.MULTILINE), cell
    program = compile_netlist(tmp_path, family, "bench", ["cells.v", "gates.v", "bench.v"], MAIN)
    run_step(tmp_path, [str(program)])
