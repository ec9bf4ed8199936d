"""How an image would have to change: slopes of tensors, back through a Program, in floats.

They only propose images; what an image meets is counted from whole numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.ops import (
    Add,
    Conv2d,
    Input,
    Interpolate,
    Lookup,
    MaxPool2d,
    Multiply,
    Op,
    Requant,
    SumPool2d,
)
from intaglio.ops.interpolation import both
from intaglio.program import Program
from intaglio.sim.reference import execute
from intaglio.stimulus.operands import taps_of

Floats = NDArray[np.float32]
Tensors = Mapping[str, NDArray[np.integer[Any]]]
LEAK = np.float32(0.25)  # of a slope goes through a clamp that acts
MARK = 1 << 40  # places start here, constants of an operation stay below


def image_slope(program: Program, tensors: Tensors, wanted: Mapping[str, Floats]) -> Floats:
    """Of the sum of all tensors (N, C, H, W), each times what is `wanted` of it, by the image."""
    slopes = dict(wanted)
    for op in reversed(program.ops):
        slope = slopes.pop(op.output, None)
        if isinstance(op, Input):
            zero = np.zeros(tensors[op.output].shape, np.float32)
            return zero if slope is None else slope
        if slope is None:
            continue
        read = [tensors[name] for name in op.inputs]
        for name, more in zip(op.inputs, back(op, read, tensors[op.output], slope, program),
                              strict=True):  # fmt: skip
            slopes[name] = slopes[name] + more if name in slopes else more
    raise ValueError("a Program must begin with its Input.")


def back(
    op: Op, read: Sequence[NDArray[Any]], made: NDArray[Any], slope: Floats, program: Program
) -> list[Floats]:
    """Slopes of the operands of one operation from that of its result."""
    match op:
        case Conv2d() | SumPool2d():
            return [convolved(op, read[0], slope, program)]
        case Requant():
            m = np.resize(program.constants[op.multiplier].array, made.shape[1])
            shift = np.resize(np.array(op.shift), made.shape[1])
            ratio = np.ldexp(m.astype(np.float32), -shift).astype(np.float32)[:, None, None]
            return [slope * ratio * passing(made, op.lo, op.hi)]
        case Add():
            slope = slope * passing(made, op.lo, op.hi)
            factors = (op.multiplier_a, op.multiplier_b)
            return [slope * np.float32(m / 2.0**op.shift) for m in factors]
        case Multiply():
            a, b = (x.astype(np.float32) for x in read)
            over = tuple(n for n in (1, 2, 3) if b.shape[n] < a.shape[n])
            gate = (slope * (a - op.zero_a)).sum(axis=over, keepdims=True)
            return [slope * (b - op.zero_b), gate]
        case Lookup():
            return [slope * steepness(op, read[0], program)]
        case Interpolate():
            return [spread(op, slope, read[0].shape)]
    return moved(op, read, slope, program)


def passing(codes: NDArray[Any], lo: int, hi: int) -> Floats:
    """How much of a slope comes through a clamp."""
    return np.where((codes > lo) & (codes < hi), np.float32(1), LEAK)


def convolved(op: Conv2d | SumPool2d, x: NDArray[Any], slope: Floats, program: Program) -> Floats:
    """By the weights, tap for tap."""
    kernel = program.kernel(op)
    weight = kernel.array.astype(np.float32)
    cout, cin, kh, kw = weight.shape
    n, _, oh, ow = slope.shape
    groups = kernel.groups
    weight = weight.reshape(groups, cout // groups, cin, kh, kw)
    parted = slope.reshape(n, groups, cout // groups, oh, ow)
    found = np.zeros(x.shape, np.float32)
    taps = taps_of(op, (kh, kw), (x.shape[1], x.shape[2], x.shape[3]), (oh, ow))
    for ky, rows in enumerate(taps.rows):
        for kx, columns in enumerate(taps.columns):
            part = found[:, :, rows, columns]
            if not part.size:
                continue
            y = (rows.start - ky * op.dilation[0] + op.padding[0]) // op.stride[0]
            z = (columns.start - kx * op.dilation[1] + op.padding[2]) // op.stride[1]
            seen = parted[..., y : y + part.shape[2], z : z + part.shape[3]]
            seen = seen.reshape(n, groups, cout // groups, -1)
            more = weight[..., ky, kx].transpose(0, 2, 1) @ seen
            part += more.reshape(part.shape)
    return found


def steepness(op: Lookup, x: NDArray[Any], program: Program) -> Floats:
    """How a table rises about each code."""
    table = program.constants[op.table].array.astype(np.float32)
    rise = np.gradient(table, axis=-1).astype(np.float32) if table.shape[-1] > 1 else table * 0
    places = x.astype(np.int64) - program.tensors[op.input].type.lo
    if rise.ndim == 1:
        return np.asarray(rise[places])
    return np.asarray(rise[np.arange(x.shape[1])[:, None, None], places])


def spread(op: Interpolate, slope: Floats, shape: tuple[int, ...]) -> Floats:
    """To both rows and both columns, by their weights."""
    for axis, taps in ((3, op.columns), (2, op.rows)):
        first, second, u, v = both(taps, shape[axis]).T
        found = np.zeros((shape[axis], *np.moveaxis(slope, axis, 0).shape[1:]), np.float32)
        along = np.moveaxis(slope, axis, 0)
        for places, weights in ((first, u), (second, v)):
            np.add.at(found, places, along * weights[:, None, None, None].astype(np.float32))
        slope = np.moveaxis(found, 0, axis)
    return slope


def moved(op: Op, read: Sequence[NDArray[Any]], slope: Floats, program: Program) -> list[Floats]:
    """Of an operation whose every value is one of its operands': back to where it came from, found
    by running it on places instead of codes."""
    sizes = [x[0].size for x in read]
    starts, total = np.cumsum([0, *sizes]), sum(sizes)
    places = [
        (np.arange(size) + start).reshape(1, *x.shape[1:])
        for size, start, x in zip(sizes, starts, read, strict=False)
    ]
    if isinstance(op, MaxPool2d):  # the greatest code, and of those the last place
        codes = read[0].astype(np.int64) - program.tensors[op.input].type.lo
        places = [codes * total + places[0]]
    came = execute(op, [place + MARK for place in places], program) - MARK
    came = np.broadcast_to(np.where(came < -(MARK >> 1), total, came % total), slope.shape)
    flat = np.zeros((len(slope), total + 1), np.float32)
    for n in range(len(slope)):
        flat[n] = np.bincount(came[n].ravel(), slope[n].ravel(), total + 1)
    return [
        flat[:, start : start + size].reshape(x.shape)
        for size, start, x in zip(sizes, starts, read, strict=False)
    ]
