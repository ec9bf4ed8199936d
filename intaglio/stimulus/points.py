"""The points of a Program, and which of them its tensors meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.channels.spans import Span, Spans
from intaglio.ops import (
    Add,
    Conv2d,
    Interpolate,
    Ints,
    Lookup,
    MaxPool2d,
    Multiply,
    Op,
    Pad,
    Requant,
    SumPool2d,
    Windowed,
)
from intaglio.program import Program
from intaglio.stimulus import operands, rounding

Bools = NDArray[np.bool_]
Tensors = Mapping[str, NDArray[np.integer[Any]]]  # every tensor of a run, (N, C, H, W) by name
Count = Callable[[list[Ints], Ints], Bools]  # operands and the result of an operation


@dataclass(frozen=True)
class Group:
    """Points of one operation: (kinds, channels) or (kinds, channels, taps or entries).

    able   those that no proof excludes.
    count  of operands and result (N, C, H, W) which are met: (N, *able.shape).
    inner  what the last of three axes counts.
    """

    op: Op
    kinds: tuple[str, ...]
    able: Bools
    count: Count
    inner: str = ""

    def name(self, kind: int, channel: int, place: int | None = None) -> str:
        """Of one point, for people."""
        where = "" if place is None else f", {self.inner} {place}"
        every = self.able.shape[1] == 1
        channels = "" if every else f", channel {channel}"
        return f"{self.op.output}{channels}{where}: {self.kinds[kind]}"


class Points:
    """All that could be met, in one row.

    able  (points,): those that no proof excludes; only they count.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        spans = Spans(program)
        self.groups = tuple(
            group for op in program.ops for group in groups_of(op, program, spans)
            if group.able.any()
        )  # fmt: skip
        sizes = [group.able.size for group in self.groups]
        self.starts = np.cumsum([0, *sizes]).tolist()
        self.able: Bools = (
            np.concatenate([group.able.ravel() for group in self.groups])
            if self.groups else np.zeros(0, bool)
        )  # fmt: skip

    def met(self, tensors: Tensors) -> Bools:
        """Of every frame of a run with all tensors, the points that it meets: (N, points)."""
        count = len(tensors[self.program.inputs[0].name])
        found = np.zeros((count, len(self.able)), bool)
        for group, start in zip(self.groups, self.starts, strict=False):
            read = [tensors[name].astype(np.int64) for name in group.op.inputs]
            met = group.count(read, tensors[group.op.output].astype(np.int64))
            found[:, start : start + group.able.size] = met.reshape(count, -1)
        return found & self.able

    def name(self, point: int) -> str:
        """Of the point with this number, for people."""
        number = int(np.searchsorted(self.starts, point, side="right")) - 1
        group = self.groups[number]
        return group.name(*map(int, np.unravel_index(point - self.starts[number],
                                                     group.able.shape)))  # fmt: skip

    def by_operation(self, met: Bools) -> Iterator[tuple[str, int, int]]:
        """Of every operation with points its output's name, how many points, and how many of them
        are `met` (points,)."""
        found: dict[str, tuple[int, int]] = {}
        for group, start in zip(self.groups, self.starts, strict=False):
            here = slice(start, start + group.able.size)
            points, hit = found.get(group.op.output, (0, 0))
            more = int(self.able[here].sum()), int((met & self.able)[here].sum())
            found[group.op.output] = points + more[0], hit + more[1]
        for name, (points, hit) in found.items():
            yield name, points, hit


def groups_of(op: Op, program: Program, spans: Spans) -> Iterator[Group]:
    """The points of one operation."""
    read = [spans[name] for name in op.inputs]
    match op:
        case Requant() | Add():
            yield rounded(op, read, program)
        case Lookup():
            able = operands.entry_range(op, program, read[0])[None]
            yield Group(op, operands.ENTRY, able,
                        lambda x, _: operands.entries(op, x[0], program), "entry")  # fmt: skip
        case MaxPool2d() if op.kernel != (1, 1):
            able = operands.can_win(op, program, read[0])[None]
            yield Group(op, operands.WINS, able,
                        lambda x, _: operands.wins(op, x[0], program), "tap")  # fmt: skip
    if isinstance(op, (Conv2d, SumPool2d)):
        yield from summing(op, read[0], spans[op.output], program)
    if isinstance(op, (Add, Multiply, Interpolate)):
        for number, span in enumerate(read):
            yield reading(op, number, span)
    if isinstance(op, (Windowed, Pad)) and any(op.padding):
        yield bordering(op, read[0], program)


def rounded(op: Requant | Add, read: list[Span], program: Program) -> Group:
    """Steps and clamps."""
    made = (rounding.requantised(op, program) if isinstance(op, Requant)
            else rounding.summed(op, program))  # fmt: skip
    able = made.events(*rounding.total_ends(op, read, program))[0, ..., 0, 0]

    def count(x: list[Ints], _: Ints) -> Bools:
        t = rounding.totals(op, x, program)
        return np.asarray(made.events(t, t).any(axis=(-2, -1)))

    return Group(op, rounding.KINDS, able, count)


def summing(op: Conv2d | SumPool2d, read: Span, sums: Span, program: Program) -> Iterator[Group]:
    """Extremes of what is read, other codes than 0 at each tap, and ends of the sums."""
    x, y = program.tensors[op.input], program.tensors[op.output]
    kh, kw = program.kernel(op).array.shape[2:]
    taps = operands.taps_of(op, (kh, kw), x.shape, (y.shape[1], y.shape[2]))
    able = taps.seen(np.ones((1, *x.shape), bool))[0] & ((read.lo != 0) | (read.hi != 0))[:, None]
    if isinstance(op, Conv2d):
        able = able & operands.lanes(op, program)
    yield Group(op, operands.TAPS, able[None],
                lambda x, _: np.asarray((taps.seen(x[0] != 0) & able)[:, None]), "tap")  # fmt: skip
    yield reading(op, 0, read)
    ends = np.array([[end is not None] for end in operands.sum_ends(sums)])
    yield Group(op, operands.ENDS, ends, lambda _, y: operands.at_ends(y, sums))


def reading(op: Op, number: int, span: Span) -> Group:
    """Extremes of an operand."""
    able = operands.varying(span)
    kinds = tuple(f"{kind} ({op.inputs[number]})" for kind in operands.EXTREMES)

    def count(x: list[Ints], _: Ints) -> Bools:
        return np.asarray(operands.extremes(x[number], span).any(axis=(-2, -1)) & able)

    return Group(op, kinds, np.stack([able, able]), count)


def bordering(op: Windowed | Pad, read: Span, program: Program) -> Group:
    """Pixels beside the sides that have a pad."""
    outside = operands.outside_of(op, program)
    able = (read.lo != outside) | (read.hi != outside)
    padded = (np.array(op.padding) > 0)[:, None]

    def count(x: list[Ints], _: Ints) -> Bools:
        return np.asarray(operands.beside_pads(x[0], outside) & padded)

    return Group(op, operands.BORDERS, padded & able, count)
