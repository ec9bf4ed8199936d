// Read-only memory, one word a cycle later; loaded from a file of hexadecimal words.
// STYLE: 0 as the tool likes it, 1 block RAM, 2 look-up tables.
// FILE is relative to the folder of the build. Tools that run elsewhere are told that folder by a
// macro, with a slash at its end: INTAGLIO_ROM_PATH="/where/it/is/".
`ifdef INTAGLIO_ROM_PATH
`define INTAGLIO_ROM_FILE {`INTAGLIO_ROM_PATH, FILE}
`else
`define INTAGLIO_ROM_FILE FILE
`endif
module intaglio_rom #(
  parameter WIDTH = 1,
  parameter DEPTH = 1,
  parameter FILE = "",
  parameter STYLE = 0
) (
  input wire clk,
  input wire en,
  input wire [(DEPTH > 1 ? $clog2(DEPTH) : 1) - 1:0] addr,
  output reg [WIDTH - 1:0] data
);
  generate
    if (STYLE == 1) begin : memory
      (* ram_style = "block", rom_style = "block" *) reg [WIDTH - 1:0] words [0:DEPTH - 1];
      initial $readmemh(`INTAGLIO_ROM_FILE, words);
      always @(posedge clk) if (en) data <= words[addr];
    end else if (STYLE == 2) begin : memory
      // yosys reads the first attribute, which tells of tables and not of RAM made of them.
      (* ram_style = "registers", rom_style = "distributed" *) reg [WIDTH - 1:0] words [0:DEPTH - 1];
      initial $readmemh(`INTAGLIO_ROM_FILE, words);
      always @(posedge clk) if (en) data <= words[addr];
    end else begin : memory
      reg [WIDTH - 1:0] words [0:DEPTH - 1];
      initial $readmemh(`INTAGLIO_ROM_FILE, words);
      always @(posedge clk) if (en) data <= words[addr];
    end
  endgenerate
endmodule
