"""How many threads work takes: one place, for torch and for the simulator.

Threads of torch wait for each other after every operation, and turn in a circle while they wait. On
a small network an operation is over before the last thread has begun, and where another program has
one of the processors, all wait until it lets go: `benchmarks/quant/threads.py` measures how long.
What a user has stated counts: an argument first, then OMP_NUM_THREADS.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from intaglio.errors import DataError

WORTH = 1_000_000_000  # multiply-accumulates of an image from which torch's threads gain
LARGEST = 4096  # threads that anybody means; torch takes no number of more than 64 bits
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds, of so many


def stated(threads: int | None = None) -> int | None:
    """What the user asks for; None where that is nothing. Raises DataError."""
    if threads is not None:
        if threads < 1:
            raise DataError(f"threads must be at least 1, not {threads}.")
        if threads > LARGEST:
            raise DataError(f"threads must be at most {LARGEST}, not {threads}.")
        return threads
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(int(first), LARGEST) if first.isdigit() and int(first) else None


def processors() -> int:
    """Processors this process may use: of those that are there, or of its share of them."""
    found = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        found = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):
        quota, period = QUOTA.read_text(encoding="ascii").split()
        found = min(found, max(1, int(quota) // int(period)))  # "max": no quota
    return found


def most(threads: int | None = None) -> int:
    """For work whose parts do not wait for each other: images, seeds."""
    return stated(threads) or processors()


def for_torch(macs: int, threads: int | None = None) -> int:
    """For a network of so many multiply-accumulates an image."""
    return stated(threads) or (processors() if macs >= WORTH else 1)


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """torch with so many threads, where it is loaded; as it is with None."""
    torch = sys.modules.get("torch")
    if torch is None or count is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
