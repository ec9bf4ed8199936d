"""Ctrl-C and its like: an exception everywhere but where a result takes its place.

`raised` is for a program: inside it SIGINT, SIGTERM and SIGHUP raise `Stopped`. `held` is for
whoever changes what stands on a disk: inside it they wait, so that nothing is left half done.
Python runs its handlers in the main thread alone, and so nothing waits in others.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN, SOON = signal.SIGALRM, 0.02  # seconds
Hook = Callable[["sys.UnraisableHookArgs"], object]


class Stopped(KeyboardInterrupt):
    """The signal `number` has come."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.code = 128 + number  # as shells say it


class State:
    """Of the main thread: whether it is in `held`, and the first signal that waits."""

    depth = 0
    waiting: int | None = None
    stopped: Stopped | None = None  # the last that was raised: some libraries hide it


def came(number: int, frame: FrameType | None = None) -> None:
    """The handler. Raises Stopped, or lets the signal wait."""
    if State.depth:
        State.waiting = State.waiting or number
        return
    State.waiting, State.stopped = None, Stopped(number)
    raise State.stopped


def raise_again(hook: Hook, lost: sys.UnraisableHookArgs) -> None:
    """Where an exception cannot get out, as of a callback, Python prints and forgets it: Stopped is
    raised again, somewhere else."""
    if isinstance(lost.exc_value, Stopped):
        signal.setitimer(signal.ITIMER_REAL, SOON)
    else:
        hook(lost)


@contextmanager
def raised() -> Iterator[None]:
    """Inside, a signal that would end the process raises Stopped; one that is ignored still is."""
    if not in_main():
        yield
        return
    State.waiting = State.stopped = None
    before = {n: signal.getsignal(n) for n in (*ENDING, AGAIN)}
    changed = [n for n in ENDING if before[n] not in (None, signal.SIG_IGN)]
    hook = sys.unraisablehook
    try:
        sys.unraisablehook = partial(raise_again, hook)
        signal.signal(AGAIN, lambda *_: came(State.stopped.number) if State.stopped else None)
        for number in changed:
            signal.signal(number, came)
        yield
    finally:
        sys.unraisablehook = hook
        for number in (*changed, AGAIN):
            with suppress(Stopped):  # the work is over, or another has ended it already
                signal.signal(number, before[number])


@contextmanager
def held() -> Iterator[None]:
    """Inside, what `raised` would raise waits; it is raised at the end, and inside `released`."""
    if not in_main():
        yield
        return
    before = State.depth
    State.depth = before + 1
    try:
        yield
    finally:
        State.depth = before
        deliver()


@contextmanager
def released() -> Iterator[None]:
    """A part of `held` that a signal may interrupt."""
    if not in_main():
        yield
        return
    before, State.depth = State.depth, 0
    try:
        deliver()
        yield
    finally:
        State.depth = before


def deliver() -> None:
    """Raise what has waited for long enough."""
    if State.waiting is not None and not State.depth:
        came(State.waiting)


def in_main() -> bool:
    """Whether this is the thread that signals come to."""
    return threading.current_thread() is threading.main_thread()
