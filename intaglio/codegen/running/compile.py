"""The RTL as a function: the Verilog of a build, compiled by Verilator, from images to maps.

The design goes into a shared library with a loop in C++ around it (cpp/frames.cpp), which ctypes
calls: whole batches pass without Python in between.
"""

from __future__ import annotations

import atexit
import ctypes
import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.codegen.folder.manifest import BuildFiles, read_manifest
from intaglio.codegen.folder.plan import patience
from intaglio.codegen.running.library import SOURCES, compiled, words
from intaglio.codegen.structure.ports import FRAME_ERROR, Port, random_frames
from intaglio.errors import BuildError, DataError
from intaglio.hdl.pack import frames_words, words_frames
from intaglio.ops import dequantise
from intaglio.program import Program
from intaglio.sim.engine import check_images, numpy_type
from intaglio.system.shelf import shelf, used
from intaglio.system.steps import Tell, quiet
from intaglio.system.threads import most

Array = NDArray[Any]


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

    def __init__(self, bundle: BuildFiles, library: Path, threads: int | None = None) -> None:
        manifest = bundle.manifest
        self.threads = most(threads)
        self.source = Port.from_json(manifest["input"])
        self.sinks = tuple(Port.from_json(entry) for entry in manifest["outputs"])
        self.patience = patience(manifest["cycles_per_frame"], manifest["latency_cycles"])
        self._bundle = bundle
        self._settings: dict[str, Any] = {"folder": library.parent.parent, "threads": threads}
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

    def __reduce__(self) -> tuple[Any, ...]:
        """As the build and the settings given: a copy elsewhere finds the library, or compiles."""
        return partial(compile_bundle, **self._settings), (self._bundle,)

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
        error = ctypes.c_int64()
        cycles = self._frames(
            stimulus.ctypes.data, count * self.source.beats, None, count, seed, self.patience,
            places, times.ctypes.data, wrong.ctypes.data, error,
        )  # fmt: skip
        if cycles < 0:
            self._explain_stop(times)
        if error.value:
            raise BuildError(
                f"{FRAME_ERROR} must be 0 with whole frames, but is not; run `intaglio verify`."
            )
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


def unpacked(port: Port, data: NDArray[np.uint32]) -> Array:
    """Frames (N, C, H, W) in the narrowest NumPy integers."""
    codes = words_frames(data, port.shape, port.lanes, port.type.bits, port.type.signed)
    return codes.astype(numpy_type(port.type))


def entry_point(library: Path) -> Any:
    """The C function of a compiled design; ctypes releases the GIL while it runs."""
    function = ctypes.CDLL(str(library)).intaglio_frames
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [
        pointer, number, pointer, number, ctypes.c_uint64, number, ctypes.POINTER(pointer), pointer,
        pointer, ctypes.POINTER(number),
    ]  # fmt: skip
    function.restype = number
    return function


def load(
    build_dir: str | Path,
    *,
    folder: str | Path | None = None,
    threads: int | None = None,
    tell: Tell = quiet,
) -> Function:
    """The design in a folder that `intaglio build` wrote; `compile_bundle` says more."""
    root = Path(build_dir)
    manifest = read_manifest(root)
    wanted = ["manifest.json", "program.intaglio", *SOURCES]
    wanted += [path for path in manifest["files"] if path.startswith("rom/")]
    bundle = BuildFiles({path: (root / path).read_bytes() for path in wanted})
    return compile_bundle(bundle, folder=folder, threads=threads, tell=tell)


def compile_bundle(
    bundle: BuildFiles,
    *,
    folder: str | Path | None = None,
    threads: int | None = None,
    tell: Tell = quiet,
) -> Function:
    """Compile the Verilog of a build; ten seconds for a small design, a minute for a large one.

    folder   where compiled designs are kept, each under the digest of its Verilog, its ROMs and
             the tools, and found again; by default in the user's cache folder, from which those go
             that have not been used for long.
    threads  models that run at a time; default: the processors this process may use.
    tell     is told how far the compilation is.

    Raises ToolError for a missing or failing Verilator or C++ compiler.
    """
    if folder is not None:
        return Function(bundle, compiled(bundle, Path(folder).resolve(), tell), threads)
    place = shelf("compiled")
    library = compiled(bundle, place or session_folder(), tell)
    if place is not None:
        used(library.parent)
    return Function(bundle, library, threads)


@cache
def session_folder() -> Path:
    """This process' temporary folder of compiled designs, where nothing can be kept."""
    path = Path(tempfile.mkdtemp(prefix="intaglio-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path
