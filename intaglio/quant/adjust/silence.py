"""Channels that can never leave their clamp get weights of 0, so that they choose no scale.

With a scale for each row that changes nothing. With one for all, a row that a huge factor was
folded into, and that never fires, would round every other row to 0.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from intaglio.quant.capture.graph import Conv, FloatGraph, Floats, Image
from intaglio.quant.capture.passes import per_input
from intaglio.quant.ranges.scales import Calibration

BEYOND = 4  # no grid reaches further beyond what was seen: headroom, and scales of powers of two


def silenced(graph: FloatGraph, calibration: Calibration) -> FloatGraph:
    """`graph` with those rows 0, where they are silent at every call site of their weight.

    Every grid holds 0, so that without its weights the channel is where it was: in its clamp.
    """
    weights = dict(graph.weights)
    for name, sites in graph.call_sites.items():
        silent = np.logical_and.reduce(
            [is_silent(site, weights[name], *box(graph, calibration, site.input)) for site in sites]
        )
        if silent.any():
            weights[name] = np.where(silent[:, None, None, None], 0.0, weights[name])
    return replace(graph, weights=weights)


def box(graph: FloatGraph, calibration: Calibration, tensor: str) -> tuple[float, float]:
    """What no code of a tensor stands outside of."""
    if isinstance(graph.producer[tensor], Image):
        return 0.0, 255.0
    (group,) = (g for g in calibration.groups if tensor in g.tensors)
    seen = calibration.seen[group.tensors[0]]
    far = BEYOND * max(abs(seen.lo), abs(seen.hi))
    return (0.0 if group.unsigned else -far), far


def is_silent(site: Conv, weight: Floats, lo: float, hi: float) -> Floats:
    """Of each output channel (Cout,): whether every input within [lo, hi] leaves it clamped."""
    border = (
        np.zeros(1) if site.pad_value is None else per_input(site.pad_value, weight, site.groups)
    )
    low, high = np.minimum(lo, border), np.maximum(hi, border)
    ends = weight * low, weight * high
    sums = [pick(*ends).sum(axis=(1, 2, 3)) for pick in (np.minimum, np.maximum)]
    values = [site.scale * total + site.shift for total in sums]
    below, above = np.maximum(*values) <= site.lo, np.minimum(*values) >= site.hi
    silent: Floats = below | above
    return silent
