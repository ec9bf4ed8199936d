"""Memory of this process and of those that it started, in bytes."""

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

PAGE = resource.getpagesize()


def used() -> int:
    """What this process and all that descend from it hold now, pages that several of them share
    counted for each, for looking at each page takes milliseconds; where the system does not say,
    the most that this one ever held."""
    try:
        return sum(resident(pid) for pid in family(os.getpid()))
    except OSError:
        return most_used()


def most_used() -> int:
    """The most that this process alone ever held."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # macOS says bytes, others KiB


def resident(pid: int) -> int:
    """Of one process. Raises OSError where that cannot be read."""
    return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * PAGE


def family(pid: int) -> list[int]:
    """The process, its children, theirs, and so on. Raises OSError for one that is not there."""
    found, todo = [pid], [pid]
    while todo:
        parent = todo.pop()
        try:
            threads = list(Path(f"/proc/{parent}/task").iterdir())
        except OSError:
            if parent == pid:
                raise
            continue  # it ended
        for thread in threads:
            with suppress(OSError):
                children = [int(text) for text in (thread / "children").read_bytes().split()]
                found += children
                todo += children
    return found
