"""The C model in this process: compiled, called through ctypes, compared with the simulator."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.cmodel.folder import Model
from intaglio.errors import DataError, ToolError
from intaglio.ops import Ints
from intaglio.program import Program
from intaglio.sim.engine import Simulator, check_images
from intaglio.system.disk import write_bytes
from intaglio.system.processes import complaint, environment, find_program
from intaglio.system.shelf import digest, identity, shelf, used

COMPILER = "cc"
FLAGS = ("-std=c99", "-O3")


@dataclass(frozen=True)
class Comparison:
    """Integers of all tensors compared with the simulator's, how many differ, and in which tensor
    first."""

    tensors: int
    compared: int
    mismatches: int
    first: str | None

    def sentence(self) -> str:
        """One line for people."""
        where = f", first in {self.first}" if self.first is not None else ""
        return (
            f"{self.mismatches:,} of {self.compared:,} integers of {self.tensors} tensors differ"
            f"{where}"
        )


class CModel:
    """A model of a compiled library; equal to `Simulator(program, trace=True)` on every bit."""

    def __init__(self, library: Path, program: Program, name: str) -> None:
        self.program = program
        self._c = ctypes.CDLL(str(library))
        self._c.intaglio_error.restype = ctypes.c_char_p
        self._c.intaglio_overflows.restype = ctypes.c_int64
        self._c.intaglio_get.restype = ctypes.c_int64
        opened = getattr(self._c, f"{name}_open")
        opened.restype = ctypes.c_void_p
        self._model = ctypes.c_void_p(opened())
        if not self._model:
            raise MemoryError("the tensors of the C model do not fit")

    def __call__(self, images: NDArray[np.integer[Any]]) -> dict[str, Ints]:
        """Every tensor by name, int64 (N, C, H, W), of images (N, C, H, W).

        Raises DataError when the images are not integers of the input's shape and range.
        """
        check_images(self.program, images)
        found = {
            name: np.empty((len(images), *t.shape), dtype=np.int64)
            for name, t in self.program.tensors.items()
        }
        for n, image in enumerate(images):
            self.run(image)
            for name, codes in found.items():
                codes[n] = self.read(name)
        return found

    def run(self, image: NDArray[np.integer[Any]]) -> None:
        """One frame (C, H, W): every tensor is computed and kept."""
        if image.dtype == np.uint8:
            frame = np.ascontiguousarray(image)
            self._done(self._c.intaglio_run(self._model, frame.ctypes.data_as(ctypes.c_void_p)))
            return
        (x,) = self.program.inputs
        self.write(x.name, image)
        self._done(self._c.intaglio_forward(self._model))

    def read(self, tensor: str) -> Ints:
        """The codes of a tensor, int64 (C, H, W)."""
        codes = np.empty(self.program.tensors[tensor].shape, dtype=np.int64)
        place = codes.ctypes.data_as(ctypes.c_void_p)
        self._done(self._c.intaglio_read(self._model, self.number(tensor), place))
        return codes

    def write(self, tensor: str, codes: NDArray[np.integer[Any]]) -> None:
        """Put codes (C, H, W) into a tensor. Raises DataError for codes outside its range."""
        values = np.ascontiguousarray(codes, dtype=np.int64)
        place = values.ctypes.data_as(ctypes.c_void_p)
        self._done(self._c.intaglio_write(self._model, self.number(tensor), place))

    def compute(self, tensor: str) -> None:
        """One tensor again, from those that its operation reads as they stand."""
        self._done(self._c.intaglio_compute(self._model, self.number(tensor)))

    def number(self, tensor: str) -> int:
        """A tensor's number. Raises DataError for one that the network has not."""
        return int(self._done(self._c.intaglio_find(self._model, tensor.encode())))

    def overflows(self, tensor: str) -> int:
        """Values of the last frame that a narrow accumulator did not hold."""
        return int(self._c.intaglio_overflows(self._model, self.number(tensor)))

    def close(self) -> None:
        """Give the memory back."""
        self._c.intaglio_close(self._model)
        self._model = ctypes.c_void_p()

    def _done(self, code: int) -> int:
        if code < 0:
            raise DataError(self._c.intaglio_error(self._model).decode())
        return code


def compile_library(
    model: Model, into: Path, *, compiler: str = COMPILER, flags: Sequence[str] = FLAGS
) -> Path:
    """The model's C files as a shared library of the folder `into`. Raises ToolError."""
    library = into / f"lib{model.name}.so"
    sources = [str(model.folder.resolve() / path) for path in model.sources]
    try:
        done = subprocess.run(
            [compiler, *flags, "-shared", "-fPIC", "-o", str(library.resolve()), *sources],
            capture_output=True, text=True, errors="replace", env=environment(), cwd=into,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise ToolError(f"{compiler} must be installed to compile: apt-get install gcc.") from error
    if done.returncode:
        printed = complaint(done.stderr)
        raise ToolError(f"{compiler} must compile {model.folder}, but stopped: {printed}")
    return library


def has_compiler() -> bool:
    """Whether there is one."""
    return find_program(COMPILER) is not None


def kept_library(model: Model, work: Path) -> Path:
    """`compile_library` in the folder `work`, or what an earlier run made of the same files with
    the same compiler. Raises ToolError."""
    place, compiler = shelf("models"), identity(COMPILER, "--version")
    if place is None or not compiler:
        return compile_library(model, work)
    texts = [(path.name, path.read_bytes()) for path in sorted(model.folder.glob("*.[ch]"))]
    known = digest((compiler, *FLAGS, model.name, *(part for text in texts for part in text)))
    library = place / known / f"lib{model.name}.so"
    if not library.is_file():
        made = compile_library(model, work)
        with suppress(DataError):
            write_bytes(library, made.read_bytes())
        if not library.is_file():
            return made
    used(library.parent)
    return library


def compare(program: Program, model: Model, images: NDArray[np.integer[Any]]) -> Comparison:
    """Compile the C model and compare every tensor of some images with the simulator's."""
    ours = Simulator(program, threads=1, trace=True)
    compared, mismatches, first = 0, 0, None
    with tempfile.TemporaryDirectory() as folder:
        theirs_of = CModel(kept_library(model, Path(folder)), program, model.name)
        for n in range(len(images)):
            theirs = theirs_of(images[n : n + 1])
            for name, codes in ours(images[n : n + 1]).items():
                wrong = int(np.count_nonzero(codes.astype(np.int64) != theirs[name]))
                compared, mismatches = compared + codes.size, mismatches + wrong
                first = name if wrong and first is None else first
        theirs_of.close()
    return Comparison(len(program.tensors), compared, mismatches, first)
