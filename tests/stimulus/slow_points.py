"""Points of a Program counted value by value, from their definitions and in whole numbers."""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd

import numpy as np

from intaglio.channels.spans import Span, Spans
from intaglio.fixed import requantise, round_shift, scaled_single, summed_single
from intaglio.ops import (
    Add,
    Conv2d,
    Interpolate,
    Ints,
    Lookup,
    MaxPool2d,
    Multiply,
    Pad,
    Requant,
    SumPool2d,
    rounding_of,
)
from intaglio.program import Program

Point = tuple[str, str, int, int]  # output of the operation, kind, channel, tap or entry (or 0)
SIDES = ("top", "bottom", "left", "right")


def slow_points(program: Program, image: dict[str, Ints]) -> set[Point]:
    """All that one image meets; `image` has every tensor (C, H, W)."""
    spans, found = Spans(program), set[Point]()
    for op in program.ops:
        match op:
            case Requant() | Add():
                found |= set(roundings(op, program, image))
            case Lookup():
                found |= set(entries(op, program, image))
        if isinstance(op, (Conv2d, SumPool2d, MaxPool2d)):
            found |= set(windows(op, program, image))
        if isinstance(op, (Conv2d, SumPool2d)):
            lo, hi = int(spans[op.output].lo.min()), int(spans[op.output].hi.max())
            for value in image[op.output].ravel().tolist():
                if value < 0 and (~value).bit_length() == (~lo).bit_length():
                    found.add((op.output, "sums low", 0, 0))
                if value > 0 and value.bit_length() == hi.bit_length():
                    found.add((op.output, "sums high", 0, 0))
        if isinstance(op, (Add, Multiply, Interpolate, Conv2d, SumPool2d)):
            for name in op.inputs:
                for c, channel in enumerate(image[name]):
                    for kind, end in extremes(spans[name], c):
                        if end in channel:
                            found.add((op.output, f"operand {kind} ({name})", c, 0))
        if isinstance(op, (Conv2d, SumPool2d, MaxPool2d, Pad)):
            found |= set(borders(op, program, image))
    return found


def roundings(op: Requant | Add, program: Program, image: dict[str, Ints]) -> Iterator[Point]:
    rule, single = rounding_of(op, program.arithmetic), program.arithmetic.product == "single"
    for c, i, j in np.ndindex(image[op.output].shape):
        if isinstance(op, Add):
            a, b = int(image[op.a][c, i, j]), int(image[op.b][c, i, j])
            ma, mb, shift = op.multiplier_a, op.multiplier_b, op.shift
            t = int(summed_single(a, b, ma, mb, op.bias)) if single else a * ma + b * mb + op.bias
            apart = gcd(ma, mb)
        else:
            m, bias = (program.constants[n].array for n in (op.multiplier, op.bias))
            m, bias = int(m.flat[c % m.size]), int(bias.flat[c % bias.size])
            shift, x = op.shift[c % len(op.shift)], int(image[op.input][c, i, j])
            t = int(scaled_single(x, m, bias)) if single else x * m + bias
            apart, made = abs(m), program.producer[op.input]
            if isinstance(made, Conv2d):
                apart *= gcd(*program.constants[made.weight].array[c].ravel().tolist())
        near = max(apart, 1, (1 << shift) // 8)

        def code(t: int, shift: int = shift) -> int:
            return requantise(t, shift, op.offset, op.lo, op.hi, rule)

        events = {
            "above a step": code(t - near) != code(t),
            "below a step": code(t + near) != code(t),
            "clamp low": round_shift(t, shift, rule) + op.offset < op.lo,
            "clamp high": round_shift(t, shift, rule) + op.offset > op.hi,
        }
        yield from ((op.output, kind, c, 0) for kind, is_met in events.items() if is_met)


def entries(op: Lookup, program: Program, image: dict[str, Ints]) -> Iterator[Point]:
    type, own = program.tensors[op.input].type, program.constants[op.table].array.ndim == 2
    bits = 4 if own else 8
    for c, i, j in np.ndindex(image[op.input].shape):
        place = int(image[op.input][c, i, j]) - type.lo
        yield op.output, "table", c if own else 0, place // (1 << max(0, type.bits - bits))


def windows(
    op: Conv2d | SumPool2d | MaxPool2d, program: Program, image: dict[str, Ints]
) -> Iterator[Point]:
    x, (_, rows, columns) = image[op.input], image[op.output].shape
    kernel = program.constants[op.weight].array.shape[2:] if isinstance(op, Conv2d) else op.kernel
    for c, i, j in np.ndindex(x.shape[0], rows, columns):
        read: dict[int, int] = {}
        for tap, (ky, kx) in enumerate(np.ndindex(*kernel)):
            y = i * op.stride[0] + ky * op.dilation[0] - op.padding[0]
            z = j * op.stride[1] + kx * op.dilation[1] - op.padding[2]
            if 0 <= y < x.shape[1] and 0 <= z < x.shape[2]:
                read[tap] = int(x[c, y, z])
        if isinstance(op, MaxPool2d):
            if list(read.values()).count(max(read.values())) == 1 and kernel != (1, 1):
                yield op.output, "greatest of its window", c, max(read, key=lambda k: read[k])
            continue
        for tap, code in read.items():
            if code and not (isinstance(op, Conv2d) and idle(op, program, c, tap)):
                yield op.output, "operand not 0", c, tap


def extremes(span: Span, channel: int) -> list[tuple[str, int]]:
    """The ends of a channel that has more than one code."""
    lo, hi = int(span.lo[channel]), int(span.hi[channel])
    return [("least", lo), ("greatest", hi)] if lo < hi else []


def idle(op: Conv2d, program: Program, channel: int, tap: int) -> bool:
    """Whether every weight for an input channel and a tap is 0."""
    weight = program.constants[op.weight].array
    group, number = divmod(channel, weight.shape[1])
    outs = len(weight) // op.groups
    mine = weight[group * outs : (group + 1) * outs, number]
    return not mine.reshape(outs, -1)[:, tap].any()


def borders(
    op: Conv2d | SumPool2d | MaxPool2d | Pad, program: Program, image: dict[str, Ints]
) -> Iterator[Point]:
    if not any(op.padding):
        return
    outside = (op.value,) if isinstance(op, Pad) else op.outside(program.tensors[op.input])
    for c, x in enumerate(image[op.input]):
        lines = zip(SIDES, (x[0], x[-1], x[:, 0], x[:, -1]), op.padding, strict=True)
        for side, line, pad in lines:
            if pad and (line != outside[c % len(outside)]).any():
                yield op.output, f"pixel beside the {side} pad", c, 0
