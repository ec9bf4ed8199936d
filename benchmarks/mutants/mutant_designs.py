"""Small networks whose designs are mutated: one for each kind of structure, each verified in about
a second, for a design is verified hundreds of times."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tests"))

from networks import U4, Layers, top_down

from intaglio.codegen.bundle import Bundle, build
from intaglio.fixed import IntType
from intaglio.ops import Concat, Lookup, MaxPool2d
from intaglio.program import Program


@dataclass(frozen=True)
class Design:
    """A network and how many multipliers its build has."""

    name: str
    program: Callable[[], Program]
    lanes: int

    def bundle(self) -> Bundle:
        """Its build."""
        return build(self.program(), lanes=self.lanes, target="generic")


def skip() -> Program:
    """A residual block: a fork, a queue, an add."""
    net = Layers((2, 5, 6), seed=3)
    stem = net.conv("stem", "image", net.weights("w0", 3, 2, 3), stride=2)
    branch = net.conv("branch", stem, net.weights("w1", 3, 3, 3))
    return net.finish([net.add("sum", stem, branch)])


def fpn() -> Program:
    """Two levels, the coarse one added to the fine one, and a head that both share."""
    net = Layers((2, 6, 8), seed=4)
    fine = net.conv("fine", "image", net.weights("w0", 2, 2, 3), stride=2)
    coarse = net.conv("coarse", fine, net.weights("w1", 2, 2, 3), stride=2)
    p0 = top_down(net, "p0", fine, coarse)
    head = net.weights("head", 3, 2, 3)
    return net.finish([
        net.conv(f"head.{k}", x, head, type=IntType(6, True)) for k, x in enumerate((p0, coarse))
    ])  # fmt: skip


def concat() -> Program:
    """A pool, a table and two layers side by side, joined."""
    net = Layers((2, 5, 6), seed=5)
    b = net.builder
    stem = net.conv("stem", "image", net.weights("w0", 2, 2, 3))
    one = net.conv("one", stem, net.weights("w1", 3, 2, 1))
    codes = b.constant("codes", net.rng.integers(0, 16, 16), U4)
    table = b.add(Lookup(output="table", input=one, table=codes, origin="table"), U4)
    pool = b.add(MaxPool2d(output="pool", input=stem, kernel=(3, 3), stride=(1, 1),
                           padding=(1, 1, 1, 1), origin="pool"))  # fmt: skip
    joined = b.add(Concat(output="cat", parts=(table, pool, stem), origin="cat"))
    return net.finish([net.conv("last", joined, net.weights("w2", 2, 7, 1))])


def depthwise() -> Program:
    """A layer of a filter a channel between two others."""
    net = Layers((2, 5, 6), seed=6)
    x = net.conv("stem", "image", net.weights("w0", 4, 2, 3), stride=2)
    x = net.conv("depth", x, net.weights("w1", 4, 1, 3), groups=4)
    return net.finish([net.conv("point", x, net.weights("w2", 3, 4, 1), type=IntType(8, True))])


def pixels() -> Program:
    """Two layers with so many multipliers that several pixels are made at once."""
    net = Layers((2, 5, 8), seed=7)
    x = net.conv("stem", "image", net.weights("w0", 2, 2, 3))
    return net.finish([net.conv("next", x, net.weights("w1", 2, 2, 3))])


def odd() -> Program:
    """Odd weights, in groups."""
    net = Layers((2, 5, 6), seed=8, odd=(2, 1, 3))
    x = net.conv("stem", "image", net.weights("w0", 4, 2, 3))
    x = net.conv("group", x, net.weights("w1", 4, 2, 3), groups=2, stride=2)
    return net.finish([net.conv("last", x, net.weights("w2", 2, 4, 1))])


DESIGNS = (
    Design("skip", skip, 12),
    Design("fpn", fpn, 24),
    Design("concat", concat, 24),
    Design("depthwise", depthwise, 20),
    Design("pixels", pixels, 250),
    Design("odd", odd, 24),
)
