"""One call of a torch operation while a model is translated, and the graph as it grows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx

from intaglio.errors import ModelError
from intaglio.ops import (
    Crop,
    Padding,
    Pair,
    Shape,
)
from intaglio.quant.capture.graph import Choose, Floats, Node
from intaglio.quant.capture.replay import BATCH
from intaglio.views import Chosen, Factor, View, both, inferred, moves, view_of


@dataclass(frozen=True)
class Map:
    """A tensor of the graph. `flat`: torch sees (N, C * H * W). `view`: it sees something else than
    that and (N, C, H, W)."""

    name: str
    shape: Shape
    flat: bool = False
    view: View | None = None

    @property
    def seen(self) -> View:
        """As torch sees it."""
        if self.view is not None:
            return self.view
        whole = view_of(self.shape, "nchw", BATCH)
        one = whole.reshaped((BATCH, prod(self.shape))) if self.flat else None
        return one or whole


def seen_as(name: str, view: View) -> Map:
    """A tensor that torch sees so."""
    whole = view_of(view.shape, "nchw", BATCH)
    if view == whole:
        return Map(name, view.shape)
    if view == whole.reshaped((BATCH, prod(view.shape))):
        return Map(name, view.shape, flat=True)
    return Map(name, view.shape, view=view)


@dataclass(frozen=True, eq=False)
class Const:
    """A value that does not depend on the image; `name` is its parameter path, if it has one."""

    value: torch.Tensor
    name: str | None = None

    def array(self) -> Floats:
        """As float64."""
        return self.value.detach().to(torch.float64).numpy()


OF_LAYERS = ("torch.nn.modules.", "intaglio.floats.")  # classes that are one layer
Value = Any  # Map, Const, a Python constant, or a tuple of these


class Scope:
    """What has been translated so far. Names in `taken` are reserved for the results."""

    def __init__(self, taken: set[str]) -> None:
        self.nodes: dict[str, Node] = {}
        self.weights: dict[str, Floats] = {}
        self.taken = set(taken)
        self.settled: dict[Map, Map] = {}

    def unique(self, name: str) -> str:
        """`name`, or for its second and later calls `name@1`, `name@2`, ..."""
        count, found = 0, name
        while found in self.taken:
            count += 1
            found = f"{name}@{count}"
        self.taken.add(found)
        return found

    def weight(self, name: str, array: Floats) -> str:
        """Register a convolution's weight; equal arrays of one name are shared."""
        count, found = 0, name
        while found in self.weights and not np.array_equal(self.weights[found], array):
            count += 1
            found = f"{name}@{count}"
        self.weights[found] = array
        return found


