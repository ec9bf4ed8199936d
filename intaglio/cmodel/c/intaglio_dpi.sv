// intaglio.h for SystemVerilog, through DPI-C: the functions and what they mean are the same.
// A model is a chandle, a tensor a number from intaglio_find. NAME_dpi.sv has the network's opening.
/* verilator lint_off TIMESCALEMOD */  // it has no delays
package intaglio_dpi;
  import "DPI-C" function void intaglio_close(input chandle model);
  import "DPI-C" function string intaglio_error(input chandle model);
  import "DPI-C" function int intaglio_count(input chandle model);
  import "DPI-C" function int intaglio_find(input chandle model, input string name);
  import "DPI-C" function int intaglio_forward(input chandle model);
  import "DPI-C" function int intaglio_compute(input chandle model, input int tensor);
  import "DPI-C" function longint intaglio_get(input chandle model, input int tensor,
      input int channel, input int y, input int x);
  import "DPI-C" function int intaglio_put(input chandle model, input int tensor,
      input int channel, input int y, input int x, input longint code);
  import "DPI-C" function int intaglio_check(input chandle model, input int tensor,
      input int channel, input int y, input int x, input longint got);
  import "DPI-C" function longint intaglio_overflows(input chandle model, input int tensor);
endpackage
/* verilator lint_on TIMESCALEMOD */
