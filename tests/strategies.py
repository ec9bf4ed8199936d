"""Hypothesis strategies: integer types, arithmetic profiles, images, and whole random Programs.

Structure is drawn (and shrinks); the numbers inside constants come from one drawn seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from intaglio.fixed import (
    PRESETS,
    ROUNDINGS,
    Arithmetic,
    IntType,
    Overflow,
    Rounding,
    SaturateAt,
    odd_value,
    single,
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
    Tap,
    Tensor,
    Upsample,
)
from intaglio.program import Builder, Program

BLOCKS = (
    "conv",  # dense Conv2d + Requant
    "depthwise",  # one input channel a group, one or two output channels
    "grouped",
    "shared",  # pyramid levels through one weight constant, a Requant for each level
    "add",  # skip connection around a convolution
    "fpn",  # a coarser map, upsampled and added
    "concat",
    "maxpool",
    "sumpool",  # SumPool2d + Requant
    "upsample",
    "pad",
    "lookup",
    "select",  # channels in another order, dropped, repeated, or of a value
    "crop",  # rows and columns, every one or every second or third
    "space_to_depth",
    "depth_to_space",
    "gate",  # times another tensor, or a value for each channel, each pixel or all
    "interpolate",  # two rows and two columns, a Requant where they are summed
    "scale",  # Requant of a narrow tensor
)
U8 = IntType(8, False)


def int_types(max_bits: int = 8, min_bits: int = 1) -> st.SearchStrategy[IntType]:
    """Signed and unsigned types of min_bits to max_bits."""
    return st.builds(IntType, st.integers(min_bits, max_bits), st.booleans())


def exact_arithmetics() -> st.SearchStrategy[Arithmetic]:
    """Presets that multiply integers, and profiles of every rounding; accumulators as proved."""
    drawn = st.builds(
        Arithmetic,
        name=st.just("drawn"),
        rounding=st.sampled_from(sorted(ROUNDINGS)),
        multiplier_bits=st.sampled_from((2, 8, 18, 32, 33)),
        power_of_two=st.booleans(),
        per_channel_shift=st.booleans(),
        shift_range=st.sampled_from(((0, 40), (0, 62), (2, 62), (0, 5))),
        bias_bits=st.just(63),
    )
    presets = sorted((a for a in PRESETS.values() if a.product == "exact"), key=lambda a: a.name)
    return st.one_of(st.sampled_from(presets), drawn)


def single_arithmetics() -> st.SearchStrategy[Arithmetic]:
    """Presets whose products are in float32: no hardware has them."""
    return st.sampled_from([a for a in PRESETS.values() if a.product == "single"])


OVERFLOWS: tuple[tuple[Overflow, SaturateAt], ...] = (
    ("wrap", "end"),
    ("saturate", "end"),
    ("saturate", "mac"),
)


def narrow_arithmetics(
    bits: tuple[int, int] = (4, 16),
    overflows: Sequence[tuple[Overflow, SaturateAt]] = (*OVERFLOWS, ("wrap", "mac")),
) -> st.SearchStrategy[Arithmetic]:
    """Profiles whose accumulators overflow: wrap, or saturate at the end or every product."""
    return st.builds(
        lambda rounding, width, how: Arithmetic(
            name="narrow", rounding=rounding, acc_bits=width, overflow=how[0], saturate_at=how[1]
        ),
        st.sampled_from(sorted(ROUNDINGS)),
        st.integers(*bits),
        st.sampled_from(tuple(overflows)),
    )


@dataclass(frozen=True)
class Options:
    """Bounds of a random Program; see `programs`."""

    blocks: tuple[str, ...]
    max_blocks: int
    max_channels: int
    max_size: int
    max_bits: int
    weight_bits: int
    raw_accumulators: bool


class Grower:
    """Grows one Program block by block; `narrow` holds the tensors further blocks may read."""

    def __init__(
        self, draw: st.DrawFn, options: Options, arithmetic: Arithmetic, input_type: IntType
    ) -> None:
        self.draw = draw
        self.options = options
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.extreme = draw(st.booleans())
        self.builder = Builder(arithmetic)
        self.read: set[str] = set()
        self.narrow: list[str] = []
        self.count = 0
        shape = (self.pick(1, 4), self.pick(1, options.max_size), self.pick(1, options.max_size))
        self.keep(self.builder.add(Input(output="image", shape=shape, type=input_type)))

    # --- small helpers ---

    def pick(self, lo: int, hi: int) -> int:
        """An integer of [lo, hi]; shrinks to lo."""
        return self.draw(st.integers(lo, max(lo, hi)))

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def tensor(self, name: str) -> Tensor:
        return self.builder.tensors[name]

    def keep(self, name: str) -> str:
        self.narrow.append(name)
        return name

    def source(self, accept: Callable[[Tensor], bool] = lambda t: True) -> str | None:
        """A tensor to read, most recent first."""
        found = [n for n in reversed(self.narrow) if accept(self.tensor(n))]
        return self.draw(st.sampled_from(found)) if found else None

    def type(self) -> IntType:
        return self.draw(int_types(self.options.max_bits))

    def values(self, shape: Sequence[int], type: IntType) -> Ints:
        """Constants of a type: uniform, or only its two extremes."""
        if self.extreme:
            return self.rng.choice(np.array([type.lo, type.hi]), size=tuple(shape))
        return self.rng.integers(type.lo, type.hi, size=tuple(shape), endpoint=True)

    def weights(self, shape: Sequence[int]) -> str:
        """A constant of signed weights, or of odd ones, whose values are one bit wider."""
        bits = self.pick(2, self.options.weight_bits)
        if not self.draw(st.booleans()):
            type = IntType(bits, True)
            return self.builder.constant(self.name("w"), self.values(shape, type), type)
        values = odd_value(self.values(shape, IntType(bits, False)), bits)
        return self.builder.constant(self.name("w"), values, IntType(bits + 1, True), odd=True)

    def code(self, type: IntType) -> int:
        return int(self.values((1,), type)[0])

    # --- requantisation ---

    def scaling(self, x: Tensor, type: IntType) -> tuple[int, int]:
        """(S, largest |M|) that spread the range of x over `type`, within the profile."""
        a = self.builder.arithmetic
        largest = max(abs(x.lo), abs(x.hi), 1)
        limit = min(a.multiplier_max, (1 << 59) // largest)
        low, high = a.shift_range
        if self.draw(st.booleans()):  # small shifts: many ties
            return min(low + self.pick(0, 3), high), min(limit, 3)
        gain = (1 << type.bits) << self.pick(0, 3)
        s = low
        while s < high and ((gain << (s + 1)) // largest) <= limit:
            s += 1
        return s, max(1, min(limit, (gain << s) // largest))

    def multipliers(self, count: int, m_max: int) -> Ints:
        """Mostly large positive; some negative, some 0."""
        m = self.rng.integers((m_max + 1) // 2, m_max, size=count, endpoint=True)
        if self.builder.arithmetic.power_of_two:
            m = np.array([1 << (int(v).bit_length() - 1) for v in m])
        alike = self.builder.arithmetic.per_layer
        if alike:
            m[:] = m[0]
        return m * self.rng.choice([1, 1, 1, 1, -1, 0], size=1 if alike else count)

    def addends(self, x: Tensor, m: Ints, s: Ints, type: IntType) -> Ints:
        """B that brings the middle of x near a random code of `type`."""
        middle, bound = (x.lo + x.hi) // 2, min(1 << 60, IntType(self.bias_bits, True).hi)
        found = []
        for mc, sc in zip(m, s, strict=True):
            target = int(self.rng.integers(type.lo, type.hi, endpoint=True)) << int(sc)
            if self.builder.arithmetic.product == "single":  # B at the scale of x, x + B in 32 bits
                near = target // int(mc or 1) - middle
                found.append(max(-(1 << 31) - x.lo, min((1 << 31) - 1 - x.hi, near)))
                continue
            noise = int(self.rng.integers(0, 1 << min(int(sc), 40), endpoint=True))
            found.append(max(-bound, min(bound, target + noise - middle * int(mc))))
        return np.array(found, dtype=np.int64)

    @property
    def bias_bits(self) -> int:
        return self.builder.arithmetic.bias_bits

    def requant(self, input: str, type: IntType, origin: str = "") -> str:
        """Requant of any tensor to `type`."""
        x, b = self.tensor(input), self.builder
        channels = x.shape[0]
        shift, m_max = self.scaling(x, type)
        shifts: tuple[int, ...] = (shift,)
        if b.arithmetic.per_channel_shift and self.draw(st.booleans()):
            low = max(b.arithmetic.shift_range[0], shift - 2)
            shifts = tuple(int(v) for v in self.rng.integers(low, shift, channels, endpoint=True))
        count = channels if len(shifts) > 1 or self.draw(st.booleans()) else 1
        m = self.multipliers(count, m_max)
        addends = self.addends(x, m, np.resize(np.array(shifts), count), type)
        out = self.name("q")
        lo = max(type.lo, 0) if self.draw(st.booleans()) else type.lo
        self.read.add(input)
        op = Requant(
            output=out,
            input=input,
            origin=origin,
            multiplier=b.constant(f"{out}.m", m),
            bias=b.constant(f"{out}.b", addends),
            shift=shifts,
            lo=lo,
            hi=type.hi,
            offset=self.code(type) if self.draw(st.booleans()) else 0,
            rounding=self.own_rounding(),
        )
        return self.keep(b.add(op, type, scale=2.0**-shift, zero_point=(self.code(type),)))

    def own_rounding(self) -> Rounding | None:
        """Seldom another rounding than the Program's."""
        if self.builder.arithmetic.product == "single" or self.pick(0, 4):
            return None
        return self.draw(st.sampled_from(tuple(ROUNDINGS)))

    # --- windows ---

    def window(
        self, shapes: Sequence[Tensor], max_pad: int = 2
    ) -> tuple[Pair, Pair, Pair, Padding]:
        """(kernel, stride, dilation, padding) that fits every given tensor."""
        h = min(t.shape[1] for t in shapes)
        w = min(t.shape[2] for t in shapes)
        top, bottom, left, right = (self.pick(0, max_pad) for _ in range(4))
        dy, dx = self.pick(1, 2), self.pick(1, 2)
        kh = self.pick(1, min(4, (h + top + bottom - 1) // dy + 1))
        kw = self.pick(1, min(4, (w + left + right - 1) // dx + 1))
        stride = (self.pick(1, 3), self.pick(1, 3))
        return (kh, kw), stride, (dy, dx), (top, bottom, left, right)

    def convolve(
        self, inputs: Sequence[str], cout: int, groups: int = 1, same: bool = False
    ) -> list[str]:
        """Conv2d of each input by one weight constant, each with its own Requant to one type."""
        xs = [self.tensor(n) for n in inputs]
        kernel, stride, dilation, padding = self.window(xs)
        if same:
            kernel, stride, dilation, padding = (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)
        weight = self.weights((cout, xs[0].shape[0] // groups, *kernel))
        type, outputs = self.type(), []
        for level, x in enumerate(xs):
            pads = self.values((x.shape[0] if self.draw(st.booleans()) else 1,), x.type)
            self.read.add(x.name)
            acc = self.builder.add(
                Conv2d(
                    output=self.name("acc"),
                    input=x.name,
                    origin=f"{weight}.{level}",
                    weight=weight,
                    stride=stride,
                    dilation=dilation,
                    padding=padding,
                    groups=groups,
                    pad_value=tuple(int(v) for v in pads),
                )
            )
            outputs.append(self.requant(acc, type, f"{weight}.{level}"))
            if self.options.raw_accumulators and self.draw(st.booleans()):
                self.output(acc) if self.draw(st.booleans()) else self.requant(acc, self.type())
        return outputs

    # --- blocks: each reads tensors of `narrow` and appends to it ---

    def conv(self) -> None:
        self.convolve([self.source() or ""], self.pick(1, self.options.max_channels))

    def depthwise(self) -> None:
        x = self.source() or ""
        channels = self.tensor(x).shape[0]
        self.convolve([x], channels * self.pick(1, 2), groups=channels)

    def grouped(self) -> None:
        x = self.source(lambda t: t.shape[0] % 2 == 0)
        if x is not None:
            self.convolve([x], 2 * self.pick(1, self.options.max_channels // 2), groups=2)

    def pyramid(self, x: str, levels: int) -> list[str]:
        """x and coarser maps of its channels and type."""
        found = [x]
        for _ in range(levels - 1):
            self.read.add(found[-1])
            pool = MaxPool2d(
                output=self.name("level"),
                input=found[-1],
                kernel=(3, 3),
                stride=(2, 2),
                padding=(1, 1, 1, 1),
            )
            found.append(self.keep(self.builder.add(pool)))
        return found

    def shared(self) -> None:
        levels = self.pyramid(self.source() or "", self.pick(2, 3))
        for _ in range(self.pick(1, 2)):
            levels = self.convolve(levels, self.pick(1, self.options.max_channels))

    def sum_of(self, a: str, b: str) -> None:
        """Add of two tensors of one shape to a drawn type."""
        type, x, y = self.type(), self.tensor(a), self.tensor(b)
        wider = x if max(abs(x.lo), x.hi) >= max(abs(y.lo), y.hi) else y
        shift, m_max = self.scaling(wider, type)
        ma, mb = (int(v) for v in self.multipliers(2, max(1, m_max // 2)))
        (bias,) = self.addends(x, np.array([ma]), np.array([shift]), type)
        if self.builder.arithmetic.product == "single":
            bias = single(int(bias) * ma)
        self.read |= {a, b}
        op = Add(
            output=self.name("sum"),
            a=a,
            b=b,
            origin="skip",
            multiplier_a=ma,
            multiplier_b=mb,
            bias=int(bias),
            shift=shift,
            lo=type.lo,
            hi=type.hi,
            offset=self.code(type) if self.draw(st.booleans()) else 0,
        )
        self.keep(self.builder.add(op, type, scale=2.0**-shift))

    def add(self) -> None:
        x = self.source() or ""
        (y,) = self.convolve([x], self.tensor(x).shape[0], same=True)
        self.sum_of(x, y)

    def fpn(self) -> None:
        x = self.source() or ""
        _, coarse = self.pyramid(x, 2)
        (y,) = self.convolve([coarse], self.tensor(x).shape[0], same=True)
        self.sum_of(x, self.enlarge(y, self.tensor(x).shape[1:]))

    def concat(self) -> None:
        x = self.source() or ""
        t = self.tensor(x)
        others = [n for n in self.narrow if self.tensor(n).shape[1:] == t.shape[1:]]
        parts = [x, *self.draw(st.lists(st.sampled_from(others), min_size=1, max_size=2))]
        same = [p if self.tensor(p).type == t.type else self.requant(p, t.type) for p in parts]
        self.read |= set(same)
        self.keep(self.builder.add(Concat(output=self.name("cat"), parts=tuple(same))))

    def maxpool(self) -> None:
        x = self.source() or ""
        kernel, stride, dilation, padding = self.window([self.tensor(x)], max_pad=1)
        if min(kernel) < 2 or max(dilation) > 1:  # else a window could miss the image
            padding, dilation = (0, 0, 0, 0), (1, 1)
            kernel = (
                min(kernel[0], self.tensor(x).shape[1]),
                min(kernel[1], self.tensor(x).shape[2]),
            )
        self.read.add(x)
        op = MaxPool2d(
            output=self.name("max"),
            input=x,
            kernel=kernel,
            stride=stride,
            dilation=dilation,
            padding=padding,
        )
        self.keep(self.builder.add(op))

    def sumpool(self) -> None:
        x = self.source() or ""
        kernel, stride, dilation, padding = self.window([self.tensor(x)], max_pad=1)
        self.read.add(x)
        op = SumPool2d(
            output=self.name("sum"),
            input=x,
            kernel=kernel,
            stride=stride,
            dilation=dilation,
            padding=padding,
            pad_value=self.code(self.tensor(x).type),
        )
        self.requant(self.builder.add(op), self.type())

    def enlarge(self, x: str, size: Pair) -> str:
        self.read.add(x)
        return self.keep(self.builder.add(Upsample(output=self.name("up"), input=x, size=size)))

    def small(self) -> str | None:
        """A source that may still grow."""
        return self.source(lambda t: max(t.shape[1:]) <= self.options.max_size)

    def upsample(self) -> None:
        x = self.small()
        if x is not None:
            _, h, w = self.tensor(x).shape
            self.enlarge(x, (h + self.pick(0, h), w + self.pick(0, w)))

    def pad(self) -> None:
        x = self.small()
        if x is not None:
            border = tuple(self.pick(0, 2) for _ in range(4))
            self.read.add(x)
            value = self.code(self.tensor(x).type)
            op = Pad(output=self.name("pad"), input=x, padding=border, value=value)
            self.keep(self.builder.add(op))

    def lookup(self) -> None:
        x = self.source(lambda t: t.type.bits <= 10)
        if x is not None:
            type = self.type()
            out = self.name("lut")
            self.read.add(x)
            t = self.tensor(x)
            each = (t.shape[0],) if self.draw(st.booleans()) else ()
            table = self.values((*each, 1 << t.type.bits), type)
            op = Lookup(output=out, input=x, table=self.builder.constant(f"{out}.t", table, type))
            self.keep(self.builder.add(op, type))

    def chosen(self, kind: str, op: Op) -> None:
        self.read |= set(op.inputs)
        self.keep(self.builder.add(replace(op, output=self.name(kind))))

    def select(self) -> None:
        x = self.source() or ""
        given, channels = self.tensor(x).shape[0], list(range(self.tensor(x).shape[0]))
        how, value = self.draw(st.sampled_from(("order", "part", "any"))), 0
        if how == "order":
            channels = self.draw(st.permutations(channels))
        elif how == "part":
            first = self.pick(0, given - 1)
            channels = channels[first : self.pick(first + 1, given)]
        else:
            some = st.lists(st.integers(-1, given - 1), max_size=self.options.max_channels)
            channels = [self.pick(0, given - 1), *self.draw(some)]
            value = self.code(self.tensor(x).type)
        self.chosen("sel", Select(output="", input=x, channels=tuple(channels), value=value))

    def crop(self) -> None:
        x = self.source() or ""
        spans = []
        for side in self.tensor(x).shape[1:]:
            first = self.pick(0, side - 1)
            spans.append((first, self.pick(first + 1, side), self.pick(1, 3)))
        self.chosen("crop", Crop(output="", input=x, rows=spans[0], columns=spans[1]))

    def space_to_depth(self) -> None:
        x = self.source(lambda t: t.shape[0] <= self.options.max_channels)
        if x is not None:
            bh, bw = (
                self.draw(st.sampled_from([n for n in (1, 2, 3) if side % n == 0]))
                for side in self.tensor(x).shape[1:]
            )
            self.chosen("s2d", SpaceToDepth(output="", input=x, block=(bh, bw)))

    def depth_to_space(self) -> None:
        x = self.small()
        if x is not None:
            count = self.tensor(x).shape[0]
            sizes = [(a, b) for a in (1, 2, 3) for b in (1, 2, 3) if count % (a * b) == 0]
            block = self.draw(st.sampled_from(sizes))
            self.chosen("d2s", DepthToSpace(output="", input=x, block=block))

    def gate(self) -> None:
        x = self.source(lambda t: t.type.bits <= 14) or ""
        if not x:
            return
        channels, *size = self.tensor(x).shape
        how = self.draw(st.sampled_from(("channels", "each", "pixels", "all")))
        if how in ("each", "pixels"):
            (y,) = self.convolve([x], channels if how == "each" else 1, same=True)
        else:
            pool = SumPool2d(output=self.name("sum"), input=x, kernel=(size[0], size[1]))
            y = self.requant(self.builder.add(pool), self.type())
            if how == "all":
                (y,) = self.convolve([y], 1, same=True)
        self.multiplied(x, y)

    def multiplied(self, a: str, b: str) -> None:
        """A product and its Requant."""
        self.read |= {a, b}
        zeros = [self.code(self.tensor(name).type) for name in (a, b)]
        op = Multiply(
            output=self.name("mul"), a=a, b=b, origin="gate", zero_a=zeros[0], zero_b=zeros[1]
        )
        made = self.builder.add(op)
        self.requant(made, self.type(), "gate")
        if self.options.raw_accumulators and self.draw(st.booleans()):
            self.output(made) if self.draw(st.booleans()) else self.requant(made, self.type())

    def taps(self, side: int) -> tuple[Tap, ...]:
        """Rows or columns of a result, weights of one sum."""
        unit = self.draw(st.sampled_from((1, 2, 3, 16, 1024)))
        count = self.pick(1, self.options.max_size)
        places = sorted(self.rng.integers(0, side, count).tolist())
        ahead = self.rng.integers(0, unit, count).tolist()
        return tuple((place, unit - v, v) for place, v in zip(places, ahead, strict=True))

    def interpolate(self) -> None:
        x = self.source() or ""
        rows, columns = (self.taps(side) for side in self.tensor(x).shape[1:])
        op = Interpolate(output=self.name("mid"), input=x, rows=rows, columns=columns)
        self.read.add(x)
        made = self.builder.add(op)
        if op.unit == 1:
            self.keep(made)
        else:
            self.requant(made, self.type())

    def scale(self) -> None:
        self.requant(self.source() or "", self.type())

    def output(self, name: str) -> None:
        self.read.add(name)
        self.builder.add(Output(output=self.name("out"), input=name))

    def finish(self) -> Program:
        """Every tensor that nothing reads becomes an Output."""
        for name in [n for n in self.narrow if n not in self.read]:
            self.output(name)
        return self.builder.build()


@st.composite
def programs(
    draw: st.DrawFn,
    *,
    arithmetic: st.SearchStrategy[Arithmetic] | Arithmetic | None = None,
    input_types: st.SearchStrategy[IntType] | None = None,
    blocks: Sequence[str] = BLOCKS,
    max_blocks: int = 5,
    max_channels: int = 8,
    max_size: int = 12,
    max_bits: int = 8,
    weight_bits: int = 8,
    require_shared_head: bool = False,
    raw_accumulators: bool = False,
) -> Program:
    """Whole Programs that pass `verify`: 1 to max_blocks blocks, all leaves are Outputs.

    arithmetic           default: every preset and rounding, accumulators as proved.
    input_types          default: u8.
    blocks               names from BLOCKS that may be drawn.
    max_channels, max_size  of convolutions, and of the input's sides (maps may grow to twice that).
    max_bits             widest tensor between layers; weights have 2 to weight_bits code bits.
    require_shared_head  the last block is a shared head over pyramid levels.
    raw_accumulators     an accumulator may be an Output or have two Requants; otherwise every
                         Conv2d, SumPool2d and Multiply is read by exactly one Requant.
    """
    if arithmetic is None:
        arithmetic = exact_arithmetics()
    profile = arithmetic if isinstance(arithmetic, Arithmetic) else draw(arithmetic)
    options = Options(
        tuple(blocks),
        max_blocks,
        max_channels,
        max_size,
        max_bits,
        weight_bits,
        raw_accumulators,
    )
    input_type = U8 if input_types is None else draw(input_types)
    grower = Grower(draw, options, profile, input_type)
    for _ in range(grower.pick(1, max_blocks)):
        getattr(grower, draw(st.sampled_from(options.blocks)))()
    if require_shared_head:
        grower.shared()
    return grower.finish()


@st.composite
def overflowing(
    draw: st.DrawFn, arithmetic: st.SearchStrategy[Arithmetic], max_size: int = 6
) -> tuple[Program, Ints]:
    """A Program and images whose first accumulator overflows for certain, at any width up to 20.

    A 3x3 convolution of uint8 pixels by weights of -128 and 127, a Requant, a depthwise or grouped
    one, a Requant, a skip. The last image is, under the first window, the largest pixel where the
    first channel's weight is positive and 0 elsewhere; the others are random.
    """
    a = draw(arithmetic)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    cin, cout, groups = draw(st.integers(6, 8)), 2 * draw(st.integers(1, 2)), draw(st.booleans())
    h, w = (draw(st.integers(3, max_size)) for _ in range(2))
    b = Builder(a)
    b.add(Input(output="image", shape=(cin, h, w), type=U8))
    first = rng.choice(np.array([-128, 127]), (cout, cin, 3, 3), p=(0.35, 0.65))
    first[0, :4] = 127  # 36 of 255 * 127 are more than 2^20
    pads, width = tuple(rng.integers(0, 256, cin).tolist()), a.acc_bits or 20
    padding = draw(st.sampled_from(((0, 0, 0, 0), (0, 1, 0, 1))))
    second = rng.choice(np.array([-128, 127]), (cout, 1 if groups else cout // 2, 1, 3))
    for n, (source, weight, more) in enumerate(
        (
            ("image", first, {"padding": padding, "pad_value": pads}),
            ("q0", second, {"padding": (0, 0, 1, 1), "groups": cout if groups else 2}),
        )
    ):
        conv = Conv2d(
            output=f"acc{n}", input=source, weight=b.constant(f"w{n}", weight), **more
        )  # fmt: skip
        b.add(conv)
        m = rng.integers(90, 250, cout)  # of half the accumulator's range to most of the codes
        op = Requant(
            output=f"q{n}", input=conv.output, multiplier=b.constant(f"m{n}", m),
            bias=b.constant(f"b{n}", m << (width - 1)), shift=(width,), lo=0, hi=255,
        )  # fmt: skip
        b.add(op, U8)
    skip = Add(
        output="sum", a="q0", b="q1", multiplier_a=3, multiplier_b=5, bias=0, shift=3, lo=0, hi=255
    )
    b.add(skip, U8)
    b.add(Output(output="out", input="sum"))
    images = rng.integers(0, 256, (2, cin, h, w))
    images[-1, :, :3, :3] = np.where(first[0] > 0, 255, 0)
    return b.build(), images


def random_images(program: Program, count: int, seed: int, style: str = "uniform") -> Ints:
    """Codes of the input's type (N, C, H, W): "uniform", "lo", "hi", or "extremes" mixed."""
    (x,) = program.inputs
    rng = np.random.default_rng(seed)
    shape = (count, *x.shape)
    if style == "uniform":
        return rng.integers(x.lo, x.hi, size=shape, endpoint=True)
    ends = {"lo": [x.lo], "hi": [x.hi], "extremes": [x.lo, x.hi]}[style]
    return rng.choice(np.array(ends, dtype=np.int64), size=shape)


def images_for(program: Program, max_count: int = 2) -> st.SearchStrategy[Ints]:
    """int64 images (N, C, H, W) for a Program, random or at the extremes of its input type."""
    return st.builds(
        random_images,
        st.just(program),
        st.integers(1, max_count),
        st.integers(0, 2**32 - 1),
        st.sampled_from(("uniform", "lo", "hi", "extremes")),
    )
