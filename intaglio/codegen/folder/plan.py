"""What a bench plays: runs of whole frames from reset to reset, and how every port pauses in them.

Where a design is right only while nothing waits, or only while something does, either kind alone
would pass it. So one run meets every kind of pause and ends by a reset in mid-frame, with the
queues as full as they were; the next has no pauses, and its every cycle is predicted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal

PLAN = "bench/plan.hex"  # of a build: what its bench plays without anybody's word
WORDS = 64  # of 64 bits, in bench_parts.v
FRAMES = 12  # played by default
MOST = 1_000_000  # frames
RESET = 8  # cycles between two runs
RESETS = 4  # of one cycle, at most, in as many parts of a frame
SHORT = 20_000  # cycles that they may take together
QUIET = 200  # cycles behind the last frame in which a beat too many would come
BEGINS, PHASE, ENDLESS = 2, 1, 3

SourcePauses = Literal["none", "random", "trickle"]
SinkPauses = Literal["none", "random", "waits", "blocked"]
SOURCE: tuple[SourcePauses, ...] = ("none", "random", "trickle")  # by their numbers
SINKS: tuple[SinkPauses, ...] = ("none", "random", "waits", "blocked")
KINDS: tuple[tuple[SourcePauses, SinkPauses], ...] = (
    ("random", "random"), ("none", "blocked"), ("trickle", "none"), ("none", "waits"),
    ("random", "random"), ("none", "blocked"), ("random", "waits"), ("trickle", "random"),
)  # fmt: skip


@dataclass(frozen=True)
class Phase:
    """Frames during which ports pause in one way.

    source  none; random; trickle: a beat now and then, slower than the design could take them.
    sinks   none; random; waits: ready only once valid is seen; blocked: output number `blocked`
            takes nothing for as long as a frame lasts.
    """

    frames: int
    source: SourcePauses = "none"
    sinks: SinkPauses = "none"
    blocked: int = 0


@dataclass(frozen=True)
class Run:
    """Phases from a reset on. `more` cycles behind them comes a reset in mid-frame, for which play
    goes on meanwhile; None: nothing more is offered, and the design must fall silent.

    reset  how many cycles that reset takes.
    timed  whether its cycles are compared with the predicted ones.
    """

    phases: tuple[Phase, ...]
    more: int | None = None
    reset: int = RESET
    timed: bool = False

    @property
    def frames(self) -> int:
        """That must come whole."""
        return sum(phase.frames for phase in self.phases)


def planned(
    frames: int, interval: int, outputs: int, latency: int, *, seed: int = 1
) -> tuple[Run, ...]:
    """As many frames as asked for, of `interval` cycles and the first in `latency`; one or two
    frames in one run.

    A third has no pauses, two at least, in the last run. Of the others each has a kind of pauses
    of its own, in the first. Between them are short runs without pauses, each ended by a reset of
    one cycle in another part of a frame. Which output is blocked when is the seed's choice.
    """
    plain = min(frames, max(2, frames // 3))
    last = Run((Phase(plain),), timed=True)
    if frames == plain:
        return (last,)
    phases = tuple(kinds(frames - plain, outputs, seed))
    number = min(RESETS, SHORT // (latency + interval))
    cut = (latency + (2 * n + 1) * interval // (2 * number) for n in range(number))
    resets = (Run((), more=cycles, reset=1) for cycles in cut)
    return Run(phases, more=max(1, 3 * interval // 8)), *resets, last


def kinds(frames: int, outputs: int, seed: int) -> Iterator[Phase]:
    """Frames, each with another kind of pauses; several where a plan has no room for so many."""
    number = min(frames, WORDS - 4 - RESETS)
    more, rest = divmod(frames, number)
    blocked = count(seed)
    for n in range(number):
        source, sinks = KINDS[n % len(KINDS)]
        which = next(blocked) % outputs if sinks == "blocked" else 0
        yield Phase(more + (n < rest), source, sinks, which)


def stalled(frames: int) -> tuple[Run, ...]:
    """One run with random pauses on every port."""
    return (Run((Phase(frames, "random", "random"),)),)


def default_frames(stored: int) -> int:
    """So many that the run with pauses has every stored frame."""
    return max(FRAMES, stored + max(2, stored // 2))


def patience(interval: int, latency: int) -> int:
    """Cycles without any beat after which a design counts as hung."""
    return 4 * interval + 2 * latency + 10_000


def plan_text(runs: Sequence[Run]) -> str:
    """A plan as bench_parts.v reads it, by $readmemh."""
    words = []
    for run in runs:
        begins, more = (BEGINS, QUIET) if run.more is None else (ENDLESS, run.more)
        words.append((begins, run.reset, 0, int(run.timed), more))
        words += [
            (PHASE, SOURCE.index(p.source), SINKS.index(p.sinks), p.blocked, p.frames)
            for p in run.phases
        ]
    words += [(0, 0, 0, 0, 0)] * (WORDS - len(words))
    return "".join(f"{a:02x}{b:02x}{c:02x}{d:02x}{e:08x}\n" for a, b, c, d, e in words)
