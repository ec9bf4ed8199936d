// The iCE40 cells that synthesis uses, for simulation: what the family's data sheet says of them, as
// far as these netlists need it. A setting that is not modelled stops the simulation.

module SB_LUT4 (input I0, I1, I2, I3, output O);
  parameter [15:0] LUT_INIT = 0;
  assign O = LUT_INIT[{I3, I2, I1, I0}];
endmodule

module SB_CARRY (input I0, I1, CI, output CO);
  assign CO = I0 & I1 | I0 & CI | I1 & CI;
endmodule

// The flip-flops: N of the falling edge; D with E(nable), S(ynchronous) or asynchronous R(eset) or
// S(et), of which the synchronous ones wait for E. All start at 0.
module SB_DFF (input C, D, output reg Q);
  initial Q = 0;
  always @(posedge C) Q <= D;
endmodule

module SB_DFFSR (input C, R, D, output reg Q);
  initial Q = 0;
  always @(posedge C) Q <= ~R & D;
endmodule

module SB_DFFR (input C, R, D, output reg Q);
  initial Q = 0;
  always @(posedge C or posedge R) if (R) Q <= 0; else Q <= D;
endmodule

module SB_DFFSS (input C, S, D, output reg Q);
  initial Q = 0;
  always @(posedge C) Q <= S | D;
endmodule

module SB_DFFS (input C, S, D, output reg Q);
  initial Q = 0;
  always @(posedge C or posedge S) if (S) Q <= 1; else Q <= D;
endmodule

module SB_DFFE (input C, E, D, output reg Q);
  initial Q = 0;
  always @(posedge C) if (E) Q <= D;
endmodule

module SB_DFFESR (input C, E, R, D, output reg Q);
  initial Q = 0;
  always @(posedge C) if (E) Q <= ~R & D;
endmodule

module SB_DFFER (input C, E, R, D, output reg Q);
  initial Q = 0;
  always @(posedge C or posedge R) if (R) Q <= 0; else if (E) Q <= D;
endmodule

module SB_DFFESS (input C, E, S, D, output reg Q);
  initial Q = 0;
  always @(posedge C) if (E) Q <= S | D;
endmodule

module SB_DFFES (input C, E, S, D, output reg Q);
  initial Q = 0;
  always @(posedge C or posedge S) if (S) Q <= 1; else if (E) Q <= D;
endmodule

module SB_DFFN (input C, D, output reg Q);
  initial Q = 0;
  always @(negedge C) Q <= D;
endmodule

module SB_DFFNSR (input C, R, D, output reg Q);
  initial Q = 0;
  always @(negedge C) Q <= ~R & D;
endmodule

module SB_DFFNR (input C, R, D, output reg Q);
  initial Q = 0;
  always @(negedge C or posedge R) if (R) Q <= 0; else Q <= D;
endmodule

module SB_DFFNSS (input C, S, D, output reg Q);
  initial Q = 0;
  always @(negedge C) Q <= S | D;
endmodule

module SB_DFFNS (input C, S, D, output reg Q);
  initial Q = 0;
  always @(negedge C or posedge S) if (S) Q <= 1; else Q <= D;
endmodule

module SB_DFFNE (input C, E, D, output reg Q);
  initial Q = 0;
  always @(negedge C) if (E) Q <= D;
endmodule

module SB_DFFNESR (input C, E, R, D, output reg Q);
  initial Q = 0;
  always @(negedge C) if (E) Q <= ~R & D;
endmodule

module SB_DFFNER (input C, E, R, D, output reg Q);
  initial Q = 0;
  always @(negedge C or posedge R) if (R) Q <= 0; else if (E) Q <= D;
endmodule

module SB_DFFNESS (input C, E, S, D, output reg Q);
  initial Q = 0;
  always @(negedge C) if (E) Q <= S | D;
endmodule

module SB_DFFNES (input C, E, S, D, output reg Q);
  initial Q = 0;
  always @(negedge C or posedge S) if (S) Q <= 1; else if (E) Q <= D;
endmodule