@dataclass(frozen=True, eq=False)
class Site:
    """A call: `op` without its namespace and in-place underscore; `args` by their schema names.

    `origin` is the path of the module whose forward made the call, `line` where in its source
    ("net.py:12", empty if export does not say), and `output` a unique name for the result, of which
    `result` is torch's shape (batch of 2 first).
    """

    op: str
    origin: str
    line: str
    output: str
    args: dict[str, Any]
    target: Any
    result: tuple[int, ...]
    scope: Scope

    def refuse(self, sentence: str) -> ModelError:
        """An error that names the call in the user's words."""
        return ModelError(f"aten.{self.op} in {place(self.origin, self.line)}: {sentence}")

    def map(self, name: str = "input") -> Map:
        """An operand that must be a map."""
        value = self.args[name]
        if not isinstance(value, Map):
            raise self.refuse(f"operand {name!r} must depend on the image; precompute the result.")
        if value.flat and value.shape[1:] != (1, 1):
            raise self.refuse("a flattened map must go straight into Linear; pool it to 1x1 first.")
        return self.settled(value)

    def settled(self, x: Map) -> Map:
        """A map that torch sees as (N, C, H, W), made by operations that choose where it sees
        another one so."""
        if x.view is None:
            return x
        if x not in self.scope.settled:
            if len(x.view.axes) != 4 or x.view.axes[0] != (Factor("n", BATCH),):
                raise self.rearranged(x)
            steps = moves(x.view, "nchw")
            if (1, 1) not in (steps.down, steps.up):  # rows or columns become something else
                raise self.rearranged(x)
            name = f"{self.output}.map"
            self.scope.settled[x] = self.chosen(x, steps.ops(x.shape, x.name, name))
        return self.scope.settled[x]

    def rearranged(self, x: Map) -> ModelError:
        """The refusal of a map whose values are not where a map has them."""
        return self.refuse(
            f"a map must not be rearranged to {x.seen.sides[1:]} here; return it and rearrange it"
            " in decoding."
        )

    def chosen(self, x: Map, steps: Sequence[Chosen], value: float = 0.0) -> Map:
        """What these operations make of a tensor, one after the other."""
        name, shape = x.name, x.shape
        for op in steps:
            made = self.scope.nodes.get(name)
            if isinstance(op, Crop) and isinstance(made, Choose) and isinstance(made.op, Crop):
                name, shape = made.input, self.scope.nodes[made.input].shape
                op = both(made.op, op)
            shape = inferred(op, shape)
            own = op.output == self.output and self.output not in self.scope.nodes
            output = self.output if own else self.scope.unique(op.output)
            self.scope.nodes[output] = Choose(
                output=output, origin=self.origin, shape=shape, input=name, op=op, value=value
            )
            name = output
        return Map(name, shape)

    def const(self, name: str) -> Const:
        """An operand that must not depend on the image."""
        value = self.args[name]
        if not isinstance(value, Const):
            raise self.refuse(f"operand {name!r} must not depend on the image.")
        return value

    def per_channel(self, value: Any, x: Map) -> Floats:
        """A number, or a constant tensor that broadcasts over (N, C, H, W), as (C,)."""
        channels = x.shape[0]
        if isinstance(value, Map):
            raise self.refuse(
                "one operand must be constant; two maps can only be added or multiplied."
            )
        if not isinstance(value, Const):
            return np.full(channels, float(value))
        array = value.array()
        axis = 1 if x.flat else 3
        if array.size == 1:
            return np.full(channels, array.item())
        if array.ndim >= axis and array.size == channels == array.shape[array.ndim - axis]:
            return array.reshape(channels)
        raise self.refuse(
            f"a constant operand must be one number or one per channel, not {array.shape}."
        )

    def shape(self) -> Shape:
        """The result's (C, H, W)."""
        _, *dims = self.result
        if len(dims) not in (1, 3):
            raise self.refuse(f"the result must be (N, C, H, W), not {tuple(self.result)}.")
        c, h, w = (*dims, 1, 1)[:3]
        return c, h, w


def operation(node: fx.Node) -> str:
    """The name of the call's operation, without namespace, overload and in-place underscore."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return str(getattr(target, "__name__", target))
    return target._schema.name.split("::")[1].rstrip("_")


def module_path(node: fx.Node) -> tuple[str, bool]:
    """The path of the innermost module around a call, and whether that is a torch.nn layer."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if not stack:
        return "", False
    path, kind = stack[-1]
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    return re.sub(r"@\d+", "", path), kind.startswith(OF_LAYERS) and bool(path)


def source_line(node: fx.Node) -> str:
    """The last line of a forward outside torch that leads to a call, as "net.py:12"; or empty."""
    own = str(Path(torch.__file__).parent)
    found = re.findall(r'File "(.*?)", line (\d+)', node.meta.get("stack_trace") or "")
    lines = [f"{Path(file).name}:{line}" for file, line in found if not file.startswith(own)]
    return lines[-1] if lines else ""


def place(origin: str, line: str) -> str:
    """A call's place in words: the module path and the line of its source."""
    where = f"layer {origin!r}" if origin else "the model's forward"
    return f"{where} ({line})" if line else where


def pair(value: int | list[int]) -> Pair:
    """(rows, columns) of torch's int or list of one or two."""
    values = [value] if isinstance(value, int) else list(value)
    return (values[0], values[-1])


def both_sides(value: int | list[int]) -> Padding:
    """Torch's symmetric padding as (top, bottom, left, right)."""
    rows, columns = pair(value)
    return rows, rows, columns, columns
