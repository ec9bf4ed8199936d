"""Pictures made for points that nothing has met: step by step along the slopes of their needs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from intaglio.ops import Add, Conv2d, Input, Ints, Op, Requant
from intaglio.program import Program
from intaglio.stimulus.operands import ENDS
from intaglio.stimulus.points import Bools, Group, Points
from intaglio.stimulus.slopes import Floats, image_slope
from intaglio.stimulus.tracing import traced

Wanted = dict[str, list[tuple[int, int]]]  # by tensor: a channel, and 1 for up or -1 for down
UP = ("above", "sums high", "clamp high", "operand greatest", "operand not 0", "pixel", "greatest")
CELL = 6  # pixels of a map's side that one channel has to itself, at least
STEP = 1 / 12  # of the codes, a picture moves at a time


def wanted(points: Points, missing: Bools) -> Wanted:
    """What would have to rise or fall for the missing points; the image itself aside."""
    found: dict[str, set[tuple[int, int]]] = {}
    producer = points.program.producer
    for group, start in zip(points.groups, points.starts, strict=False):
        here = missing[start : start + group.able.size].reshape(*group.able.shape[:2], -1)
        for number, kind in enumerate(group.kinds):
            channels = np.flatnonzero(np.any(here[number], axis=-1)).tolist()
            name = read_by(group, kind)
            if not channels or isinstance(producer[name], Input):
                continue
            if kind in ENDS:
                channels = [farthest(points.program, group.op, ENDS.index(kind))]
            way = 1 if kind.startswith(UP) else -1
            found.setdefault(name, set()).update((channel, way) for channel in channels)
    return {name: sorted(ways) for name, ways in found.items()}


def farthest(program: Program, op: Op, end: int) -> int:
    """The channel of a sum whose proved range goes farthest down (0) or up (1)."""
    if not isinstance(op, Conv2d):
        return 0
    low, high = program.proved_accumulator(op)
    return int(high.argmax() if end else low.argmin())


def read_by(group: Group, kind: str) -> str:
    """The tensor whose codes a kind is about."""
    if "(" in kind:
        return kind.partition("(")[2][:-1]
    made = kind in ENDS or isinstance(group.op, (Requant, Add))
    return group.op.output if made else group.op.inputs[0]


def aims(points: Points, ways: Wanted, count: int, rng: np.random.Generator) -> dict[str, Floats]:
    """For `count` pictures: each wants one tensor's channels, in a part of the map each, to rise
    or to fall."""
    found: dict[str, NDArray[np.float32]] = {}
    names = list(ways)
    share = np.array([len(ways[name]) for name in names], np.float64) ** 0.5
    for n in range(count):
        name = names[int(rng.choice(len(names), p=share / share.sum()))]
        shape = points.program.tensors[name].shape
        aim = found.setdefault(name, np.zeros((count, *shape), np.float32))
        down, across = (np.arange(side) // max(CELL, -(-side // 3)) for side in shape[1:])
        cells = down[:, None] * (int(across[-1]) + 1) + across
        for cell in range(int(cells.max()) + 1):
            channel, way = ways[name][int(rng.integers(len(ways[name])))]
            aim[n, channel][cells == cell] = way
    return found


def climbed(
    program: Program, frames: Ints, aim: Mapping[str, Floats], steps: int
) -> tuple[Ints, Ints]:
    """Pictures that have gone so many steps up the slope of their aims, whichever
    tensors those are of; and the same with every pixel gone as far as it can."""
    x = program.inputs[0]
    step = max(1, round((x.hi - x.lo) * STEP))
    for _ in range(steps):
        way = np.sign(image_slope(program, traced(program, frames), aim)).astype(np.int64)
        frames = np.clip(frames + step * way, x.lo, x.hi)
    return frames, np.clip(frames + (x.hi - x.lo) * way, x.lo, x.hi)
