// Parts of the bench: a source that plays a file, sinks that write and compare, what each stream
// must keep to, and the pauses of all of them.
//
// The plan says what is played: 64 words of 64 bits, from low to high. A word that begins a run, from
// reset to reset, has kind 2, or 3 where play goes on behind its frames; `count` cycles later it is
// over, and a reset begins of as many cycles as stand in the place of the source. Words of kind 1
// are its phases: `count` frames with pauses of these kinds. 0 ends the plan.
//   63:56 kind   55:48 of the source   47:40 of the sinks   39:32 which sink is blocked   31:0 count

// A port's way through a run, by the beats that it has moved: the phase it is in.
module bench_phase #(
  parameter BEATS = 1
) (
  input wire clk,
  input wire rst,
  input wire [4095:0] plan,
  input wire [5:0] from,
  input wire taken,
  output wire [63:0] word,
  output wire full,
  output wire over
);
  reg [5:0] at = 1;
  reg [31:0] frame = 0;
  reg [31:0] beat = 0;
  wire [5:0] next = at + 1;
  wire [63:0] following = plan[{next, 6'b0} +: 64];
  wire last = beat == BEATS - 1;
  wire final_frame = frame + 1 == word[31:0];
  assign word = plan[{at, 6'b0} +: 64];
  assign full = word[63:56] != 1;
  assign over = full | taken & last & final_frame & following[63:56] != 1;
  always @(posedge clk)
    if (rst) begin
      at <= from;
      frame <= 0;
      beat <= 0;
    end else if (taken & ~full) begin
      beat <= last ? 0 : beat + 1;
      if (last) frame <= final_frame ? 0 : frame + 1;
      if (last & final_frame) at <= next;
    end
endmodule

// Random pauses: about one cycle in eight begins one, of up to 3 or up to 63 cycles.
module bench_pause #(
  parameter SEED = 1
) (
  input wire clk,
  input wire rst,
  input wire [31:0] seed,
  output wire pause
);
  reg begun = 0;
  reg [31:0] state = 1;
  reg [5:0] left = 0;
  wire [31:0] mixed = seed * 32'h9e3779b9 + SEED * 32'h85ebca6b;
  wire [31:0] s1 = state ^ (state << 13);
  wire [31:0] s2 = s1 ^ (s1 >> 17);
  assign pause = left != 0;
  always @(posedge clk) begin
    begun <= 1;
    state <= begun ? s2 ^ (s2 << 5) : (mixed ^ mixed >> 15) | 1;
    if (rst) left <= 0;
    else if (left != 0) left <= left - 1;
    else if (state[2:0] == 0) left <= state[3] ? state[9:4] : {4'b0, state[5:4]};
  end
endmodule

// Plays DEPTH beats of FILE, again and again: as many as the plan says, or endlessly; tlast on every
// BEATS-th. Kinds of pauses: 0 none, 1 random, 2 a beat every EVERY cycles. What it offers without
// tvalid is no beat of the file.
module bench_source #(
  parameter WIDTH = 8,
  parameter BEATS = 1,
  parameter DEPTH = 1,
  parameter EVERY = 2,
  parameter FILE = "",
  parameter SEED = 1
) (
  input wire clk,
  input wire rst,
  input wire [31:0] seed,
  input wire [4095:0] plan,
  input wire [5:0] from,
  input wire endless,
  output wire [WIDTH - 1:0] tdata,
  output wire tlast,
  output reg tvalid,
  input wire tready
);
  reg [WIDTH - 1:0] beats [0:DEPTH - 1];
  reg [31:0] at = 0;
  reg [31:0] beat = 0;
  reg [31:0] gap = 0;
  wire random, full, over;
  wire [63:0] word;
  wire taken = tvalid & tready;
  wire pause = word[55:48] == 1 ? random : word[55:48] == 2 & (taken | gap > 1);
  initial tvalid = 0;
  initial $readmemh(FILE, beats);
  bench_phase #(.BEATS(BEATS)) phase (.clk(clk), .rst(rst), .plan(plan), .from(from), .taken(taken),
    .word(word), .full(full), .over(over));
  bench_pause #(.SEED(SEED)) pauses (.clk(clk), .rst(rst), .seed(seed), .pause(random));
  assign tdata = tvalid ? beats[at] : ~beats[at];
  assign tlast = beat == BEATS - 1;
  always @(posedge clk) begin
    if (rst) begin
      at <= 0;
      beat <= 0;
      gap <= 0;
      tvalid <= 0;
    end else begin
      gap <= taken ? EVERY - 1 : gap != 0 ? gap - 1 : 0;
      if (taken) at <= at == DEPTH - 1 ? 0 : at + 1;
      if (taken) beat <= tlast ? 0 : beat + 1;
      if (taken | ~tvalid) tvalid <= (~over | endless) & ~pause;
    end
  end
endmodule

// Takes what comes and writes it to FILE: run, cycle, tlast, tdata. Also beats behind the frames of the
// plan, for a design may go on to what of a next frame needs no input, such as a border. Kinds of
// pauses: 0 none, 1 random, 2 tready waits for tvalid, 3 sink INDEX is blocked for HOLD cycles.
module bench_sink #(
  parameter WIDTH = 8,
  parameter BEATS = 1,
  parameter INDEX = 0,
  parameter HOLD = 1,
  parameter FILE = "",
  parameter SEED = 1
) (
  input wire clk,
  input wire rst,
  input wire [31:0] seed,
  input wire [4095:0] plan,
  input wire [5:0] from,
  input wire [31:0] run,
  input wire [31:0] cycle,
  input wire close,
  input wire [WIDTH - 1:0] tdata,
  input wire tvalid,
  input wire tlast,
  output reg tready,
  output wire taken,
  output wire full
);
  integer file;
  reg closed = 0;
  reg [31:0] held = 0;
  wire random, over;
  wire [63:0] word;
  wire mine = word[47:40] == 3 & word[39:32] == INDEX;
  initial tready = 1;
  initial file = $fopen(FILE, "w");
  bench_phase #(.BEATS(BEATS)) phase (.clk(clk), .rst(rst), .plan(plan), .from(from), .taken(taken),
    .word(word), .full(full), .over(over));
  bench_pause #(.SEED(SEED)) pauses (.clk(clk), .rst(rst), .seed(seed), .pause(random));
  assign taken = tvalid & tready & ~rst;
  always @(posedge clk) begin
    held <= rst | ~mine ? 0 : held + (tvalid & held != HOLD);
    case (full ? 8'd0 : word[47:40])
      1: tready <= ~random;
      2: tready <= tvalid & ~tready;
      3: tready <= ~mine | held == HOLD;
      default: tready <= 1;
    endcase
    if (taken & ~closed) $fwrite(file, "%0d %0d %0d %h\n", run, cycle, tlast, tdata);
    closed <= close;
    if (close & ~closed) $fclose(file);
  end
endmodule

// What every stream keeps to. `fault` is at each rising edge
//   1 valid fell before the beat was taken     3 valid in reset, from its second edge on
//   2 the payload changed before it was taken  4 valid, or a payload with it, is undefined
module bench_check #(
  parameter WIDTH = 8
) (
  input wire clk,
  input wire rst,
  input wire [WIDTH - 1:0] payload,
  input wire valid,
  input wire ready,
  output reg [2:0] fault
);
  reg resetting = 0;
  reg waiting = 0;
  reg [WIDTH - 1:0] kept = 0;
  always @* begin
    fault = 0;
    if (rst !== 1'b0) begin  // before the first edge it is not known
      if (resetting & valid !== 1'b0) fault = 3;
    end else if (^valid === 1'bx) fault = 4;
    else if (valid & ^payload === 1'bx) fault = 4;
    else if (waiting & ~valid) fault = 1;
    else if (waiting & payload !== kept) fault = 2;
  end
  always @(posedge clk) begin
    resetting <= rst;
    waiting <= ~rst & valid === 1'b1 & ready !== 1'b1;
    kept <= payload;
  end
endmodule

// Compares the beats of an output: with FILE (tlast, tdata and a mask in turn, DEPTH beats, again and
// again), and in TIMED frames of a run without pauses their cycles with TIMES (first and last beat of
// each frame in turn). `fault` is at the edge that takes a beat
//   5 not the beat that was expected           6 not in the predicted cycle
module bench_expect #(
  parameter WIDTH = 8,
  parameter BEATS = 1,
  parameter DEPTH = 1,
  parameter TIMED = 1,
  parameter FILE = "",
  parameter TIMES = ""
) (
  input wire clk,
  input wire rst,
  input wire timed,
  input wire [31:0] cycle,
  input wire [WIDTH - 1:0] tdata,
  input wire tlast,
  input wire taken,
  output reg [2:0] fault
);
  reg [WIDTH - 1:0] beats [0:3 * DEPTH - 1];
  reg [31:0] times [0:2 * TIMED - 1];
  reg [31:0] at = 0;
  reg [31:0] beat = 0;
  reg [31:0] frame = 0;
  wire [WIDTH - 1:0] wanted = beats[3 * at];
  wire [WIDTH - 1:0] differs = (tdata ^ beats[3 * at + 1]) & beats[3 * at + 2];
  wire last = beat == BEATS - 1;
  initial $readmemh(FILE, beats);
  initial $readmemh(TIMES, times);
  always @* begin
    fault = 0;
    if (taken === 1'b1 & (differs !== 0 | tlast !== wanted[0])) fault = 5;
    else if (taken === 1'b1 & timed & frame < TIMED) begin
      if (beat == 0 & cycle != times[2 * frame]) fault = 6;
      if (last & cycle != times[2 * frame + 1]) fault = 6;
    end
  end
  always @(posedge clk)
    if (rst) begin
      at <= 0;
      beat <= 0;
      frame <= 0;
    end else if (taken) begin
      at <= at == DEPTH - 1 ? 0 : at + 1;
      beat <= last ? 0 : beat + 1;
      frame <= frame + last;
    end
endmodule

// Writes the first faults of a stream to a file that is open: fault, run, cycle, stream, number.
module bench_tell #(
  parameter NAME = ""
) (
  input wire clk,
  input wire [31:0] file,
  input wire [31:0] run,
  input wire [31:0] cycle,
  input wire [2:0] fault
);
  reg [7:0] told = 0;  // a bit a kind
  always @(posedge clk)
    if (fault != 0 & ~told[fault]) begin
      told[fault] <= 1;
      $fwrite(file, "fault %0d %0d %0s %0d\n", run, cycle, NAME, fault);
    end
endmodule

// Looks at a stream between two blocks: its beats must be those of FILE (payload and a mask in turn,
// DEPTH beats, again and again), and it must keep to the rules, but for reset, in which a block that
// needs no input may be valid. Writes the first beat of each run that is offered and differs:
// inside, run, cycle, stream, which beat, payload; and the first of each rule that is broken: rule,
// run, cycle, stream, number. In a run without pauses its first TIMED beats must be taken in the
// cycles of TIMES; of the first that is not: late, run, cycle, stream, which beat, and whether it
// was valid. Where the bench is hung: still, run, cycle, stream, valid and ready.
module bench_inside #(
  parameter WIDTH = 8,
  parameter DEPTH = 1,
  parameter TIMED = 0,
  parameter FILE = "",
  parameter TIMES = "",
  parameter NUMBER = 0
) (
  input wire timed,
  input wire stuck,
  input wire clk,
  input wire rst,
  input wire [31:0] file,
  input wire [31:0] run,
  input wire [31:0] cycle,
  input wire [WIDTH - 1:0] payload,
  input wire valid,
  input wire ready
);
  reg [WIDTH - 1:0] beats [0:2 * DEPTH - 1];
  reg [31:0] times [0:TIMED];
  reg [31:0] at = 0;
  reg [31:0] beat = 0;
  reg differed = 0;
  reg late = 0;
  wire taken = valid & ready;
  wire due = cycle == times[beat < TIMED ? beat : TIMED];
  reg [7:0] told = 0;
  wire [2:0] fault;
  initial $readmemh(FILE, beats);
  initial $readmemh(TIMES, times);
  bench_check #(.WIDTH(WIDTH)) check (.clk(clk), .rst(rst), .payload(payload), .valid(valid),
    .ready(ready), .fault(fault));
  always @(posedge clk) begin
    if (~rst & fault != 0 & ~told[fault]) begin
      told[fault] <= 1;
      $fwrite(file, "rule %0d %0d %0d %0d\n", run, cycle, NUMBER, fault);
    end
    if (timed & ~rst & ~late & beat < TIMED & taken != due) begin
      late <= 1;
      $fwrite(file, "late %0d %0d %0d %0d %0d\n", run, cycle, NUMBER, beat, valid);
    end
    if (stuck & ~rst) $fwrite(file, "still %0d %0d %0d %0d %0d\n", run, cycle, NUMBER, valid, ready);
    if (rst) begin
      at <= 0;
      beat <= 0;
      differed <= 0;
    end else if (valid) begin
      if (ready) at <= at == DEPTH - 1 ? 0 : at + 1;
      if (ready) beat <= beat + 1;
      if (~differed & ((payload ^ beats[2 * at]) & beats[2 * at + 1]) !== 0) begin
        differed <= 1;
        $fwrite(file, "inside %0d %0d %0d %0d %h\n", run, cycle, NUMBER, beat, payload);
      end
    end
  end
endmodule

// Counts the beats in a queue of PLACES. Writes the first that enters a full one, from which none
// leaves: over, run, cycle, number; and behind each run the most that it held: held, run, number, most.
module bench_queue #(
  parameter PLACES = 1,
  parameter NUMBER = 0
) (
  input wire clk,
  input wire rst,
  input wire [31:0] file,
  input wire [31:0] run,
  input wire [31:0] cycle,
  input wire entered,
  input wire left
);
  reg [31:0] held = 0;
  reg [31:0] most = 0;
  reg [31:0] playing = 0;
  reg resetting = 1;
  reg told = 0;
  wire [31:0] now = held + (entered === 1'b1) - (left === 1'b1);
  always @(posedge clk) begin
    resetting <= rst !== 1'b0;
    if (rst !== 1'b0) begin
      if (~resetting) $fwrite(file, "held %0d %0d %0d\n", playing, NUMBER, most);
      held <= 0;
      most <= 0;
    end else begin
      playing <= run;
      held <= now;
      if (now > most) most <= now;
      if (now > PLACES & ~told) begin
        told <= 1;
        $fwrite(file, "over %0d %0d %0d\n", run, cycle, NUMBER);
      end
    end
  end
endmodule
