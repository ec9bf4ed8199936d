// rescale_unit between two AXI4-Streams: accumulators in, int8 codes out, tlast on the last of both.
`timescale 1ns / 1ps
module rescale_axis #(
  parameter CHANNELS = 8,
  parameter ZERO_POINT = 0
) (
  input wire aclk,
  input wire aresetn,
  input wire [31:0] s_axis_tdata,
  input wire s_axis_tlast,
  input wire s_axis_tvalid,
  output wire s_axis_tready,
  output wire [7:0] m_axis_tdata,
  output wire m_axis_tlast,
  output wire m_axis_tvalid,
  input wire m_axis_tready
);
  reg [2:0] last;
  assign m_axis_tlast = last[2];
  always @(posedge aclk) if (s_axis_tready) last <= {last[1:0], s_axis_tlast};

  rescale_unit #(.CHANNELS(CHANNELS), .ZERO_POINT(ZERO_POINT)) unit (
    .clk(aclk), .rst_n(aresetn),
    .acc(s_axis_tdata), .acc_vld(s_axis_tvalid), .acc_rdy(s_axis_tready),
    .act(m_axis_tdata), .act_vld(m_axis_tvalid), .act_rdy(m_axis_tready)
  );
endmodule
