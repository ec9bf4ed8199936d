"""The same work on every part of a whole: in this process, in several, or on a Dask cluster.

Results come in the order of the parts and are the same wherever they were made: what a lost worker
had is made again by another. Dask is imported by those alone who ask for it.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from intaglio.errors import DataError, ToolError
from intaglio.system.threads import torch_threads

if TYPE_CHECKING:
    from distributed import Client, Future

Part = TypeVar("Part")
Found = TypeVar("Found")

CONNECTING = 10  # seconds, for a scheduler to answer
MOST = 1024  # processes that this machine is asked for; more is a slip of the hand
WAITING = 60  # seconds without any worker
KEPT = 2  # works that a worker keeps unpacked
ALONE = Lock()  # a work may use all threads of its process, and need not be safe with several


class Pool(Protocol):
    """Who does the work. `threads` is each worker's share of its machine; None: all of it."""

    threads: int | None

    def map(self, work: Callable[[Part], Found], parts: Sequence[Part]) -> Iterator[Found]:
        """`work(part)` of every part, in their order; an error of the first that has one."""


class Here:
    """This process, part after part."""

    threads: int | None = None

    def map(self, work: Callable[[Part], Found], parts: Sequence[Part]) -> Iterator[Found]:
        """As `Pool.map`; a part is begun when its result is asked for."""
        return map(work, parts)


HERE = Here()


@contextmanager
def spread(jobs: int = 1, scheduler: str | None = None) -> Iterator[Pool]:
    """A pool of `jobs` processes on this machine, or of the workers of the Dask scheduler at the
    address `scheduler`; this process alone by default.

    Processes are started afresh: a script that asks for them must be guarded by
    `if __name__ == "__main__"`. Workers elsewhere must have this version of intaglio and see files
    under the same paths. Raises DataError for values that make no sense, ToolError for a scheduler
    that does not answer, ModuleNotFoundError without the package `distributed`.
    """
    if not 1 <= jobs <= MOST:
        raise DataError(f"jobs must be 1 to {MOST:,}, not {jobs:,}.")
    if scheduler is not None and jobs > 1:
        raise DataError(
            f"jobs must not be given with a scheduler, not {jobs}: the workers of"
            f" {scheduler} are as many as there are."
        )
    if scheduler is not None:
        with connected(scheduler) as client:
            yield Cluster(client, min(client.nthreads().values(), default=1))
    elif jobs > 1:
        with processes(jobs) as client:
            yield Cluster(client, max(1, available() // jobs))
    else:
        yield HERE


def available() -> int:
    """Processors this process may use."""
    from dask.system import CPU_COUNT

    return int(CPU_COUNT)


@contextmanager
def processes(jobs: int) -> Iterator[Client]:
    """A cluster of processes of this machine, for as long as it is needed."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=jobs, threads_per_worker=1, processes=True, memory_limit=0,
            dashboard_address=":0", silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):  # fmt: skip
        yield client


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """A client of a running scheduler."""
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECTING, set_as_default=False)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ToolError(
            f"scheduler must be the address of a running Dask scheduler, like"
            f" tcp://127.0.0.1:8786, not {address!r}; start one with `dask scheduler`."
        ) from error
    with client:
        yield client


@dataclass(frozen=True)
class Packed:
    """A pickled work, known by its digest; with what a worker must have in common."""

    digest: str
    data: bytes = field(compare=False, repr=False)
    versions: tuple[tuple[str, str | None], ...]
    torch_threads: int | None


class Cluster:
    """The workers that `client` knows."""

    def __init__(self, client: Client, threads: int) -> None:
        self.threads: int | None = threads
        self._client = client
        self._sent: tuple[Any, Future[Packed]] | None = None

    def map(self, work: Callable[[Part], Found], parts: Sequence[Part]) -> Iterator[Found]:
        """As `Pool.map`; all parts are begun at once, by whoever is free. A work that comes again
        is not sent again."""
        sent = self._send(work)
        futures = deque(self._client.map(perform, [sent] * len(parts), parts, pure=False))
        try:
            self._await_worker(sent)
            while futures:
                yield self._result(futures.popleft())
        finally:
            self._client.cancel(list(futures))

    def _send(self, work: Callable[[Part], Found]) -> Future[Packed]:
        """The work as a task, not as data: Dask makes a lost result again, but not lost data."""
        if self._sent is None or self._sent[0] is not work:
            packed = pack(work)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
                self._sent = work, self._client.submit(itself, packed, pure=False)
        return self._sent[1]

    def _await_worker(self, sent: Future[Packed]) -> None:
        """Until the work has arrived. Raises ToolError where there is nobody it could go to."""
        from distributed import wait

        while not sent.done():
            try:
                with self._client.as_current():
                    wait(sent, timeout=WAITING)
            except TimeoutError:
                if not self._client.nthreads():
                    raise ToolError(
                        "The Dask cluster must have at least one worker, not 0; start one with"
                        " `dask worker ADDRESS`."
                    ) from None

    def _result(self, future: Future[Found]) -> Found:
        """What a worker found or raised."""
        from distributed import KilledWorker
        from distributed.comm.core import CommClosedError

        try:
            return future.result()
        except ModuleNotFoundError as error:
            raise ToolError(
                f"Every worker must be able to import {error.name}; install it there, or put its"
                " folder on PYTHONPATH."
            ) from error
        except KilledWorker as error:
            raise ToolError(
                "The workers must survive their work, but every one that began the same part died;"
                " look for lack of memory in their logs."
            ) from error
        except (CancelledError, CommClosedError) as error:
            raise ToolError(
                "The Dask scheduler must run until the work is done, but it went away."
            ) from error


def pack(work: Callable[..., Any]) -> Packed:
    """What goes to the workers: functions of `__main__` and closures whole."""
    from distributed.protocol.pickle import dumps

    data: bytes = dumps(work)
    torch = sys.modules.get("torch")
    return Packed(
        hashlib.sha256(data).hexdigest(),
        data,
        versions(),
        None if torch is None else torch.get_num_threads(),
    )


def itself(packed: Packed) -> Packed:
    """The task that all others depend on."""
    return packed


def perform(packed: Packed, part: Any) -> Any:
    """A worker's task: one part."""
    with ALONE:
        check_versions(packed.versions)
        work = unpacked(packed)
        with torch_threads(packed.torch_threads):  # sums of reals depend on how they are divided
            return work(part)


@lru_cache(KEPT)
def unpacked(packed: Packed) -> Callable[[Any], Any]:
    """The work, kept from part to part."""
    found: Callable[[Any], Any] = pickle.loads(packed.data)
    return found


def versions() -> tuple[tuple[str, str | None], ...]:
    """The versions that a result may depend on; None of what is not installed."""
    return tuple((name, installed(name)) for name in ("intaglio", "numpy", "torch"))


def installed(name: str) -> str | None:
    """A package's version."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def check_versions(wanted: Sequence[tuple[str, str | None]]) -> None:
    """Raise ToolError unless this worker has the client's versions; either may lack a package,
    as the work fails there if it needs it."""
    for (name, theirs), (_, ours) in zip(wanted, versions(), strict=True):
        if None not in (theirs, ours) and theirs != ours:
            raise ToolError(
                f"Every worker must have {name} {theirs}, as its client, not {ours}; install the"
                " same version there."
            )
