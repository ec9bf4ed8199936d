"""From a detector's raw output maps to boxes: torchvision's anchors, coders and class-wise NMS.

NumPy only. This is the one part of a detector that stays in floating point after quantisation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from intaglio.detect.networks.spec import HeadSpec as HeadSpec
from intaglio.detect.networks.spec import spec_of as spec_of
from intaglio.errors import ModelError

Floats = NDArray[np.float64]
AT_ONCE = 512  # boxes that are all compared with each other; of more, each kept one with the others
_MAX_LOG_GROWTH = float(np.log(1000.0 / 16.0))  # torchvision's cap on dw and dh


@dataclass(frozen=True)
class Detections:
    """`boxes` (n, 4) x0 y0 x1 y1 in pixels, `scores` (n,) in 0..1 descending, `labels` (n,)."""

    boxes: Floats
    scores: Floats
    labels: NDArray[np.int64]


def decode(
    spec: HeadSpec, outputs: Sequence[ArrayLike], image_size: tuple[float, float]
) -> Detections:
    """Boxes in one image of `image_size` (height, width), clipped to it.

    `outputs` are real-valued maps (C, h, w) of this image, in the order of `spec.channels`.
    Equal scores keep the order of level, row, column, anchor, class.
    """
    maps = [np.asarray(output, dtype=np.float64) for output in outputs]
    check_maps(spec, maps)
    levels = spec.levels
    boxes, scores, labels = [], [], []
    for level in range(levels):
        rows, columns = maps[level].shape[1:]
        flat = level_scores(spec, maps, level).ravel()
        keep = np.flatnonzero(flat > spec.score_threshold)
        keep = keep[np.argsort(-flat[keep], kind="stable")[: spec.topk]]
        at, label = np.divmod(keep, len(spec.classes))
        regression = _by_anchor(maps[levels + level], spec.anchors)[at]
        boxes.append(to_boxes(spec, anchor_boxes(spec, level, rows, columns)[at], regression))
        scores.append(flat[keep])
        labels.append(label)
    height, width = image_size
    box = np.concatenate(boxes).clip(0.0, (width, height, width, height))
    score, label = np.concatenate(scores), np.concatenate(labels)
    kept = nms(box, score, label, spec.nms_iou, spec.max_detections)
    return Detections(box[kept], score[kept], label[kept])


def level_scores(spec: HeadSpec, maps: Sequence[Floats], level: int) -> Floats:
    """Scores (h * w * A, classes) of one level in 0..1; for FCOS the geometric mean of class and
    centre-ness."""
    likely = _sigmoid(_by_anchor(maps[level], spec.anchors))
    if spec.kind == "fcos":
        centred = _sigmoid(_by_anchor(maps[2 * spec.levels + level], 1))
        likely = np.sqrt(likely * centred)
    return likely


def to_boxes(spec: HeadSpec, anchors: Any, regression: Any, library: ModuleType = np) -> Any:
    """Boxes (n, 4) that `regression` (n, 4) makes of `anchors` (n, 4), not clipped.

    `library` is that of the arrays: numpy, or torch where gradients are wanted.
    """
    if spec.kind == "fcos":
        return _boxes_from_distances(anchors, regression, library)
    return _boxes_from_deltas(anchors, regression, library)


def nms(
    boxes: Floats,
    scores: Floats,
    labels: NDArray[np.int64],
    threshold: float,
    limit: int | None = None,
) -> NDArray[np.int64]:
    """Indices of the boxes kept, best first: greedy, within each label, ties by lower index.

    A box is dropped if its IoU with a kept box of its label exceeds `threshold`.
    """
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    if len(order) <= AT_ONCE:
        best_first, named = boxes[order], labels[order]
        free = ~((iou(best_first, best_first) > threshold) & (named[:, None] == named))
        alive = np.ones(len(order), dtype=np.bool_)
        while alive.any() and (limit is None or len(kept) < limit):
            best = int(alive.argmax())
            kept.append(int(order[best]))
            alive[best] = False
            alive &= free[best]
        return np.array(kept, dtype=np.int64)
    while len(order) and (limit is None or len(kept) < limit):
        best, order = order[0], order[1:]
        kept.append(int(best))
        rivals = labels[order] == labels[best]
        rivals[rivals] = iou(boxes[best : best + 1], boxes[order[rivals]])[0] > threshold
        order = order[~rivals]
    return np.array(kept, dtype=np.int64)


def iou(a: Floats, b: Floats) -> Floats:
    """Intersection over union of (n, 4) and (m, 4) boxes: (n, m); 0 where both are empty."""
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = a.T[:, :, None], b.T[:, None, :]
    width = np.minimum(ax1, bx1) - np.maximum(ax0, bx0)
    height = np.minimum(ay1, by1) - np.maximum(ay0, by0)
    shared = width.clip(0.0) * height.clip(0.0)
    union = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - shared
    ratio: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratio


@lru_cache(maxsize=64)
def anchor_boxes(spec: HeadSpec, level: int, rows: int, columns: int) -> Floats:
    """Anchors (rows * columns * A, 4), x0 y0 x1 y1, of a level; read-only.

    As in torchvision they are centred on (column * stride, row * stride), their corners rounded
    to whole pixels, ordered ratio first and size second. FCOS has one square of side `stride`.
    """
    stride = spec.strides[level]
    sizes = np.array(spec.anchor_sizes[level] if spec.kind == "retinanet" else [stride])
    root: Floats = np.sqrt(spec.anchor_ratios if spec.kind == "retinanet" else [1.0])
    widths, heights = (sizes / root[:, None]).ravel(), (sizes * root[:, None]).ravel()
    base: Floats = np.rint(np.stack([-widths, -heights, widths, heights], axis=1) / 2)
    y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    centres = np.stack([x, y, x, y], axis=2).reshape(-1, 1, 4) * float(stride)
    boxes: Floats = (centres + base).reshape(-1, 4)
    boxes.setflags(write=False)
    return boxes


def _boxes_from_distances(anchors: Any, distances: Any, library: ModuleType) -> Any:
    """FCOS: left, top, right, bottom in anchor sides, from the anchor's centre."""
    centre = (anchors[:, :2] + anchors[:, 2:]) / 2
    side = anchors[:, 2:] - anchors[:, :2]
    corners = [centre - distances[:, :2] * side, centre + distances[:, 2:] * side]
    return library.concatenate(corners, axis=1)


