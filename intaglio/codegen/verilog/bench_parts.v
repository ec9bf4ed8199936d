// Parts of the bench: a source that plays a file, a sink that writes one, and their pauses.

// Random pauses: about one cycle in eight begins one, of up to 3 or up to 63 cycles.
module bench_pause #(
  parameter SEED = 1
) (
  input wire clk,
  input wire rst,
  input wire enable,
  output wire pause
);
  reg [31:0] state = SEED;
  reg [5:0] left = 0;
  wire [31:0] s1 = state ^ (state << 13);
  wire [31:0] s2 = s1 ^ (s1 >> 17);
  assign pause = enable & (left != 0);
  always @(posedge clk) begin
    state <= s2 ^ (s2 << 5);
    if (rst) left <= 0;
    else if (left != 0) left <= left - 1;
    else if (state[2:0] == 0) left <= state[3] ? state[9:4] : {4'b0, state[5:4]};
  end
endmodule

// Plays DEPTH beats of FILE, again and again, `total` beats in all; tlast on every BEATS-th.
module bench_source #(
  parameter WIDTH = 8,
  parameter DEPTH = 1,
  parameter BEATS = 1,
  parameter FILE = "",
  parameter SEED = 1
) (
  input wire clk,
  input wire rst,
  input wire stalls,
  input wire [31:0] total,
  output wire [WIDTH - 1:0] tdata,
  output wire tlast,
  output reg tvalid,
  input wire tready
);
  reg [WIDTH - 1:0] beats [0:DEPTH - 1];
  reg [31:0] at = 0;
  reg [31:0] sent = 0;
  reg [31:0] beat = 0;
  wire pause;
  wire taken = tvalid & tready;
  wire [31:0] ahead = sent + {31'b0, taken};
  initial tvalid = 0;
  initial $readmemh(FILE, beats);
  bench_pause #(.SEED(SEED)) pauses (.clk(clk), .rst(rst), .enable(stalls), .pause(pause));
  assign tdata = beats[at];
  assign tlast = beat == BEATS - 1;
  always @(posedge clk) begin
    if (rst) begin
      at <= 0;
      sent <= 0;
      beat <= 0;
      tvalid <= 0;
    end else begin
      sent <= ahead;
      if (taken) at <= (at == DEPTH - 1) ? 0 : at + 1;
      if (taken) beat <= tlast ? 0 : beat + 1;
      if (taken | ~tvalid) tvalid <= (ahead < total) & ~pause;
    end
  end
endmodule

// Writes `total` beats to FILE: cycle, tlast, tdata. (A design may go on to the part of a next frame
// that needs no input, such as a border.)
module bench_sink #(
  parameter WIDTH = 8,
  parameter FILE = "",
  parameter SEED = 1
) (
  input wire clk,
  input wire rst,
  input wire stalls,
  input wire close,
  input wire [31:0] cycle,
  input wire [31:0] total,
  input wire [WIDTH - 1:0] tdata,
  input wire tvalid,
  input wire tlast,
  output reg tready,
  output wire taken,
  output wire full
);
  integer file;
  reg [31:0] count = 0;
  wire pause;
  initial tready = 1;
  initial file = $fopen(FILE, "w");
  bench_pause #(.SEED(SEED)) pauses (.clk(clk), .rst(rst), .enable(stalls), .pause(pause));
  assign taken = tvalid & tready;
  assign full = count == total;
  always @(posedge clk) begin
    tready <= ~pause;
    if (rst) count <= 0;
    else if (taken & ~full) begin
      count <= count + 1;
      $fwrite(file, "%0d %0d %h\n", cycle, tlast, tdata);
    end
    if (close) $fclose(file);
  end
endmodule
