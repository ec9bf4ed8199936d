"""Counting where another program's integers differ from the simulator's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.program import Program
from intaglio.sim.engine import Simulator

Array = NDArray[Any]


@dataclass(frozen=True)
class Agreement:
    """Output integers compared, and how many of them another program gives differently."""

    compared: int
    mismatches: int

    def sentence(self) -> str:
        """One line for people."""
        return f"{self.mismatches:,} of {self.compared:,} output integers differ"


def random_codes(program: Program, count: int, seed: int = 0) -> Array:
    """Images (N, C, H, W) of the input's type: all codes alike, and every second one extreme."""
    (x,) = program.inputs
    rng = np.random.default_rng(seed)
    images = rng.integers(x.lo, x.hi, (count, *x.shape), endpoint=True)
    images[1::2] = rng.choice(np.array([x.lo, x.hi]), images[1::2].shape)
    return images


def compare(program: Program, theirs: dict[str, Array], images: Array) -> Agreement:
    """Another program's outputs for images (N, C, H, W) beside the simulator's."""
    ours = Simulator(program)(images)
    return Agreement(
        sum(a.size for a in ours.values()),
        sum(int(np.count_nonzero(theirs[name] != a)) for name, a in ours.items()),
    )
