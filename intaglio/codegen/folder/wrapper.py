"""The top in the clothes of AMBA: `aclk`, `aresetn` and `tkeep`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from intaglio.codegen.structure.graph import unique
from intaglio.codegen.structure.ports import FRAME_ERROR, Port

WIRES = ("tdata", "tvalid", "tready", "tlast")


def axi_name(top: str, modules: Iterable[str]) -> str:
    """The wrapper's name: none of the design's `modules`."""
    return unique(f"{top}_axi", set(modules))


def axi_verilog(name: str, top: str, source: Port, sinks: Sequence[Port]) -> str:
    """Module `name` around `top`: reset asserted by `aresetn` at once and released two edges of
    `aclk` after it, no beat taken before, and `tkeep` at the outputs.

    The attributes tell Vivado which ports belong together; other tools pass over them.
    """
    streams = ":".join(port.name for port in (source, *sinks))
    heads = ",\n\n".join(declared(port, source) for port in (source, *sinks))
    keeps = "".join(f"  assign {s.name}_tkeep = {{{s.data_width // 8}{{1'b1}}}};\n" for s in sinks)
    s = source.name
    inward = connected(source, tvalid=f"{s}_tvalid & ~rst", tready="ready")
    joined = ",\n".join([inward, *map(connected, sinks)])
    return f"""\
// {top} as a block of AXI4-Stream: see datasheet.md.
module {name} (
  (* X_INTERFACE_INFO = "xilinx.com:signal:clock:1.0 aclk CLK" *)
  (* X_INTERFACE_PARAMETER = "ASSOCIATED_BUSIF {streams}, ASSOCIATED_RESET aresetn" *)
  input wire aclk,
  (* X_INTERFACE_INFO = "xilinx.com:signal:reset:1.0 aresetn RST" *)
  (* X_INTERFACE_PARAMETER = "POLARITY ACTIVE_LOW" *)
  input wire aresetn,

{heads},

  // A packet of {s} was no whole frame; 1 until reset.
  output wire {FRAME_ERROR}
);
  // The only path that is not timed by aclk ends here.
  (* ASYNC_REG = "TRUE" *) reg [1:0] resetting = 2'b11;
  always @(posedge aclk or negedge aresetn)
    if (!aresetn) resetting <= 2'b11;
    else resetting <= {{resetting[0], 1'b0}};
  wire rst = resetting[1];

  // What is offered during reset waits, and is not lost.
  wire ready;
  assign {s}_tready = ready & ~rst;
{keeps}
  {top} core (
    .clk(aclk), .rst(rst), .{FRAME_ERROR}({FRAME_ERROR}),
{joined});
endmodule
"""


def declared(port: Port, source: Port) -> str:
    """The ports of one stream."""
    forth, back = ("input", "output") if port is source else ("output", "input")
    lines = [
        f"  {forth} wire [{port.data_width - 1}:0] {port.name}_tdata",
        f"  {forth} wire {port.name}_tvalid",
        f"  {back} wire {port.name}_tready",
        f"  {forth} wire {port.name}_tlast",
    ]
    if port is not source:
        lines.insert(1, f"  output wire [{port.data_width // 8 - 1}:0] {port.name}_tkeep")
    return ",\n".join(lines)


def connected(port: Port, **other: str) -> str:
    """A stream of the design to that of the wrapper, or to `other` wires."""
    ends = {wire: other.get(wire, f"{port.name}_{wire}") for wire in WIRES}
    return ",\n".join(f"    .{port.name}_{wire}({end})" for wire, end in ends.items())
