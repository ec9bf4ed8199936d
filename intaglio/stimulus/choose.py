"""Which few frames a bench plays: drawn ones and made ones, those first that meet most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from intaglio.ops import Ints
from intaglio.program import Program
from intaglio.stimulus.climb import aims, climbed, wanted
from intaglio.stimulus.frames import drawn
from intaglio.stimulus.points import Bools, Points
from intaglio.stimulus.tracing import traced

CHOSEN = 8  # frames
WORK = 20_000_000  # values of tensors computed or counted; a large network has fewer candidates
MOST = 400  # runs of a frame
DRAWN, MADE, STEPS = 14, 4, 8  # frames drawn at first, then made at a time, in so many steps


@dataclass(frozen=True)
class Chosen:
    """frames (N, C, H, W), and which points they meet: (points,)."""

    frames: Ints
    met: Bools


def chosen(program: Program, beside: Ints) -> Chosen:
    """Frames for a Program, the same in every run, that meet no fewer points than the frames
    `beside` do, which are candidates too.

    What it takes is bounded by WORK and not by a clock. A network so large that nothing can be
    tried has the frames that are given.
    """
    runs = min(MOST, WORK // sum(int(np.prod(t.shape)) for t in program.tensors.values()))
    points = Points(program)
    found = Found(points)
    found.add(beside)
    runs -= len(beside)
    if runs < DRAWN:
        return found.best(0, len(beside))
    found.add(drawn(program.inputs[0], DRAWN))
    runs -= DRAWN
    rng = np.random.default_rng(runs)
    while runs >= MADE * (STEPS + 2):
        ways = wanted(points, points.able & ~found.all_met())
        if not ways:
            break
        starts = drawn(program.inputs[0], MADE, seed=runs)
        for frames in climbed(program, starts, aims(points, ways, MADE, rng), STEPS):
            found.add(frames)
        runs -= MADE * (STEPS + 2)
    free, kept = found.best(0, CHOSEN), found.best(len(beside), CHOSEN)
    return free if free.met.sum() >= kept.met.sum() else kept


class Found:
    """Candidates, and what each meets."""

    def __init__(self, points: Points) -> None:
        self.points = points
        self.frames: list[Ints] = []
        self.met: list[Bools] = []

    def add(self, frames: Ints) -> None:
        """Run them one by one, so that no more than one frame's tensors are held."""
        for n in range(len(frames)):
            frame = np.asarray(frames[n : n + 1], np.int64)
            self.frames.append(frame)
            self.met.append(self.points.met(traced(self.points.program, frame)))

    def all_met(self) -> Bools:
        """The points that some candidate meets."""
        return np.asarray(np.any(np.concatenate(self.met), axis=0))

    def best(self, kept: int, count: int) -> Chosen:
        """The first `kept`, then whichever meets most that the others do not, `count` at most."""
        met = np.concatenate(self.met)
        taken = list(range(kept))
        have = np.asarray(np.any(met[taken], axis=0))
        while len(taken) < min(count, len(met)):
            gains = (met & ~have).sum(axis=1)
            if not gains.any() and taken:
                break
            taken.append(int(gains.argmax()))
            have |= met[taken[-1]]
        return Chosen(np.concatenate([self.frames[n] for n in taken]), have)
