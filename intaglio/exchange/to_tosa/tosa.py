"""A Program as a TOSA graph: the same integers in the reference model, or no file.

Tensors are (1, H, W, C). Codes rest as int8 or int16; unsigned ones of 8 or 16 bits are held less
128 or 32,768, and are unsigned only where they enter and leave. A convolution and the Requant that
alone reads it are CONV2D and RESCALE, with B / M in the convolution's bias (see `tosa_scale`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import gcd

import numpy as np

from intaglio.exchange.to_tosa.file import INT32, NEAREST, Graph
from intaglio.exchange.to_tosa.pieces import I8, PROPAGATE, one
from intaglio.exchange.to_tosa.resizing import Resizing
from intaglio.exchange.to_tosa.scale import (
    I32,
    REMEDY,
    Scale,
    fits,
    lifted,
    refuse_rounding,
    settle,
    spread,
)
from intaglio.forms import tosa_reciprocal
from intaglio.ops import (
    Add,
    Concat,
    Conv2d,
    Crop,
    DepthToSpace,
    Input,
    Interpolate,
    Lookup,
    MaxPool2d,
    Multiply,
    Op,
    Output,
    Pad,
    Requant,
    Select,
    SpaceToDepth,
    SumPool2d,
    Upsample,
    rounding_of,
)
from intaglio.program import Program


def to_tosa(program: Program) -> Graph:
    """The graph, whose inputs and outputs have the Program's names.

    Raises ProgramError, naming the operation and a remedy, for what TOSA cannot say exactly.
    """
    refuse_rounding(program)
    writer = Writer(program)
    for op in program.ops:
        writer.add(op)
    return writer.graph


class Writer(Resizing):
    """One method for each operation; `graph` holds what was written."""

    def add(self, op: Op) -> None:
        """Append one operation. A sum that a single Requant reads is written with that."""
        match op:
            case Input():
                self.input(op)
            case Output():
                self.output(op)
            case Conv2d() | SumPool2d():
                if self.settled_by(op) is None:
                    self.sum(op, [0] * self.shape(op.output)[3], op.output)
            case Requant():
                self.requant(op)
            case Add():
                self.addition(op)
            case Multiply():
                self.multiply(op)
            case MaxPool2d():
                self.max_pool(op)
            case Upsample():
                self.upsample(op)
            case Concat():
                parts = [self.codes(op, name) for name in op.parts]
                self.node(op, "CONCAT", parts, axis=3)
            case Pad():
                source = self.codes(op, op.input)
                value = op.value - self.held(op).less
                self.pad(source, op.padding, [value], op.output)
            case Lookup():
                self.lookup(op)
            case Select():
                self.select(op)
            case Crop():
                self.crop(op)
            case Interpolate():
                self.interpolate(op)
            case SpaceToDepth() | DepthToSpace():
                self.rearrange(op)
            case _:
                raise TypeError(f"{type(op).__name__} must be written here.")

    # --- scaling ---

    def requant(self, op: Requant) -> None:
        constants, out = self.program.constants, op.output
        channels = self.shape(out)[3]
        tables = (constants[op.multiplier].array, constants[op.bias].array, op.shift)
        scaled = list(zip(*(spread(t, channels) for t in tables), strict=True))
        scale = self.settle(op, scaled, *self.reach(op.input))
        source = self.program.producer[op.input]
        if isinstance(source, (Conv2d, SumPool2d)):
            if self.settled_by(source) is None:
                self.finish(op, source.output, scale)
            elif isinstance(source, SumPool2d) and self.average(op, source, scale):
                pass
            elif scale.plain:
                total = self.sum(source, scale.bias, f"{out}:sum")
                self.finish(op, total, replace(scale, bias=(0,) * channels))
            else:
                self.finish(op, self.sum(source, [0] * channels, f"{out}:sum"), scale)
            return
        x, codes = self.codes(op, op.input), self.held(op, op.input)
        zero = codes.zero(-scale.bias[0])
        if scale.plain and len(set(scale.bias)) == 1 and zero is not None:
            self.finish(op, x, replace(scale, bias=(0,) * channels), zero)
            return
        x = self.cast(x, np.int32, f"{x}:wide")
        moved = [b + s * codes.less for b, s in zip(scale.bias, scale.sign, strict=True)]
        self.finish(op, x, replace(scale, bias=tuple(moved)))

    def reach(self, name: str) -> tuple[int, int]:
        """The proved range of a tensor."""
        t = self.program.tensors[name]
        return t.lo, t.hi

    def settle(
        self, op: Requant | Add, scaled: Sequence[tuple[int, int, int]], lo: int, hi: int
    ) -> Scale:
        """RESCALE's operands for this operation's result."""
        t, rests = self.program.tensors[op.output], self.held(op)
        likely = [t.zero_point[0], op.offset, 0]
        rest = range(rests.type.lo + rests.less, rests.type.hi + rests.less + 1)
        zeros = [*likely, *(rest if rests.type == I8 else ())]
        rounding = rounding_of(op, self.program.arithmetic)
        return settle(op, scaled, rounding, op.offset, zeros, (lo, hi))

    def finish(self, op: Requant | Add, x: str, scale: Scale, zero: int = 0) -> None:
        """The codes of `op` from an operand and its Scale."""
        out, rests = op.output, self.held(op)
        if not scale.plain:
            x = self.wide("MUL", x, scale.sign, f"{out}:signed")
        if any(scale.bias):
            x = self.wide("ADD", x, scale.bias, f"{out}:biased")
        factors = (scale.multiplier, scale.shift)
        lo, hi = op.lo - rests.less, op.hi - rests.less
        after, double = rests.zero(scale.zero), self.double(op)
        if after is not None and rests.type != I32:
            self.rescale(
                x, self.before_clamp(op), rests.dtype, factors, (zero, after), double=double
            )
            self.clamp(op)
            return
        x = self.rescale(x, f"{out}:scaled", np.int32, factors, (zero, 0), double=double)
        if scale.zero != rests.less:
            x = self.wide("ADD", x, [scale.zero - rests.less], f"{out}:moved")
        x = self.wide("MAXIMUM", x, [lo], f"{out}:least", nan_mode=PROPAGATE)
        last = f"{out}:most" if rests.type != I32 else out
        x = self.wide("MINIMUM", x, [hi], last, nan_mode=PROPAGATE)
        self.cast(x, rests.dtype, out)

    def double(self, op: Requant | Add) -> bool:
        """Whether it rounds twice."""
        return rounding_of(op, self.program.arithmetic) == "DOUBLE"

    def before_clamp(self, op: Requant | Add) -> str:
        """The name of codes that RESCALE saturated to a whole type, before `op`'s own clamp."""
        rests = self.held(op)
        whole = (op.lo, op.hi) == (rests.type.lo + rests.less, rests.type.hi + rests.less)
        return op.output if whole else f"{op.output}:whole"

    def clamp(self, op: Requant | Add) -> None:
        """The codes of `op`, where its clamp is not that of the type they rest in."""
        rests, made = self.held(op), self.before_clamp(op)
        if made == op.output:
            return
        ends = {
            name: np.array(v - rests.less).astype(rests.dtype.newbyteorder("<")).tobytes()
            for name, v in (("min_val", op.lo), ("max_val", op.hi))
        }
        self.node(op, "CLAMP", [made], nan_mode=PROPAGATE, **ends)

    def average(self, op: Requant, pool: SumPool2d, scale: Scale) -> bool:
        """AVG_POOL2D, where the Requant is by TOSA's reciprocal; False where it is not."""
        n = pool.kernel[0] * pool.kernel[1]
        m, shift = tosa_reciprocal(n)
        codes, rests = self.held(op, pool.input), self.held(op)
        before, rest = divmod(-scale.bias[0], n)
        zeros = codes.zero(before), rests.zero(scale.zero)
        same = all(
            mc << shift == m << sc for mc, sc in zip(scale.multiplier, scale.shift, strict=True)
        )
        single = not self.double(op) and pool.dilation == (1, 1)
        uniform = len(set(scale.bias)) == 1 and not rest and not any(pool.padding)
        alike = codes.type == rests.type != I32 and None not in zeros
        if not (same and single and uniform and alike and scale.plain):
            return False
        source = self.codes(op, pool.input, 16)
        source, padding = self.trimmed(pool, source, pool.kernel, pool.padding, op.output)
        ends = [self.scalar(z or 0, codes.dtype) for z in zeros]
        self.graph.add(
            "AVG_POOL2D", [source, *ends], self.before_clamp(op), rests.dtype,
            self.shape(op.output),
            kernel=pool.kernel, stride=pool.stride, pad=padding, acc_type=INT32,
        )  # fmt: skip
        self.clamp(op)
        return True

    def addition(self, op: Add) -> None:
        """Equal factors: the sum of the codes, scaled once. Else each operand times its factor,
        exactly, and the sum scaled by a power of two."""
        ma, mb, out = op.multiplier_a, op.multiplier_b, op.output
        less = [self.held(op, name).less for name in op.inputs]
        if abs(ma) == abs(mb) and ma:
            factors, m = (1, 1 if ma == mb else -1), ma
        else:
            factors, m = (ma, mb), 1
        parts, lo, hi = [], 0, 0
        for side, name, factor, gone in zip("ab", op.inputs, factors, less, strict=True):
            parts.append(self.product(op, name, abs(factor), f"{out}:{side}"))
            ends = [factor * (end - gone) for end in self.reach(name)]
            lo, hi = lo + min(ends), hi + max(ends)
        fits(op, lo, hi)
        if min(factors) < 0 <= max(factors):
            first = 0 if factors[1] < 0 else 1
            total, kind = [parts[first], parts[1 - first]], "SUB"
        else:
            total, kind = parts, "ADD"
            if max(factors) < 0:
                m, lo, hi = -m, -hi, -lo
        x = self.graph.add(kind, total, f"{out}:sum", np.int32, self.shape(out))
        bias = op.bias + ma * less[0] + mb * less[1]
        self.finish(op, x, self.settle(op, [(m, bias, op.shift)], lo, hi))

    def product(self, op: Add, name: str, factor: int, output: str) -> str:
        """factor * code, as int32."""
        source = self.codes(op, name)
        if factor == 1:
            return self.cast(source, np.int32, f"{source}:wide")
        found = self.held(op, name)
        if found.type == I32:
            raise op.refuse(f"its factors must be equal for operands of 32 bits in TOSA; {REMEDY}.")
        top = max(abs(end - found.less) for end in self.reach(name)) + 1
        return self.rescale(source, output, np.int32, one(lifted(op, factor, 0, top, double=False)))

    def multiply(self, op: Multiply) -> None:
        """MUL of both operands less their zero points, as int32; it repeats sides of 1."""
        out, t, sides = op.output, self.program.tensors[op.output], []
        for side, name, zero in (("a", op.a, op.zero_a), ("b", op.b, op.zero_b)):
            source, less = self.codes(op, name), self.held(op, name).less
            x = self.cast(source, np.int32, f"{source}:wide")
            if zero != less:
                x = self.wide("ADD", x, [less - zero], f"{out}:{side}")
            sides.append(x)
        fits(op, t.lo, t.hi)
        inputs = [*sides, self.scalar(0, np.int8)]
        self.graph.add("MUL", inputs, out, np.int32, self.shape(out))

    # --- no arithmetic ---

    def max_pool(self, op: MaxPool2d) -> None:
        if op.dilation != (1, 1):
            raise op.refuse("its window must not be dilated in TOSA; use a dense max pool.")
        source = self.codes(op, op.input, 16)
        source, padding = self.trimmed(op, source, op.kernel, op.padding, op.output)
        self.node(
            op, "MAX_POOL2D", [source], kernel=op.kernel, stride=op.stride, pad=padding,
            nan_mode=PROPAGATE,
        )  # fmt: skip

    def upsample(self, op: Upsample) -> None:
        """RESIZE whose nearest pixel of (2p * i - q) / 2q is floor(i * p / q), p / q = in / out."""
        source = self.codes(op, op.input, 16)
        scale: list[int] = []
        offset, border = [], []
        for new, old in zip(op.size, self.program.tensors[op.input].shape[1:], strict=True):
            p, q = old // gcd(old, new), new // gcd(old, new)
            if q > 1024:
                raise op.refuse(f"its size must be at most 1024 steps in TOSA, not {q}.")
            scale += [2 * q, 2 * p]
            offset.append(-q)
            border.append(q - 2 * p)
        ends = [self.graph.shape(v) for v in (scale, offset, border)]
        self.node(op, "RESIZE", [source, *ends], mode=NEAREST)

    def lookup(self, op: Lookup) -> None:
        """TABLE between codes of 8 bits; else, and of a table for each channel, GATHER."""
        x, y = self.held(op, op.input), self.held(op)
        tables = np.atleast_2d(self.program.constants[op.table].array) - y.less
        rows, size = tables.shape
        source, lo = self.codes(op, op.input, 16), self.program.tensors[op.input].type.lo
        if x.type == I8 and y.type == I8 and rows == 1:
            code = np.arange(I8.lo, I8.hi + 1) + x.less - lo
            values = tables[0][np.clip(code, 0, size - 1)]
            entries = self.graph.constant(f"{op.output}:table", values, np.int8)
            self.node(op, "TABLE", [source, entries])
            return
        graph, out, shape = self.graph, op.output, self.shape(op.output)
        count = int(np.prod(shape))
        index = self.cast(source, np.int32, f"{source}:wide")
        first = [x.less - lo + row * size for row in range(rows)]
        if any(first):
            index = self.wide("ADD", index, first, f"{out}:index")
        flat = graph.add(
            "RESHAPE", [index, graph.shape((1, count))], f"{out}:flat", np.int32, (1, count)
        )
        entries = graph.constant(f"{out}:table", tables.reshape(1, -1, 1), y.dtype)
        found = graph.add("GATHER", [entries, flat], f"{out}:found", y.dtype, (1, count, 1))
        graph.add("RESHAPE", [found, graph.shape(shape)], out, y.dtype, shape)
