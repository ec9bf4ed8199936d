"""What the real-valued network's tensors look like on the calibration images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from intaglio.detect.images import batch_size
from intaglio.errors import DataError, ModelError
from intaglio.ops import Shape
from intaglio.quant.capture.execute import run
from intaglio.quant.capture.graph import FloatGraph, Node
from intaglio.system.steps import Tell, quiet

BINS = 4096


@dataclass(frozen=True, eq=False)
class Histogram:
    """`counts` (BINS,) of the values that are not 0, between `lo` <= 0 and `hi` >= 0.

    Zeros, of which a ReLU makes many, are left out: every grid holds 0 exactly. `through` is the
    function of one value that alone reads them, as SiLU, whose error counts instead of theirs.
    """

    lo: float
    hi: float
    counts: torch.Tensor
    through: Callable[[torch.Tensor], torch.Tensor] | None = None

    @cached_property
    def centres(self) -> torch.Tensor:
        """Middles of the bins, float64."""
        edges = torch.linspace(self.lo, self.hi, len(self.counts) + 1, dtype=torch.float64)
        return (edges[1:] + edges[:-1]) / 2

    def percentiles(self, percent: float) -> tuple[float, float]:
        """The range outside which (100 - percent) % of the values lie, on each side."""
        total = float(self.counts.sum())
        above = torch.cumsum(self.counts, 0) / max(total, 1.0)
        step = (self.hi - self.lo) / len(self.counts)
        low = int((above < 1 - percent / 100).sum())
        high = int((above < percent / 100).sum()) + 1
        return min(self.lo + low * step, 0.0), max(self.lo + high * step, 0.0)


def check_images(images: NDArray[np.uint8]) -> Shape:
    """The shape (C, H, W) of calibration images. Raises DataError unless uint8 (N, C, H, W)."""
    array = np.asarray(images)
    if array.dtype != np.uint8:
        raise DataError(f"Images must be uint8 pixels, not {array.dtype}.")
    if array.ndim != 4:
        raise DataError(f"Images must have shape (N, C, H, W), not {array.shape}.")
    n, c, h, w = array.shape
    if n == 0:
        raise DataError("Calibration must have at least one image, not 0.")
    return c, h, w


def batches(images: NDArray[np.uint8], dtype: torch.dtype) -> Iterator[torch.Tensor]:
    """The images as floating pixels, a few at a time: less for large ones."""
    size = batch_size((images.shape[2], images.shape[3]))
    for first in range(0, len(images), size):
        yield torch.from_numpy(np.ascontiguousarray(images[first : first + size])).to(dtype)


def check_finite(node: Node, low: float, high: float) -> None:
    """Refuse values of a layer that are NaN or infinite."""
    if not np.isfinite([low, high]).all():
        raise ModelError(
            f"Layer {node.output!r} must be finite on the calibration images, not"
            f" [{low}, {high}]; check the weights and the normalisation."
        )


def observe(
    graph: FloatGraph, images: NDArray[np.uint8], group_of: Mapping[str, str], tell: Tell = quiet
) -> dict[str, Histogram]:
    """One histogram per group over the tensors that `group_of` names, in two runs.

    Raises ModelError where a layer's values are not finite.
    """
    ends: dict[str, tuple[float, float]] = dict.fromkeys(group_of.values(), (0.0, 0.0))

    def extend(node: Node, value: torch.Tensor) -> torch.Tensor:
        if node.output in group_of:
            low, high = (float(end) for end in torch.aminmax(value))
            check_finite(node, low, high)
            lo, hi = ends[group_of[node.output]]
            ends[group_of[node.output]] = (min(lo, low), max(hi, high))
        return value

    counts = {g: torch.zeros(BINS, dtype=torch.float64) for g in ends}

    def count(node: Node, value: torch.Tensor) -> torch.Tensor:
        if node.output in group_of:
            group = group_of[node.output]
            low, high = ends[group]
            if low < high:
                counts[group] += torch.histc(value[value != 0], BINS, low, high).double()
        return value

    done = 0
    with torch.no_grad():
        for visit in (extend, count):
            for batch in batches(images, torch.float32):
                tell("observing images", done, 2 * len(images))
                run(graph, batch, visit=visit)
                done += len(batch)
    return {g: Histogram(*ends[g], counts[g]) for g in ends}
