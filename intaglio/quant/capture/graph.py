"""The dense part of a torch model as a small typed graph of real-valued maps.

Tensors are (C, H, W) and named; a node's `output` is its name. Arrays are float64. Everything that
ends in a requantisation is either `Scaled` or `Add` or `Lookup`; the other nodes pass codes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.ops import (
    Crop,
    DepthToSpace,
    Padding,
    Pair,
    Select,
    Shape,
    SpaceToDepth,
    Tap,
)
from intaglio.ops import Interpolate as Nearest

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """`origin` is the torch module path, `shape` that of the output."""

    output: str
    origin: str
    shape: Shape

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tensors read, in order."""
        return ()

    def reading(self, names: Mapping[str, str]) -> Node:
        """This node with the tensors it reads renamed."""
        return self


@dataclass(frozen=True, kw_only=True, eq=False)
class Image(Node):
    """The pixels, 0 to 255."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Unary(Node):
    """A node that reads one tensor."""

    input: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)

    def reading(self, names: Mapping[str, str]) -> Node:
        return replace(self, input=names.get(self.input, self.input))


@dataclass(frozen=True, kw_only=True, eq=False)
class Scaled(Unary):
    """y = clamp(scale[c] * linear(x) + shift[c], lo, hi); `scale` and `shift` are (C,)."""

    scale: Floats
    shift: Floats
    lo: float = -inf
    hi: float = inf

    @property
    def clamped(self) -> bool:
        """Whether the clamp can do anything."""
        return self.lo > -inf or self.hi < inf


@dataclass(frozen=True, kw_only=True, eq=False)
class Affine(Scaled):
    """linear(x) = x: a norm, a constant factor or summand, a ReLU."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Conv(Scaled):
    """linear(x) = convolution with `weights[weight]` (Cout, Cin / groups, Kh, Kw).

    Positions outside the image read `pad_value` (one per input channel; None: 0).
    """

    weight: str
    stride: Pair
    dilation: Pair
    padding: Padding
    groups: int
    pad_value: Floats | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Mean(Scaled):
    """linear(x) = a sum of pixels by whole weights, of which `count` is the sum; `scale` holds the
    1 / n of an average."""

    @property
    def count(self) -> int:
        """What a constant map is multiplied by."""
        raise TypeError(f"{type(self).__name__} must say its count.")

    @property
    def averages(self) -> bool:
        """Whether it is an average of pixels of the image and nothing else."""
        plain = not (self.clamped or self.shift.any())
        return plain and bool(np.allclose(self.scale * self.count, 1, rtol=1e-12, atol=0))


@dataclass(frozen=True, kw_only=True, eq=False)
class SumPool(Mean):
    """linear(x) = sum over the window, 0 outside."""

    kernel: Pair
    stride: Pair
    padding: Padding

    @property
    def count(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def averages(self) -> bool:
        return super().averages and not any(self.padding)


@dataclass(frozen=True, kw_only=True, eq=False)
class Interpolate(Mean):
    """linear(x) = sum of two rows and two columns, see `ops.Interpolate`. `aligned`: whether the
    corners of both maps are one; None where neither that nor in / out pixels is the distance."""

    rows: tuple[Tap, ...]
    columns: tuple[Tap, ...]
    aligned: bool | None

    @property
    def count(self) -> int:
        return sum(self.rows[0][1:]) * sum(self.columns[0][1:])


@dataclass(frozen=True, kw_only=True, eq=False)
class Multiply(Scaled):
    """linear(x) = x * gate. A gate of one channel, or of one row and column, serves all of x."""

    gate: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input, self.gate)

    def reading(self, names: Mapping[str, str]) -> Node:
        x, gate = (names.get(name, name) for name in self.inputs)
        return replace(self, input=x, gate=gate)


