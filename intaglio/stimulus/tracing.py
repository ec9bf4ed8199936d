"""Every tensor of a run, by matrix products and without a compiler.

`sim.engine` is faster once its kernels for a Program are compiled, which takes longer than a whole
choice of frames. The integers are the same: a product in floats is taken only where it is exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.ops import Conv2d, Input, Ints
from intaglio.program import Program
from intaglio.sim.reference import conv2d, execute, narrowed, windows

EXACT = ((np.float32, 1 << 24), (np.float64, 1 << 53))  # sums below are exact, in any order


def traced(program: Program, images: NDArray[np.integer[Any]]) -> dict[str, Ints]:
    """All tensors, int64 (N, C, H, W) by name, as `sim.reference` has them."""
    tensors: dict[str, Ints] = {}
    for op in program.ops:
        match op:
            case Input():
                tensors[op.output] = np.asarray(images, np.int64)
            case Conv2d():
                tensors[op.output] = multiplied(op, tensors[op.input], program)
            case _:
                tensors[op.output] = execute(op, [tensors[n] for n in op.inputs], program)
    return tensors


def multiplied(op: Conv2d, x: Ints, program: Program) -> Ints:
    """The accumulators: a matrix product where one is exact."""
    lo, hi = program.proved_accumulator(op)
    most = max(-int(lo.min()), int(hi.max()))
    kind = next((kind for kind, limit in EXACT if most < limit), None)
    if kind is None or narrowed(op, program) is not None:
        return conv2d(op, x, program)[0]
    weight = program.constants[op.weight].array
    cout, cin, kh, kw = weight.shape
    groups = op.groups
    taps = windows(op, x, (kh, kw), op.outside(program.tensors[op.input])).astype(kind)
    n, size = taps.shape[1], taps.shape[3:]
    read = taps.reshape(kh * kw, n, groups, cin, -1).transpose(1, 2, 0, 3, 4)
    factors = weight.reshape(groups, cout // groups, cin, kh * kw).transpose(0, 1, 3, 2)
    left = factors.reshape(groups, cout // groups, -1).astype(kind)
    sums: NDArray[Any] = np.matmul(left, read.reshape(n, groups, kh * kw * cin, -1))
    return np.asarray(np.rint(sums), np.int64).reshape(n, cout, *size)
