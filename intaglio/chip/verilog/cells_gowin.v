// The Gowin cells that synthesis uses, for simulation: what the family's data sheet says of them, as
// far as these netlists need it. A setting that is not modelled stops the simulation.

// What a block RAM holds at first: parameters of these names, and all of them, the last first.
`define INITIAL_ZERO \
  INIT_RAM_00 = 0, INIT_RAM_01 = 0, INIT_RAM_02 = 0, INIT_RAM_03 = 0, INIT_RAM_04 = 0, \
  INIT_RAM_05 = 0, INIT_RAM_06 = 0, INIT_RAM_07 = 0, INIT_RAM_08 = 0, INIT_RAM_09 = 0, \
  INIT_RAM_0A = 0, INIT_RAM_0B = 0, INIT_RAM_0C = 0, INIT_RAM_0D = 0, INIT_RAM_0E = 0, \
  INIT_RAM_0F = 0, INIT_RAM_10 = 0, INIT_RAM_11 = 0, INIT_RAM_12 = 0, INIT_RAM_13 = 0, \
  INIT_RAM_14 = 0, INIT_RAM_15 = 0, INIT_RAM_16 = 0, INIT_RAM_17 = 0, INIT_RAM_18 = 0, \
  INIT_RAM_19 = 0, INIT_RAM_1A = 0, INIT_RAM_1B = 0, INIT_RAM_1C = 0, INIT_RAM_1D = 0, \
  INIT_RAM_1E = 0, INIT_RAM_1F = 0, INIT_RAM_20 = 0, INIT_RAM_21 = 0, INIT_RAM_22 = 0, \
  INIT_RAM_23 = 0, INIT_RAM_24 = 0, INIT_RAM_25 = 0, INIT_RAM_26 = 0, INIT_RAM_27 = 0, \
  INIT_RAM_28 = 0, INIT_RAM_29 = 0, INIT_RAM_2A = 0, INIT_RAM_2B = 0, INIT_RAM_2C = 0, \
  INIT_RAM_2D = 0, INIT_RAM_2E = 0, INIT_RAM_2F = 0, INIT_RAM_30 = 0, INIT_RAM_31 = 0, \
  INIT_RAM_32 = 0, INIT_RAM_33 = 0, INIT_RAM_34 = 0, INIT_RAM_35 = 0, INIT_RAM_36 = 0, \
  INIT_RAM_37 = 0, INIT_RAM_38 = 0, INIT_RAM_39 = 0, INIT_RAM_3A = 0, INIT_RAM_3B = 0, \
  INIT_RAM_3C = 0, INIT_RAM_3D = 0, INIT_RAM_3E = 0, INIT_RAM_3F = 0
`define INITIAL_WORDS \
  INIT_RAM_3F, INIT_RAM_3E, INIT_RAM_3D, INIT_RAM_3C, INIT_RAM_3B, INIT_RAM_3A, INIT_RAM_39, \
  INIT_RAM_38, INIT_RAM_37, INIT_RAM_36, INIT_RAM_35, INIT_RAM_34, INIT_RAM_33, INIT_RAM_32, \
  INIT_RAM_31, INIT_RAM_30, INIT_RAM_2F, INIT_RAM_2E, INIT_RAM_2D, INIT_RAM_2C, INIT_RAM_2B, \
  INIT_RAM_2A, INIT_RAM_29, INIT_RAM_28, INIT_RAM_27, INIT_RAM_26, INIT_RAM_25, INIT_RAM_24, \
  INIT_RAM_23, INIT_RAM_22, INIT_RAM_21, INIT_RAM_20, INIT_RAM_1F, INIT_RAM_1E, INIT_RAM_1D, \
  INIT_RAM_1C, INIT_RAM_1B, INIT_RAM_1A, INIT_RAM_19, INIT_RAM_18, INIT_RAM_17, INIT_RAM_16, \
  INIT_RAM_15, INIT_RAM_14, INIT_RAM_13, INIT_RAM_12, INIT_RAM_11, INIT_RAM_10, INIT_RAM_0F, \
  INIT_RAM_0E, INIT_RAM_0D, INIT_RAM_0C, INIT_RAM_0B, INIT_RAM_0A, INIT_RAM_09, INIT_RAM_08, \
  INIT_RAM_07, INIT_RAM_06, INIT_RAM_05, INIT_RAM_04, INIT_RAM_03, INIT_RAM_02, INIT_RAM_01, \
  INIT_RAM_00

