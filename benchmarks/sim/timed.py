"""Calls that are timed turn by turn, so that all of them meet the same weather."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

REST = 0.05  # seconds; a runtime's idle threads spin for a while, on the processor of the next


def turns(
    calls: tuple[Callable[[Any], Any], ...],
    images: Any,
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """Seconds of each call on `images`, by `clock`, turn by turn: a rest, the call once untimed,
    then timed."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, kept in zip(calls, times, strict=True):
            time.sleep(REST)
            call(images)
            begin = clock()
            call(images)
            kept.append(clock() - begin)
    return times
