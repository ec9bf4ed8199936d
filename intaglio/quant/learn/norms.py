"""Batch norms in training: found behind convolutions, started from their statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from intaglio.quant.capture.execute import convolved, run, tensors
from intaglio.quant.capture.graph import Affine, Conv, FloatGraph, Node
from intaglio.quant.ranges.observe import batches


def momentum(norm: nn.BatchNorm2d) -> float:
    """The weight of a batch in the running statistics: of a plain mean where the norm has none."""
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    return 1 / int(norm.num_batches_tracked) if norm.momentum is None else norm.momentum


def norm_paths(raw: FloatGraph, graph: FloatGraph, model: nn.Module) -> dict[str, str]:
    """The batch norm, by module path, that follows each call of a convolution."""
    kept = {node.output for node in graph.nodes if isinstance(node, Conv)}
    found = {}
    for node in raw.nodes:
        if not isinstance(node, Affine) or not node.origin:
            continue
        norm = model.get_submodule(node.origin)
        conv = raw.producer[node.input]
        if isinstance(norm, nn.BatchNorm2d) and isinstance(conv, Conv) and conv.output in kept:
            found[conv.output] = node.origin
    return found


def restored_norms(
    graph: FloatGraph,
    images: NDArray[np.uint8],
    paths: Mapping[str, str],
    replacements: Mapping[str, nn.Module],
) -> tuple[dict[str, int], list[nn.Module]]:
    """A norm for each of `paths`' modules, with the statistics that its convolutions have on the
    images, and the function that the graph has; and which norm each call site uses."""
    seen = statistics(graph, images, list(paths))
    index: dict[str, int] = {}
    norms: list[nn.Module] = []
    by_path: dict[str, int] = {}
    for tensor, path in paths.items():
        if tensor in replacements:
            index[tensor] = len(norms)
            norms.append(replacements[tensor])
            continue
        if path not in by_path:
            by_path[path] = len(norms)
            sites = [t for t, p in paths.items() if p == path]
            norms.append(fitted_norm(graph, tensor, [seen[t] for t in sites]))
        index[tensor] = by_path[path]
    shared = {id(norms[k]): k for k in index.values()}
    return {t: shared[id(norms[k])] for t, k in index.items()}, norms


def fitted_norm(
    graph: FloatGraph, tensor: str, moments: Sequence[tuple[torch.Tensor, torch.Tensor]]
) -> nn.BatchNorm2d:
    """A batch norm with the mean of these means and variances, equal to the node's factors."""
    node = graph.producer[tensor]
    assert isinstance(node, Conv)
    norm = nn.BatchNorm2d(node.shape[0])
    means = torch.stack([mean for mean, _ in moments])
    mean = means.mean(0)
    variance = torch.stack([variance for _, variance in moments]).mean(0)
    variance = variance + means.var(0, correction=0)
    scale, shift = torch.from_numpy(node.scale), torch.from_numpy(node.shift)
    with torch.no_grad():
        norm.running_mean = mean.float()
        norm.running_var = variance.float()
        norm.weight.copy_(scale * torch.sqrt(variance + norm.eps))
        norm.bias.copy_(shift + mean * scale)
    return norm


def statistics(
    graph: FloatGraph, images: NDArray[np.uint8], names: Sequence[str]
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Mean and variance (C,) of convolutions before their norms, in the real-valued network."""
    wanted = set(names)
    weights = tensors(graph, torch.float32)
    sums: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    values: dict[str, torch.Tensor] = {}

    def visit(node: Node, value: torch.Tensor) -> torch.Tensor:
        values[node.output] = value
        if isinstance(node, Conv) and node.output in wanted:
            z = convolved(node, values[node.input], weights[node.weight]).double()
            moments = torch.stack([z.sum((0, 2, 3)), z.square().sum((0, 2, 3))])
            count = torch.full((1, z.shape[1]), z.numel() / z.shape[1])
            sums[node.output].append(torch.cat([moments, count]))
        return value

    with torch.no_grad():
        for pixels in batches(images, torch.float32):
            run(graph, pixels, visit=visit)
            values.clear()
    found = {}
    for name, parts in sums.items():
        total, square, count = torch.stack(parts).sum(0)
        mean = total / count
        found[name] = mean, (square / count - mean**2).clamp(min=0)
    return found
