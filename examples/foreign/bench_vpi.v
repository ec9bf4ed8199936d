// rescale_axis against the C golden model, called through VPI: as bench_dpi.sv, in Verilog for Icarus.
`timescale 1ns / 1ps
module bench_vpi;
  localparam FRAMES = 3, COLOURS = 3, CHANNELS = 8, HEIGHT = 12, WIDTH = 14, PATIENCE = 1000;
  localparam CODES = HEIGHT * WIDTH * CHANNELS;

  reg clk = 0, rst_n = 0, s_tlast, s_tvalid = 0, m_tready = 0, sending, taking, last;
  reg signed [7:0] code;
  reg [31:0] s_tdata;
  wire [7:0] m_tdata;
  wire s_tready, m_tlast, m_tvalid;
  integer image, acc, conv, frame, n, sent, taken, idle, checked;

  always #1 clk = ~clk;

  rescale_axis #(.CHANNELS(CHANNELS), .ZERO_POINT(-5)) dut (
    .aclk(clk), .aresetn(rst_n),
    .s_axis_tdata(s_tdata), .s_axis_tlast(s_tlast), .s_axis_tvalid(s_tvalid),
    .s_axis_tready(s_tready), .m_axis_tdata(m_tdata), .m_axis_tlast(m_tlast),
    .m_axis_tvalid(m_tvalid), .m_axis_tready(m_tready)
  );

  // A place in a frame, channels innermost.
  `define C(n) ((n) % CHANNELS)
  `define X(n) ((n) / CHANNELS % WIDTH)
  `define Y(n) ((n) / CHANNELS / WIDTH)

  task stop(input [8 * 24 - 1:0] what);
    begin
      $display("FAIL conv: channel %0d, y %0d, x %0d: %0s", `C(taken), `Y(taken), `X(taken), what);
      $finish;
    end
  endtask

  // Everything is driven at the falling edge, and looked at between that and the rising one.
  initial begin
    if ($intaglio_open != 0) $finish;
    image = $intaglio_find("image");
    acc = $intaglio_find("conv.acc");
    conv = $intaglio_find("conv");
    checked = 0;
    repeat (4) @(negedge clk);
    rst_n = 1;
    for (frame = 0; frame < FRAMES; frame = frame + 1) begin
      for (n = 0; n < COLOURS * HEIGHT * WIDTH; n = n + 1)
        if ($intaglio_put(image, n % COLOURS, n / COLOURS / WIDTH, n / COLOURS % WIDTH,
                          $urandom & 255) != 0) $intaglio_error;
      if ($intaglio_forward != 0) $intaglio_error;
      fork
        for (sent = 0; sent < CODES; sent = sent + 1) begin
          s_tvalid = 0;
          while ($urandom % 4 == 0) @(negedge clk);
          s_tdata = $intaglio_get(acc, `C(sent), `Y(sent), `X(sent));
          s_tlast = sent == CODES - 1;
          s_tvalid = 1;
          sending = 1;
          while (sending) begin
            #0.5 sending = s_tready !== 1;
            @(negedge clk);
          end
          s_tvalid = 0;
        end
        for (taken = 0; taken < CODES; taken = taken + 1) begin
          idle = 0;
          taking = 1;
          while (taking) begin
            m_tready = $urandom % 4 != 0;
            #0.5 taking = !(m_tvalid === 1 && m_tready);
            code = m_tdata;
            last = m_tlast;
            @(negedge clk);
            idle = idle + 1;
            if (idle > PATIENCE) stop("no beat");
          end
          m_tready = 0;
          if ($intaglio_check(conv, `C(taken), `Y(taken), `X(taken), code) != 0) begin
            $write("FAIL ");
            $intaglio_error;
            $finish;
          end
          if (last !== (taken == CODES - 1)) stop("tlast");
          checked = checked + 1;
        end
      join
    end
    $display("PASS %0d codes of %0d frames", checked, FRAMES);
    $finish;
  end
endmodule
