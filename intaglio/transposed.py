"""Transposed convolutions as convolutions: one kernel for each place of a block of the result.

Row Y of the whole result, Y = i * s + ky, has the remainder r of a division by the stride s, and

    y[q * s + r] = sum over m of x[q - m] * w[r + m * s]

so that every remainder has a kernel of ceil(k / s) taps, some of which may be 0. All of them make
channels of one convolution; a DepthToSpace puts them in their places, and a Crop takes off what the
padding of a transposed convolution leaves out. Where the kernel is the stride, nothing is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.ops import Crop, DepthToSpace, Padding, Pair, Select
from intaglio.views import Chosen


@dataclass(frozen=True)
class Phases:
    """The convolution (stride 1) of one that is transposed: weights (s * s * Cout, Cin / groups,
    T, T), its padding, and what comes behind it. `repeated`: for each of its output channels, the
    one of the transposed convolution's."""

    weight: NDArray[Any]
    padding: Padding
    groups: int
    repeated: tuple[int, ...]
    behind: tuple[Chosen, ...]


def phases(
    weight: NDArray[Any], size: Pair, result: Pair, stride: Pair, before: Pair, *,
    dilation: Pair = (1, 1), groups: int = 1,
) -> Phases:  # fmt: skip
    """Of weights (Cin, Cout / groups, kh, kw) on a map of `size` (H, W), of whose whole result the
    rows and columns from `before` on make a `result` (H', W')."""
    weight = dilated(weight, dilation)
    cin, each, *kernel = weight.shape
    taps = [-(-k // s) for k, s in zip(kernel, stride, strict=True)]
    skipped = [min(b // s, t - 1) for b, s, t in zip(before, stride, taps, strict=True)]
    padding, starts = [], []
    for k in (0, 1):
        starts.append(before[k] - skipped[k] * stride[k])
        rows = -(-(starts[k] + result[k]) // stride[k])  # of blocks
        first = taps[k] - 1 - skipped[k]
        padding += [first, max(0, rows - (size[k] + first - (taps[k] - 1)))]
    made = np.zeros((groups, stride[0], stride[1], each, cin // groups, *taps), weight.dtype)
    grouped = weight.reshape(groups, cin // groups, each, *kernel)
    for ky in range(kernel[0]):
        for kx in range(kernel[1]):
            (my, ry), (mx, rx) = divmod(ky, stride[0]), divmod(kx, stride[1])
            tap = grouped[:, :, :, ky, kx].transpose(0, 2, 1)
            made[:, ry, rx, :, :, taps[0] - 1 - my, taps[1] - 1 - mx] = tap
    own = np.arange(groups * each).reshape(groups, 1, each)
    repeated = own.repeat(stride[0] * stride[1], axis=1).reshape(-1).tolist()
    behind: list[Chosen] = []
    count = len(repeated)
    if groups > 1 and stride != (1, 1):  # blocks first, then groups
        order = np.arange(count).reshape(groups, -1, each).transpose(1, 0, 2).reshape(-1)
        behind.append(Select(output="", input="", channels=tuple(order.tolist())))
    if stride != (1, 1):
        behind.append(DepthToSpace(output="", input="", block=stride))
    sides = [
        (n + padding[2 * k] + padding[2 * k + 1] - taps[k] + 1) * stride[k]
        for k, n in enumerate(size)
    ]
    if starts != [0, 0] or tuple(sides) != tuple(result):
        rows, columns = ((a, a + n, 1) for a, n in zip(starts, result, strict=True))
        behind.append(Crop(output="", input="", rows=rows, columns=columns))
    return Phases(
        made.reshape(count, cin // groups, *taps), (padding[0], padding[1], padding[2], padding[3]),
        groups, tuple(repeated), tuple(behind),
    )  # fmt: skip


def dilated(weight: NDArray[Any], dilation: Pair) -> NDArray[Any]:
    """Kernels with zeros between their taps."""
    *head, kh, kw = weight.shape
    (dy, dx), found = dilation, weight
    if dilation != (1, 1):
        found = np.zeros((*head, dy * (kh - 1) + 1, dx * (kw - 1) + 1), weight.dtype)
        found[..., ::dy, ::dx] = weight
    return found
