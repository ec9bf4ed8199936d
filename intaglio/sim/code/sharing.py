"""Several kernels compiled at the same time, by processes that begin as copies of this one.

Numba holds Python's lock and LLVM one of its own, so that threads would wait for each other. A copy
needs no import. One that ends or says nothing for long is given up, and what it had is compiled
here; so is everything where processes cannot be copied, or there is one processor.
"""

from __future__ import annotations

import multiprocessing
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from intaglio.sim.code.emitting import codegen, emit
from intaglio.sim.code.kernel import Code
from intaglio.system.threads import most

PATIENCE = 120.0  # seconds, for one kernel; the longest takes some five

Progress = Callable[[int, int], None]


def emit_all(codes: Sequence[Code], progress: Progress) -> Iterator[tuple[Code, bytes]]:
    """An object of each, in any order; those whose kinds are most come first, as they take longest.
    `progress` is told how many are done, and of how many."""
    waiting = deque(sorted(codes, key=lambda code: -len(code.kinds)))
    done = 0
    codegen()  # what every copy needs
    with copies(min(most(), len(codes)), codes) as ends:
        busy: dict[Connection, Code] = {}
        for end in ends:
            hand(end, waiting, busy, codes)
        while busy:
            answered = wait(list(busy), PATIENCE)
            for end in [one for one in busy if one in answered or not answered]:
                code = busy.pop(end)
                made = received(end) if answered else None
                if made is None:
                    waiting.append(code)  # that one is not asked again
                    continue
                done += 1
                progress(done, len(codes))
                yield code, made
                hand(end, waiting, busy, codes)
    while waiting:
        code = waiting.popleft()
        yield code, emit(code)
        done += 1
        progress(done, len(codes))


def hand(
    end: Connection, waiting: deque[Code], busy: dict[Connection, Code], codes: Sequence[Code]
) -> None:
    """Give a copy something to do, if there is anything."""
    if waiting:
        busy[end] = waiting.popleft()
        with suppress(OSError):  # what it does not answer is noticed
            end.send(codes.index(busy[end]))


def received(end: Connection) -> bytes | None:
    """What a copy has made; None where it has ended, or could not."""
    try:
        found: bytes | None = end.recv()
    except (EOFError, OSError):
        return None
    return found


@contextmanager
def copies(count: int, codes: Sequence[Code]) -> Iterator[list[Connection]]:
    """The ends of as many processes that take places in `codes` and give objects; none where that
    cannot be, or is of no use."""
    made: list[tuple[BaseProcess, Connection]] = []
    try:
        if count > 1 and sys.platform == "linux":
            with suppress(OSError, AssertionError):  # no processes left, or none allowed
                made += (copy(codes) for _ in range(count))
        yield [end for _, end in made]
    finally:
        for process, end in made:
            end.close()
            process.kill()
            process.join()


def copy(codes: Sequence[Code]) -> tuple[BaseProcess, Connection]:
    """A process and this end of its pipe."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, here, codes), daemon=True)
    with warnings.catch_warnings():  # of threads: this one holds the locks of all that is called
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    there.close()
    return process, here


def serve(end: Connection, other: Connection, codes: Sequence[Code]) -> None:
    """A copy's work, until its parent closes the pipe."""
    other.close()
    with suppress(EOFError, OSError):
        while True:
            code = codes[end.recv()]
            made: Any = None
            with suppress(Exception):  # the parent meets it too, and says it
                made = emit(code)
            end.send(made)
