"""Mutants of the logic, by yosys' `mutate`: an input or output of a cell inverted, constant, or
inverted where another bit is set."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mutant import TOP, Mutant, Sources

from intaglio.chip.toolchain import run_tool

# The ROM as a box: `mutate` leaves the contents of memories alone.
ROM = """\
(* blackbox *) module intaglio_rom #(parameter WIDTH = 1, parameter DEPTH = 1, parameter FILE = "",
  parameter STYLE = 0) (input clk, input en, input [31:0] addr, output [WIDTH - 1:0] data);
endmodule
"""
READ = "read_verilog rom.v top.v\nhierarchy -top {top}\nproc\n"
FIRST = re.compile(r"\$meminit|mem\.cc")  # cells that fill a memory
MODULE = re.compile(r"-module (\S+)")
PLACE = re.compile(
    r"-mode (\w+) -module \S+ -cell (\S+) -port \\?(\S+) -portbit (\d+)(?: -ctrlbit (\d+))?"
)


def logic(sources: Sources, count: int, seed: int) -> Iterator[Mutant]:
    """As many as asked for, in any module below the top."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "rom.v").write_text(ROM)
        (folder / "top.v").write_text(sources.files[TOP])
        listed = f"mutate -list {2 * count} -seed {seed} -o list.txt\n"
        yosys(folder, READ.format(top=sources.top) + listed)
        lines = (folder / "list.txt").read_text().splitlines()
        # What a memory holds at first is read nowhere before it is written.
        inside = [n for n in lines if module_of(n) != sources.top and not FIRST.search(n)]
        chosen = inside[:count]
        script = [READ.format(top=sources.top) + "design -save good\n"]
        for n, line in enumerate(chosen):
            script.append(f"design -load good\n{line}\n"
                          f"select {module_of(line)}\nwrite_verilog -noattr -selected {n}.v\n"
                          "select -clear\n")  # fmt: skip
        yosys(folder, "".join(script))
        for n, line in enumerate(chosen):
            written = re.search(
                r"^module .*?^endmodule$", (folder / f"{n}.v").read_text(), re.S | re.M
            )
            assert written is not None
            yield sources.of_module("logic", module_of(line), place(line), written[0])


def yosys(folder: Path, script: str) -> None:
    """Run a script."""
    (folder / "script.ys").write_text(script)
    run_tool("yosys", ["-q", "script.ys"], folder, "yosys.log")


def module_of(line: str) -> str:
    """Of a line of `mutate -list`."""
    found = MODULE.search(line)
    assert found is not None
    return found[1].removeprefix("\\")


def place(line: str) -> str:
    """In words; a cell's name without the numbers that yosys counts."""
    found = PLACE.search(line)
    assert found is not None
    mode, cell, port, bit, control = found.groups()
    more = f" where bit {control} is set" if control else ""
    return f"{mode} of bit {bit} of {port} of {cell}{more}"
