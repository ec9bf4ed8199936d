"""`Simulator`: the fast, bit-accurate execution of a Program on batches of images."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.errors import DataError
from intaglio.fixed import IntType
from intaglio.ops import Conv2d, dequantise
from intaglio.program import Program
from intaglio.sim.buffers import given
from intaglio.sim.isa import Isa, choose
from intaglio.sim.plan import make_plan
from intaglio.sim.reference import narrowed
from intaglio.sim.workspace import Batch, Workspace, make_workspace
from intaglio.system.threads import most, processors

Array = NDArray[Any]
WORTH = 4_000_000  # multiplications of an image that threads share; of fewer, waiting is most


class Simulator:
    """Runs `program` on the host's integers; agrees with `sim.reference` on every bit.

    threads  images run at a time, or threads that share a single large image; default:
             OMP_NUM_THREADS, else the processors this process may use.
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
        self.program = program
        self._settings: dict[str, Any] = {"threads": threads, "trace": trace, "isa": isa}
        self.threads = most(threads)
        self._together = min(self.threads, processors())  # more would wait for each other
        self._macs = sum(program.macs().values())
        self.overflows: dict[str, int] = {}
        self._plan = make_plan(program, trace, choose(isa))
        wanted = tuple(program.tensors.values()) if trace else program.outputs
        self._wanted = {t.name: numpy_type(t.type) for t in wanted}
        self._shapes = [(t.name, t.shape, self._wanted[t.name]) for t in wanted]
        self._given = np.dtype(given(program.inputs[0].type))
        convs = enumerate(program.of_kind(Conv2d))
        self._narrow = {op.output: i for i, op in convs if narrowed(op, program) is not None}
        self._alone: SimpleQueue[Workspace] = SimpleQueue()
        self._shared: Workspace | None = None
        self._lock = Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._helpers: list[Future[None]] = []

    def __repr__(self) -> str:
        tensors = "every tensor" if self._settings["trace"] else "outputs"
        count = f"{self.threads} thread{'s' * (self.threads > 1)}"
        return f"<Simulator of {self.program.in_words()}; {tensors}, {count}, {self._plan.isa}>"

    def __call__(self, images: Array) -> dict[str, Array]:
        """Outputs by name, (N, C, H, W) in the narrowest NumPy integers, of images (N, C, H, W).

        Raises DataError when the images are not integers of the input's shape and range.
        """
        check_images(self.program, images)
        count = len(images)
        pixels = np.ascontiguousarray(images, dtype=self._given)
        results = {name: np.empty((count, *shape), kind) for name, shape, kind in self._shapes}
        batches = Batch.of(pixels), [Batch.of(array) for array in results.values()]
        share = count == 1 and self._together > 1 and self._macs >= WORTH
        several = share or min(self.threads, count) > 1
        if several and self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads)
        if share:
            counts = [self._run_shared(*batches)]
        elif several:
            assert self._pool is not None
            counts = list(self._pool.map(lambda n: self._run(n, *batches), range(count)))
        else:
            counts = [self._run(n, *batches) for n in range(count)]
        self.overflows = {name: sum(c[i] for c in counts) for name, i in self._narrow.items()}
        return results

    def run_dequantised(self, images: Array) -> list[NDArray[np.float32]]:
        """Real values scale * (q - zero_point) of the Outputs in order, float32 (N, C, H, W)."""
        results = self(images)
        return [dequantise(t, results[t.name]) for t in self.program.outputs]

    def __reduce__(self) -> tuple[Any, ...]:
        """As the Program and the settings given: a copy elsewhere plans for the processor there."""
        return partial(Simulator, **self._settings), (self.program,)

    def _run(self, n: int, pixels: Batch, results: list[Batch]) -> list[int]:
        """Image n, into its place of the results, by this thread; the overflow counts."""
        try:
            space = self._alone.get_nowait()
        except Empty:
            space = make_workspace(self._plan, self._wanted)
        space.begin(pixels, n, results)
        space.steps.run()
        counts = self._counted(space)
        self._alone.put(space)
        return counts

    def _run_shared(self, pixels: Batch, results: list[Batch]) -> list[int]:
        """The only image, by all threads."""
        assert self._pool is not None
        with self._lock:
            if self._shared is None:
                self._shared = make_workspace(self._plan, self._wanted, self._together)
                self._helpers = [Future() for _ in range(1, self._together)]
                for helper in self._helpers:
                    helper.set_result(None)
            space = self._shared
            space.begin(pixels, 0, results)
            for i, helper in enumerate(self._helpers):
                if helper.done():  # it has left; who has not sees the image by itself
                    self._helpers[i] = self._pool.submit(space.steps.attend, i + 1)
            space.steps.lead()
            return self._counted(space)

    def _counted(self, space: Workspace) -> list[int]:
        """The overflows of each narrow convolution's place."""
        return space.overflows.sum(axis=1).tolist() if self._narrow else []


def numpy_type(type: IntType) -> np.dtype[Any]:
    """The narrowest NumPy integer that holds every code."""
    kinds = (np.int8, np.int16, np.int32, np.int64) if type.signed else (
        np.uint8, np.uint16, np.uint32, np.uint64)  # fmt: skip
    return next(np.dtype(k) for k in kinds if np.iinfo(k).max >= type.hi)


def check_images(program: Program, images: Array) -> None:
    """Raise DataError unless `images` are integers (N, C, H, W) of the input's shape and range."""
    (x,) = program.inputs
    if not isinstance(images, np.ndarray) or images.dtype.kind not in "iu":
        kind = getattr(images, "dtype", type(images).__name__)
        raise DataError(f"Images must be an integer array (N, C, H, W), not {kind}.")
    if images.shape[1:] != x.shape:
        shape = ", ".join(map(str, x.shape))
        raise DataError(
            f"Images must have the shape (N, {shape}), not {images.shape}; resize them, or"
            " quantise for their size."
        )
    kind = np.iinfo(images.dtype)
    if x.type.holds(int(kind.min), int(kind.max)):
        return
    if images.size and not x.type.holds(int(images.min()), int(images.max())):
        raise DataError(
            f"Pixels must lie in [{x.type.lo}, {x.type.hi}], not [{images.min()}, {images.max()}]."
        )
