"""What a tensor is a function of, element by element: SiLU, hard-swish and GELU as written out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from intaglio.quant.capture.graph import Add, Affine, Floats, Lookup, Node

Function = Callable[[Any], Any]
Nodes = Mapping[str, Node]


def common_root(nodes: Nodes, a: str, b: str) -> tuple[str, Function, Function] | None:
    """The latest tensor that both `a` and `b` are functions of, and these functions; None where
    there is none. `nodes` are in the order in which they are computed."""
    both = ancestors(nodes, a) & ancestors(nodes, b)
    for root in (name for name in reversed(list(nodes)) if name in both):
        first, second = function_of(nodes, a, root), function_of(nodes, b, root)
        if first is not None and second is not None:
            return root, first, second
    return None


def ancestors(nodes: Nodes, name: str) -> set[str]:
    """A tensor and all that it is made of without a step that looks at other pixels or channels."""
    found, todo = set[str](), [name]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += nodes[name].inputs if is_elementwise(nodes[name]) else ()
    return found


def is_elementwise(node: Node) -> bool:
    """Whether every channel has the same function of one value, or of two."""
    if isinstance(node, Affine):
        return bool((node.scale == node.scale[0]).all() and (node.shift == node.shift[0]).all())
    return isinstance(node, Add) or (isinstance(node, Lookup) and not node.by_channel)


def function_of(nodes: Nodes, name: str, root: str) -> Function | None:
    """The function that makes the tensor `name` of `root` alone; None where there is none."""
    if name == root:
        return same
    node = nodes[name]
    if not is_elementwise(node):
        return None
    parts = [function_of(nodes, each, root) for each in node.inputs]
    made = [part for part in parts if part is not None]
    return behind(node, made) if len(made) == len(parts) else None


def same(x: Any) -> Any:
    """x."""
    return x


def behind(node: Node, parts: list[Function]) -> Function:
    """A node computed of functions of one tensor."""
    first, last = parts[0], parts[-1]
    match node:
        case Affine():
            factor, addend, bounds = along(node.scale), along(node.shift), (node.lo, node.hi)
            return lambda x: (factor(x) * first(x) + addend(x)).clamp(*bounds)
        case Lookup():
            function = node.function
            return lambda x: function(first(x))
        case Add():
            alpha, beta, shift, lo, hi = node.alpha, node.beta, node.shift, node.lo, node.hi
            return lambda x: (alpha * first(x) + beta * last(x) + shift).clamp(lo, hi)
    raise TypeError(f"{type(node).__name__} must be a function of one tensor.")


def along(values: Floats) -> Function:
    """One value for all channels, or (C, 1, 1), as a map x needs them."""
    if (values == values[0]).all():
        one = float(values[0])
        return lambda x: one
    each = torch.from_numpy(values)[:, None, None]
    return lambda x: each.to(x)


def product(a: Function, b: Function) -> Function:
    """a(x) * b(x)."""
    return lambda x: a(x) * b(x)


def quotient(a: Function, b: Function) -> Function:
    """a(x) / b(x)."""
    return lambda x: a(x) / b(x)
