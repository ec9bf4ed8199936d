"""A `FloatGraph` run by torch: in real numbers, observed, or fake-quantised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional

from intaglio.ops import Padding
from intaglio.quant.graph import (
    Add,
    Affine,
    Concat,
    Conv,
    FloatGraph,
    Image,
    Lookup,
    MaxPool,
    Node,
    Pad,
    Scaled,
    SumPool,
    Upsample,
)

Visit = Callable[[Node, torch.Tensor], torch.Tensor]


def run(
    graph: FloatGraph,
    images: torch.Tensor,
    *,
    weights: Mapping[str, torch.Tensor] | None = None,
    visit: Visit | None = None,
) -> dict[str, torch.Tensor]:
    """Results by name for pixels (N, C, H, W) of a floating type, which everything is computed in.

    `weights` replaces the graph's. `visit` sees every node's value and returns the one to go on
    with. A value is dropped after its last reader.
    """
    weights = tensors(graph, images.dtype) if weights is None else weights
    last = {name: node for node in graph.nodes for name in node.inputs}
    wanted = set(graph.outputs.values())
    values: dict[str, torch.Tensor] = {}
    for node in graph.nodes:
        if isinstance(node, Image):
            value = images
        else:
            value = compute(node, [values[name] for name in node.inputs], weights)
        values[node.output] = value if visit is None else visit(node, value)
        for name in node.inputs:
            if last[name] is node and name not in wanted:
                values.pop(name, None)
    return {name: values[tensor] for name, tensor in graph.outputs.items()}


def tensors(graph: FloatGraph, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The graph's weights as torch tensors."""
    return {name: torch.from_numpy(w).to(dtype) for name, w in graph.weights.items()}


def compute(
    node: Node, inputs: list[torch.Tensor], weights: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """One node's value."""
    x = inputs[0]
    match node:
        case Scaled():
            z = linear(node, x, weights)
            scale, shift = (torch.from_numpy(v).to(x) for v in (node.scale, node.shift))
            y = z * scale[:, None, None] + shift[:, None, None]
            return y.clamp(node.lo, node.hi) if node.clamped else y
        case Add():
            y = node.alpha * x + node.beta * inputs[1] + node.shift
            return y.clamp(node.lo, node.hi) if node.clamped else y
        case Lookup():
            looked_up: torch.Tensor = node.function(x)
            return looked_up
        case MaxPool():
            open_border = functional.pad(x, sides(node.padding), value=-torch.inf)
            return functional.max_pool2d(
                open_border, node.kernel, node.stride, dilation=node.dilation
            )
        case Upsample():
            _, h, w = node.shape
            rows = torch.arange(h) * x.shape[2] // h
            return x[:, :, rows][..., torch.arange(w) * x.shape[3] // w]
        case Pad():
            return functional.pad(x, sides(node.padding), value=node.value)
        case Concat():
            return torch.cat(inputs, dim=1)
    raise TypeError(f"{type(node).__name__} must be computed here.")


def linear(node: Scaled, x: torch.Tensor, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """What `node.scale` multiplies."""
    match node:
        case Affine():
            return x
        case SumPool():
            border = functional.pad(x, sides(node.padding))
            return functional.avg_pool2d(border, node.kernel, node.stride, divisor_override=1)
        case Conv():
            arguments: dict[str, Any] = {
                "stride": node.stride,
                "dilation": node.dilation,
                "groups": node.groups,
            }
            return functional.conv2d(padded(node, x), weights[node.weight], **arguments)
    raise TypeError(f"{type(node).__name__} must be computed here.")


def padded(node: Conv, x: torch.Tensor) -> torch.Tensor:
    """What a convolution reads: x with its border of `pad_value`."""
    if node.pad_value is None:
        return functional.pad(x, sides(node.padding))
    value = torch.from_numpy(node.pad_value).to(x)[:, None, None]
    return functional.pad(x - value, sides(node.padding)) + value


def sides(padding: Padding) -> list[int]:
    """(top, bottom, left, right) in torch's order: left, right, top, bottom."""
    top, bottom, left, right = padding
    return [left, right, top, bottom]
