"""Operations that compute: sums of products, requantisation, sums, products, tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from intaglio.fixed import (
    EXACT_LIMIT,
    ROUNDINGS,
    Arithmetic,
    IntType,
    Rounding,
    requantise,
    scaled_single,
    single,
    summed_single,
)
from intaglio.ops.base import Context, Inferred, Ints, Op, Pair, Tensor, Unary, Windowed


@dataclass(frozen=True, kw_only=True)
class Conv2d(Windowed):
    """Exact integer convolution of the raw codes:

        acc[o, y, x] = sum over (ky, kx, c) of w[o, c, ky, kx] * in[c, y*s + ky*d - top, ...]

    Positions outside the image read `pad_value` (one per input channel, or one for all: the
    input's zero point). The input's zero point is not subtracted: the term -zp * sum(w) is a
    constant and lives in the following Requant's B. `weight` is (Cout, Cin/groups, Kh, Kw).
    With `Arithmetic.acc_bits` narrower than proved the accumulator wraps or saturates.
    """

    weight: str
    groups: int = 1
    pad_value: tuple[int, ...] = (0,)

    @property
    def constants(self) -> tuple[str, ...]:
        return (self.weight,)

    def outside(self, x: Tensor) -> tuple[int, ...]:
        return self.pad_value

    def infer(self, inputs: Sequence[Tensor], context: Context) -> Inferred:
        (x,) = inputs
        w = context.constants[self.weight].array
        if w.ndim != 4:
            raise self.refuse(f"weight must have 4 dimensions, not {w.ndim}.")
        cout, cin, kh, kw = w.shape
        if self.groups < 1 or cin * self.groups != x.shape[0] or cout % self.groups:
            raise self.refuse(
                f"weight {w.shape} in {self.groups} groups must match {x.shape[0]} input channels."
            )
        if len(self.pad_value) not in (1, x.shape[0]):
            raise self.refuse(f"pad_value must have 1 or {x.shape[0]} entries.")
        if not x.type.holds(min(self.pad_value), max(self.pad_value)):
            raise self.refuse(f"pad_value {self.pad_value} must be of type {x.type}.")
        size = self.window(x, (kh, kw))
        largest = max(-int(w.min()), int(w.max())) * max(-x.type.lo, x.type.hi)
        if largest * cin * kh * kw >= EXACT_LIMIT:
            raise self.refuse("its sums must stay below 2^62; use narrower weights or inputs.")
        forced = self.forced(x, context)
        if forced is not None:
            return (cout, *size), forced.lo, forced.hi
        lo, hi = self.channel_ranges(x, w)
        return (cout, *size), int(lo.min()), int(hi.max())

    def forced(self, x: Tensor, context: Context) -> IntType | None:
        """The accumulator's type, where `Arithmetic.acc_bits` is narrower than proved."""
        if context.arithmetic.acc_bits is None:
            return None
        type = IntType(context.arithmetic.acc_bits, True)
        lo, hi = self.channel_ranges(x, context.constants[self.weight].array)
        return None if type.holds(int(lo.min()), int(hi.max())) else type

    def channel_ranges(self, x: Tensor, weight: Ints) -> tuple[Ints, Ints]:
        """Proved [lo, hi] of each output channel's accumulator, and of every partial sum of it
        in any order: each product counts only where it widens the interval."""
        low, high = min(x.lo, *self.pad_value, 0), max(x.hi, *self.pad_value, 0)
        plus = np.maximum(weight, 0).sum(axis=(1, 2, 3))
        minus = weight.sum(axis=(1, 2, 3)) - plus
        return plus * low + minus * high, plus * high + minus * low


@dataclass(frozen=True, kw_only=True)
class Requant(Unary):
    """y[c] = clamp(round_shift(x[c] * M[c] + B[c], S[c]) + offset, lo, hi).

    M, B: one value per channel, or one for all. `shift` likewise. ReLU is the clamp. `offset` is
    added after rounding; it is 0 for RND and TRN, where the zero point is part of B (exact), and
    needed only for roundings that depend on the sign or parity.

    With `Arithmetic.product` "single", t is `fixed.scaled_single` instead, and x[c] + B[c] must be
    32 bits wide.

    `rounding` is the Program's, unless this names another: systems exist that round some operators
    otherwise than the rest.
    """

    multiplier: str
    bias: str
    shift: tuple[int, ...]
    lo: int
    hi: int
    offset: int = 0
    rounding: Rounding | None = field(default=None, repr=False)  # digests are of older texts

    @property
    def constants(self) -> tuple[str, ...]:
        return (self.multiplier, self.bias)

    def infer(self, inputs: Sequence[Tensor], context: Context) -> Inferred:
        (x,) = inputs
        m = context.constants[self.multiplier].array
        b = context.constants[self.bias].array
        channels = x.shape[0]
        for name, array in (("multiplier", m), ("bias", b)):
            if array.ndim != 1:
                raise self.refuse(f"{name} must have 1 dimension, not {array.ndim}.")
        for name, n in (("multiplier", m.size), ("bias", b.size), ("shift", len(self.shift))):
            if n not in (1, channels):
                raise self.refuse(f"{name} must have 1 or {channels} entries, not {n}.")
        check_scaling(self, context.arithmetic, m, b, self.shift, self.lo, self.hi)
        if context.arithmetic.per_layer and len(np.unique(m)) > 1:
            raise self.refuse("M must be one value per layer in this arithmetic.")
        if self.rounding is not None:
            if self.rounding not in ROUNDINGS:
                names = ", ".join(ROUNDINGS)
                raise self.refuse(f"rounding must be one of {names}, not {self.rounding!r}.")
            if context.arithmetic.product == "single":
                raise self.refuse("rounding must be left out where products are in float32.")
        rounding, lo, hi = rounding_of(self, context.arithmetic), [], []
        for c in range(max(m.size, b.size, len(self.shift))):
            bc = int(b.flat[c % b.size])
            if context.arithmetic.product == "single" and not IntType(32, True).holds(
                x.lo + bc, x.hi + bc
            ):
                raise self.refuse(
                    "x + B must fit into i32 in this arithmetic; use another one, or weights of"
                    " fewer bits."
                )
            ends, s = self.totals(c, (x.lo, x.hi), context)
            check_exact(self, ends, s)
            got = [requantise(t, s, self.offset, self.lo, self.hi, rounding) for t in ends]
            lo.append(min(got))
            hi.append(max(got))
        return x.shape, min(lo), max(hi)

    def totals(self, channel: int, sums: Sequence[int], context: Context) -> tuple[list[int], int]:
        """Of some x of one channel: every t, and S."""
        m = context.constants[self.multiplier].array.flat
        b = context.constants[self.bias].array.flat
        mc, bc = int(m[channel % len(m)]), int(b[channel % len(b)])
        shift = self.shift[channel % len(self.shift)]
        if context.arithmetic.product == "single":
            return [int(scaled_single(x, mc, bc)) for x in sums], shift
        return [x * mc + bc for x in sums], shift


@dataclass(frozen=True, kw_only=True)
class Add(Op):
    """y = clamp(round_shift(a * Ma + b * Mb + B, S) + offset, lo, hi): one rounding.

    With `Arithmetic.product` "single", t is `fixed.summed_single` instead; Ma, Mb and B are then of
    any size but have at most 24 significant bits.
    """

    a: str
    b: str
    multiplier_a: int
    multiplier_b: int
    bias: int
    shift: int
    lo: int
    hi: int
    offset: int = 0

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.a, self.b)

    def infer(self, inputs: Sequence[Tensor], context: Context) -> Inferred:
        a, b = inputs
        if a.shape != b.shape:
            raise self.refuse(f"operands must have one shape, not {a.shape} and {b.shape}.")
        ma, mb = self.multiplier_a, self.multiplier_b
        floats = context.arithmetic.product == "single"
        for value in (ma, mb, self.bias) if floats else ():
            if abs(value) >= EXACT_LIMIT or int(single(value)) != value:
                raise self.refuse(f"M and B must have at most 24 significant bits, not {value}.")
        factors, addends = ([], []) if floats else ([ma, mb], [self.bias])
        check_scaling(self, context.arithmetic, factors, addends, (self.shift,), self.lo, self.hi)
        low = min(a.lo * ma, a.hi * ma) + min(b.lo * mb, b.hi * mb) + self.bias
        high = max(a.lo * ma, a.hi * ma) + max(b.lo * mb, b.hi * mb) + self.bias
        check_exact(self, [low, high], self.shift)
        low, high = self.totals((a.lo, a.hi), (b.lo, b.hi), context)
        got = [
            requantise(t, self.shift, self.offset, self.lo, self.hi, context.arithmetic.rounding)
            for t in (low, high)
        ]
        return a.shape, got[0], got[1]

    def totals(self, a: Pair, b: Pair, context: Context) -> tuple[int, int]:
        """The least and the largest t of operands within [lo, hi]: it is monotone in either."""
        ma, mb = self.multiplier_a, self.multiplier_b
        sides = [(a[::-1] if ma < 0 else a), (b[::-1] if mb < 0 else b)]
        if context.arithmetic.product == "single":
            low, high = (
                int(summed_single(v, w, ma, mb, self.bias)) for v, w in zip(*sides, strict=True)
            )
        else:
            low, high = (v * ma + w * mb + self.bias for v, w in zip(*sides, strict=True))
        return low, high