@dataclass(frozen=True, kw_only=True, eq=False)
class Add(Node):
    """y = clamp(alpha * a + beta * b + shift, lo, hi)."""

    a: str
    b: str
    alpha: float = 1.0
    beta: float = 1.0
    shift: float = 0.0
    lo: float = -inf
    hi: float = inf

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.a, self.b)

    def reading(self, names: Mapping[str, str]) -> Node:
        return replace(self, a=names.get(self.a, self.a), b=names.get(self.b, self.b))

    @property
    def clamped(self) -> bool:
        """Whether the clamp can do anything."""
        return self.lo > -inf or self.hi < inf

    @property
    def sums(self) -> bool:
        """Whether it is a sum without a constant, of operands of positive factors."""
        return min(self.alpha, self.beta) > 0 and self.shift == 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Lookup(Unary):
    """y = function(x), element by element; `name` is the torch operation. `by_channel`: each
    channel has its own, and `function` takes (N, C, H, W) only."""

    function: Callable[[Any], Any]
    name: str
    by_channel: bool = False

    def tables(self, values: Any) -> Any:
        """The function of every one of `values` (n,): (n,), or of each channel (C, n)."""
        if not self.by_channel:
            return self.function(values)
        each = values.expand(self.shape[0], len(values))
        return self.function(each[None, :, :, None])[0, :, :, 0]


@dataclass(frozen=True, kw_only=True, eq=False)
class MaxPool(Unary):
    """Largest value in the window; positions outside do not take part."""

    kernel: Pair
    stride: Pair
    dilation: Pair
    padding: Padding


@dataclass(frozen=True, kw_only=True, eq=False)
class Upsample(Unary):
    """Nearest neighbour, source index floor(i * in / out)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pad(Unary):
    """A border of `value`."""

    padding: Padding
    value: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Choose(Unary):
    """What `op` chooses, whose names mean nothing; channels that it adds are `value`."""

    op: Select | Crop | SpaceToDepth | DepthToSpace | Nearest
    value: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Concat(Node):
    """Channels one after the other."""

    parts: tuple[str, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.parts

    def reading(self, names: Mapping[str, str]) -> Node:
        return replace(self, parts=tuple(names.get(p, p) for p in self.parts))


# Codes pass unchanged: operands and result share a grid.
PASSING = (MaxPool, Upsample, Pad, Concat, Choose)


@dataclass(frozen=True, eq=False)
class FloatGraph:
    """Nodes in order, weights by name, and `outputs`: the user's name of a result to its tensor.

    Nodes that name the same weight share it: the levels of a pyramid under one head. `is_cut`
    says that the model goes on behind the outputs, by the operations `cut`, in words.
    """

    nodes: tuple[Node, ...]
    weights: Mapping[str, Floats]
    outputs: Mapping[str, str]
    cut: tuple[str, ...] = ()
    is_cut: bool = False

    @cached_property
    def producer(self) -> dict[str, Node]:
        """The node that makes each tensor."""
        return {node.output: node for node in self.nodes}

    @cached_property
    def readers(self) -> dict[str, list[Node]]:
        """The nodes that read each tensor, in order."""
        found: dict[str, list[Node]] = {node.output: [] for node in self.nodes}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                found[name].append(node)
        return found

    @cached_property
    def call_sites(self) -> dict[str, list[Conv]]:
        """The convolutions that use each weight."""
        found: dict[str, list[Conv]] = {name: [] for name in self.weights}
        for node in self.nodes:
            if isinstance(node, Conv):
                found[node.weight].append(node)
        return found

    def macs(self, node: Node) -> int:
        """Multiply-accumulates of a convolution on one image; 0 of other nodes."""
        if not isinstance(node, Conv):
            return 0
        return self.weights[node.weight].size * node.shape[1] * node.shape[2]

    def only_reader(self, tensor: str) -> Node | None:
        """The one node that reads `tensor`; None if there are others or it is a result."""
        readers = self.readers[tensor]
        return readers[0] if len(readers) == 1 and tensor not in self.outputs.values() else None
