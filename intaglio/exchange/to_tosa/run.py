"""TOSA files in the reference model, which lives in an environment of its own."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.errors import ToolError
from intaglio.exchange.to_tosa.file import Graph
from intaglio.exchange.to_tosa.pieces import held
from intaglio.program import Program
from intaglio.system.processes import environment

Array = NDArray[Any]
WORKER = Path(__file__).with_name("worker.py")
# Its NumPy is older than ours; `make setup` makes it here, wherever the command is called.
BESIDE = Path(sys.prefix).parent / ".venv-tosa/bin/python"


def how_to_make(python: Path) -> str:
    """What makes an environment with tosa-tools, whose interpreter `python` is to be."""
    folder = python.parent.parent
    make = shlex.join([sys.executable, "-m", "venv", str(folder)])
    install = shlex.join([str(folder / "bin/pip"), "install", "tosa-tools"])
    return f"make one: {make} && {install}"


class ReferenceModel:
    """`python`, an interpreter whose environment has tosa-tools, kept running while open."""

    def __init__(self, python: Path) -> None:
        self.python = python

    def __enter__(self) -> ReferenceModel:
        if not self.python.exists():
            raise ToolError(
                f"{self.python} must be a Python with tosa-tools; {how_to_make(self.python)}"
            )
        self.folder = TemporaryDirectory()
        self.log = (Path(self.folder.name) / "log").open("w+")
        self.start()
        return self

    def start(self) -> None:
        """A new worker."""
        self.process = subprocess.Popen(
            [str(self.python), "-I", str(WORKER)],  # this folder's modules are not for it
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.process.communicate()
        self.log.close()
        self.folder.cleanup()

    def run(self, graph: bytes, inputs: Sequence[Array]) -> list[Array]:
        """The outputs of a file; axis 0 of every array counts runs, the rest are the graph's.

        Raises ToolError where the model refuses the graph or calls its result unpredictable.
        """
        folder = Path(self.folder.name)
        (folder / "graph.tosa").write_bytes(graph)
        np.savez(folder / "inputs.npz", *inputs)
        answer = self.ask(str(folder))
        if answer != "TOSA_VALID":
            self.log.seek(0)
            said = [line.strip() for line in self.log if not line.startswith("WARNING: ")]
            raise ToolError(
                f"The TOSA reference model must accept the graph, not answer {answer!r}:"
                f" {' '.join(said[-3:])}"
            )
        with np.load(folder / "outputs.npz") as stored:
            return [stored[name] for name in stored.files]

    def ask(self, line: str) -> str:
        """The worker's answer; "" where it ended instead, and another takes its place."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.log.truncate(0)
        try:
            self.process.stdin.write(f"{line}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            answer = ""
        else:
            answer = self.process.stdout.readline().strip()
        if not answer:
            self.process.communicate()
            self.start()
        return answer


def run_tosa(
    model: ReferenceModel, program: Program, graph: Graph, images: Array
) -> dict[str, Array]:
    """Outputs by name (N, C, H, W) of a Program's graph for images (N, C, H, W)."""
    (name,) = graph.inputs
    x = images.transpose(0, 2, 3, 1)[:, None].astype(np.int64)
    fed = x.astype(graph.edges[name].dtype)  # unsigned codes keep their bits
    found = model.run(graph.serialised(), [fed])
    outputs = {}
    for tensor, array in zip(program.outputs, found, strict=True):
        rests = held(tensor.type)
        unsigned = rests is not None and rests.less != 0
        array = array.view(f"u{array.dtype}") if unsigned else array
        outputs[tensor.name] = array[:, 0].transpose(0, 3, 1, 2)
    return outputs
