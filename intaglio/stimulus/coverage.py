"""How much of a Program frames meet, layer by layer, and what they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from intaglio.ops import Ints
from intaglio.program import Program
from intaglio.stimulus.points import Bools, Points
from intaglio.stimulus.tracing import traced

SHOWN = 6  # layers, and points not met, in a sentence


@dataclass(frozen=True)
class Layer:
    """An operation's output: its points, and how many of them are met."""

    name: str
    points: int
    met: int


@dataclass(frozen=True)
class Coverage:
    """Points that no proof excludes, those that the frames meet, and the others by name."""

    points: int
    met: int
    layers: tuple[Layer, ...]
    missed: tuple[str, ...]

    def sentence(self) -> str:
        """For people."""
        head = f"Coverage of the frames: {self.met:,} of {self.points:,} points"
        if not self.missed:
            return f"{head}."
        more = len(self.missed) - SHOWN
        names = "; ".join(self.missed[:SHOWN]) + (f"; and {more:,} more" if more > 0 else "")
        return f"{head}, {100 * self.met / self.points:.1f} %. {self.least()}Not met: {names}."

    def least(self) -> str:
        """The layers of which most is missing."""
        short = sorted(self.layers, key=lambda layer: layer.met - layer.points)[:SHOWN]
        names = ", ".join(f"{x.name} {x.met:,} of {x.points:,}" for x in short if x.met < x.points)
        return f"Least: {names}. " if len(self.layers) > 1 else ""


def covered(program: Program, frames: Ints) -> Coverage:
    """What frames (N, C, H, W) of a Program's input meet, one at a time."""
    points = Points(program)
    met = np.zeros(len(points.able), bool)
    for n in range(len(frames)):
        met |= points.met(traced(program, frames[n : n + 1]))[0]
    return coverage(points, met)


def coverage(points: Points, met: Bools) -> Coverage:
    """Of points (points,) that are met."""
    layers = tuple(Layer(*row) for row in points.by_operation(met) if row[1])
    return Coverage(
        points=sum(layer.points for layer in layers),
        met=sum(layer.met for layer in layers),
        layers=layers,
        missed=named(points, np.flatnonzero(points.able & ~met).tolist()),
    )


def named(points: Points, numbers: Sequence[int]) -> tuple[str, ...]:
    """Points by their names."""
    return tuple(points.name(number) for number in numbers)
