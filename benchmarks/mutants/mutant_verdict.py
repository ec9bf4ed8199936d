"""What `verify` says of a mutant.

`verify` has its bench played by cocotb in a process of its own. For thousands of mutants the same
bench is played by Icarus alone, with the clock of bench/alone.sv: three times as fast. All that is
judged is the bench's; the design without a change goes through `verify` as it is.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mutant import Mutant, Sources

from intaglio.codegen.bundle import Bundle
from intaglio.codegen.folder.alone import FILES
from intaglio.codegen.running import simulate
from intaglio.codegen.running.verify import VerifyResult, verify
from intaglio.errors import IntaglioError

LIMIT = 30  # seconds: a circle of gates without an end is a mutant that hangs


@dataclass(frozen=True)
class Verdict:
    """caught   or not; how: "beats", "protocol", "cycles" of a port, "inside", or "stops" where the
    simulator does.
    driver, reader, laid  of the stream that is said to be first wrong, and the block that it is
    laid to, or ""."""

    caught: bool
    how: str
    driver: str
    reader: str
    laid: str
    sentence: str
    seconds: float


@dataclass(frozen=True)
class Judge:
    """A build in a folder, into which mutants are written one after the other."""

    bundle: Bundle
    folder: Path

    def __post_init__(self) -> None:
        self.bundle.write(self.folder, force=True)

    @cached_property
    def sources(self) -> Sources:
        """Of the build as it is."""
        files = {path: data.decode() for path, data in self.bundle.files.items()
                 if path.startswith(("rtl/", "rom/"))}  # fmt: skip
        return Sources(self.bundle.manifest["name"], files)

    def judged(self, sources: Sources, mutant: Mutant | None, *, plainly: bool = False) -> Verdict:
        """What `verify` says; `plainly`: with cocotb, as the command does."""
        changed = {} if mutant is None else sources.mutated(mutant)
        for path, text in changed.items():
            (self.folder / path).write_text(text)
        started = time.perf_counter()
        try:
            if plainly:
                result = verify(self.folder, simulator="icarus", inside="always")
            else:
                with alone():
                    result = verify(self.folder, simulator="icarus", inside="always")
        except (IntaglioError, subprocess.TimeoutExpired) as error:
            return Verdict(True, "stops", "", "", "", str(error), since(started))
        finally:
            for path in changed:
                (self.folder / path).write_text(sources.files[path])
        return verdict(result, since(started))


def since(started: float) -> float:
    """Seconds."""
    return round(time.perf_counter() - started, 2)


def verdict(result: VerifyResult, seconds: float) -> Verdict:
    """In few words."""
    how = "beats" if result.mismatches else "protocol" if result.broken else ""
    how = how or ("inside" if result.in_time else "cycles")
    inside = result.inside
    names = ("", "", "")
    if inside is not None:
        names = inside.driver or "", inside.reader, inside.block
    how = "" if result.passed else how
    return Verdict(not result.passed, how, *names, result.sentence(), seconds)


@contextmanager
def alone() -> Iterator[None]:
    """Inside, `verify` plays its bench by Icarus without cocotb."""
    before = simulate.run_script
    simulate.run_script = played
    try:
        yield
    finally:
        simulate.run_script = before


def played(folder: Path, simulator: str, words: Sequence[str]) -> tuple[int, str]:
    """As `simulate.run_script`."""
    given = dict(zip((word.removeprefix("--") for word in words[::2]), words[1::2], strict=True))
    bench = given.pop("bench", "bench/bench.v")
    product = "sim/alone.vvp"
    files = [bench if name == "bench/bench.v" else name for name in FILES]
    command = ["iverilog", "-g2012", "-s", "alone", "-o", product, *files]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if made.returncode:
        return made.returncode, made.stdout + made.stderr
    command = ["vvp", "-n", product, *(f"+{name}={value}" for name, value in given.items())]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT)
    return 0, ran.stdout + ran.stderr  # the exit status is the bench's own judgement
