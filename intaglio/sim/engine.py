"""`Simulator`: the fast, bit-accurate execution of a Program on batches of images."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.errors import DataError
from intaglio.fixed import IntType
from intaglio.ops import Conv2d, Tensor
from intaglio.program import Program
from intaglio.sim.isa import Isa, choose
from intaglio.sim.kernels import planes
from intaglio.sim.plan import make_plan
from intaglio.sim.reference import narrowed
from intaglio.sim.workspace import Workspace, make_workspace

Array = NDArray[Any]


class Simulator:
    """Runs `program` on the host's integers; agrees with `sim.reference` on every bit.

    threads  images run at a time; default: the processors this process may use.
    trace    return every tensor, accumulators too, instead of the Outputs (slower).
    isa      vector instructions, one of `sim.isa.supported()`; default: its best.

    `overflows` holds, after a call, for each Conv2d whose accumulator is narrower than proved how
    many values overflowed over the batch, as counted by `sim.reference`.
    """

    def __init__(
        self,
        program: Program,
        *,
        threads: int | None = None,
        trace: bool = False,
        isa: Isa | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise DataError(f"threads must be at least 1, not {threads}.")
        self.program = program
        self.threads = threads or processors()
        self.overflows: dict[str, int] = {}
        self._plan = make_plan(program, trace, choose(isa))
        self._wanted = tuple(program.tensors.values()) if trace else program.outputs
        convs = enumerate(program.of_kind(Conv2d))
        self._narrow = {op.output: i for i, op in convs if narrowed(op, program) is not None}
        self._free: SimpleQueue[Workspace] = SimpleQueue()
        self._pool: ThreadPoolExecutor | None = None

    def __call__(self, images: Array) -> dict[str, Array]:
        """Outputs by name, (N, C, H, W) in the narrowest NumPy integers, of images (N, C, H, W).

        Raises DataError when the images are not integers of the input's shape and range.
        """
        check_images(self.program, images)
        count = len(images)
        results = {
            t.name: np.empty((count, *t.shape), dtype=numpy_type(t.type)) for t in self._wanted
        }
        workers = min(self.threads, count)
        if workers > 1:
            if self._pool is None:  # threads take longer to start than a small network to run
                self._pool = ThreadPoolExecutor(self.threads)
            counts = list(self._pool.map(lambda n: self._run(images, n, results), range(count)))
        else:
            counts = [self._run(images, n, results) for n in range(count)]
        self.overflows = {name: sum(c[i] for c in counts) for name, i in self._narrow.items()}
        return results

    def run_dequantised(self, images: Array) -> list[NDArray[np.float32]]:
        """Real values scale * (q - zero_point) of the Outputs in order, float32 (N, C, H, W)."""
        results = self(images)
        return [dequantise(t, results[t.name]) for t in self.program.outputs]

    def _run(self, images: Array, n: int, results: dict[str, Array]) -> list[int]:
        """Image n, into its place of the results; the overflow counts."""
        try:
            space = self._free.get_nowait()
        except Empty:
            space = make_workspace(self._plan)
        (x,) = self.program.inputs
        space.arrays[x.name][:] = images[n].transpose(1, 2, 0)
        space.run()
        for name, array in results.items():
            c = array.shape[1]
            planes(space.arrays[name].reshape(-1, c), array[n].reshape(c, -1))
        counts: list[int] = space.overflows.tolist()
        self._free.put(space)
        return counts


def processors() -> int:
    """Processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def numpy_type(type: IntType) -> np.dtype[Any]:
    """The narrowest NumPy integer that holds every code."""
    kinds = (np.int8, np.int16, np.int32, np.int64) if type.signed else (
        np.uint8, np.uint16, np.uint32, np.uint64)  # fmt: skip
    return next(np.dtype(k) for k in kinds if np.iinfo(k).max >= type.hi)


def check_images(program: Program, images: Array) -> None:
    """Raise DataError unless `images` are integers (N, C, H, W) of the input's shape and range."""
    (x,) = program.inputs
    if not isinstance(images, np.ndarray) or not np.issubdtype(images.dtype, np.integer):
        kind = getattr(images, "dtype", type(images).__name__)
        raise DataError(f"Images must be an integer array (N, C, H, W), not {kind}.")
    if images.shape[1:] != x.shape:
        shape = ", ".join(map(str, x.shape))
        raise DataError(
            f"Images must have the shape (N, {shape}), not {images.shape}; resize them, or"
            " quantise for their size."
        )
    if images.size and not x.type.holds(int(images.min()), int(images.max())):
        raise DataError(
            f"Pixels must lie in [{x.type.lo}, {x.type.hi}], not [{images.min()}, {images.max()}]."
        )


def dequantise(tensor: Tensor, codes: Array) -> NDArray[np.float32]:
    """scale * (q - zero_point) of codes (N, C, H, W), computed in float64."""
    zero = np.array(tensor.zero_point, dtype=np.float64)[:, None, None]
    return (tensor.scale * (codes - zero)).astype(np.float32)