def _boxes_from_deltas(anchors: Any, deltas: Any, library: ModuleType) -> Any:
    """RetinaNet: (dx, dy) in anchor sides and the logarithm of the growth (dw, dh)."""
    side = anchors[:, 2:] - anchors[:, :2]
    centre = anchors[:, :2] + side / 2 + deltas[:, :2] * side
    half = side * library.exp(deltas[:, 2:].clip(max=_MAX_LOG_GROWTH)) / 2
    return library.concatenate([centre - half, centre + half], axis=1)


def _by_anchor(values: Floats, anchors: int) -> Floats:
    """(A * K, h, w) to (h * w * A, K)."""
    channels, rows, columns = values.shape
    split = values.reshape(anchors, channels // anchors, rows, columns)
    return split.transpose(2, 3, 0, 1).reshape(-1, channels // anchors)


def _sigmoid(x: Floats) -> Floats:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def check_maps(spec: HeadSpec, maps: Sequence[Floats]) -> None:
    """Raises ModelError unless the maps (C, h, w) of an image are those that `spec` describes."""
    channels = spec.channels
    if len(maps) != len(channels):
        raise ModelError(
            f"a {spec.kind} head with {spec.levels} levels must have {len(channels)} output maps, "
            f"not {len(maps)}; give the model the head description that fits it"
        )
    for i, (found, expected) in enumerate(zip(maps, channels, strict=True)):
        if found.ndim != 3 or found.shape[0] != expected:
            raise ModelError(
                f"output map {i} of a {spec.kind} head must have shape ({expected}, h, w), "
                f"not {found.shape}"
            )
        size = maps[i % spec.levels].shape[1:]
        if found.shape[1:] != size:
            raise ModelError(
                f"output map {i} of a {spec.kind} head must have the {size[0]}x{size[1]} locations"
                f" of its level's other maps, not {found.shape[1]}x{found.shape[2]}."
            )
