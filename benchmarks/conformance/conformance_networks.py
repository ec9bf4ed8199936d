"""Whole small networks of every operation, written as integer ONNX and run by onnxruntime.

The file is ours (`intaglio export`); its sums, products, divisions and limits are the runtime's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
from conformance_cases import I8, Array, Case, codes

from intaglio.exchange.runtime import run_onnx
from intaglio.exchange.to_onnx.integer import to_integer
from intaglio.fixed import preset
from intaglio.forms import Real
from intaglio.multiplier import Scaling, Term, scaling
from intaglio.ops import (
    Add,
    Concat,
    Conv2d,
    Input,
    Lookup,
    MaxPool2d,
    Output,
    Pad,
    Requant,
    SumPool2d,
    Upsample,
)
from intaglio.program import Builder

WIDTH = 8  # channels throughout


class Network:
    """Grows one Program; names are those of the layers."""

    def __init__(self, profile: str, rng: np.random.Generator, size: int) -> None:
        self.rng = rng
        self.b = Builder(preset(profile))
        self.b.add(Input(output="x", shape=(3, size, size), type=I8))

    def ratios(self, spread: float, count: int) -> list[Fraction]:
        """Factors that bring values of that deviation to about 40; powers of two, and one for a
        layer, where the profile wants them."""
        a = self.b.arithmetic
        found = 40 / spread * 2.0 ** self.rng.uniform(-1, 1, count)
        if a.power_of_two:
            found = 2.0 ** np.round(np.log2(found))
        if a.per_layer:
            found[:] = found[0]
        return [Fraction(float(v)) for v in found]

    def requant(self, name: str, input: str, spread: float, relu: bool = False) -> str:
        """Scaled to codes with a drawn zero point."""
        b, zero = self.b, int(self.rng.integers(-128, 128))
        x = b.tensors[input]
        reach = (max(abs(x.lo), abs(x.hi)),)
        middle = (x.lo + x.hi) // 2
        terms = [Term((r,), (middle,), reach, Fraction(0)) for r in self.ratios(spread, x.shape[0])]
        groups = [[t] for t in terms] if b.arithmetic.per_channel_shift else [terms]
        found = [scaling(g, zero, b.arithmetic, name) for g in groups]
        op = Requant(
            output=name, input=input, multiplier=self.table(f"{name}.m", found, "multipliers"),
            bias=self.table(f"{name}.b", found, "bias"), shift=tuple(f.shift for f in found),
            lo=max(-128, zero) if relu else -128, hi=127, offset=found[0].offset,
        )  # fmt: skip
        return b.add(op, I8)

    def table(self, name: str, found: Sequence[Scaling], field: str) -> str:
        """One entry for each channel."""
        return self.b.constant(name, [v for s in found for v in getattr(s, field)])

    def conv(self, name: str, input: str, k: int, groups: int = 1, relu: bool = False) -> str:
        """Convolution of stride 1 and its Requant."""
        cin = self.b.tensors[input].shape[0] // groups
        weight = self.rng.integers(-127, 128, (WIDTH, cin, k, k))
        pad = k // 2
        conv = Conv2d(
            output=f"{name}.acc", input=input, weight=self.b.constant(f"{name}.w", weight),
            padding=(pad,) * 4, pad_value=(int(self.rng.integers(-128, 128)),), groups=groups,
        )  # fmt: skip
        self.b.add(conv)
        return self.requant(name, conv.output, 74 * 74 * (k * k * cin) ** 0.5, relu)

    def sum(self, name: str, a: str, b: str) -> str:
        """A skip."""
        zeros = [int(v) for v in self.rng.integers(-128, 128, 3)]
        ratios = tuple(self.ratios(60, 2))
        if self.b.arithmetic.per_layer:
            ratios = (ratios[0], ratios[0] * 2)
        term = Term(ratios, (zeros[0], zeros[1]), (128, 128), Fraction(0))
        found = scaling([term], zeros[2], self.b.arithmetic, name)
        op = Add(
            output=name, a=a, b=b, multiplier_a=found.multipliers[0],
            multiplier_b=found.multipliers[1], bias=found.bias[0], shift=found.shift, lo=-128,
            hi=127, offset=found.offset,
        )  # fmt: skip
        return self.b.add(op, I8)


def network_cases(profile: str, count: int, seed: int) -> Iterator[Case]:
    """A trunk with a skip, a pyramid level and its way back, pools, a table, a border."""
    rng = np.random.default_rng([seed, 41, len(profile), count])
    for n in range(count):
        size = 2 * int(rng.integers(20, 40))
        net = Network(profile, rng, size)
        b = net.b
        stem = net.conv("stem", "x", 3, relu=True)
        deep = net.conv("deep", stem, 3, groups=WIDTH)
        fine = net.sum("fine", stem, deep)
        b.add(MaxPool2d(output="half", input=fine, kernel=(2, 2), stride=(2, 2)))
        coarse = net.conv("coarse", "half", 1)
        b.add(Upsample(output="up", input=coarse, size=(size, size)))
        merged = net.sum("merged", fine, "up")
        b.add(SumPool2d(output="sums", input=merged, kernel=(3, 3), padding=(1, 1, 1, 1)))
        mean = net.requant("mean", "sums", 9 * 40)
        table = rng.integers(-128, 128, 256)
        b.add(Lookup(output="bent", input=mean, table=b.constant("table", table, I8)), I8)
        b.add(Pad(output="large", input=coarse, padding=(0, size // 2, size // 2, 0), value=5))
        b.add(Concat(output="all", parts=(fine, "bent", "large", "up")))
        b.add(Output(output="y", input="all"))
        images = codes(rng, (4, 3, size, size), n)
        yield Case(b.build(), images, (Real(1.0, 0),))


def integer_onnx(case: Case) -> Array:
    """The exported network in onnxruntime."""
    return run_onnx(to_integer(case.program), case.images)["y"]
