"""A `FloatGraph` run by torch: in real numbers, observed, or fake-quantised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional

from intaglio.ops import Crop, DepthToSpace, Padding, Select, SpaceToDepth, Tap
from intaglio.ops import Interpolate as Nearest
from intaglio.ops.interpolation import both
from intaglio.quant.capture.graph import (
    Add,
    Affine,
    Choose,
    Concat,
    Conv,
    FloatGraph,
    Image,
    Interpolate,
    Lookup,
    MaxPool,
    Multiply,
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
            z = x * inputs[1] if isinstance(node, Multiply) else linear(node, x, weights)
            scale, shift = (torch.from_numpy(v).to(x) for v in (node.scale, node.shift))
            return clamped(node, z * scale[:, None, None] + shift[:, None, None])
        case Add():
            return clamped(node, node.alpha * x + node.beta * inputs[1] + node.shift)
        case Lookup():
            looked_up: torch.Tensor = node.function(x)
            return looked_up
        case MaxPool():
            top, bottom, left, right = node.padding
            within = 2 * top <= node.kernel[0] and 2 * left <= node.kernel[1]
            if top == bottom and left == right and within:
                return functional.max_pool2d(
                    x, node.kernel, node.stride, (top, left), dilation=node.dilation
                )
            open_border = functional.pad(x, sides(node.padding), value=-torch.inf)
            return functional.max_pool2d(
                open_border, node.kernel, node.stride, dilation=node.dilation
            )
        case Upsample():
            _, h, w = node.shape
            if (h, w) == (2 * x.shape[2], 2 * x.shape[3]):
                return functional.interpolate(x, size=(h, w), mode="nearest")
            rows = torch.arange(h) * x.shape[2] // h
            return x[:, :, rows][..., torch.arange(w) * x.shape[3] // w]
        case Pad():
            return functional.pad(x, sides(node.padding), value=node.value)
        case Concat():
            return torch.cat(inputs, dim=1)
        case Choose():
            return chosen(node, x)
    raise TypeError(f"{type(node).__name__} must be computed here.")


def chosen(node: Choose, x: torch.Tensor) -> torch.Tensor:
    """Channels or pixels."""
    n, c, h, w = x.shape
    match node.op:
        case Select(channels=channels):
            places = torch.tensor(channels)
            found = x[:, places.clamp(min=0)]
            return torch.where((places < 0)[:, None, None], node.value, found)
        case Crop(rows=rows, columns=columns):
            return x[:, :, slice(*rows), slice(*columns)]
        case Nearest(rows=rows, columns=columns):
            return blended(x, rows, columns)
        case SpaceToDepth(block=(bh, bw)):
            parts = x.reshape(n, c, h // bh, bh, w // bw, bw).permute(0, 3, 5, 1, 2, 4)
        case DepthToSpace(block=(bh, bw)):
            parts = x.reshape(n, bh, bw, -1, h, w).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, *node.shape)


def clamped(node: Scaled | Add, value: torch.Tensor) -> torch.Tensor:
    """The clamp of a node."""
    return value.clamp(node.lo, node.hi) if node.clamped else value


def linear(node: Scaled, x: torch.Tensor, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """What `node.scale` multiplies."""
    match node:
        case Affine():
            return x
        case SumPool():
            border = functional.pad(x, sides(node.padding))
            return functional.avg_pool2d(border, node.kernel, node.stride, divisor_override=1)
        case Interpolate():
            return blended(x, node.rows, node.columns)
        case Conv():
            return convolved(node, x, weights[node.weight])
    raise TypeError(f"{type(node).__name__} must be computed here.")


def blended(x: torch.Tensor, rows: tuple[Tap, ...], columns: tuple[Tap, ...]) -> torch.Tensor:
    """Two rows by their weights, then two columns."""
    for dim, taps, lines in ((2, rows, (-1, 1)), (3, columns, (-1,))):
        first, second, u, v = torch.from_numpy(both(taps, x.shape[dim])).T
        above, below = (x.index_select(dim, places) for places in (first, second))
        x = above * u.reshape(lines).to(x) + below * v.reshape(lines).to(x)
    return x


def convolved(node: Conv, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The convolution alone."""
    arguments: dict[str, Any] = {
        "stride": node.stride,
        "dilation": node.dilation,
        "groups": node.groups,
    }
    top, bottom, left, right = node.padding
    if node.pad_value is None and top == bottom and left == right:
        return functional.conv2d(x, weight, padding=(top, left), **arguments)
    return functional.conv2d(padded(node, x), weight, **arguments)


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
