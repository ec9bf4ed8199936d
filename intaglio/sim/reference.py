"""The reference simulator: every operation from its docstring, in NumPy int64, no cleverness.

This is the executable definition. The Numba kernels and the hardware are compared with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.fixed import (
    ROUNDINGS,
    Arithmetic,
    IntType,
    Rounding,
    scaled_single,
    summed_single,
    wrap,
)
from intaglio.ops import (
    Add,
    Concat,
    Conv2d,
    Crop,
    DepthToSpace,
    Input,
    Interpolate,
    Ints,
    Lookup,
    MaxPool2d,
    Multiply,
    Op,
    Output,
    Pad,
    Padding,
    Pair,
    Requant,
    Select,
    SpaceToDepth,
    SumPool2d,
    Upsample,
    Windowed,
    rounding_of,
)
from intaglio.ops.choosing import upsampled
from intaglio.ops.interpolation import both
from intaglio.program import Program


@dataclass(frozen=True)
class Run:
    """Every tensor of a run, int64 (N, C, H, W), by name in program order.

    overflows  for each Conv2d whose accumulator is narrower than proved, by output name: how many
               accumulator values did not hold the exact sum, or saturated on the way to it.
    """

    tensors: dict[str, Ints]
    overflows: dict[str, int]


def run(program: Program, images: Ints) -> Run:
    """Execute `program` on integer images (N, C, H, W) of the input's type."""
    tensors: dict[str, Ints] = {}
    overflows: dict[str, int] = {}
    for op in program.ops:
        inputs = [tensors[name] for name in op.inputs]
        if isinstance(op, Input):
            result = np.asarray(images, dtype=np.int64)
        elif isinstance(op, Conv2d):
            result, count = conv2d(op, inputs[0], program)
            if narrowed(op, program) is not None:
                overflows[op.output] = count
        else:
            result = execute(op, inputs, program)
        tensors[op.output] = result
    return Run(tensors, overflows)


def execute(op: Op, inputs: Sequence[Ints], program: Program) -> Ints:
    """Any operation but Input and Conv2d."""
    constants, rounding = program.constants, program.arithmetic.rounding
    match op:
        case Output():
            return inputs[0]
        case Requant():
            m, b = constants[op.multiplier].array, constants[op.bias].array
            return requant(op, inputs[0], m, b, program.arithmetic)
        case Add():
            t = added(op, inputs[0], inputs[1], program.arithmetic)
            return rounded(t, op.shift, op.offset, op.lo, op.hi, rounding)
        case Multiply():
            return (inputs[0] - op.zero_a) * (inputs[1] - op.zero_b)
        case MaxPool2d() | SumPool2d():
            taps = windows(op, inputs[0], op.kernel, op.outside(program.tensors[op.input]))
            pooled: Ints = taps.max(axis=0) if isinstance(op, MaxPool2d) else taps.sum(axis=0)
            return pooled
        case Upsample():
            return upsample(inputs[0], op.size)
        case Concat():
            return np.concatenate(inputs, axis=1)
        case Pad():
            return bordered(inputs[0], op.padding, (op.value,))
        case Lookup():
            places = inputs[0] - program.tensors[op.input].type.lo
            return looked_up(places, constants[op.table].array)
        case Select():
            return selected(inputs[0], op)
        case Crop():
            (y0, y1, dy), (x0, x1, dx) = op.rows, op.columns
            return inputs[0][:, :, y0:y1:dy, x0:x1:dx]
        case SpaceToDepth():
            return to_depth(inputs[0], op.block)
        case DepthToSpace():
            return to_space(inputs[0], op.block)
        case Interpolate():
            return interpolated(inputs[0], op)
    raise TypeError(f"The reference simulator has no rule for {type(op).__name__}.")


def looked_up(places: Ints, table: Ints) -> Ints:
    """The entries at places (N, C, H, W) of a table (codes,), or of each channel's (C, codes)."""
    if table.ndim == 1:
        return table[places]
    channels = [table[c][places[:, c]] for c in range(len(table))]
    return np.stack(channels, axis=1)


def bordered(x: Ints, padding: Padding, value: Sequence[int]) -> Ints:
    """x (N, C, H, W) inside a border of one value, or one for each channel."""
    n, c, h, w = x.shape
    top, bottom, left, right = padding
    out = np.empty((n, c, h + top + bottom, w + left + right), dtype=np.int64)
    out[:] = np.array(value, dtype=np.int64)[:, None, None]
    out[:, :, top : top + h, left : left + w] = x
    return out


def windows(op: Windowed, x: Ints, kernel: Pair, outside: Sequence[int]) -> Ints:
    """What each tap (ky, kx), in order, reads for every output position: (Kh*Kw, N, C, H, W)."""
    padded = bordered(x, op.padding, outside)
    (kh, kw), (sy, sx), (dy, dx) = kernel, op.stride, op.dilation
    h = (padded.shape[2] - dy * (kh - 1) - 1) // sy + 1
    w = (padded.shape[3] - dx * (kw - 1) - 1) // sx + 1
    taps = [
        padded[:, :, ky * dy :: sy, kx * dx :: sx][:, :, :h, :w]
        for ky in range(kh)
        for kx in range(kw)
    ]
    return np.stack(taps)


