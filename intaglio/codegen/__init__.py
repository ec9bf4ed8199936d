"""From a `Program` to hardware: folding, FIFO depths, Verilog, ROMs, bench and its verification."""