module GND (output G);
  assign G = 0;
endmodule

module VCC (output V);
  assign V = 1;
endmodule

module IBUF (input I, output O);
  assign O = I;
endmodule

module OBUF (input I, output O);
  assign O = I;
endmodule

module INV (input I, output O);
  assign O = ~I;
endmodule

module LUT1 (input I0, output F);
  parameter [1:0] INIT = 0;
  assign F = INIT[I0];
endmodule

module LUT2 (input I0, I1, output F);
  parameter [3:0] INIT = 0;
  assign F = INIT[{I1, I0}];
endmodule

module LUT3 (input I0, I1, I2, output F);
  parameter [7:0] INIT = 0;
  assign F = INIT[{I2, I1, I0}];
endmodule

module LUT4 (input I0, I1, I2, I3, output F);
  parameter [15:0] INIT = 0;
  assign F = INIT[{I3, I2, I1, I0}];
endmodule

module MUX2_LUT5 (input I0, I1, S0, output O);
  assign O = S0 ? I1 : I0;
endmodule

module MUX2_LUT6 (input I0, I1, S0, output O);
  assign O = S0 ? I1 : I0;
endmodule

module MUX2_LUT7 (input I0, I1, S0, output O);
  assign O = S0 ? I1 : I0;
endmodule

module MUX2_LUT8 (input I0, I1, S0, output O);
  assign O = S0 ? I1 : I0;
endmodule

// One bit of an adder: mode 0 adds, 1 subtracts (the carry in is then 1), 2 as I3 says.
module ALU (input I0, I1, I3, CIN, output SUM, COUT);
  parameter ALU_MODE = 0;
  initial if (ALU_MODE > 2) $fatal(1, "ALU: mode %0d is not modelled", ALU_MODE);
  wire term = I1 ^ (ALU_MODE == 0 ? 1'b0 : ALU_MODE == 1 ? 1'b1 : ~I3);
  assign SUM = I0 ^ term ^ CIN;
  assign COUT = I0 & term | I0 & CIN | term & CIN;
endmodule

// The flip-flops: N of the falling edge; D with E(nable), synchronous R(eset) or S(et), asynchronous
// C(lear) or P(reset), which go before it.
module DFF (input CLK, D, output reg Q);
  parameter INIT = 0;
  initial Q = INIT;
  always @(posedge CLK) Q <= D;
endmodule

module DFFE (input CLK, D, CE, output reg Q);
  parameter INIT = 0;
  initial Q = INIT;
  always @(posedge CLK) if (CE) Q <= D;
endmodule

module DFFR (input CLK, D, RESET, output reg Q);
  parameter INIT = 0;
  initial Q = INIT;
  always @(posedge CLK) if (RESET) Q <= 0; else Q <= D;
endmodule

module DFFRE (input CLK, D, CE, RESET, output reg Q);
  parameter INIT = 0;
  initial Q = INIT;
  always @(posedge CLK) if (RESET) Q <= 0; else if (CE) Q <= D;
endmodule

module DFFS (input CLK, D, SET, output reg Q);
  parameter INIT = 1;
  initial Q = INIT;
  always @(posedge CLK) if (SET) Q <= 1; else Q <= D;
endmodule

module DFFSE (input CLK, D, CE, SET, output reg Q);
  parameter INIT = 1;
  initial Q = INIT;
  always @(posedge CLK) if (SET) Q <= 1; else if (CE) Q <= D;
endmodule

module DFFC (input CLK, D, CLEAR, output reg Q);
  parameter INIT = 0;
  initial Q = INIT;
  always @(posedge CLK or posedge CLEAR) if (CLEAR) Q <= 0; else Q <= D;
endmodule

module DFFCE (input CLK, D, CE, CLEAR, output reg Q);
  parameter INIT = 0;
  initial Q = INIT;
  always @(posedge CLK or posedge CLEAR) if (CLEAR) Q <= 0; else if (CE) Q <= D;
