// rescale_axis against the C golden model, called through DPI-C: random images through the model,
// its accumulators into the block, the block's codes compared with the model's.
`timescale 1ns / 1ps
module bench_dpi;
  import intaglio_dpi::*;
  import net_dpi::*;

  localparam int FRAMES = 3, COLOURS = 3, CHANNELS = 8, HEIGHT = 12, WIDTH = 14, PATIENCE = 1000;

  chandle model;
  int image, acc, conv, checked = 0;
  bit clk = 0, rst_n = 0;
  bit [31:0] s_tdata;
  bit s_tlast, s_tvalid = 0, m_tready = 0;
  wire [7:0] m_tdata;
  wire s_tready, m_tlast, m_tvalid;

  always #1 clk = ~clk;

  rescale_axis #(.CHANNELS(CHANNELS), .ZERO_POINT(-5)) dut (
    .aclk(clk), .aresetn(rst_n),
    .s_axis_tdata(s_tdata), .s_axis_tlast(s_tlast), .s_axis_tvalid(s_tvalid),
    .s_axis_tready(s_tready), .m_axis_tdata(m_tdata), .m_axis_tlast(m_tlast),
    .m_axis_tvalid(m_tvalid), .m_axis_tready(m_tready)
  );

  function automatic bit ends(int y, int x, int c);
    return y == HEIGHT - 1 && x == WIDTH - 1 && c == CHANNELS - 1;
  endfunction

  task automatic fail(string sentence);
    $display("FAIL %s", sentence);
    $fatal(1);
  endtask

  // Everything is driven at the falling edge, and looked at between that and the rising one.

  // A frame of accumulators, channels innermost, with pauses.
  task automatic send();
    bit taken;
    for (int y = 0; y < HEIGHT; y++)
      for (int x = 0; x < WIDTH; x++)
        for (int c = 0; c < CHANNELS; c++) begin
          s_tvalid = 0;
          while ($urandom_range(3) == 0) @(negedge clk);
          s_tdata = 32'(intaglio_get(model, acc, c, y, x));
          s_tlast = ends(y, x, c);
          s_tvalid = 1;
          do begin
            #0.5 taken = s_tready;
            @(negedge clk);
          end while (!taken);
        end
    s_tvalid = 0;
  endtask

  // A frame of codes, compared one by one.
  task automatic receive();
    bit taken, last;
    int idle;
    longint code;
    for (int y = 0; y < HEIGHT; y++)
      for (int x = 0; x < WIDTH; x++)
        for (int c = 0; c < CHANNELS; c++) begin
          idle = 0;
          do begin
            m_tready = $urandom_range(3) != 0;
            #0.5 taken = m_tvalid && m_tready;
            code = longint'($signed(m_tdata));
            last = m_tlast;
            @(negedge clk);
            if (++idle > PATIENCE)
              fail($sformatf("conv: channel %0d, y %0d, x %0d: no beat", c, y, x));
          end while (!taken);
          if (intaglio_check(model, conv, c, y, x, code) != 0) fail(intaglio_error(model));
          if (last != ends(y, x, c))
            fail($sformatf("conv: channel %0d, y %0d, x %0d: tlast is %0d", c, y, x, last));
          checked++;
        end
    m_tready = 0;
  endtask

  initial begin
    model = net_open();
    image = intaglio_find(model, "image");
    acc = intaglio_find(model, "conv.acc");
    conv = intaglio_find(model, "conv");
    if (image < 0 || acc < 0 || conv < 0) fail(intaglio_error(model));
    repeat (4) @(negedge clk);
    rst_n = 1;
    for (int n = 0; n < FRAMES; n++) begin
      for (int c = 0; c < COLOURS; c++)
        for (int y = 0; y < HEIGHT; y++)
          for (int x = 0; x < WIDTH; x++)
            if (intaglio_put(model, image, c, y, x, longint'($urandom_range(255))) != 0)
              fail(intaglio_error(model));
      void'(intaglio_forward(model));
      fork
        send();
        receive();
      join
    end
    intaglio_close(model);
    $display("PASS %0d codes of %0d frames", checked, FRAMES);
    $finish;
  end
endmodule