@dataclass(frozen=True, kw_only=True)
class Multiply(Op):
    """y[c, i, j] = (a[c, i, j] - zero_a) * (b[c, i, j] - zero_b), exact: a gate before its Requant.

    `b` has the shape of `a`, or 1 in place of its channels, of its rows and columns, or of all of
    them: (1, H, W), (C, 1, 1), (1, 1, 1). That one value then serves everywhere.
    """

    a: str
    b: str
    zero_a: int = 0
    zero_b: int = 0

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.a, self.b)

    def infer(self, inputs: Sequence[Tensor], context: Context) -> Inferred:
        a, b = inputs
        channels, height, width = a.shape
        if b.shape[0] not in (1, channels) or b.shape[1:] not in ((1, 1), (height, width)):
            raise self.refuse(
                f"its second operand must be of shape {a.shape}, or have 1 channel, or 1 row and"
                f" column, not {b.shape}."
            )
        for x, zero in ((a, self.zero_a), (b, self.zero_b)):
            if not x.type.holds(zero, zero):
                raise self.refuse(f"its zero points must be of type {x.type}, not {zero}.")
        low, high = products((a.lo - self.zero_a, a.hi - self.zero_a),
                             (b.lo - self.zero_b, b.hi - self.zero_b))  # fmt: skip
        if max(-low, high) >= EXACT_LIMIT:
            raise self.refuse("its products must stay below 2^62; use narrower operands.")
        return a.shape, low, high