endmodule

module DFFP (input CLK, D, PRESET, output reg Q);
  parameter INIT = 1;
  initial Q = INIT;
  always @(posedge CLK or posedge PRESET) if (PRESET) Q <= 1; else Q <= D;
endmodule

module DFFPE (input CLK, D, CE, PRESET, output reg Q);
  parameter INIT = 1;
  initial Q = INIT;
  always @(posedge CLK or posedge PRESET) if (PRESET) Q <= 1; else if (CE) Q <= D;
endmodule

module DFFN (input CLK, D, output reg Q);
  parameter INIT = 0;
  initial Q = INIT;
  always @(negedge CLK) Q <= D;
endmodule

module DFFNE (input CLK, D, CE, output reg Q);
  parameter INIT = 0;
  initial Q = INIT;
  always @(negedge CLK) if (CE) Q <= D;
endmodule

module DFFNR (input CLK, D, RESET, output reg Q);
  parameter INIT = 0;
  initial Q = INIT;
  always @(negedge CLK) if (RESET) Q <= 0; else Q <= D;
endmodule

module DFFNRE (input CLK, D, CE, RESET, output reg Q);
  parameter INIT = 0;
  initial Q = INIT;
  always @(negedge CLK) if (RESET) Q <= 0; else if (CE) Q <= D;
endmodule

module DFFNS (input CLK, D, SET, output reg Q);
  parameter INIT = 1;
  initial Q = INIT;
  always @(negedge CLK) if (SET) Q <= 1; else Q <= D;
endmodule

module DFFNSE (input CLK, D, CE, SET, output reg Q);
  parameter INIT = 1;
  initial Q = INIT;
  always @(negedge CLK) if (SET) Q <= 1; else if (CE) Q <= D;
endmodule

module DFFNC (input CLK, D, CLEAR, output reg Q);
  parameter INIT = 0;
  initial Q = INIT;
  always @(negedge CLK or posedge CLEAR) if (CLEAR) Q <= 0; else Q <= D;
endmodule

module DFFNCE (input CLK, D, CE, CLEAR, output reg Q);
  parameter INIT = 0;
  initial Q = INIT;
  always @(negedge CLK or posedge CLEAR) if (CLEAR) Q <= 0; else if (CE) Q <= D;
endmodule

module DFFNP (input CLK, D, PRESET, output reg Q);
  parameter INIT = 1;
  initial Q = INIT;
  always @(negedge CLK or posedge PRESET) if (PRESET) Q <= 1; else Q <= D;
endmodule

module DFFNPE (input CLK, D, CE, PRESET, output reg Q);
  parameter INIT = 1;
  initial Q = INIT;
  always @(negedge CLK or posedge PRESET) if (PRESET) Q <= 1; else if (CE) Q <= D;
endmodule

// Sixteen words of four bits in tables; bit b of word w starts as bit w of INIT_b.
module RAM16SDP4 (
  input CLK, WRE, input [3:0] DI, WAD, RAD, output [3:0] DO
);
  parameter [15:0] INIT_0 = 0, INIT_1 = 0, INIT_2 = 0, INIT_3 = 0;
  reg [3:0] words [0:15];
  integer k;
  initial for (k = 0; k < 16; k = k + 1) words[k] = {INIT_3[k], INIT_2[k], INIT_1[k], INIT_0[k]};
  always @(posedge CLK) if (WRE) words[WAD] <= DI;
  assign DO = words[RAD];
endmodule

module MULT9X9 (
  input [8:0] A, SIA, B, SIB, input ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET,
  output [17:0] DOUT, output [8:0] SOA, SOB
);
  parameter AREG = 0;
  parameter BREG = 0;
  parameter OUT_REG = 0;
  parameter PIPE_REG = 0;
  parameter ASIGN_REG = 0;
  parameter BSIGN_REG = 0;
  parameter SOA_REG = 0;
  parameter MULT_RESET_MODE = "SYNC";
  initial if (AREG != 0 || BREG != 0 || OUT_REG != 0 || PIPE_REG != 0)
    $fatal(1, "MULT9X9: registers are not modelled");
  assign DOUT = {{9{ASIGN & A[8]}}, A} * {{9{BSIGN & B[8]}}, B};
  assign {SOA, SOB} = 0;
