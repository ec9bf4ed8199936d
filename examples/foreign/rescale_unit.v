// Rescales 32-bit accumulators to int8 the way TensorFlow Lite does: a saturating rounding doubling
// high multiply, then a rounding division by a power of two, then zero point and clamp. One
// accumulator a cycle, channels innermost, parameters of each channel from three files.
//
// Written as somebody else would: active-low reset, own handshake names, three stages that stop
// together.
`timescale 1ns / 1ps
module rescale_unit #(
  parameter CHANNELS = 8,
  parameter ZERO_POINT = 0
) (
  input wire clk,
  input wire rst_n,
  input wire signed [31:0] acc,
  input wire acc_vld,
  output wire acc_rdy,
  output reg signed [7:0] act,
  output reg act_vld,
  input wire act_rdy
);
  reg signed [31:0] bias [0:CHANNELS - 1];
  reg signed [31:0] mult [0:CHANNELS - 1];
  reg [7:0] rshift [0:CHANNELS - 1];
  initial begin
    $readmemh("bias.hex", bias);
    $readmemh("mult.hex", mult);
    $readmemh("rshift.hex", rshift);
  end

  wire go = act_rdy | ~act_vld;
  assign acc_rdy = go;

  reg [15:0] ch;
  reg signed [63:0] prod;
  reg [7:0] sh1, sh2;
  reg vld1, vld2;
  reg signed [31:0] hi;

  // SRDHM: (a * b + 2^30) >> 31
  wire signed [63:0] nudged = prod + 64'sd1073741824;
  wire signed [63:0] high = nudged >>> 31;

  // RDivByPOT: nearest, ties away from zero
  wire signed [31:0] mask = (32'sd1 << sh2) - 32'sd1;
  wire signed [31:0] remainder = hi & mask;
  wire signed [31:0] threshold = (mask >>> 1) + (hi < 0 ? 32'sd1 : 32'sd0);
  wire signed [31:0] quotient = (hi >>> sh2) + (remainder > threshold ? 32'sd1 : 32'sd0);

  wire signed [31:0] shifted = quotient + ZERO_POINT;
  always @(posedge clk) begin
    if (!rst_n) begin
      ch <= 0;
      vld1 <= 0;
      vld2 <= 0;
      act_vld <= 0;
    end else if (go) begin
      vld1 <= acc_vld;
      vld2 <= vld1;
      act_vld <= vld2;
      if (acc_vld) ch <= (ch == CHANNELS - 1) ? 0 : ch + 1;
      prod <= (acc + bias[ch]) * mult[ch];
      sh1 <= rshift[ch];
      hi <= high[31:0];
      sh2 <= sh1;
      act <= (shifted > 127) ? 8'sd127 : (shifted < -128) ? -8'sd128 : shifted[7:0];
    end
  end
endmodule
