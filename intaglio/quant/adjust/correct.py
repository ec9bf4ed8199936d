"""Bias correction: rounding weights and inputs shifts a convolution's mean; shift it back."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray

from intaglio.errors import ModelError
from intaglio.quant.capture.execute import compute, tensors
from intaglio.quant.capture.graph import Conv, FloatGraph, Image, Node
from intaglio.quant.ranges.fake import FakeQuant
from intaglio.quant.ranges.scales import Scales
from intaglio.system.steps import Tell, quiet

PIXELS = 2**20  # of all images together: every live tensor of all of them is held at once


def corrected(
    graph: FloatGraph, scales: Scales, images: NDArray[np.uint8], tell: Tell = quiet
) -> FloatGraph:
    """`graph` with each convolution's `shift` changed so that, on the images, every channel's mean
    before the clamp is the real-valued network's.

    Layers are done in order, each reading what the corrected layers before it give. The call sites
    of a shared weight are corrected separately: a level's shift is in its own table. Costs no
    hardware; the idea is Nagel et al.'s "Data-Free Quantization" (2019), measured instead of
    derived.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(images[spread(*images.shape)])).float()
    fake = FakeQuant(graph, scales)
    weights = tensors(graph, pixels.dtype)
    last = {name: node for node in graph.nodes for name in node.inputs}
    real: dict[str, torch.Tensor] = {}
    rounded: dict[str, torch.Tensor] = {}
    nodes: list[Node] = []
    for number, node in enumerate(graph.nodes):
        tell("layer", number, len(graph.nodes))
        if isinstance(node, Image):
            real[node.output] = rounded[node.output] = pixels
            nodes.append(node)
            continue
        with torch.no_grad():
            theirs, ours = ([side[n] for n in node.inputs] for side in (real, rounded))
            made = node
            if isinstance(node, Conv):
                open_node = replace(node, lo=-inf, hi=inf)
                error = compute(open_node, theirs, weights) - compute(open_node, ours, fake.weights)
                mean = error.double().mean(dim=(0, 2, 3)).numpy()
                if not np.isfinite(mean).all():
                    raise ModelError(
                        f"Layer {node.output!r} must stay finite on the calibration images when it"
                        " is rounded, not overflow float32; give it smaller weights."
                    )
                made = replace(node, shift=node.shift + mean)
            real[node.output] = compute(node, theirs, weights)
            rounded[node.output] = fake.rounded(node, compute(made, ours, fake.weights))
        nodes.append(made)
        for name in node.inputs:
            if last[name] is node:
                real.pop(name, None)
                rounded.pop(name, None)
    return replace(graph, nodes=tuple(nodes))


def spread(count: int, channels: int, height: int, width: int) -> NDArray[np.int64]:
    """Which of so many images are looked at: all, or evenly as many as are held at once. The first
    ones of a folder may be of one kind."""
    held = min(count, max(1, PIXELS // (height * width)))
    chosen: NDArray[np.int64] = np.arange(held) * count // held
    return chosen
