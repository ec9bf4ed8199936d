"""Operations that choose: every value of the result is a code of an operand, or one that is given.

Nothing is computed, and nothing rounds. Scale and zero point stay what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from intaglio.ops.base import Context, Inferred, Ints, Op, Padding, Pair, Tensor, Unary, Windowed


@dataclass(frozen=True, kw_only=True)
class MaxPool2d(Windowed):
    """Largest code in the window; positions outside the image do not take part."""

    kernel: Pair

    def outside(self, x: Tensor) -> tuple[int, ...]:
        return (x.type.lo,)

    def infer(self, inputs: Sequence[Tensor], context: Context) -> Inferred:
        (x,) = inputs
        size = self.window(x, self.kernel)
        top, _, left, _ = self.padding
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        # Every window needs a pixel of the image; checked where windows start and end.
        for pad_lo, n, k, d, s, count in (
            (top, x.shape[1], kh, dh, self.stride[0], size[0]),
            (left, x.shape[2], kw, dw, self.stride[1], size[1]),
        ):
            for i in range(count):
                first = max(0, -(-(pad_lo - i * s) // d))  # of the taps, the first not before 0
                if first >= k or i * s + first * d - pad_lo >= n:
                    raise self.refuse("every window must contain a pixel; use less padding.")
        return (x.shape[0], *size), x.lo, x.hi


@dataclass(frozen=True, kw_only=True)
class Upsample(Unary):
    """Nearest neighbour to `size` (H, W): source index floor(i * in / out). Enlarges only."""

    size: Pair

    def infer(self, inputs: Sequence[Tensor], context: Context) -> Inferred:
        (x,) = inputs
        if self.size[0] < x.shape[1] or self.size[1] < x.shape[2]:
            raise self.refuse(f"size {self.size} must not be smaller than {x.shape[1:]}.")
        return (x.shape[0], *self.size), x.lo, x.hi


def upsampled(old: int, new: int) -> Ints:
    """What an Upsample of `old` pixels to `new` reads: floor(i * old / new)."""
    return np.arange(new) * old // new


def is_upsampled(places: Sequence[int] | Ints, old: int) -> bool:
    """Whether an Upsample of `old` pixels reads these places."""
    return len(places) >= old and np.array_equal(places, upsampled(old, len(places)))


@dataclass(frozen=True, kw_only=True)
class Concat(Op):
    """Channels of the operands one after the other; one type and scale for all."""

    parts: tuple[str, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.parts

    def infer(self, inputs: Sequence[Tensor], context: Context) -> Inferred:
        first = inputs[0]
        for x in inputs[1:]:
            if x.shape[1:] != first.shape[1:] or x.type != first.type:
                raise self.refuse(
                    f"operands must share size and type, not {first.shape} {first.type}"
                    f" and {x.shape} {x.type}."
                )
        channels = sum(x.shape[0] for x in inputs)
        return (
            (channels, *first.shape[1:]),
            min(x.lo for x in inputs),
            max(x.hi for x in inputs),
        )


@dataclass(frozen=True, kw_only=True)
class Pad(Unary):
    """A border of `value` around every channel."""

    padding: Padding
    value: int

    def infer(self, inputs: Sequence[Tensor], context: Context) -> Inferred:
        (x,) = inputs
        if min(self.padding) < 0 or not x.type.holds(self.value, self.value):
            raise self.refuse(f"padding must be >= 0 and its value of type {x.type}.")
        top, bottom, left, right = self.padding
        shape = (x.shape[0], x.shape[1] + top + bottom, x.shape[2] + left + right)
        return shape, min(x.lo, self.value), max(x.hi, self.value)


@dataclass(frozen=True, kw_only=True)
class Select(Unary):
    """y[c] = x[channels[c]], and `value` where channels[c] is -1: channels dropped, repeated, in
    another order, or added."""

    channels: tuple[int, ...]
    value: int = 0

    def infer(self, inputs: Sequence[Tensor], context: Context) -> Inferred:
        (x,) = inputs
        if not self.channels or not -1 <= min(self.channels) <= max(self.channels) < x.shape[0]:
            raise self.refuse(f"channels must be 0 to {x.shape[0] - 1}, or -1 for the value.")
        if max(self.channels) < 0:
            raise self.refuse("at least one channel must be one of the input's.")
        if not x.type.holds(self.value, self.value):
            raise self.refuse(f"value must be of type {x.type}, not {self.value}.")
        own = [self.value] if -1 in self.channels else []
        return (len(self.channels), *x.shape[1:]), min([x.lo, *own]), max([x.hi, *own])

    def zeros(self, zero: tuple[int, ...]) -> tuple[int, ...]:
        if len(zero) == 1:
            return zero
        return tuple(zero[c] if c >= 0 else self.value for c in self.channels)


Steps = tuple[int, int, int]  # start, stop, step of rows or columns


@dataclass(frozen=True, kw_only=True)
class Crop(Unary):
    """y[c, i, j] = x[c, rows[0] + i * rows[2], columns[0] + j * columns[2]], as far as the stops
    rows[1] and columns[1], which are not reached."""

    rows: Steps
    columns: Steps

    @property
    def size(self) -> Pair:
        """Output (H, W)."""
        height, width = (
            -(-(stop - start) // step) for start, stop, step in (self.rows, self.columns)
        )
        return height, width

    def infer(self, inputs: Sequence[Tensor], context: Context) -> Inferred:
        (x,) = inputs
        for name, n, (start, stop, step) in (
            ("rows", x.shape[1], self.rows),
            ("columns", x.shape[2], self.columns),
        ):
            if not 0 <= start < stop <= n or step < 1:
                raise self.refuse(
                    f"{name} must go from 0 or more to at most {n} in steps of 1 or more, not"
                    f" {(start, stop, step)}."
                )
        return (x.shape[0], *self.size), x.lo, x.hi


@dataclass(frozen=True, kw_only=True)
class SpaceToDepth(Unary):
    """y[(dy * bw + dx) * C + c, i, j] = x[c, i * bh + dy, j * bw + dx]: every block of (bh, bw)
    pixels becomes one."""

    block: Pair

    def infer(self, inputs: Sequence[Tensor], context: Context) -> Inferred:
        (x,) = inputs
        (c, h, w), (bh, bw) = x.shape, self.block
        if min(bh, bw) < 1 or h % bh or w % bw:
            raise self.refuse(f"the block must divide {h} x {w} pixels, not be {bh} x {bw}.")
        return (c * bh * bw, h // bh, w // bw), x.lo, x.hi

    def zeros(self, zero: tuple[int, ...]) -> tuple[int, ...]:
        return zero if len(zero) == 1 else zero * (self.block[0] * self.block[1])


@dataclass(frozen=True, kw_only=True)
class DepthToSpace(Unary):
    """y[c, i * bh + dy, j * bw + dx] = x[(dy * bw + dx) * C' + c, i, j], C' the channels of the
    result: the inverse of SpaceToDepth."""

    block: Pair

    def infer(self, inputs: Sequence[Tensor], context: Context) -> Inferred:
        (x,) = inputs
        (c, h, w), (bh, bw) = x.shape, self.block
        if min(bh, bw) < 1 or c % (bh * bw):
            raise self.refuse(
                f"the pixels of a block must divide {c} channels, not be {bh} x {bw}."
            )
        return (c // (bh * bw), h * bh, w * bw), x.lo, x.hi

    def zeros(self, zero: tuple[int, ...]) -> tuple[int, ...]:
        count = len(zero) // (self.block[0] * self.block[1])
        if len(zero) > 1 and zero != zero[:count] * (self.block[0] * self.block[1]):
            raise self.refuse("channels that become one must have one zero point.")
        return zero if len(zero) == 1 else zero[:count]