endmodule

module MULT18X18 (
  input [17:0] A, SIA, B, SIB, input ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET,
  output [35:0] DOUT, output [17:0] SOA, SOB
);
  parameter AREG = 0;
  parameter BREG = 0;
  parameter OUT_REG = 0;
  parameter PIPE_REG = 0;
  parameter ASIGN_REG = 0;
  parameter BSIGN_REG = 0;
  parameter SOA_REG = 0;
  parameter MULT_RESET_MODE = "SYNC";
  initial if (AREG != 0 || BREG != 0 || OUT_REG != 0 || PIPE_REG != 0)
    $fatal(1, "MULT18X18: registers are not modelled");
  assign DOUT = {{18{ASIGN & A[17]}}, A} * {{18{BSIGN & B[17]}}, B};
  assign {SOA, SOB} = 0;
endmodule

module MULT36X36 (
  input [35:0] A, B, input ASIGN, BSIGN, CE, CLK, RESET, output [71:0] DOUT
);
  parameter AREG = 0;
  parameter BREG = 0;
  parameter OUT0_REG = 0;
  parameter OUT1_REG = 0;
  parameter PIPE_REG = 0;
  parameter ASIGN_REG = 0;
  parameter BSIGN_REG = 0;
  parameter MULT_RESET_MODE = "SYNC";
  initial if (AREG != 0 || BREG != 0 || OUT0_REG != 0 || OUT1_REG != 0 || PIPE_REG != 0)
    $fatal(1, "MULT36X36: registers are not modelled");
  assign DOUT = {{36{ASIGN & A[35]}}, A} * {{36{BSIGN & B[35]}}, B};
endmodule

