"""How deep the queues must be: as shallow as can be without losing throughput or a halt.

Each depth is found by runs of the model, one after the other. What is likely to be asked next is
run meanwhile by another processor; whether it was asked changes nothing but the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from intaglio.codegen.schedule.timing import UNBOUNDED, Model, Schedule, best_interval
from intaglio.hdl.fifo import LUT_RAM_DEPTH
from intaglio.hdl.stream import ceil_div
from intaglio.system.steps import Tell, quiet
from intaglio.system.threads import most

SEARCHED = 2  # frames with which queue depths are searched


class Trials:
    """Runs of a model with some depths, in this thread or begun before they are asked for."""

    def __init__(self, model: Model, pool: Executor | None) -> None:
        self.model = model
        self._pool = pool
        self._begun: dict[object, Future[Any]] = {}

    def interval(self, depths: Mapping[int, int], frames: int) -> int:
        """Cycles a frame; 0: a deadlock."""
        return int(self._found(self._interval, depths, frames))

    def shallowest(self, depths: Mapping[int, int], i: int, interval: int) -> tuple[int, int]:
        """The fewest places of queue `i` without a deadlock, and those with which few frames are
        in time."""
        floor, depth = self._found(self._shallowest, depths, i, interval)
        return floor, depth

    def expect_interval(self, depths: Mapping[int, int], frames: int) -> None:
        """`interval` of these is likely to be asked soon."""
        self._begin(self._interval, depths, frames)

    def expect_shallowest(self, depths: Mapping[int, int], i: int, interval: int) -> None:
        """`shallowest` of these is likely to be asked soon."""
        self._begin(self._shallowest, depths, i, interval)

    def _interval(self, depths: Mapping[int, int], frames: int) -> int:
        schedule = self.model.run(depths, frames=frames)
        return schedule.interval if schedule.finished else 0

    def _shallowest(self, depths: Mapping[int, int], i: int, interval: int) -> tuple[int, int]:
        floor = self.model.least_alive(depths, i, SEARCHED)
        alone = Trials(self.model, None)  # what is begun waits for nothing that is begun
        return floor, search(alone, depths, i, floor - 1, interval, SEARCHED)

    def _begin(self, work: Callable[..., Any], depths: Mapping[int, int], *given: int) -> None:
        """Of what was begun and not asked for the last is kept."""
        key = work.__name__, given, *sorted(depths.items())
        if self._pool is not None and key not in self._begun:
            for other in list(self._begun)[:-1]:
                self._begun.pop(other).cancel()
            self._begun[key] = self._pool.submit(work, depths, *given)

    def _found(self, work: Callable[..., Any], depths: Mapping[int, int], *given: int) -> Any:
        begun = self._begun.get((work.__name__, given, *sorted(depths.items())))
        return work(depths, *given) if begun is None else begun.result()


@contextmanager
def trials(model: Model, threads: int | None) -> Iterator[Trials]:
    """Those of a model, on two processors where there are any."""
    if most(threads) < 2:
        yield Trials(model, None)
        return
    with ThreadPoolExecutor(2) as pool:
        yield Trials(model, pool)


def size_queues(
    model: Model, tell: Tell = quiet, threads: int | None = None
) -> tuple[dict[int, int], Schedule]:
    """The least queue depths, by cell index, that cost no throughput, and the schedule with them:
    the same with any number of `threads`, of which two are used.

    With unbounded queues the design takes its best interval. Frames offered evenly at that
    interval then show how many beats each queue must hold. That run is a schedule which the sized
    design can follow, so it can neither deadlock nor be slower, whatever pauses the ports make.
    """
    tell("queues")
    interval, depths = best_interval(model), enough(model)
    schedule = model.run(depths)
    while not schedule.keeps(interval):  # a deeper queue can be a cycle slower than modelled
        depths = {i: depth + ceil_div(depth, 16) for i, depth in depths.items()}
        schedule = model.run(depths)
    with trials(model, threads) as tried:
        depths = trim(tried, depths, schedule.interval, tell)
    return depths, model.run(depths, peaks=True)


def enough(model: Model) -> dict[int, int]:
    """How many beats each queue holds, by cell index, where all are unbounded and frames come
    evenly at the best interval."""
    unbounded = dict.fromkeys(model.netlist.fifos, UNBOUNDED)
    paced = model.run(unbounded, period=best_interval(model), peaks=True)
    return {i: max(1, peak) for i, peak in paced.peaks.items()}


def trim(
    tried: Trials, depths: dict[int, int], interval: int, tell: Tell = quiet
) -> dict[int, int]:
    """Make each queue as shallow as it can be without losing throughput, the largest first, until
    a place less in any of them would cost cycles or is none at all.

    A deeper queue lets every beat move as early or earlier, so one pass is mostly enough. But the
    step from LUT RAM to block RAM adds a cycle, so after a queue took it back the others are tried
    anew; and so where a first frame that ended early made the second look late.
    """
    netlist, frames = tried.model.netlist, tried.model.frames
    widths = {i: netlist.wires[netlist.cells[i].ins[0]].width for i in depths}
    floors: dict[int, int] = {}  # fewer places deadlock, and do so still when others got fewer
    again = True
    while again:
        deep = {i for i, depth in depths.items() if depth > LUT_RAM_DEPTH}
        order = sorted(depths, key=lambda i: (-depths[i] * widths[i], i))
        left = [i for i in order if depths[i] > 1]
        for i, following in zip(left, [*left, None][1:], strict=True):
            tell("queues", order.index(i) + 1, len(order))
            if i not in floors:
                floors[i], found = tried.shallowest(depths, i, interval)
            else:
                if following is not None and following in floors:
                    tried.expect_interval(shallower(depths, following), frames)
                if lost(tried, shallower(depths, i), interval, frames) != 0:
                    continue
                found = search(tried, depths, i, floors[i] - 1, interval, SEARCHED)
            if following is not None and following not in floors:
                tried.expect_shallowest({**depths, i: found}, following, interval)
            # Few frames find the depth, which more seldom change.
            depths[i] = search(tried, depths, i, found - 1, interval, frames)
        again = deep != {i for i, depth in depths.items() if depth > LUT_RAM_DEPTH}
        again = again or any(spare(tried, depths, i, interval) for i in left[:-1])
    return depths


def spare(tried: Trials, depths: dict[int, int], i: int, interval: int) -> bool:
    """Whether a place less in queue `i` costs nothing after all; two frames mostly tell."""
    less, frames = shallower(depths, i), tried.model.frames
    return depths[i] > 1 and not any(
        lost(tried, less, interval, n) != 0 for n in (SEARCHED, frames)
    )


def shallower(depths: Mapping[int, int], i: int) -> dict[int, int]:
    """With a place less in queue `i`."""
    return {**depths, i: depths[i] - 1}


@dataclass(frozen=True)
class Bracket:
    """What is known of a depth: `low` is too shallow, `high` is enough, `losses` are the last two
    depths that lose cycles, and how many."""

    low: int
    high: int
    losses: tuple[tuple[int, int], ...] = ()

    @property
    def open(self) -> bool:
        """Whether something lies between."""
        return self.high - self.low > 1

    @property
    def guess(self) -> int:
        """Cycles are lost about in proportion to missing places, so the next guess is where the
        line through two losses ends; where there is no such line, the middle."""
        root = line_ends(self.losses)
        if not self.low < root <= self.high:
            return (self.low + self.high) // 2
        return min(root, self.high - 1)

    def told(self, depth: int, lost: int | None) -> Bracket:
        """With what a depth was found to lose."""
        if lost == 0:
            return replace(self, high=depth)
        return Bracket(depth, self.high, (*self.losses[-1:], (depth, lost)) if lost else ())


def search(
    tried: Trials, depths: Mapping[int, int], i: int, low: int, interval: int, frames: int
) -> int:
    """The least depth above `low` of queue `i` with which that many frames are in time; what it has
    is known to do."""
    known, guess = Bracket(low, depths[i]), low + 1
    while known.open:
        known = known.told(guess, lost(tried, {**depths, i: guess}, interval, frames))
        guess = known.guess
    return known.high


def line_ends(points: Sequence[tuple[int, int]]) -> int:
    """Where the line through two falling points reaches 0, rounded up; 0 without two points."""
    if len(points) < 2 or points[0][1] <= points[1][1]:
        return 0
    (x0, y0), (x1, y1) = points
    return x1 - (-y1 * (x1 - x0) // (y0 - y1))


def lost(tried: Trials, depths: Mapping[int, int], interval: int, frames: int) -> int | None:
    """Cycles a frame that depths cost beyond the interval; None: a deadlock."""
    found = tried.interval(depths, frames)
    return max(0, found - interval) if found else None