def narrowed(op: Conv2d, program: Program) -> IntType | None:
    """The accumulator's forced type, when that is narrower than proved."""
    return op.forced(program.tensors[op.input], program.context)


def conv2d(op: Conv2d, x: Ints, program: Program) -> tuple[Ints, int]:
    """The accumulator (N, Cout, H, W), products summed in the order (ky, kx, input channel), and
    the number of values that overflowed."""
    weight = program.constants[op.weight].array
    cout, cin, kh, kw = weight.shape
    taps = windows(op, x, (kh, kw), op.outside(program.tensors[op.input]))
    forced, arithmetic = narrowed(op, program), program.arithmetic
    each = forced is not None and saturates(arithmetic, "mac")
    acc = np.zeros((x.shape[0], cout, *taps.shape[3:]), dtype=np.int64)
    hit = np.zeros(acc.shape, dtype=np.bool_)
    step = cout // op.groups
    for g in range(op.groups):
        outs = slice(g * step, (g + 1) * step)
        for tap in range(kh * kw):
            for c in range(cin):
                w = weight[outs, c, tap // kw, tap % kw]
                acc[:, outs] += w[:, None, None] * taps[tap, :, g * cin + c][:, None]
                if forced is not None and each:
                    hit[:, outs] |= (acc[:, outs] < forced.lo) | (acc[:, outs] > forced.hi)
                    acc[:, outs] = np.clip(acc[:, outs], forced.lo, forced.hi)
    if forced is not None and not each:
        hit = (acc < forced.lo) | (acc > forced.hi)
        if saturates(arithmetic, "end"):
            acc = np.clip(acc, forced.lo, forced.hi)
        else:
            acc = wrap(acc, forced.bits, True)
    return acc, int(hit.sum())


def saturates(arithmetic: Arithmetic, where: str) -> bool:
    """Whether a narrow accumulator saturates, at "mac" or at "end"."""
    return arithmetic.overflow == "saturate" and arithmetic.saturate_at == where


def rounded(t: Ints, s: int, offset: int, lo: int, hi: int, rounding: Rounding) -> Ints:
    """`fixed.requantise` of an array."""
    y: Ints = np.clip(ROUNDINGS[rounding](t, s) + offset, lo, hi)
    return y


def added(op: Add, a: Ints, b: Ints, arithmetic: Arithmetic) -> Ints:
    """The sum before it is rounded."""
    if arithmetic.product == "single":
        t: Ints = summed_single(a, b, op.multiplier_a, op.multiplier_b, op.bias)
        return t
    return a * op.multiplier_a + b * op.multiplier_b + op.bias


def scaled(x: Ints, m: Any, b: Any, arithmetic: Arithmetic) -> Ints:
    """A sum times its ratio before it is rounded."""
    t: Ints = scaled_single(x, m, b) if arithmetic.product == "single" else x * m + b
    return t


def requant(op: Requant, x: Ints, m: Ints, b: Ints, arithmetic: Arithmetic) -> Ints:
    """The channels of one shift together; tables of one entry serve all."""
    channels = x.shape[1]
    m, b = (np.resize(table, channels)[:, None, None] for table in (m, b))
    shifts, y = np.resize(op.shift, channels), np.empty_like(x)
    rounding = rounding_of(op, arithmetic)
    for shift in np.unique(shifts).tolist():
        alike = shifts == shift
        t = scaled(x[:, alike], m[alike], b[alike], arithmetic)
        y[:, alike] = rounded(t, shift, op.offset, op.lo, op.hi, rounding)
    return y


def upsample(x: Ints, size: Pair) -> Ints:
    """Nearest neighbour to (H, W)."""
    return x[:, :, upsampled(x.shape[2], size[0])][:, :, :, upsampled(x.shape[3], size[1])]


def selected(x: Ints, op: Select) -> Ints:
    """Channels by their numbers; the value where there is none."""
    y = np.full((x.shape[0], len(op.channels), *x.shape[2:]), op.value, dtype=np.int64)
    for to, source in enumerate(op.channels):
        if source >= 0:
            y[:, to] = x[:, source]
    return y


def to_depth(x: Ints, block: Pair) -> Ints:
    """The pixels of every block as channels of one, in the order (dy, dx, c)."""
    (n, c, h, w), (bh, bw) = x.shape, block
    split = x.reshape(n, c, h // bh, bh, w // bw, bw)
    return split.transpose(0, 3, 5, 1, 2, 4).reshape(n, bh * bw * c, h // bh, w // bw)


def to_space(x: Ints, block: Pair) -> Ints:
    """Channels (dy, dx, c) of a pixel as the pixels of a block."""
    (n, c, h, w), (bh, bw) = x.shape, block
    split = x.reshape(n, bh, bw, c // (bh * bw), h, w)
    return split.transpose(0, 3, 4, 1, 5, 2).reshape(n, c // (bh * bw), h * bh, w * bw)


def interpolated(x: Ints, op: Interpolate) -> Ints:
    """Two rows by their weights, then two columns."""
    for axis, taps, lines in ((2, op.rows, (-1, 1)), (3, op.columns, (-1,))):
        first, second, u, v = both(taps, x.shape[axis]).T
        x = np.take(x, first, axis) * u.reshape(lines) + np.take(x, second, axis) * v.reshape(lines)
    return x