def products(a: Pair, b: Pair) -> Pair:
    """The least and the largest product of two numbers within these ends."""
    ends = [v * w for v in a for w in b]
    return min(ends), max(ends)


def check_scaling(
    op: Op,
    arithmetic: Arithmetic,
    multipliers: Ints | Sequence[int],
    biases: Ints | Sequence[int],
    shifts: Sequence[int],
    lo: int,
    hi: int,
) -> None:
    """Whether M, B, S and the clamp are within what the arithmetic profile allows."""
    limit = arithmetic.multiplier_max
    for m in np.asarray(multipliers).flat:
        if abs(int(m)) > limit:
            raise op.refuse(f"|M| must be at most {limit}, not {abs(int(m))}.")
        if arithmetic.power_of_two and abs(int(m)).bit_count() > 1:
            raise op.refuse(f"M must be 0 or a power of two in this arithmetic, not {int(m)}.")
    bias_type = IntType(arithmetic.bias_bits, True)
    for b in np.asarray(biases).flat:
        if not bias_type.holds(int(b), int(b)):
            raise op.refuse(
                f"B must fit into {bias_type}, not {int(b)}; use another arithmetic, or weights of"
                " fewer bits."
            )
    low, high = arithmetic.shift_range
    if min(shifts) < low or max(shifts) > high:
        raise op.refuse(f"S must be {low} to {high}, not {min(shifts)} to {max(shifts)}.")
    if len(set(shifts)) > 1 and not arithmetic.per_channel_shift:
        raise op.refuse("S must be one value per layer in this arithmetic.")
    if lo > hi:
        raise op.refuse(f"the clamp must have lo <= hi, not {lo} > {hi}.")


def check_exact(op: Op, ends: Sequence[int], shift: int) -> None:
    """The fast simulator computes in int64: every t, plus the rounding half, must fit."""
    half = (1 << shift) >> 1
    if min(ends) - half < -EXACT_LIMIT or max(ends) + half >= EXACT_LIMIT:
        raise op.refuse("x * M + B must stay below 2^62; use a narrower multiplier or shift.")


@dataclass(frozen=True, kw_only=True)
class SumPool2d(Windowed):
    """Exact sum of the codes in the window: average pooling before its Requant.

    Positions outside the image count as `pad_value`, the input's zero point.
    """

    kernel: Pair
    pad_value: int = 0

    def outside(self, x: Tensor) -> tuple[int, ...]:
        return (self.pad_value,)

    def infer(self, inputs: Sequence[Tensor], context: Context) -> Inferred:
        (x,) = inputs
        n = self.kernel[0] * self.kernel[1]
        low, high = min(x.lo, self.pad_value), max(x.hi, self.pad_value)
        if not x.type.holds(low, high):
            raise self.refuse(f"pad_value must be of type {x.type}, not {self.pad_value}.")
        return (x.shape[0], *self.window(x, self.kernel)), n * low, n * high


@dataclass(frozen=True, kw_only=True)
class Lookup(Unary):
    """y[c] = table[x[c] - type.lo], a table over every code of the input type (at most 16 bits).

    One table (2^bits,) for all channels, or one for each of them: (C, 2^bits).
    """

    table: str

    @property
    def constants(self) -> tuple[str, ...]:
        return (self.table,)

    def infer(self, inputs: Sequence[Tensor], context: Context) -> Inferred:
        (x,) = inputs
        table = context.constants[self.table].array
        bits, channels = x.type.bits, x.shape[0]
        if bits > 16 or table.shape not in ((1 << bits,), (channels, 1 << bits)):
            raise self.refuse(
                f"the table must have the shape (2^{bits},) or ({channels}, 2^{bits}), of at most"
                f" 16 bits, not {table.shape}."
            )
        used = table[..., x.lo - x.type.lo : x.hi - x.type.lo + 1]
        return x.shape, int(used.min()), int(used.max())


def rounding_of(op: Requant | Add, arithmetic: Arithmetic) -> Rounding:
    """How an operation rounds in a Program of that arithmetic."""
    own = op.rounding if isinstance(op, Requant) else None
    return own or arithmetic.rounding
