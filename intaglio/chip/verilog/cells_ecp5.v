// The ECP5 cells that synthesis uses, for simulation: what the family's data sheet says of them, as
// far as these netlists need it. A setting that is not modelled stops the simulation.

module LUT4 (input A, B, C, D, output Z);
  parameter [15:0] INIT = 0;
  assign Z = INIT[{D, C, B, A}];
endmodule

module PFUMX (input ALUT, BLUT, C0, output Z);
  assign Z = C0 ? ALUT : BLUT;
endmodule

module L6MUX21 (input D0, D1, SD, output Z);
  assign Z = SD ? D1 : D0;
endmodule

// Two bits of a carry chain. A half's table makes its sum term; the lower quarter of the same table
// makes the carry that is generated where the term is 0. INJECT cuts the carry off.
module CCU2C (
  input CIN, A0, B0, C0, D0, A1, B1, C1, D1,
  output S0, S1, COUT
);
  parameter [15:0] INIT0 = 0;
  parameter [15:0] INIT1 = 0;
  parameter INJECT1_0 = "YES";
  parameter INJECT1_1 = "YES";
  wire t0 = INIT0[{D0, C0, B0, A0}];
  wire t1 = INIT1[{D1, C1, B1, A1}];
  wire g0 = (INJECT1_0 == "YES") ? 1'b0 : INIT0[{2'b00, B0, A0}];
  wire g1 = (INJECT1_1 == "YES") ? 1'b0 : INIT1[{2'b00, B1, A1}];
  wire middle = t0 ? CIN : g0;
  assign S0 = t0 ^ ((INJECT1_0 == "YES") ? 1'b0 : CIN);
  assign S1 = t1 ^ ((INJECT1_1 == "YES") ? 1'b0 : middle);
  assign COUT = t1 ? middle : g1;
endmodule

module TRELLIS_FF (input CLK, LSR, CE, DI, M, output reg Q);
  parameter GSR = "ENABLED";
  parameter CEMUX = "CE";
  parameter CLKMUX = "CLK";
  parameter LSRMUX = "LSR";
  parameter LSRONMUX = "LSRMUX";
  parameter SRMODE = "LSR_OVER_CE";
  parameter REGSET = "RESET";
  parameter LSRMODE = "LSR";
  wire enable = (CEMUX == "1") ? 1'b1 : (CEMUX == "INV") ? ~CE : (CEMUX == "0") ? 1'b0 : CE;
  wire reset = (LSRMUX == "INV") ? ~LSR : LSR;
  wire start = (REGSET == "SET");
  initial Q = start;
  generate
    if (CLKMUX == "INV" && SRMODE == "ASYNC") begin : falling_asynchronous
      always @(negedge CLK or posedge reset) if (reset) Q <= start; else if (enable) Q <= DI;
    end else if (CLKMUX == "INV" && SRMODE == "CE_OVER_LSR") begin : falling_enabled
      always @(negedge CLK) if (enable) Q <= reset ? start : DI;
    end else if (CLKMUX == "INV") begin : falling
      always @(negedge CLK) if (reset) Q <= start; else if (enable) Q <= DI;
    end else if (SRMODE == "ASYNC") begin : asynchronous
      always @(posedge CLK or posedge reset) if (reset) Q <= start; else if (enable) Q <= DI;
    end else if (SRMODE == "CE_OVER_LSR") begin : enabled
      always @(posedge CLK) if (enable) Q <= reset ? start : DI;
    end else begin : synchronous
      always @(posedge CLK) if (reset) Q <= start; else if (enable) Q <= DI;
    end
  endgenerate
endmodule

module TRELLIS_DPR16X4 (
  input [3:0] DI, WAD, input WRE, WCK, input [3:0] RAD, output [3:0] DO
);
  parameter WCKMUX = "WCK";
  parameter WREMUX = "WRE";
  parameter [63:0] INITVAL = 0;
  reg [63:0] words = INITVAL;
  wire enable = (WREMUX == "INV") ? ~WRE : WRE;
  initial if (WCKMUX != "WCK") $fatal(1, "TRELLIS_DPR16X4: WCKMUX %s", WCKMUX);
  always @(posedge WCK) if (enable) words[4 * WAD +: 4] <= DI;
  assign DO = words[4 * RAD +: 4];
endmodule

// The multiplier, 18 x 18 bits, each operand signed or not, with the registers before its operands
// and behind its product, of one clock.
module MULT18X18D (
  input A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0,
  input B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0,
  input C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6, C5, C4, C3, C2, C1, C0,
  input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
  input CLK3, CLK2, CLK1, CLK0, CE3, CE2, CE1, CE0, RST3, RST2, RST1, RST0,
  input SRIA17, SRIA16, SRIA15, SRIA14, SRIA13, SRIA12, SRIA11, SRIA10, SRIA9, SRIA8, SRIA7,
  SRIA6, SRIA5, SRIA4, SRIA3, SRIA2, SRIA1, SRIA0,
  input SRIB17, SRIB16, SRIB15, SRIB14, SRIB13, SRIB12, SRIB11, SRIB10, SRIB9, SRIB8, SRIB7,
  SRIB6, SRIB5, SRIB4, SRIB3, SRIB2, SRIB1, SRIB0,
  output SROA17, SROA16, SROA15, SROA14, SROA13, SROA12, SROA11, SROA10, SROA9, SROA8, SROA7,
  SROA6, SROA5, SROA4, SROA3, SROA2, SROA1, SROA0,
  output SROB17, SROB16, SROB15, SROB14, SROB13, SROB12, SROB11, SROB10, SROB9, SROB8, SROB7,
  SROB6, SROB5, SROB4, SROB3, SROB2, SROB1, SROB0,
  output ROA17, ROA16, ROA15, ROA14, ROA13, ROA12, ROA11, ROA10, ROA9, ROA8, ROA7, ROA6, ROA5,
  ROA4, ROA3, ROA2, ROA1, ROA0,
  output ROB17, ROB16, ROB15, ROB14, ROB13, ROB12, ROB11, ROB10, ROB9, ROB8, ROB7, ROB6, ROB5,
  ROB4, ROB3, ROB2, ROB1, ROB0,
  output ROC17, ROC16, ROC15, ROC14, ROC13, ROC12, ROC11, ROC10, ROC9, ROC8, ROC7, ROC6, ROC5,
  ROC4, ROC3, ROC2, ROC1, ROC0,
  output P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19,
  P18, P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0,
  output SIGNEDP
);
  parameter REG_INPUTA_CLK = "NONE";
  parameter REG_INPUTA_CE = "CE0";
  parameter REG_INPUTA_RST = "RST0";
  parameter REG_INPUTB_CLK = "NONE";
  parameter REG_INPUTB_CE = "CE0";
  parameter REG_INPUTB_RST = "RST0";
  parameter REG_INPUTC_CLK = "NONE";
  parameter REG_INPUTC_CE = "CE0";
  parameter REG_INPUTC_RST = "RST0";
  parameter REG_PIPELINE_CLK = "NONE";
  parameter REG_PIPELINE_CE = "CE0";
  parameter REG_PIPELINE_RST = "RST0";
  parameter REG_OUTPUT_CLK = "NONE";
  parameter REG_OUTPUT_CE = "CE0";
  parameter REG_OUTPUT_RST = "RST0";
  parameter CLK0_DIV = "ENABLED";
  parameter CLK1_DIV = "ENABLED";
  parameter CLK2_DIV = "ENABLED";
  parameter CLK3_DIV = "ENABLED";
  parameter HIGHSPEED_CLK = "NONE";
  parameter GSR = "ENABLED";
  parameter CAS_MATCH_REG = "FALSE";
  parameter SOURCEB_MODE = "B_SHIFT";
  parameter MULT_BYPASS = "DISABLED";
  parameter RESETMODE = "SYNC";
  wire [17:0] in_a =
    {A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0};
  wire [17:0] in_b =
    {B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0};
  reg [17:0] kept_a = 0, kept_b = 0;
  reg [35:0] kept_p = 0;
  wire [17:0] a = REG_INPUTA_CLK == "NONE" ? in_a : kept_a;
  wire [17:0] b = REG_INPUTB_CLK == "NONE" ? in_b : kept_b;
  wire [35:0] wide_a = {{18{SIGNEDA & a[17]}}, a};
  wire [35:0] wide_b = {{18{SIGNEDB & b[17]}}, b};
  wire [35:0] product = wide_a * wide_b;
  always @(posedge CLK0)
    if (RST0) {kept_a, kept_b, kept_p} <= 0;
    else if (CE0) {kept_a, kept_b, kept_p} <= {in_a, in_b, product};
  initial if (REG_PIPELINE_CLK != "NONE" || MULT_BYPASS != "DISABLED"
              || !(REG_INPUTA_CLK == "NONE" || REG_INPUTA_CLK == "CLK0")
              || !(REG_INPUTB_CLK == "NONE" || REG_INPUTB_CLK == "CLK0")
              || !(REG_OUTPUT_CLK == "NONE" || REG_OUTPUT_CLK == "CLK0"))
    $fatal(1, "MULT18X18D: a setting is not modelled");
  assign
    {P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18,
    P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0}
    = REG_OUTPUT_CLK == "NONE" ? product : kept_p;
  assign SIGNEDP = SIGNEDA | SIGNEDB;
endmodule

// Dual-port block RAM, 18, 9, 4, 2 or 1 bits a port. Narrow ports see 8 of every 9 bits. In an 18
// bit port the low address bits enable the two halves of a write.
module DP16KD (
  input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5,
  DIA4, DIA3, DIA2, DIA1, DIA0,
  input ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0,
  input CEA, OCEA, CLKA, WEA, RSTA, CSA2, CSA1, CSA0,
  input DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5,
  DIB4, DIB3, DIB2, DIB1, DIB0,
  input ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0,
  input CEB, OCEB, CLKB, WEB, RSTB, CSB2, CSB1, CSB0,
  output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5,
  DOA4, DOA3, DOA2, DOA1, DOA0,
  output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5,
  DOB4, DOB3, DOB2, DOB1, DOB0
);
  parameter DATA_WIDTH_A = 18;
  parameter REGMODE_A = "NOREG";
  parameter CSDECODE_A = "0b000";
  parameter WRITEMODE_A = "NORMAL";
  parameter DATA_WIDTH_B = 18;
  parameter REGMODE_B = "NOREG";
  parameter CSDECODE_B = "0b000";
  parameter WRITEMODE_B = "NORMAL";
  parameter CLKAMUX = "CLKA";
  parameter CLKBMUX = "CLKB";
  parameter RESETMODE = "SYNC";
  parameter ASYNC_RESET_RELEASE = "SYNC";
  parameter GSR = "ENABLED";
  parameter [319:0]
    INITVAL_00 = 0, INITVAL_01 = 0, INITVAL_02 = 0, INITVAL_03 = 0, INITVAL_04 = 0,
    INITVAL_05 = 0, INITVAL_06 = 0, INITVAL_07 = 0, INITVAL_08 = 0, INITVAL_09 = 0,
    INITVAL_0A = 0, INITVAL_0B = 0, INITVAL_0C = 0, INITVAL_0D = 0, INITVAL_0E = 0,
    INITVAL_0F = 0, INITVAL_10 = 0, INITVAL_11 = 0, INITVAL_12 = 0, INITVAL_13 = 0,
    INITVAL_14 = 0, INITVAL_15 = 0, INITVAL_16 = 0, INITVAL_17 = 0, INITVAL_18 = 0,
    INITVAL_19 = 0, INITVAL_1A = 0, INITVAL_1B = 0, INITVAL_1C = 0, INITVAL_1D = 0,
    INITVAL_1E = 0, INITVAL_1F = 0, INITVAL_20 = 0, INITVAL_21 = 0, INITVAL_22 = 0,
    INITVAL_23 = 0, INITVAL_24 = 0, INITVAL_25 = 0, INITVAL_26 = 0, INITVAL_27 = 0,
    INITVAL_28 = 0, INITVAL_29 = 0, INITVAL_2A = 0, INITVAL_2B = 0, INITVAL_2C = 0,
    INITVAL_2D = 0, INITVAL_2E = 0, INITVAL_2F = 0, INITVAL_30 = 0, INITVAL_31 = 0,
    INITVAL_32 = 0, INITVAL_33 = 0, INITVAL_34 = 0, INITVAL_35 = 0, INITVAL_36 = 0,
    INITVAL_37 = 0, INITVAL_38 = 0, INITVAL_39 = 0, INITVAL_3A = 0, INITVAL_3B = 0,
    INITVAL_3C = 0, INITVAL_3D = 0, INITVAL_3E = 0, INITVAL_3F = 0;
  // 1024 words of 18 bits, each in 20 bits of an INITVAL.
  localparam [20479:0] CONTENTS = {
    INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A, INITVAL_39,
    INITVAL_38, INITVAL_37, INITVAL_36, INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32,
    INITVAL_31, INITVAL_30, INITVAL_2F, INITVAL_2E, INITVAL_2D, INITVAL_2C, INITVAL_2B,
    INITVAL_2A, INITVAL_29, INITVAL_28, INITVAL_27, INITVAL_26, INITVAL_25, INITVAL_24,
    INITVAL_23, INITVAL_22, INITVAL_21, INITVAL_20, INITVAL_1F, INITVAL_1E, INITVAL_1D,
    INITVAL_1C, INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18, INITVAL_17, INITVAL_16,
    INITVAL_15, INITVAL_14, INITVAL_13, INITVAL_12, INITVAL_11, INITVAL_10, INITVAL_0F,
    INITVAL_0E, INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A, INITVAL_09, INITVAL_08,
    INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04, INITVAL_03, INITVAL_02, INITVAL_01,
    INITVAL_00
  };
  reg [17:0] words [0:1023];
  integer k;
  initial begin
    for (k = 0; k < 1024; k = k + 1) words[k] = CONTENTS[20 * k +: 18];
    if (CSDECODE_A != "0b000" || CSDECODE_B != "0b000" || CLKAMUX != "CLKA" || CLKBMUX != "CLKB")
      $fatal(1, "DP16KD: a setting is not modelled");
  end
  wire [13:0] at_a =
    {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0};
  wire [13:0] at_b =
    {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
  wire [17:0] in_a =
    {DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4,
    DIA3, DIA2, DIA1, DIA0};
  wire [17:0] in_b =
    {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4,
    DIB3, DIB2, DIB1, DIB0};
  wire on_a = CEA & ~CSA2 & ~CSA1 & ~CSA0;
  wire on_b = CEB & ~CSB2 & ~CSB1 & ~CSB0;
  wire [17:0] out_a, out_b, new_a, new_b;
  ecp5_ram_port #(.WIDTH(DATA_WIDTH_A), .WRITEMODE(WRITEMODE_A)) port_a (
    .clk(CLKA), .on(on_a), .write(WEA), .clear(RSTA), .at(at_a), .data(in_a),
    .old(words[at_a[13:4]]), .changed(new_a), .out(out_a)
  );
  ecp5_ram_port #(.WIDTH(DATA_WIDTH_B), .WRITEMODE(WRITEMODE_B)) port_b (
    .clk(CLKB), .on(on_b), .write(WEB), .clear(RSTB), .at(at_b), .data(in_b),
    .old(words[at_b[13:4]]), .changed(new_b), .out(out_b)
  );
  always @(posedge CLKA) if (on_a & WEA & DATA_WIDTH_A != 36) words[at_a[13:4]] <= new_a;
  always @(posedge CLKB) if (on_b & WEB & DATA_WIDTH_B != 36) words[at_b[13:4]] <= new_b;
  // 36 bits: port A writes a pair of words, its four low address bits enabling nine bits each; port B
  // reads one.
  wire [9:0] even_a = {at_a[13:5], 1'b0}, odd_a = {at_a[13:5], 1'b1};
  always @(posedge CLKA) if (on_a & WEA & DATA_WIDTH_A == 36) begin
    if (at_a[0]) words[even_a][8:0] <= in_a[8:0];
    if (at_a[1]) words[even_a][17:9] <= in_a[17:9];
    if (at_a[2]) words[odd_a][8:0] <= in_b[8:0];
    if (at_a[3]) words[odd_a][17:9] <= in_b[17:9];
  end
  reg [35:0] pair = 0;
  always @(posedge CLKB)
    if (RSTB) pair <= 0;
    else if (on_b) pair <= {words[{at_b[13:5], 1'b1}], words[{at_b[13:5], 1'b0}]};
  // REGMODE: another register behind each output.
  wire [17:0] read_a = DATA_WIDTH_B == 36 ? pair[17:0] : out_a;
  wire [17:0] read_b = DATA_WIDTH_B == 36 ? pair[35:18] : out_b;
  reg [17:0] late_a = 0, late_b = 0;
  generate
    if (DATA_WIDTH_B == 36) begin : read_by_b
      always @(posedge CLKB) if (RSTA) late_a <= 0; else if (OCEA) late_a <= read_a;
    end else begin : read_by_a
      always @(posedge CLKA) if (RSTA) late_a <= 0; else if (OCEA) late_a <= read_a;
    end
  endgenerate
  always @(posedge CLKB) if (RSTB) late_b <= 0; else if (OCEB) late_b <= read_b;
  assign
    {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4,
    DOA3, DOA2, DOA1, DOA0}
    = REGMODE_A == "NOREG" ? read_a : late_a;
  assign
    {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4,
    DOB3, DOB2, DOB1, DOB0}
    = REGMODE_B == "NOREG" ? read_b : late_b;
endmodule

// One port of at most 18 bits: its output register, and what a write makes of the `old` word.
module ecp5_ram_port #(parameter WIDTH = 18, parameter WRITEMODE = "NORMAL") (
  input clk, on, write, clear, input [13:0] at, input [17:0] data, old,
  output reg [17:0] changed, output reg [17:0] out
);
  // The bits of the word that an address means begin here.
  wire [4:0] low = (at[3] ? 9 : 0) + (WIDTH == 9 ? 0 : WIDTH == 4 ? {at[2], 2'b00}
                   : WIDTH == 2 ? {at[2:1], 1'b0} : at[2:0]);
  localparam [17:0] ONES = WIDTH == 9 ? 511 : WIDTH == 4 ? 15 : WIDTH == 2 ? 3 : 1;
  wire [17:0] mask = WIDTH == 18 ? {{9{at[1]}}, {9{at[0]}}} : ONES << low;
  wire [17:0] placed = WIDTH == 18 ? data : data << low;
  wire [17:0] seen = WRITEMODE == "WRITETHROUGH" & write ? changed : old;
  initial out = 0;
  always @* changed = old & ~mask | placed & mask;
  always @(posedge clk)
    if (clear) out <= 0;
    else if (on & (~write | WRITEMODE != "NORMAL")) out <= WIDTH == 18 ? seen : seen >> low & ONES;
endmodule

// The loop passes its input on: to a model without time every clock is the same.
module EHXPLLL (
  input CLKI, CLKFB, RST, STDBY, PHASESEL0, PHASESEL1, PHASEDIR, PHASESTEP, PHASELOADREG,
  input PLLWAKESYNC, ENCLKOP,
  output CLKOP, LOCK
);
  parameter CLKI_DIV = 1;
  parameter CLKFB_DIV = 1;
  parameter CLKOP_DIV = 8;
  parameter CLKOP_ENABLE = "ENABLED";
  parameter CLKOP_CPHASE = 0;
  parameter CLKOP_FPHASE = 0;
  parameter FEEDBK_PATH = "CLKOP";
  parameter OUTDIVIDER_MUXA = "DIVA";
  assign CLKOP = CLKI;
  assign LOCK = 1;
endmodule
