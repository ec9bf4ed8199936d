// Read-only memory, one word a cycle later; loaded from a file of hexadecimal words.
module intaglio_rom #(
  parameter WIDTH = 1,
  parameter DEPTH = 1,
  parameter FILE = ""
) (
  input wire clk,
  input wire en,
  input wire [(DEPTH > 1 ? $clog2(DEPTH) : 1) - 1:0] addr,
  output reg [WIDTH - 1:0] data
);
  reg [WIDTH - 1:0] words [0:DEPTH - 1];
  initial $readmemh(FILE, words);
  always @(posedge clk) if (en) data <= words[addr];
endmodule
