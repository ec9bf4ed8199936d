"""Proved ranges channel by channel, of the tensors of a Program that is being built.

A Tensor has one range for all its channels, which is what types and widths need. Which channels
are constant needs each channel's own: a filter of zeros, one that never fires, and what reads only
such channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from intaglio.fixed import requantise
from intaglio.ops import (
    Add,
    Concat,
    Context,
    Conv2d,
    DepthToSpace,
    Input,
    Interpolate,
    Ints,
    Lookup,
    Multiply,
    Op,
    Pad,
    Requant,
    Select,
    SpaceToDepth,
    SumPool2d,
    Tensor,
    products,
    rounding_of,
)
from intaglio.program import Builder, Program


class Span(NamedTuple):
    """lo[c] <= every code of channel c <= hi[c]; both (C,)."""

    lo: Ints
    hi: Ints

    @property
    def constant(self) -> int | None:
        """The one code of all channels; None where there are several."""
        lo, hi = int(self.lo.min()), int(self.hi.max())
        return lo if lo == hi else None

    def with_code(self, code: int | Ints) -> Span:
        """Wide enough for `code` too, one value or one for each channel."""
        return Span(np.minimum(self.lo, code), np.maximum(self.hi, code))


class Spans:
    """The span of every tensor of a Program, or that a Builder has made so far."""

    def __init__(self, builder: Builder | Program) -> None:
        self.builder = builder
        self.found: dict[str, Span] = {}
        self.seen = 0

    def __getitem__(self, tensor: str) -> Span:
        """Of one tensor."""
        builder = self.builder
        for op in builder.ops[self.seen :]:
            context = Context(builder.constants, builder.arithmetic)
            inputs = [self.found[name] for name in op.inputs]
            made = builder.tensors[op.output]
            x = builder.tensors[op.inputs[0]] if op.inputs else made
            self.found[op.output] = span(op, inputs, x, made, context)
        self.seen = len(builder.ops)
        return self.found[tensor]


def span(op: Op, inputs: Sequence[Span], x: Tensor, made: Tensor, context: Context) -> Span:
    """Of the result of `op`; `x` is its first operand."""
    match op:
        case Input():
            return Span(np.full(op.shape[0], op.type.lo), np.full(op.shape[0], op.type.hi))
        case Conv2d():
            return convolved(op, inputs[0], x, context)
        case SumPool2d():
            n = op.kernel[0] * op.kernel[1]
            read = inputs[0].with_code(op.pad_value) if any(op.padding) else inputs[0]
            return Span(n * read.lo, n * read.hi)
        case Interpolate():
            return Span(op.unit * inputs[0].lo, op.unit * inputs[0].hi)
        case Requant():
            return requantised(op, inputs[0], context)
        case Add():
            return summed(op, inputs, context)
        case Multiply():
            return multiplied(op, *inputs)
        case Lookup():
            lows, highs = inputs[0].lo - x.type.lo, inputs[0].hi - x.type.lo
            table = context.constants[op.table].array
            tables = np.broadcast_to(table, (len(lows), table.shape[-1]))
            used = [t[lo : hi + 1] for t, lo, hi in zip(tables, lows, highs, strict=True)]
            return Span(np.array([t.min() for t in used]), np.array([t.max() for t in used]))
        case Concat():
            lo, hi = zip(*inputs, strict=True)
            return Span(np.concatenate(lo), np.concatenate(hi))
        case Pad():
            return inputs[0].with_code(op.value) if any(op.padding) else inputs[0]
        case Select():
            chosen = np.array(op.channels)
            low, high = (np.where(chosen < 0, op.value, end[chosen]) for end in inputs[0])
            return Span(low, high)
        case SpaceToDepth():
            return Span(*(np.tile(end, op.block[0] * op.block[1]) for end in inputs[0]))
        case DepthToSpace():
            low, high = (end.reshape(op.block[0] * op.block[1], -1) for end in inputs[0])
            return Span(low.min(axis=0), high.max(axis=0))
    if made.shape[0] != len(inputs[0].lo):
        raise TypeError(f"{type(op).__name__} must be given its spans here.")
    return inputs[0]


def convolved(op: Conv2d, read: Span, x: Tensor, context: Context) -> Span:
    """Of the whole sums, and of their type where a narrower accumulator may wrap or saturate."""
    weight = context.constants[op.weight].array
    if any(op.padding):
        read = read.with_code(np.resize(np.array(op.pad_value, dtype=np.int64), len(read.lo)))
    low, high = (
        np.repeat(end.reshape(op.groups, -1), len(weight) // op.groups, axis=0)[:, :, None, None]
        for end in read
    )
    ends = weight * low, weight * high
    forced = op.forced(x, context)
    lo, hi = (pick(*ends).sum(axis=(1, 2, 3)) for pick in (np.minimum, np.maximum))
    if forced is not None:
        return Span(np.full_like(lo, forced.lo), np.full_like(hi, forced.hi))
    return Span(lo, hi)


def requantised(op: Requant, read: Span, context: Context) -> Span:
    """Each channel's ends: a requantisation never turns back."""
    rounding, ends = rounding_of(op, context.arithmetic), []
    for c, sums in enumerate(zip(*read, strict=True)):
        totals, s = op.totals(c, [int(v) for v in sums], context)
        got = [requantise(t, s, op.offset, op.lo, op.hi, rounding) for t in totals]
        ends.append((min(got), max(got)))
    lo, hi = zip(*ends, strict=True)
    return Span(np.array(lo), np.array(hi))


def summed(op: Add, read: Sequence[Span], context: Context) -> Span:
    """Each channel's ends: a sum never turns back in either operand."""
    ends = []
    for a_lo, a_hi, b_lo, b_hi in zip(*read[0], *read[1], strict=True):
        totals = op.totals((int(a_lo), int(a_hi)), (int(b_lo), int(b_hi)), context)
        ends.append(
            [
                requantise(t, op.shift, op.offset, op.lo, op.hi, context.arithmetic.rounding)
                for t in totals
            ]
        )
    lo, hi = zip(*ends, strict=True)
    return Span(np.array(lo), np.array(hi))


def multiplied(op: Multiply, a: Span, b: Span) -> Span:
    """Each channel's ends; one channel of the second operand serves all of the first."""
    a, b = Span(*(end - op.zero_a for end in a)), Span(*(end - op.zero_b for end in b))
    if len(b.lo) < len(a.lo):
        b = Span(*(np.resize(end, len(a.lo)) for end in b))
    ends = [
        products((int(a_lo), int(a_hi)), (int(b_lo), int(b_hi)))
        for a_lo, a_hi, b_lo, b_hi in zip(*a, *b, strict=True)
    ]
    lo, hi = zip(*ends, strict=True)
    return Span(np.array(lo), np.array(hi))