// 4096 bits, one write and one read port. MODE 0: 256 x 16 with a mask; 1, 2, 3: 512 x 8, 1024 x 4,
// 2048 x 2, whose data sit in every second, fourth, eighth bit and whose high address bits choose
// among the bits of a 16 bit word.
module SB_RAM40_4K (
  output [15:0] RDATA,
  input RCLK, RCLKE, RE, input [10:0] RADDR,
  input WCLK, WCLKE, WE, input [10:0] WADDR, input [15:0] MASK, WDATA
);
  parameter [1:0] WRITE_MODE = 0;
  parameter [1:0] READ_MODE = 0;
  parameter [255:0]
    INIT_0 = 0, INIT_1 = 0, INIT_2 = 0, INIT_3 = 0, INIT_4 = 0, INIT_5 = 0, INIT_6 = 0, INIT_7 = 0,
    INIT_8 = 0, INIT_9 = 0, INIT_A = 0, INIT_B = 0, INIT_C = 0, INIT_D = 0, INIT_E = 0, INIT_F = 0;
  localparam [4095:0] CONTENTS = {
    INIT_F, INIT_E, INIT_D, INIT_C, INIT_B, INIT_A, INIT_9, INIT_8, INIT_7, INIT_6, INIT_5, INIT_4,
    INIT_3, INIT_2, INIT_1, INIT_0
  };
  reg [15:0] words [0:255];
  reg [15:0] read = 0;
  integer k;
  initial for (k = 0; k < 256; k = k + 1) words[k] = CONTENTS[16 * k +: 16];
  // The 16 bit word's bits that an address of a narrow mode means.
  function [15:0] lanes(input [1:0] mode, input [2:0] high);
    case (mode)
      0: lanes = 16'hffff;
      1: lanes = high[0] ? 16'haaaa : 16'h5555;
      2: lanes = 16'h1111 << high[1:0];
      3: lanes = 16'h0101 << high;
    endcase
  endfunction
  // Data of a narrow mode spread over all the places where it can be, and gathered from them.
  function [15:0] spread(input [1:0] mode, input [15:0] data);
    case (mode)
      0: spread = data;
      1: spread = {2{data[14], data[14], data[12], data[12], data[10], data[10], data[8], data[8]}}
                  & 16'hff00
                  | {8'b0, data[6], data[6], data[4], data[4], data[2], data[2], data[0], data[0]};
      2: spread = {{4{data[13]}}, {4{data[9]}}, {4{data[5]}}, {4{data[1]}}};
      3: spread = {{8{data[11]}}, {8{data[3]}}};
    endcase
  endfunction
  wire [15:0] chosen = words[RADDR[7:0]] & lanes(READ_MODE, RADDR[10:8]);
  function [15:0] gather(input [1:0] mode, input [15:0] word);
    case (mode)
      0: gather = word;
      1: gather = {1'b0, |word[15:14], 1'b0, |word[13:12], 1'b0, |word[11:10], 1'b0, |word[9:8],
                   1'b0, |word[7:6], 1'b0, |word[5:4], 1'b0, |word[3:2], 1'b0, |word[1:0]};
      2: gather = {2'b0, |word[15:12], 3'b0, |word[11:8], 3'b0, |word[7:4], 3'b0, |word[3:0], 1'b0};
      3: gather = {4'b0, |word[15:8], 7'b0, |word[7:0], 3'b0};
    endcase
  endfunction
  wire [15:0] written = lanes(WRITE_MODE, WADDR[10:8]) & (WRITE_MODE == 0 ? ~MASK : 16'hffff);
  assign RDATA = read;
  always @(posedge RCLK) if (RCLKE & RE) read <= gather(READ_MODE, chosen);
  always @(posedge WCLK) if (WCLKE & WE)
    words[WADDR[7:0]] <= words[WADDR[7:0]] & ~written | spread(WRITE_MODE, WDATA) & written;
endmodule

// The multiplier as 16 x 16 bits, with or without the registers of A, B, the partial products (all
// of them or none) and the product.
module SB_MAC16 (
  input CLK, CE, input [15:0] C, A, B, D,
  input AHOLD, BHOLD, CHOLD, DHOLD, IRSTTOP, IRSTBOT, ORSTTOP, ORSTBOT,
  input OLOADTOP, OLOADBOT, ADDSUBTOP, ADDSUBBOT, OHOLDTOP, OHOLDBOT, CI, ACCUMCI, SIGNEXTIN,
  output [31:0] O, output CO, ACCUMCO, SIGNEXTOUT
);
  parameter NEG_TRIGGER = 0;
  parameter C_REG = 0;
  parameter A_REG = 0;
  parameter B_REG = 0;
  parameter D_REG = 0;
  parameter TOP_8x8_MULT_REG = 0;
  parameter BOT_8x8_MULT_REG = 0;
  parameter PIPELINE_16x16_MULT_REG1 = 0;
  parameter PIPELINE_16x16_MULT_REG2 = 0;
  parameter [1:0] TOPOUTPUT_SELECT = 0;
  parameter [1:0] TOPADDSUB_LOWERINPUT = 0;
  parameter TOPADDSUB_UPPERINPUT = 0;
  parameter [1:0] TOPADDSUB_CARRYSELECT = 0;
  parameter [1:0] BOTOUTPUT_SELECT = 0;
  parameter [1:0] BOTADDSUB_LOWERINPUT = 0;
  parameter BOTADDSUB_UPPERINPUT = 0;
  parameter [1:0] BOTADDSUB_CARRYSELECT = 0;
  parameter MODE_8x8 = 0;
  parameter A_SIGNED = 0;
  parameter B_SIGNED = 0;
  initial if (NEG_TRIGGER != 0 || MODE_8x8 != 0 || TOPOUTPUT_SELECT != 3 || BOTOUTPUT_SELECT != 3
              || TOP_8x8_MULT_REG != PIPELINE_16x16_MULT_REG1
              || BOT_8x8_MULT_REG != PIPELINE_16x16_MULT_REG1)
    $fatal(1, "SB_MAC16: a setting is not modelled");
  reg [15:0] held_a = 0;
  reg [15:0] held_b = 0;
  reg [31:0] held_p = 0;
  reg [31:0] held_o = 0;
  always @(posedge CLK) begin
    if (IRSTTOP) held_a <= 0;
    else if (CE & ~AHOLD) held_a <= A;
    if (IRSTBOT) held_b <= 0;
    else if (CE & ~BHOLD) held_b <= B;
    if (IRSTBOT) held_o <= 0;
    else if (CE) held_o <= inner;
    if (IRSTBOT) held_p <= 0;
    else if (CE) held_p <= product;
  end
  wire [15:0] a = A_REG != 0 ? held_a : A;
  wire [15:0] b = B_REG != 0 ? held_b : B;
  wire [31:0] wide_a = {{16{A_SIGNED != 0 & a[15]}}, a};
  wire [31:0] wide_b = {{16{B_SIGNED != 0 & b[15]}}, b};
  wire [31:0] product = wide_a * wide_b;
  wire [31:0] inner = PIPELINE_16x16_MULT_REG1 != 0 ? held_p : product;
  assign O = PIPELINE_16x16_MULT_REG2 != 0 ? held_o : inner;
  assign {CO, ACCUMCO, SIGNEXTOUT} = 0;
endmodule

// The loop passes its input on: to a model without time every clock is the same.
module SB_PLL40_PAD (input PACKAGEPIN, RESETB, BYPASS, output PLLOUTGLOBAL, LOCK);
  parameter FEEDBACK_PATH = "SIMPLE";
  parameter [3:0] DIVR = 0;
  parameter [6:0] DIVF = 0;
  parameter [2:0] DIVQ = 0;
  parameter [2:0] FILTER_RANGE = 0;
  assign PLLOUTGLOBAL = PACKAGEPIN;
  assign LOCK = 1;
endmodule

// What nextpnr packs them into. Ports that are not connected are 0, but for enables, which are 1:
// `codegen.routed` connects those.

module ICESTORM_LC (
  input I0, I1, I2, I3, CIN, CLK, CEN, SR, output COUT, LO, O
);
  parameter [15:0] LUT_INIT = 0;
  parameter NEG_CLK = 0;
  parameter CARRY_ENABLE = 0;
  parameter CIN_CONST = 0;
  parameter CIN_SET = 0;
  parameter DFF_ENABLE = 0;
  parameter SET_NORESET = 0;
  parameter ASYNC_SR = 0;
  initial if (NEG_CLK != 0 || ASYNC_SR != 0) $fatal(1, "ICESTORM_LC: a setting is not modelled");
  wire carry = CIN_CONST != 0 ? CIN_SET != 0 : CIN;
  reg held = 0;
  assign LO = LUT_INIT[{I3, I2, I1, I0}];
  assign COUT = CARRY_ENABLE != 0 & (I1 & I2 | I1 & carry | I2 & carry);
  always @(posedge CLK) if (CEN) held <= SR ? SET_NORESET != 0 : LO;
  assign O = DFF_ENABLE != 0 ? held : LO;
endmodule

module SB_GB (input USER_SIGNAL_TO_GLOBAL_BUFFER, output GLOBAL_BUFFER_OUTPUT);
  assign GLOBAL_BUFFER_OUTPUT = USER_SIGNAL_TO_GLOBAL_BUFFER;
endmodule

// A pin that is only driven from outside, or only from inside.
module PIN_IN (input PACKAGE_PIN, output D_IN_0);
  assign D_IN_0 = PACKAGE_PIN;
endmodule

module PIN_OUT (output PACKAGE_PIN, input D_OUT_0);
  assign PACKAGE_PIN = D_OUT_0;
endmodule
