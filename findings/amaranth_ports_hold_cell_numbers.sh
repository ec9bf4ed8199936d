#!/bin/sh
# One would have guessed: the text that Amaranth makes of a submodule depends on that submodule, so that texts of equal
# submodules are equal from build to build, and can be kept by the digest of their source.
#
# Seen with amaranth 0.5.8, rtlil.convert: a submodule that makes fewer bits than the signal has which they go to gets a
# port named after the number of the cell that makes them, counted over the whole design (port$CELL$BIT). One adder more
# in another submodule renames the port of this one, and the lines inside that have it. Where it makes the whole of the
# signal, the port has the signal's name and the text stays the same.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check amaranth==0.5.8
"$folder/venv/bin/python" - <<'PYTHON'
import re
import sys
from importlib.metadata import version

from amaranth.back import rtlil
from amaranth.hdl import Module, Signal


def inverter_of(adders, bits):
    """The text of `inverter`, which makes so many bits of a byte, beside another submodule of so many adders."""
    top, other, inverter = Module(), Module(), Module()
    a = Signal(8, name="a")
    result = Signal(8, name="result")
    sums = [Signal(8, name=f"sum{n}") for n in range(adders)]
    for total, last in zip(sums, [a, *sums]):
        other.d.comb += total.eq(a + last)
    inverter.d.comb += result.eq(~a[:bits])
    top.submodules.other = other
    top.submodules.inverter = inverter
    text = rtlil.convert(top, ports=[a, sums[-1], result], emit_src=False)
    return re.search(r"module \\top\.inverter\n.*?\nend\n", text, re.DOTALL)[0]


few, many = inverter_of(1, 3), inverter_of(2, 3)
print("amaranth", version("amaranth"))
for name, text in (("one adder elsewhere: ", few), ("two adders elsewhere:", many)):
    print(name, *re.findall(r"output \d+ (\S+)", " ".join(text.split())))
whole = inverter_of(1, 8) == inverter_of(2, 8)
print("three bits, texts equal:", few == many)
print("all eight, texts equal:", whole)
sys.exit(not (whole and few != many and all("port$" in text for text in (few, many))))
PYTHON
