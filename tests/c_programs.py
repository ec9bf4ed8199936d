"""C programs in tests: compiled with every warning an error, and run under the sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from intaglio.cmodel.folder import LIBRARY, model_texts
from intaglio.ops import Ints
from intaglio.program import Program

DRIVER = Path(__file__).parent / "cmodel" / "driver.c"
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wno-overlength-strings")
SANITIZED = ("-std=c99", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def compiler(name: str = "gcc") -> str:
    """A compiler; without it the test is skipped, or fails when CI is set."""
    found = shutil.which(name)
    if found is None and os.environ.get("CI"):
        pytest.fail(f"{name} must be installed where CI is set")
    return found or pytest.skip(f"{name} is not installed")


def called(*command: object, cwd: Path, data: bytes = b"") -> bytes:
    """What a program prints; its complaints are the test's failure."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, input=data, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    return done.stdout


@dataclass(frozen=True)
class Run:
    """Every tensor (N, C, H, W) and every count of overflows, by name."""

    tensors: dict[str, Ints]
    overflows: dict[str, int]


class Sanitized:
    """Runs the C models of Programs under the sanitizers, which end one at its first fault."""

    def __init__(self, work: Path) -> None:
        self.gcc, self.work = compiler(), work
        self.ready = False

    def __call__(self, program: Program, images: Ints) -> Run:
        """Frames (N, C, H, W) through the model; as uint8 where the input's type is one."""
        for path, text in model_texts(program, "model").items():
            (self.work / path).write_text(text, encoding="utf-8")
        if not self.ready:  # the same for every Program
            self.compile("-c", LIBRARY, DRIVER)
            self.ready = True
        self.compile("model.c", "intaglio.o", "driver.o", "-o", "run")
        (x,) = program.inputs
        small = x.type.bits <= 8 and not x.type.signed
        frames = images.astype(np.uint8 if small else np.int64).tobytes()
        kind = "u8" if small else "i64"
        printed = called("./run", len(images), kind, cwd=self.work, data=frames)
        return parted(program, np.frombuffer(printed, dtype=np.int64), len(images))

    def compile(self, *arguments: object) -> None:
        called(self.gcc, *STRICT, *SANITIZED, "-I.", *arguments, cwd=self.work)


def parted(program: Program, values: Ints, frames: int) -> Run:
    """What the driver prints, by tensor."""
    rows = values.reshape(frames, -1)
    names = [op.output for op in program.ops]
    sizes = [int(np.prod(program.tensors[name].shape)) for name in names]
    ends = np.cumsum(sizes)
    tensors = {
        name: rows[:, end - size : end].reshape(frames, *program.tensors[name].shape)
        for name, size, end in zip(names, sizes, ends, strict=True)
    }
    counts = rows[:, ends[-1] :].sum(axis=0)
    return Run(tensors, dict(zip(names, counts.tolist(), strict=True)))
