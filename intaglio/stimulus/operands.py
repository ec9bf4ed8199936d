"""Points of what reads: operands at their ends, sums at theirs, pixels beside a border, windows,
entries of tables.

Where an operand must be is said by the proved span of its channel; a channel of one code has none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intaglio.channels.spans import Span
from intaglio.ops import Conv2d, Ints, Lookup, MaxPool2d, Pad, Pair, Shape, Windowed
from intaglio.program import Program
from intaglio.sim.reference import windows

Bools = NDArray[np.bool_]
EXTREMES = ("operand least", "operand greatest")
TAPS = ("operand not 0",)
ENDS = ("sums low", "sums high")
SIDES = ("top", "bottom", "left", "right")
BORDERS = tuple(f"pixel beside the {side} pad" for side in SIDES)
WINS = ("greatest of its window",)
ENTRY = ("table",)
SHARED, OWN = 8, 4  # bits of a place in a table that are told apart, of one for all or for each


@dataclass(frozen=True)
class Taps:
    """Of every tap (ky, kx), in order, the rows and columns of the image that it reads."""

    rows: tuple[slice, ...]
    columns: tuple[slice, ...]

    def seen(self, marked: Bools) -> Bools:
        """Whether each tap reads a marked pixel (N, C, H, W): (N, C, taps)."""
        lines = [np.any(marked[..., columns], axis=-1) for columns in self.columns]
        found = [np.any(line[..., rows], axis=-1) for rows in self.rows for line in lines]
        return np.stack(found, axis=-1)


def taps_of(op: Windowed, kernel: Pair, image: Shape, size: Pair) -> Taps:
    """Of a window that makes `size` pixels of an image."""
    places = [
        tuple(
            inside(
                k * op.dilation[axis] - op.padding[2 * axis], op.stride[axis], size[axis], length
            )
            for k in range(kernel[axis])
        )
        for axis, (length, far) in enumerate(zip(image[1:], op.dilation, strict=True))
    ]
    return Taps(*places)


def inside(start: int, step: int, count: int, length: int) -> slice:
    """Those of the places start, start + step, ... that are 0 to length - 1."""
    first = start if start >= 0 else start % step
    return slice(first, max(0, min(start + (count - 1) * step + 1, length)), step)


def extremes(x: Ints, span: Span) -> Bools:
    """Which pixels are at their channel's ends: (N, 2, C, H, W)."""
    return np.stack([x == span.lo[:, None, None], x == span.hi[:, None, None]], axis=1)


def varying(span: Span) -> Bools:
    """The channels that have more than one code."""
    return np.asarray(span.lo < span.hi)


def lanes(op: Conv2d, program: Program) -> Bools:
    """The (C, taps) whose products are not all 0."""
    weight = program.constants[op.weight].array
    cout, cin, kh, kw = weight.shape
    used = (weight != 0).reshape(op.groups, cout // op.groups, cin, kh * kw).any(axis=1)
    return np.asarray(used.reshape(op.groups * cin, kh * kw))


def sum_ends(span: Span) -> tuple[int | None, int | None]:
    """From where on sums need the highest bit of the least and of the greatest of all channels;
    None where no sum is below or above 0."""
    low, high = int(span.lo.min()), int(span.hi.max())
    below = -(1 << (~low).bit_length() - 1) - 1 if low < -1 else (-1 if low else None)
    return (below if low < 0 else None), (1 << high.bit_length() - 1 if high > 0 else None)


def at_ends(sums: Ints, span: Span) -> Bools:
    """Whether some sum is as far out: (N, 2, 1)."""
    low, high = sum_ends(span)
    flat = sums.reshape(len(sums), -1)
    none = np.zeros(len(sums), bool)
    far = [none if low is None else (flat <= low).any(1),
           none if high is None else (flat >= high).any(1)]  # fmt: skip
    return np.stack(far, axis=1)[:, :, None]


def beside_pads(x: Ints, outside: Ints) -> Bools:
    """Whether some pixel of each outermost line is not the code outside it: (N, 4, C)."""
    differs = x != outside[:, None, None]
    lines = differs[:, :, 0], differs[:, :, -1], differs[..., 0], differs[..., -1]
    return np.stack([line.any(-1) for line in lines], axis=1)


def outside_of(op: Windowed | Pad, program: Program) -> Ints:
    """What stands outside of each channel."""
    x = program.tensors[op.input]
    codes = (op.value,) if isinstance(op, Pad) else op.outside(x)
    return np.resize(np.array(codes, np.int64), x.shape[0])


def wins(op: MaxPool2d, x: Ints, program: Program) -> Bools:
    """Whether each tap is somewhere greater than all others: (N, 1, C, taps)."""
    lowest = program.tensors[op.input].type.lo - 1  # outside is less than any code
    taps = windows(op, x, op.kernel, (lowest,))
    first, second = np.partition(taps, -2, axis=0)[-2:][::-1]
    alone = (taps == first) & (first > second)
    found = np.moveaxis(np.any(alone, axis=(3, 4)), 0, -1)
    return np.asarray(found[:, None])


def can_win(op: MaxPool2d, program: Program, span: Span) -> Bools:
    """(C, taps) of what `wins` may find: in a channel of one code a tap wins only where all others
    are outside the image."""
    image, (_, *size) = program.tensors[op.input].shape, program.tensors[op.output].shape
    taps = taps_of(op, op.kernel, image, (size[0], size[1]))
    ones = np.ones((1, *image), np.int64)
    reads = taps.seen(ones > 0)[0]
    inside = windows(op, ones, op.kernel, (0,))
    only = np.any(inside & (inside.sum(axis=0) == 1), axis=(1, 3, 4)).T
    return np.asarray(reads & (varying(span)[:, None] | only))


def entries(op: Lookup, x: Ints, program: Program) -> Bools:
    """Which places of the table are read, the lowest bits of long ones aside: (N, 1, C or 1, n)."""
    table, type = program.constants[op.table].array, program.tensors[op.input].type
    n, channels = len(x), x.shape[1]
    kept = min(type.bits, SHARED if table.ndim == 1 else OWN)
    places = (x - type.lo) >> (type.bits - kept)
    found = np.zeros((n, channels, 1 << kept), bool)
    found[np.arange(n)[:, None, None, None], np.arange(channels)[:, None, None], places] = True
    return np.asarray(found[:, None] if table.ndim == 2 else np.any(found, axis=1)[:, None, None])


def entry_range(op: Lookup, program: Program, span: Span) -> Bools:
    """(C or 1, n) of the same that the span allows."""
    type = program.tensors[op.input].type
    codes = np.arange(type.lo, type.hi + 1)
    able = (codes >= span.lo[:, None]) & (codes <= span.hi[:, None])
    table = program.constants[op.table].array
    kept = min(type.bits, SHARED if table.ndim == 1 else OWN)
    able = np.any(able.reshape(len(able), 1 << kept, -1), axis=-1)
    return np.asarray(able if table.ndim == 2 else np.any(able, axis=0)[None])
