"""The operations of a `Program`: fields, shape rule, range rule, meaning.

One frozen dataclass per operation. Tensors are (C, H, W); batches are the simulator's business.
`infer` is the shape and range rule: from the input tensors it returns the shape and the interval
[lo, hi] that every output value is proved to lie in. The executable meaning of each operation is
`sim/reference.py`, written from the docstrings here with the functions of `fixed.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.errors import ProgramError
from intaglio.fixed import (
    EXACT_LIMIT,
    ROUNDINGS,
    Arithmetic,
    IntType,
    Rounding,
    code_bits,
    requantise,
    scaled_single,
    single,
    summed_single,
)

Shape = tuple[int, int, int]
Ints = NDArray[np.int64]
Pair = tuple[int, int]
SIDE = 1 << 20  # channels, rows, columns of an image, and of how a window slides: more is damage
Padding = tuple[int, int, int, int]  # top, bottom, left, right


@dataclass(frozen=True)
class Tensor:
    """A named edge of the graph: (C, H, W) integers of `type`, all within [lo, hi].

    `scale` and `zero_point` say what the integers stand for, scale * (q - zero_point); no
    operation reads them. `zero_point` is one value, or one per channel.
    """

    name: str
    shape: Shape
    type: IntType
    lo: int
    hi: int
    scale: float = 1.0
    zero_point: tuple[int, ...] = (0,)


def dequantise(tensor: Tensor, codes: NDArray[Any]) -> NDArray[np.float32]:
    """scale * (q - zero_point) of codes (N, C, H, W), computed in float64."""
    zero = np.array(tensor.zero_point, dtype=np.float64)[:, None, None]
    return (tensor.scale * (codes - zero)).astype(np.float32)


@dataclass(frozen=True)
class Constant:
    """A named integer array, shared by every operation that refers to its name.

    `odd`, for weights: all values are odd, and a ROM holds them as codes (`fixed.odd_code`), one
    bit narrower than the signed `type`. Operations read the values and never see the codes.
    """

    name: str
    array: Ints
    type: IntType
    odd: bool = False

    @property
    def code_bits(self) -> int:
        """Bits that one weight takes in a ROM."""
        return code_bits(self.type, self.odd)


@dataclass(frozen=True)
class Context:
    """What an operation may look at besides its inputs."""

    constants: Mapping[str, Constant]
    arithmetic: Arithmetic


Inferred = tuple[Shape, int, int]


@dataclass(frozen=True, kw_only=True)
class Op:
    """`output` names the tensor produced; `origin` is the torch module path it came from."""

    output: str
    origin: str = ""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tensors read, in order."""
        raise TypeError(f"{type(self).__name__} must define its inputs.")

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of the constants read."""
        return ()

    def infer(self, inputs: Sequence[Tensor], context: Context) -> Inferred:
        """Output shape and proved value range. Raises ProgramError when the inputs do not fit."""
        raise TypeError(f"{type(self).__name__} must define its shape and range rule.")

    def refuse(self, sentence: str) -> ProgramError:
        """An error that names this operation in the user's words."""
        where = f" (from {self.origin})" if self.origin else ""
        return ProgramError(f"{type(self).__name__} {self.output!r}{where}: {sentence}")


@dataclass(frozen=True, kw_only=True)
class Unary(Op):
    """An operation that reads one tensor."""

    input: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True, kw_only=True)
class Input(Op):
    """The image: integers as they come, usually u8 pixels (C, H, W)."""

    shape: Shape
    type: IntType

    @property
    def inputs(self) -> tuple[str, ...]:
        return ()

    def infer(self, inputs: Sequence[Tensor], context: Context) -> Inferred:
        return self.shape, self.type.lo, self.type.hi


@dataclass(frozen=True, kw_only=True)
class Output(Unary):
    """A result of the Program; `output` is the name users see. Values pass unchanged."""

    def infer(self, inputs: Sequence[Tensor], context: Context) -> Inferred:
        (x,) = inputs
        return x.shape, x.lo, x.hi


def window_shape(x: Shape, kernel: Pair, stride: Pair, dilation: Pair, pad: Padding) -> Pair:
    """Output (H, W) of a sliding window: floor((in + pads - dilation*(k-1) - 1) / stride) + 1."""
    _, h, w = x
    top, bottom, left, right = pad
    oh = (h + top + bottom - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
    ow = (w + left + right - dilation[1] * (kernel[1] - 1) - 1) // stride[1] + 1
    return oh, ow


@dataclass(frozen=True, kw_only=True)
class Windowed(Unary):
    """Fields shared by operations that slide a window over the image."""

    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)

    @property
    def sliding(self) -> dict[str, Any]:
        """How the window slides, as keywords."""
        return {"stride": self.stride, "dilation": self.dilation, "padding": self.padding}

    def outside(self, x: Tensor) -> tuple[int, ...]:
        """The codes read outside the image `x`: one, or one for each channel."""
        raise NotImplementedError

    def window(self, x: Tensor, kernel: Pair) -> Pair:
        """Checked output (H, W) of a kernel (Kh, Kw)."""
        if min(*kernel, *self.stride, *self.dilation) < 1 or min(self.padding) < 0:
            raise self.refuse("kernel, stride and dilation must be at least 1 and padding 0.")
        if max(*self.stride, *self.dilation, *self.padding) > SIDE:
            raise self.refuse(f"stride, dilation and padding must be at most {SIDE}.")
        size = window_shape(x.shape, kernel, self.stride, self.dilation, self.padding)
        if min(size) < 1:
            raise self.refuse(f"the window {kernel} must fit into the input {x.shape}.")
        return size


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
        low, high = min(x.lo, *self.pad_value), max(x.hi, *self.pad_value)
        a, b = weight * low, weight * high
        lo = np.minimum(np.minimum(a, b), 0).sum(axis=(1, 2, 3))
        hi = np.maximum(np.maximum(a, b), 0).sum(axis=(1, 2, 3))
        return lo, hi


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
class Upsample(Unary):
    """Nearest neighbour to `size` (H, W): source index floor(i * in / out). Enlarges only."""

    size: Pair

    def infer(self, inputs: Sequence[Tensor], context: Context) -> Inferred:
        (x,) = inputs
        if self.size[0] < x.shape[1] or self.size[1] < x.shape[2]:
            raise self.refuse(f"size {self.size} must not be smaller than {x.shape[1:]}.")
        return (x.shape[0], *self.size), x.lo, x.hi


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
class Lookup(Unary):
    """y = table[x - type.lo], a table over every code of the input type (at most 16 bits)."""

    table: str

    @property
    def constants(self) -> tuple[str, ...]:
        return (self.table,)

    def infer(self, inputs: Sequence[Tensor], context: Context) -> Inferred:
        (x,) = inputs
        table = context.constants[self.table].array
        if x.type.bits > 16 or table.shape != (1 << x.type.bits,):
            raise self.refuse(
                f"the table must have the shape (2^{x.type.bits},), not {table.shape}."
            )
        used = table[x.lo - x.type.lo : x.hi - x.type.lo + 1]
        return x.shape, int(used.min()), int(used.max())


def rounding_of(op: Requant | Add, arithmetic: Arithmetic) -> Rounding:
    """How an operation rounds in a Program of that arithmetic."""
    own = op.rounding if isinstance(op, Requant) else None
    return own or arithmetic.rounding


OPS: tuple[type[Op], ...] = (
    Input,
    Output,
    Conv2d,
    Requant,
    Add,
    MaxPool2d,
    SumPool2d,
    Upsample,
    Concat,
    Pad,
    Lookup,
)