// 2048 bytes of 8 or 9 bits behind two ports, each reading and writing parts of a byte, or up to four
// bytes, which a write's low address bits enable. While a port writes, its output keeps its value
// (mode 0), is what is written (1) or what was there (2).
module gowin_ram #(
  parameter BYTE = 8, parameter WIDTH_A = 32, parameter WIDTH_B = 32,
  parameter MODE_A = 0, parameter MODE_B = 0, parameter [2048 * BYTE - 1:0] CONTENTS = 0
) (
  input clk_a, on_a, write_a, clear_a, clk_b, on_b, write_b, clear_b, input [13:0] at_a, at_b,
  input [4 * BYTE - 1:0] d_a, d_b, output reg [4 * BYTE - 1:0] q_a, q_b
);
  reg [BYTE - 1:0] bytes [0:2047];
  integer k;
  initial {q_a, q_b} = 0;
  initial for (k = 0; k < 2048; k = k + 1) bytes[k] = CONTENTS[BYTE * k +: BYTE];

  function [4 * BYTE - 1:0] word(input [13:0] at, input integer width);
    case (width / BYTE)
      0: word = bytes[at[13:3]] >> at[2:0] & ((1 << width) - 1);
      1: word = bytes[at[13:3]];
      2: word = {bytes[{at[13:4], 1'b1}], bytes[{at[13:4], 1'b0}]};
      default: word = {bytes[{at[13:5], 2'd3}], bytes[{at[13:5], 2'd2}],
                       bytes[{at[13:5], 2'd1}], bytes[{at[13:5], 2'd0}]};
    endcase
  endfunction

  task store(input [13:0] at, input integer width, input [4 * BYTE - 1:0] d);
    reg [BYTE - 1:0] mask;
    integer b;
    begin
      mask = width < BYTE ? ((1 << width) - 1) << at[2:0] : ~0;
      if (width <= BYTE)
        bytes[at[13:3]] <= bytes[at[13:3]] & ~mask | (width < BYTE ? d << at[2:0] : d) & mask;
      else if (width == 2 * BYTE) begin
        if (at[0]) bytes[{at[13:4], 1'b0}] <= d[0 +: BYTE];
        if (at[1]) bytes[{at[13:4], 1'b1}] <= d[BYTE +: BYTE];
      end else
        for (b = 0; b < 4; b = b + 1) if (at[b]) bytes[{at[13:5], b[1:0]}] <= d[BYTE * b +: BYTE];
    end
  endtask

  always @(posedge clk_a) begin
    if (clear_a) q_a <= 0;
    else if (on_a & (~write_a | MODE_A == 2)) q_a <= word(at_a, WIDTH_A);
    else if (on_a & MODE_A == 1) q_a <= d_a;
    if (on_a & write_a) store(at_a, WIDTH_A, d_a);
  end
  always @(posedge clk_b) begin
    if (clear_b) q_b <= 0;
    else if (on_b & (~write_b | MODE_B == 2)) q_b <= word(at_b, WIDTH_B);
    else if (on_b & MODE_B == 1) q_b <= d_b;
    if (on_b & write_b) store(at_b, WIDTH_B, d_b);
  end
endmodule

// 8 bits a byte; port A writes, port B reads.
module SDPB (
  input CLKA, CEA, CLKB, CEB, OCE, RESETA, RESETB, input [13:0] ADA, ADB,
  input [31:0] DI, input [2:0] BLKSELA, BLKSELB, output [31:0] DO
);
  parameter READ_MODE = 0;
  parameter BIT_WIDTH_0 = 32;
  parameter BIT_WIDTH_1 = 32;
  parameter [2:0] BLK_SEL_0 = 0;
  parameter [2:0] BLK_SEL_1 = 0;
  parameter RESET_MODE = "SYNC";
  parameter [255:0]
    `INITIAL_ZERO;
  initial if (READ_MODE != 0 || BLK_SEL_0 != 0 || BLK_SEL_1 != 0)
    $fatal(1, "SDPB: a setting is not modelled");
  always @(posedge CLKB) if (RESET_MODE != "SYNC" && RESETB)
    $fatal(1, "SDPB: an asynchronous reset is not modelled");
  gowin_ram #(
    .BYTE(8), .WIDTH_A(BIT_WIDTH_0), .WIDTH_B(BIT_WIDTH_1),
    .CONTENTS({`INITIAL_WORDS})
  ) ram (
    .clk_a(CLKA), .on_a(CEA), .write_a(1'b1), .clear_a(RESETA), .at_a(ADA), .d_a(DI), .q_a(),
    .clk_b(CLKB), .on_b(CEB), .write_b(1'b0), .clear_b(RESETB), .at_b(ADB), .d_b(32'b0), .q_b(DO)
  );
endmodule

// 9 bits a byte; port A writes, port B reads.
module SDPX9B (
  input CLKA, CEA, CLKB, CEB, OCE, RESETA, RESETB, input [13:0] ADA, ADB,
  input [35:0] DI, input [2:0] BLKSELA, BLKSELB, output [35:0] DO
);
  parameter READ_MODE = 0;
  parameter BIT_WIDTH_0 = 36;
  parameter BIT_WIDTH_1 = 36;
  parameter [2:0] BLK_SEL_0 = 0;
  parameter [2:0] BLK_SEL_1 = 0;
  parameter RESET_MODE = "SYNC";
  parameter [287:0]
    `INITIAL_ZERO;
  initial if (READ_MODE != 0 || BLK_SEL_0 != 0 || BLK_SEL_1 != 0)
    $fatal(1, "SDPX9B: a setting is not modelled");
  always @(posedge CLKB) if (RESET_MODE != "SYNC" && RESETB)
    $fatal(1, "SDPX9B: an asynchronous reset is not modelled");
  gowin_ram #(
    .BYTE(9), .WIDTH_A(BIT_WIDTH_0), .WIDTH_B(BIT_WIDTH_1),
    .CONTENTS({`INITIAL_WORDS})
  ) ram (
    .clk_a(CLKA), .on_a(CEA), .write_a(1'b1), .clear_a(RESETA), .at_a(ADA), .d_a(DI), .q_a(),
    .clk_b(CLKB), .on_b(CEB), .write_b(1'b0), .clear_b(RESETB), .at_b(ADB), .d_b(36'b0), .q_b(DO)
  );
endmodule

// 8 bits a byte, two of them a port at most.
module DPB (
  input CLKA, CEA, OCEA, RESETA, WREA, CLKB, CEB, OCEB, RESETB, WREB, input [13:0] ADA, ADB,
  input [15:0] DIA, DIB, input [2:0] BLKSELA, BLKSELB, output [15:0] DOA, DOB
);
  parameter READ_MODE0 = 0;
  parameter READ_MODE1 = 0;
  parameter WRITE_MODE0 = 0;
  parameter WRITE_MODE1 = 0;
  parameter BIT_WIDTH_0 = 16;
  parameter BIT_WIDTH_1 = 16;
  parameter [2:0] BLK_SEL_0 = 0;
  parameter [2:0] BLK_SEL_1 = 0;
  parameter RESET_MODE = "SYNC";
  parameter [255:0]
    `INITIAL_ZERO;
  initial if (READ_MODE0 != 0 || READ_MODE1 != 0 || BLK_SEL_0 != 0 || BLK_SEL_1 != 0)
    $fatal(1, "DPB: a setting is not modelled");
  always @(posedge CLKA) if (RESET_MODE != "SYNC" && (RESETA || RESETB))
    $fatal(1, "DPB: an asynchronous reset is not modelled");
  wire [15:0] high_a, high_b;
  gowin_ram #(
    .BYTE(8), .WIDTH_A(BIT_WIDTH_0), .WIDTH_B(BIT_WIDTH_1), .MODE_A(WRITE_MODE0),
    .MODE_B(WRITE_MODE1),
    .CONTENTS({`INITIAL_WORDS})
  ) ram (
    .clk_a(CLKA), .on_a(CEA), .write_a(WREA), .clear_a(RESETA), .at_a(ADA),
    .d_a({16'b0, DIA}), .q_a({high_a, DOA}),
    .clk_b(CLKB), .on_b(CEB), .write_b(WREB), .clear_b(RESETB), .at_b(ADB),
    .d_b({16'b0, DIB}), .q_b({high_b, DOB})
  );
endmodule

// 9 bits a byte, two of them a port at most.
module DPX9B (
  input CLKA, CEA, OCEA, RESETA, WREA, CLKB, CEB, OCEB, RESETB, WREB, input [13:0] ADA, ADB,
  input [17:0] DIA, DIB, input [2:0] BLKSELA, BLKSELB, output [17:0] DOA, DOB
);
  parameter READ_MODE0 = 0;
  parameter READ_MODE1 = 0;
  parameter WRITE_MODE0 = 0;
  parameter WRITE_MODE1 = 0;
  parameter BIT_WIDTH_0 = 18;
  parameter BIT_WIDTH_1 = 18;
  parameter [2:0] BLK_SEL_0 = 0;
  parameter [2:0] BLK_SEL_1 = 0;
  parameter RESET_MODE = "SYNC";
  parameter [287:0]
    `INITIAL_ZERO;
  initial if (READ_MODE0 != 0 || READ_MODE1 != 0 || BLK_SEL_0 != 0 || BLK_SEL_1 != 0)
    $fatal(1, "DPX9B: a setting is not modelled");
  always @(posedge CLKA) if (RESET_MODE != "SYNC" && (RESETA || RESETB))
    $fatal(1, "DPX9B: an asynchronous reset is not modelled");
  wire [17:0] high_a, high_b;
  gowin_ram #(
    .BYTE(9), .WIDTH_A(BIT_WIDTH_0), .WIDTH_B(BIT_WIDTH_1), .MODE_A(WRITE_MODE0),
    .MODE_B(WRITE_MODE1),
    .CONTENTS({`INITIAL_WORDS})
  ) ram (
    .clk_a(CLKA), .on_a(CEA), .write_a(WREA), .clear_a(RESETA), .at_a(ADA),
    .d_a({18'b0, DIA}), .q_a({high_a, DOA}),
    .clk_b(CLKB), .on_b(CEB), .write_b(WREB), .clear_b(RESETB), .at_b(ADB),
    .d_b({18'b0, DIB}), .q_b({high_b, DOB})
  );
endmodule
