"""A quantised graph on codes alone, in torch: what a trained network computes with the Program's
multipliers, so that training and simulator can be held against each other on every integer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from intaglio import ops
from intaglio.errors import ModelError
from intaglio.program import Program
from intaglio.quant.capture.execute import compute, linear
from intaglio.quant.capture.graph import (
    PASSING,
    Add,
    Conv,
    FloatGraph,
    Image,
    Multiply,
    Node,
    Scaled,
)
from intaglio.quant.ranges.observe import batches
from intaglio.quant.ranges.scales import Scales

EXACT = 2.0**52  # so that a half can be added to the sum without rounding


def integers(
    graph: FloatGraph, scales: Scales, program: Program, images: NDArray[np.uint8]
) -> dict[str, NDArray[np.int64]]:
    """Codes (N, C, H, W) of every result of `graph` on uint8 images (N, C, H, W).

    Convolutions and sums run on codes in float64, where integers below 2^52 are exact; multipliers,
    biases and shifts are those that `program` was lowered to. Raises ModelError for arithmetic
    other than halves-up rounding, for zero points, and for operations with a table.
    """
    if program.arithmetic.rounding != "RND":
        raise ModelError(f"Rounding must be RND to train for, not {program.arithmetic.rounding}.")
    weights = {n: torch.from_numpy(c.codes).double() for n, c in scales.weights.items()}
    parts: dict[str, list[NDArray[np.int64]]] = {name: [] for name in graph.outputs}
    with torch.no_grad():
        for pixels in batches(images, torch.float64):
            values: dict[str, torch.Tensor] = {}
            for node in graph.nodes:
                inputs = [values[name] for name in node.inputs]
                values[node.output] = value(node, inputs, weights, program) if inputs else pixels
            for name, tensor in graph.outputs.items():
                parts[name].append(values[tensor].long().numpy())
    return {name: np.concatenate(found) for name, found in parts.items()}


def value(
    node: Node,
    inputs: list[torch.Tensor],
    weights: Mapping[str, torch.Tensor],
    program: Program,
) -> torch.Tensor:
    """One node's codes."""
    if isinstance(node, (Image, *PASSING)):
        return compute(node, inputs, weights)
    op: Any = program.producer[node.output]
    if program.tensors[node.output].zero_point != (0,) or not isinstance(op, ops.Requant | ops.Add):
        raise ModelError(f"Tensor {node.output!r} must be symmetric and computed by multiplying.")
    if isinstance(op, ops.Add):
        assert isinstance(node, Add)
        total = inputs[0] * op.multiplier_a + inputs[1] * op.multiplier_b + op.bias
        return halves_up(total, torch.tensor(op.shift), op.lo, op.hi)
    assert isinstance(node, Scaled)
    if isinstance(node, Multiply):
        total = inputs[0] * inputs[1]
    else:
        total = linear(whole(node), inputs[0], weights)
    multiplier, bias = (table(program, name) for name in (op.multiplier, op.bias))
    shift = torch.tensor(op.shift, dtype=torch.float64)[:, None, None]
    return halves_up(total * multiplier + bias, shift, op.lo, op.hi)


def whole(node: Scaled) -> Scaled:
    """A node with the border values of the Program, which are whole."""
    if isinstance(node, Conv) and node.pad_value is not None:
        return replace(node, pad_value=np.floor(node.pad_value))
    return node


def table(program: Program, name: str) -> torch.Tensor:
    """A constant as (C or 1, 1, 1)."""
    return torch.from_numpy(program.constants[name].array).double().reshape(-1, 1, 1)


def halves_up(total: torch.Tensor, shift: torch.Tensor, lo: int, hi: int) -> torch.Tensor:
    """clamp(floor(total / 2^shift + 1/2)), exactly."""
    if float(total.abs().max()) >= EXACT:
        raise ModelError("Sums must be below 2^52 to be compared here; use fewer multiplier bits.")
    scaled = torch.ldexp(total, -shift.double())
    return torch.floor(scaled + 0.5).clamp(lo, hi)
