"""Where the boxes of a level begin: anchors (h * w * A, 4), x0 y0 x1 y1 in pixels."""

import numpy as np

from intaglio.detect.heads.maps import Floats
from intaglio.detect.networks.spec import HeadSpec


def on_grid(base: Floats, stride: float, offset: float, rows: int, columns: int) -> Floats:
    """Boxes `base` (A, 4) around (0, 0) moved to ((column + offset) * stride, (row + offset) *
    stride) of every location; row first, then column, then anchor."""
    y, x = np.meshgrid(np.arange(rows) + offset, np.arange(columns) + offset, indexing="ij")
    centres = np.stack([x, y, x, y], axis=2).reshape(-1, 1, 4) * float(stride)
    boxes: Floats = (centres + base).reshape(-1, 4)
    return boxes


def around(widths: Floats, heights: Floats) -> Floats:
    """Boxes (A, 4) of these sides around (0, 0)."""
    return np.stack([-widths, -heights, widths, heights], axis=1) / 2


def rounded(spec: HeadSpec, level: int, rows: int, columns: int) -> Floats:
    """torchvision's: corners rounded to whole pixels around (column * stride, row * stride),
    ratios slower than sizes. FCOS has one square of side `stride`."""
    stride = spec.strides[level]
    sizes = np.array(spec.anchor_sizes[level] if spec.anchor_sizes else [stride], dtype=np.float64)
    root: Floats = np.sqrt(spec.anchor_ratios or [1.0])
    widths, heights = (sizes / root[:, None]).ravel(), (sizes * root[:, None]).ravel()
    return on_grid(np.rint(around(widths, heights)), stride, 0.0, rows, columns)


def shaped(spec: HeadSpec, level: int, rows: int, columns: int) -> Floats:
    """`anchor_shapes`, or squares of `anchor_sizes`, around the locations' centres."""
    if spec.anchor_shapes:
        widths, heights = np.array(spec.anchor_shapes[level], dtype=np.float64).T
    else:
        widths = heights = np.array(spec.anchor_sizes[level], dtype=np.float64)
    return on_grid(around(widths, heights), spec.strides[level], spec.offset, rows, columns)


def cornered(spec: HeadSpec, level: int, rows: int, columns: int) -> Floats:
    """Squares of side `stride`, `repeats` times each, around (column * stride, row * stride)."""
    return cells(spec, level, rows, columns, 0.0)


def centred(spec: HeadSpec, level: int, rows: int, columns: int) -> Floats:
    """Squares of side `stride` around the locations' centres, which lie at `offset`."""
    return cells(spec, level, rows, columns, spec.offset)


def cells(spec: HeadSpec, level: int, rows: int, columns: int, offset: float) -> Floats:
    """Squares of side `stride`, `repeats` times each, around a place of each location."""
    stride = spec.strides[level]
    sides = np.full(spec.repeats, float(stride))
    return on_grid(around(sides, sides), stride, offset, rows, columns)
