"""Small integer networks, built by hand, for the hardware generator's tests."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import cycle

import numpy as np

from intaglio.fixed import IntType, odd_value
from intaglio.ops import Add, Concat, Conv2d, Input, MaxPool2d, Output, Requant, Upsample
from intaglio.program import Builder, Program

U4 = IntType(4, False)
I4 = IntType(4, True)


class Layers:
    """A Builder with layers that choose their own constants, the same in every run.

    `odd` gives the code bits of odd weights in turn; without it weights have 4 bits, any values.
    """

    def __init__(self, shape: tuple[int, int, int], seed: int = 0, odd: Sequence[int] = ()) -> None:
        self.rng = np.random.default_rng(seed)
        self.odd = cycle(odd)
        self.builder = Builder()
        self.builder.add(Input(output="image", shape=shape, type=IntType(8, False)))

    def weights(self, name: str, cout: int, cin: int, kernel: int) -> str:
        """A constant of weights."""
        shape, bits = (cout, cin, kernel, kernel), next(self.odd, 0)
        if not bits:
            return self.builder.constant(name, self.rng.integers(-8, 8, shape), I4)
        values = odd_value(self.rng.integers(0, 1 << bits, shape), bits)
        return self.builder.constant(name, values, IntType(bits + 1, True), odd=True)

    def conv(
        self,
        name: str,
        x: str,
        weight: str,
        *,
        stride: int = 1,
        groups: int = 1,
        type: IntType = U4,
    ) -> str:
        """Conv2d that keeps the size (over the stride), and its Requant, spread over `type`."""
        b = self.builder
        w = b.constants[weight].array
        pad = (w.shape[2] // 2,) * 4
        acc = b.add(
            Conv2d(output=f"{name}.acc", input=x, weight=weight, stride=(stride, stride),
                   padding=pad, groups=groups, pad_value=(1,), origin=name)
        )  # fmt: skip
        # Centre and spread of the sums of uniform codes, so that few outputs are clamped.
        t = b.tensors[x]
        mean = w.sum(axis=(1, 2, 3)) * (t.lo + t.hi) // 2
        spread = np.sqrt((w**2).sum(axis=(1, 2, 3))) * (t.hi - t.lo) / 3
        m = np.minimum((1 << type.bits + 15) / (spread + 1), 100_000).astype(np.int64)
        noise = self.rng.integers(-(1 << type.bits + 12), 1 << type.bits + 12, len(m))
        bias = ((type.lo + type.hi) << 15) - mean * m + noise
        return b.add(
            Requant(output=name, input=acc, multiplier=b.constant(f"{name}.m", m),
                    bias=b.constant(f"{name}.b", bias), shift=(16,), lo=type.lo, hi=type.hi,
                    origin=name),
            type,
        )  # fmt: skip

    def add(self, name: str, x: str, y: str) -> str:
        """A skip connection."""
        op = Add(output=name, a=x, b=y, multiplier_a=90, multiplier_b=70, bias=-3, shift=7,
                 lo=0, hi=15, origin=name)  # fmt: skip
        return self.builder.add(op, U4)

    def finish(self, outputs: Sequence[str]) -> Program:
        """Outputs out0, out1, ..."""
        for n, name in enumerate(outputs):
            self.builder.add(Output(output=f"out{n}", input=name))
        return self.builder.build()


def tiny() -> Program:
    """Two convolutions, the second pointwise with signed outputs."""
    net = Layers((3, 6, 6))
    stem = net.conv("stem", "image", net.weights("w0", 4, 3, 3), stride=2)
    return net.finish([net.conv("head", stem, net.weights("w1", 4, 4, 1), type=IntType(8, True))])


def skip(odd: Sequence[int] = ()) -> Program:
    """A residual block with 5 channels: one fork, one add."""
    net = Layers((3, 9, 11), odd=odd)
    stem = net.conv("stem", "image", net.weights("w0", 5, 3, 3), stride=2)
    branch = net.conv("branch", stem, net.weights("w1", 5, 5, 3))
    return net.finish([net.add("sum", stem, branch)])


def pyramid(
    seed: int = 1,
    size: tuple[int, int] = (24, 28),
    widths: tuple[int, int, int, int] = (6, 10, 12, 7),
    odd: Sequence[int] = (),
) -> Program:
    """A detector in small: skip, three levels, FPN, and a shared head of two convolutions with a
    table for each level; six outputs. `widths` are the channels of C3, C4, C5 and the pyramid."""
    net = Layers((3, *size), seed=seed, odd=odd)
    n3, n4, n5, n = widths
    b = net.builder
    stem = net.conv("stem", "image", net.weights("w0", n3, 3, 3), stride=2)
    pool = b.add(MaxPool2d(output="pool", input=stem, kernel=(3, 3), stride=(2, 2),
                           padding=(1, 1, 1, 1), origin="pool"))  # fmt: skip
    branch = net.conv("block.conv", pool, net.weights("w1", n3, n3, 3))
    c3 = net.add("block", pool, branch)
    c4 = net.conv("c4", c3, net.weights("w2", n4, n3, 3), stride=2)
    c5 = net.conv("c5", c4, net.weights("w3", n5, n4, 3), stride=2)
    p5 = net.conv("lateral.2", c5, net.weights("w4", n, n5, 1))
    p4 = top_down(net, "p4", net.conv("lateral.1", c4, net.weights("w5", n, n4, 1)), p5)
    p3 = top_down(net, "p3", net.conv("lateral.0", c3, net.weights("w6", n, n3, 1)), p4)
    tower, logits, boxes = (net.weights(f"head{k}", c, n, 3) for k, c in enumerate((n, 5, 4)))
    outputs: list[list[str]] = [[], []]
    for level, p in enumerate((p3, p4, p5)):
        t = net.conv(f"tower.{level}", p, tower)
        outputs[0].append(net.conv(f"logits.{level}", t, logits, type=IntType(8, True)))
        outputs[1].append(net.conv(f"boxes.{level}", t, boxes, type=IntType(6, False)))
    return net.finish(outputs[0] + outputs[1])


def branches(
    seed: int = 1, size: tuple[int, int] = (9, 11), widths: tuple[int, int, int] = (4, 6, 2)
) -> Program:
    """Paths of no, one and two layers and a pool, joined by Concat; again behind it; then a skip
    around both. `widths` are the channels of the stem and of two of the paths."""
    net = Layers((3, *size), seed=seed)
    b, (n, p, q) = net.builder, widths
    x = stem = net.conv("stem", "image", net.weights("w0", n, 3, 3))
    for k in range(2):
        c = b.tensors[x].shape[0]
        one = net.conv(f"one{k}", x, net.weights(f"a{k}", p, c, 1))
        two = net.conv(f"two{k}.0", x, net.weights(f"b{k}", q, c, 1))
        two = net.conv(f"two{k}.1", two, net.weights(f"c{k}", q, q, 3))
        pool = b.add(MaxPool2d(output=f"pool{k}", input=x, kernel=(3, 3), stride=(1, 1),
                               padding=(1, 1, 1, 1), origin=f"pool{k}"))  # fmt: skip
        x = b.add(Concat(output=f"cat{k}", parts=(x, one, two, pool), origin=f"cat{k}"))
    last = net.conv("last", x, net.weights("d", n, b.tensors[x].shape[0], 1))
    return net.finish([net.add("sum", stem, last), x])


def fork_join(seed: int) -> Program:
    """A random network of forks and joins: skips, concatenations, pyramids of two levels, one after
    the other or beside each other; an output for whatever nothing reads."""
    draw = random.Random(seed)
    net = Layers((draw.randint(1, 3), draw.randint(3, 6), draw.randint(3, 6)), seed=seed)
    b, read = net.builder, {"image"}

    def conv(name: str, x: str, channels: int, kernel: int = 3, stride: int = 1) -> str:
        read.add(x)
        weights = net.weights(f"{name}.w", channels, b.tensors[x].shape[0], kernel)
        return net.conv(name, x, weights, stride=stride)

    maps = [conv("stem", "image", draw.randint(1, 4))]
    for k in range(draw.randint(1, 3)):
        x, kernel = draw.choice(maps[-2:]), draw.choice((1, 3))
        c, h, w = b.tensors[x].shape
        match draw.choice(("skip", "cat", "fpn")):
            case "skip":
                y = conv(f"skip{k}.0", x, draw.randint(1, 4), kernel)
                y = net.add(f"skip{k}", x, conv(f"skip{k}.1", y, c, draw.choice((1, 3))))
            case "cat":
                y = conv(f"cat{k}.0", x, draw.randint(1, 4), kernel)
                more = [m for m in maps if m != x and b.tensors[m].shape[1:] == (h, w)]
                parts = (y, x, *more[: draw.randint(0, 1)])
                read.update(parts)
                y = b.add(Concat(output=f"cat{k}", parts=parts, origin=f"cat{k}"))
            case _:
                y = conv(f"fpn{k}.0", x, draw.randint(1, 4), stride=2)
                y = top_down(net, f"fpn{k}", x, conv(f"fpn{k}.1", y, c, kernel))
        maps.append(y)
    return net.finish([m for m in maps if m not in read])


def towers(
    seed: int = 1,
    size: tuple[int, int] = (9, 11),
    channels: int = 4,
    depth: int = 2,
    odd: Sequence[int] = (),
) -> Program:
    """A class and a box tower, each of `depth` convolutions that two levels share; an output for
    each level of each."""
    net = Layers((3, *size), seed=seed, odd=odd)
    fine = net.conv("stem", "image", net.weights("w0", channels, 3, 3))
    half = MaxPool2d(output="half", input=fine, kernel=(2, 2), stride=(2, 2), origin="half")
    levels, outputs = (fine, net.builder.add(half)), []
    for side in ("class", "box"):
        weights = [net.weights(f"{side}.{k}.w", channels, channels, 3) for k in range(depth)]
        for level, x in enumerate(levels):
            for k, weight in enumerate(weights):
                x = net.conv(f"{side}.{k}.p{level}", x, weight)
            outputs.append(x)
    return net.finish(outputs)


def parallel(seed: int) -> Program:
    """A random network of two to four convolutions of equal shape, dense, grouped or depthwise,
    behind branches of no to two other layers; some of their maps are added."""
    draw = random.Random(seed)
    c, kernel, stride = draw.choice((2, 4)), draw.choice((1, 3)), draw.randint(1, 2)
    groups = draw.choice((1, 1, 2, c))
    net = Layers((draw.randint(1, 3), draw.randint(4, 7), draw.randint(4, 7)), seed=seed,
                 odd=draw.choice(((), (2,))))  # fmt: skip
    b, ends = net.builder, list[str]()
    stem = net.conv("stem", "image", net.weights("w0", c, b.tensors["image"].shape[0], 3))
    for k in range(draw.randint(2, 4)):
        x = stem
        for n in range(draw.randint(0, 2)):
            name, half = f"way{k}.{n}", draw.randint(1, 2)
            if draw.randint(0, 1):
                x = net.conv(name, x, net.weights(f"{name}.w", c, c, draw.choice((1, 3))))
            else:
                x = b.add(MaxPool2d(output=name, input=x, kernel=(half, half), origin=name,
                                    stride=(half, half)))  # fmt: skip
        weights = net.weights(f"like{k}.w", c, c // groups, kernel)
        x = net.conv(f"like{k}", x, weights, stride=stride, groups=groups)
        if ends and draw.randint(0, 1) and b.tensors[x].shape == b.tensors[ends[-1]].shape:
            ends.append(net.add(f"sum{k}", ends.pop(), x))
        else:
            ends.append(x)
    return net.finish(ends)


def top_down(net: Layers, name: str, lateral: str, coarse: str) -> str:
    """Upsample and add."""
    _, h, w = net.builder.tensors[lateral].shape
    up = net.builder.add(Upsample(output=f"{name}.up", input=coarse, size=(h, w), origin=name))
    return net.add(name, lateral, up)
