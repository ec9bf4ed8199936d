// What cocotb does for a build's bench: a clock, a reset of eight cycles, and the end.
`timescale 1ns / 1ps
module drive;
  reg clk = 0, rst = 1;
  wire done, hung, failed;
  bench bench (.clk(clk), .rst(rst), .done(done), .hung(hung), .failed(failed));
  always #1 clk = ~clk;
  initial begin
    repeat (8) @(posedge clk);
    rst <= 0;
    wait (done | hung);
    repeat (2) @(posedge clk);
    $finish;
  end
endmodule
