"""Biases of systems that add them, as whole numbers, before they multiply.

Their unit is that of a sum, a weight's scale times the input's, so that a bias is off by up to half
a unit, which is many codes where sums are coarse. That belongs to the network that is quantised for
such a system: its fake-quantised twin has it as the integers do.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from intaglio import ops
from intaglio.fixed import Arithmetic
from intaglio.program import Program
from intaglio.quant.capture.graph import Add, Conv, FloatGraph, Floats, Mean, Multiply, Scaled
from intaglio.quant.ranges.fake import Rules
from intaglio.quant.ranges.scales import Scales

BITS = 31  # beside the sign


def fitted(graph: FloatGraph, scales: Scales, arithmetic: Arithmetic) -> tuple[FloatGraph, Scales]:
    """`graph` with whole biases, where `arithmetic` has such; in float32, which has no others,
    weights too, of scales at which every bias fits. In TFLite's form every scale is a float32, as
    its files have them."""
    if arithmetic.product == "single":
        scales = widened(graph, scales)
    elif arithmetic.forms == "own":
        return graph, scales
    elif arithmetic.forms == "tflite":
        graph, scales = in_float32(graph, scales)
    nodes = tuple(
        replace(node, shift=whole(node, scales)) if isinstance(node, Scaled) else node
        for node in graph.nodes
    )
    return replace(graph, nodes=nodes), scales


def in_float32(graph: FloatGraph, scales: Scales) -> tuple[FloatGraph, Scales]:
    """Grids, and the scale of every output channel, weights and norm together, as float32."""
    grids = {
        name: replace(grid, scale=float(np.float32(grid.scale)))
        for name, grid in scales.grids.items()
    }
    scales = replace(scales, grids=grids)

    def snapped(node: Scaled) -> Scaled:
        if isinstance(node, Mean) and node.averages:
            return node
        codes = scales.weights[node.weight].scale if isinstance(node, Conv) else 1.0
        held = np.where(codes == 0, 1.0, codes)
        return replace(node, scale=(node.scale * held).astype(np.float32).astype(float) / held)

    nodes = tuple(snapped(n) if isinstance(n, Scaled) else n for n in graph.nodes)
    return replace(graph, nodes=nodes), scales


def sums(node: Scaled, scales: Scales) -> tuple[Floats, Floats]:
    """Of each output channel (C,): what one sum stands for, and how far sums reach, of raw codes
    and of those without zero point."""
    x, channels = scales.grids[node.input], node.shape[0]
    largest = float(max(abs(x.type.lo), abs(x.type.hi)) + abs(x.zero_point))
    unit, count = x.scale * node.scale, np.ones(channels)
    if isinstance(node, Conv):
        weight = scales.weights[node.weight]
        unit, count = unit * weight.scale, np.abs(weight.codes).sum(axis=(1, 2, 3)).astype(float)
    elif isinstance(node, Mean):
        count *= node.count
    elif isinstance(node, Multiply):
        gate = scales.grids[node.gate]
        unit = unit * gate.scale
        count *= max(abs(gate.type.lo), abs(gate.type.hi)) + abs(gate.zero_point)
    return unit, count * largest


def rules(graph: FloatGraph, scales: Scales, program: Program) -> Rules:
    """How `program` rounds what it makes of `graph`. In two steps, S is 31 and what brings the
    ratio to 31 bits, whether or not the channel is a constant in the Program."""
    rests = {}
    for node in graph.nodes:
        if isinstance(node, Scaled):
            ratio = sums(node, scales)[0] / scales.grids[node.output].scale
            rests[node.output] = np.maximum(-np.frexp(ratio)[1], 0).astype(np.int64)
        elif isinstance(node, Add):
            op = program.producer[node.output]
            assert isinstance(op, ops.Add)
            rests[node.output] = np.array([max(op.shift - 31, 0)])
    return Rules(program.arithmetic.rounding, rests)


def whole(node: Scaled, scales: Scales) -> Floats:
    """Its shift in whole units. A channel without weights has no unit, and one whose bias leaves
    32 bits keeps it: see `multiplier.scaling`."""
    unit, reach = sums(node, scales)
    counted = (reach > 0) & (unit != 0)
    bias = np.floor(node.shift / np.where(counted, unit, 1.0) + 0.5)
    counted &= np.abs(bias) + reach < 2.0**BITS
    return np.where(counted, bias * unit, node.shift)


def widened(graph: FloatGraph, scales: Scales) -> Scales:
    """Weights at coarser scales, by powers of two, in rows whose bias would leave 32 bits: one far
    larger than what the weights add to it. onnxruntime's quantiser does the like."""
    weights = dict(scales.weights)
    for name, sites in graph.call_sites.items():
        found = weights[name]
        more = np.max([missing_bits(site, scales) for site in sites], axis=0)
        if more.any():
            factor = np.ldexp(1.0, more)
            codes = np.floor(found.codes / factor[:, None, None, None] + 0.5).astype(np.int64)
            weights[name] = replace(found, codes=codes, scale=found.scale * factor)
    return replace(scales, weights=weights)


def missing_bits(site: Conv, scales: Scales) -> NDArray[np.int64]:
    """Of each output channel (Cout,): by how many bits bias and sums together exceed 32; 0 where
    they do not, and for channels that never leave an end of their clamp."""
    unit, reach = sums(site, scales)
    unit, (low, high) = np.abs(unit), scales.grids[site.output].range
    below = site.shift + reach * unit <= max(site.lo, low)
    above = site.shift - reach * unit >= min(site.hi, high)
    counted = (reach > 0) & (unit > 0) & ~below & ~above
    total = np.abs(site.shift) / np.where(counted, unit, 1.0) + reach
    needed = np.ceil(np.log2(np.where(counted, total, 1.0) + 1)).astype(np.int64)
    found: NDArray[np.int64] = np.maximum(needed - BITS, 0)
    return found
