"""Whether a mutant is the design itself in other words: proved by ABC, or not at all.

The module and its mutant get the same inputs, from their initial state on, and every output must be
the same for ever: what a stream carries while it is not valid does not count. Their streams come
from blocks that keep to the protocol, as `make formal` proves of each: a beat waits until it is
taken. First the module is taken alone, then the whole block that it is in, which drives it only as
it can. yosys' `formalff -clk2ff` takes all registers to have one clock, so a mutant that touches a
clock is never proved.
"""

from __future__ import annotations

import re
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tests" / "formal"))

from mutant import TOP, Mutant, Sources
from mutant_logic import yosys
from mutant_streams import HEADER, port_list
from sby import ABC, PDR

from intaglio.errors import ToolError

Answer = Literal["same", "differs", "undecided"]
CLOCK = re.compile(r"\bof (CLK|clk|RD_CLK|WR_CLK)\b")
GRAPH = """\
read_verilog -defer intaglio_rom.v
read_verilog pair.v
prep -flatten -top pair
memory_map
opt -keepdc
async2sync
setundef -init -zero
formalff -clk2ff
setundef -undriven -zero
setattr -unset keep
opt_clean
techmap
simplemap
dffunmap
aigmap
opt_clean
write_aiger -zinit pair.aig
"""
LESS = "read_aiger,pair.aig;strash;scorr;write_aiger,less.aig;"
ANSWERS: dict[str, Answer] = {"snl_UNSAT": "same", "snl_SAT": "differs"}


def same(sources: Sources, mutant: Mutant, limit: int) -> tuple[Answer, str]:
    """Whether nothing tells them apart, and at which module that was seen: its own, or the block's.
    At most `limit` seconds each."""
    if mutant.path != TOP or CLOCK.search(mutant.what):
        return "undecided", ""
    block = f"{sources.top}_{mutant.block}"
    answer: Answer = "undecided"
    for module in dict.fromkeys((mutant.module, block)):
        answer = proved(sources, mutant, module, limit)
        if answer == "same":
            return answer, module
    return answer, ""


def proved(sources: Sources, mutant: Mutant, module: str, limit: int) -> Answer:
    """Of a module with all that is in it."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for path in sources.roms:
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(sources.files[path])
        (folder / "intaglio_rom.v").write_text(sources.files["rtl/intaglio_rom.v"])
        (folder / "pair.v").write_text(pair(sources, mutant, module))
        with suppress(ToolError):  # it ends so, for ABC has no module for it
            yosys(folder, GRAPH + ABC.format(script=f"{LESS}{PDR.format(limit=limit)}"))
        status = folder / "status.txt"
        if not status.exists():
            return "undecided"
        # Signal correspondence alone may show that the output is 0; no claim is left for PDR then.
        if (folder / "less.aig").read_bytes().split(b"\n", 2)[1] == b"0":
            return "same"
        word = status.read_text().split()[0]
        return ANSWERS.get(word, "undecided")


def pair(sources: Sources, mutant: Mutant, module: str) -> str:
    """Both modules, and module `pair` around them, whose only output is 1 once they differ."""
    names = within(sources, module)
    good = [renamed(sources.modules[name], names, "good_") for name in names]
    bad = [
        renamed(mutant.text if name == mutant.module else sources.modules[name], names, "bad_")
        for name in names
    ]
    return "\n".join([*good, *bad, surrounding(sources, module)])


def within(sources: Sources, module: str) -> list[str]:
    """A module and all that it has in it."""
    found, todo = dict[str, None](), [module]
    while todo:
        name = todo.pop()
        found[name] = None
        words = set(re.findall(r"^  (\w+) +(?:#\(.*?\) )?\w+ \(", sources.modules[name], re.M))
        todo += [word for word in words if word in sources.modules and word not in found]
    return list(found)


def renamed(body: str, names: list[str], prefix: str) -> str:
    """A module's text with its own and its parts' names behind a prefix."""
    for name in names:
        body = re.sub(rf"^(module |  )({name}|{name}_inner)\b", rf"\1{prefix}\2", body, flags=re.M)
    return body


def surrounding(sources: Sources, module: str) -> str:
    """Module `pair`."""
    body = sources.modules[module]
    ports = port_list(body)
    header = HEADER.match(body)
    assert header is not None
    lines, held, differ = [], [], []
    for name, (way, width) in ports.items():
        bus = f"[{width - 1}:0] "
        if way == "input":
            lines.append(f"  input {bus}{name};")
            continue
        lines.append(f"  wire {bus}good_{name}, bad_{name};")
        valid = f"{name.removesuffix('_payload')}_valid"
        only = f" & good_{valid}" if name.endswith("_payload") and valid in ports else ""
        differ.append(f"good_{name} != bad_{name}{only}")
    for name, (way, _) in ports.items():
        stream = name.removesuffix("_valid")
        if way == "input" and stream != name and f"{stream}_ready" in ports:
            what = f"{name}, {stream}_payload" if f"{stream}_payload" in ports else name
            held.append((stream, what, 1 + (ports[f"{stream}_payload"][1] if "," in what else 0)))
    inputs = ", ".join(name for name, (way, _) in ports.items() if way == "input")
    for copy in ("good", "bad"):
        joined = ", ".join(
            f".{name}({name if way == 'input' else f'{copy}_{name}'})"
            for name, (way, _) in ports.items()
        )
        lines.append(f"  {copy}_{module} {copy} ({joined});")
    kept = ["1'b1"]
    for stream, what, width in held:
        lines.append(
            f"  reg {stream}_waits = 0;\n  reg [{width - 1}:0] {stream}_kept = 0;\n"
            f"  always @(posedge clk) begin\n"
            f"    {stream}_waits <= ~rst & {stream}_valid & ~good_{stream}_ready;\n"
            f"    {stream}_kept <= {{{what}}};\n  end"
        )
        kept.append(f"(~{stream}_waits | {stream}_kept == {{{what}}})")
    clock = "" if "clk" in ports else "  input clk;\n"
    lines.append(
        f"  reg broken = 0;\n  wire keeps = {' & '.join(kept)};\n"
        f"  always @(posedge clk) broken <= broken | ~keeps;\n"
        f"  assign bad_ever = keeps & ~broken & ({' | '.join(differ) or 0});"
    )
    body = "\n".join(lines)
    return f"module pair ({inputs}, bad_ever);\n  output bad_ever;\n{clock}{body}\nendmodule\n"
