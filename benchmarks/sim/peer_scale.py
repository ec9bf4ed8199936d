"""A convolution's Requant in the terms of runtimes that scale in floats."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from intaglio.ops import Conv2d, Requant
from intaglio.program import Program


def ratio_and_bias(
    program: Program, op: Conv2d, requant: Requant
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each output channel M / 2^S, never 0, and the bias in units of the sum of
    (code - zero point) * weight, before the result's zero point is added."""
    weight = program.constants[op.weight].array
    tables = (program.constants[n].array for n in (requant.multiplier, requant.bias))
    m, b = (np.resize(table, weight.shape[0]) for table in tables)
    m = np.maximum(np.abs(m), 1)
    ratio = m / 2.0 ** np.resize(requant.shift, weight.shape[0])
    inside = int(program.tensors[op.input].zero_point[0]) * weight.sum(axis=(1, 2, 3))
    point = int(program.tensors[requant.output].zero_point[0])
    return ratio, np.clip(b / m - point / ratio + inside, -(2**30), 2**30)
