"""Work shared by processes that begin as copies of this one, which need no import and no argument.

For work that is Python's, whose threads wait for each other. A copy that dies or says nothing for
long is given up; what it had, and what raised an error there, is done here, where the error is
raised again. Everything is done here where processes cannot be copied, or one alone is asked for.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from intaglio.system.interrupts import ENDING
from intaglio.system.threads import torch_threads

Part = TypeVar("Part")
Found = TypeVar("Found")

PATIENCE = 600.0  # seconds, for one part


@dataclass
class Copies:
    """A `spread.Pool` of so many processes of this machine."""

    jobs: int
    threads: int | None = 1

    def map(self, work: Callable[[Part], Found], parts: Sequence[Part]) -> Iterator[Found]:
        """As `Pool.map`."""
        early: dict[int, Found] = {}
        following = 0
        for place, found in as_done(work, parts, self.jobs):
            early[place] = found
            while following in early:
                yield early.pop(following)
                following += 1


def as_done(
    work: Callable[[Part], Found], parts: Sequence[Part], jobs: int, patience: float = PATIENCE
) -> Iterator[tuple[int, Found]]:
    """The place and result of every part, as they come; parts are begun in their order."""
    waiting, lost = deque(range(len(parts))), deque[int]()
    count = min(jobs, len(parts))
    with copies(count if count > 1 else 0, work, parts) as ends:
        busy: dict[Connection, int] = {}

        def hand(end: Connection) -> None:
            """Give a copy something to do, if there is anything."""
            if waiting:
                busy[end] = waiting.popleft()
                with suppress(OSError):  # that it does not answer is noticed
                    end.send(busy[end])

        for end in ends:
            hand(end)
        while busy:
            answered = wait(list(busy), patience)
            for end in [one for one in busy if one in answered or not answered]:
                place = busy.pop(end)
                alive, made = received(end) if answered else (False, ())
                for found in made:
                    yield place, found
                if not made:
                    lost.append(place)
                if alive:
                    hand(end)
    for place in sorted((*lost, *waiting)):
        yield place, work(parts[place])


def received(end: Connection) -> tuple[bool, tuple[Any, ...]]:
    """Whether a copy still lives, and what it has made, if it could."""
    try:
        found: tuple[Any, ...] = end.recv()
    except (EOFError, OSError):
        return False, ()
    return True, found


@contextmanager
def meanwhile(
    work: Callable[[Part], Found], part: Part, jobs: int = 2
) -> Iterator[Callable[[], Found]]:
    """What `work` makes of a part, by a copy of this process while this one does what is inside,
    where there may be as many as two. The function yielded waits for it."""
    with copies(1 if jobs > 1 else 0, work, (part,)) as ends:
        for end in ends:
            with suppress(OSError):  # that it does not answer is noticed
                end.send(0)

        def found() -> Found:
            for end in ends:
                if not end.closed:
                    made: tuple[Found, ...] = received(end)[1] if end.poll(PATIENCE) else ()
                    end.close()  # so that the copy ends, and what it holds is free
                    if made:
                        return made[0]
            return work(part)

        yield found


@contextmanager
def copies(
    count: int, work: Callable[[Any], Any], parts: Sequence[Any]
) -> Iterator[list[Connection]]:
    """The ends of as many processes that take places in `parts` and give results; none where that
    cannot be."""
    made: list[tuple[BaseProcess, Connection]] = []
    try:
        if sys.platform == "linux":
            with suppress(OSError, AssertionError):  # no processes left, or none allowed
                for _ in range(count):
                    made.append(copy(work, parts))
        yield [end for _, end in made]
    finally:
        for process, end in made:
            end.close()
            process.kill()
            process.join()


def copy(work: Callable[[Any], Any], parts: Sequence[Any]) -> tuple[BaseProcess, Connection]:
    """A process, and this end of its pipe."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, here, work, parts))
    with warnings.catch_warnings():  # of threads: none of theirs is needed there
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    there.close()
    return process, here


def serve(
    end: Connection, other: Connection, work: Callable[[Any], Any], parts: Sequence[Any]
) -> None:
    """A copy's work, until its parent closes the pipe; the parent ends it where it is stopped."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    other.close()
    with suppress(EOFError, OSError), torch_threads(1):  # the parent's do not exist here
        while True:
            place = end.recv()
            made: tuple[Any, ...] = ()
            with suppress(Exception):  # the parent meets it too
                made = (work(parts[place]),)
            end.send(made)
