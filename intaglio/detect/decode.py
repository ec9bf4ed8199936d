"""From a detector's raw output maps to boxes: a head's formulas, then class-wise suppression.

NumPy only. This is the one part of a detector that stays in floating point after quantisation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from intaglio.detect.heads.coders import landmarks
from intaglio.detect.heads.kinds import FORMULAS
from intaglio.detect.heads.maps import Floats, check_maps, parts_at
from intaglio.detect.heads.scores import scored
from intaglio.detect.networks.spec import HeadSpec as HeadSpec
from intaglio.detect.networks.spec import spec_of as spec_of

AT_ONCE = 512  # boxes whose pairs are looked up at once; of more, each kept one meets the others


@dataclass(frozen=True)
class Detections:
    """`boxes` (n, 4) x0 y0 x1 y1 in pixels, `scores` (n,) in 0..1 descending, `labels` (n,), and
    `landmarks` (n, points, 2) x y in pixels where the head has them."""

    boxes: Floats
    scores: Floats
    labels: NDArray[np.int64]
    landmarks: Floats | None = None


def decode(
    spec: HeadSpec, outputs: Sequence[ArrayLike], image_size: tuple[float, float]
) -> Detections:
    """Boxes in one image of `image_size` (height, width), clipped to it.

    `outputs` are real-valued maps (C, h, w) of this image, in the order of `spec.channels`.
    Equal scores keep the order of level, row, column, anchor, class.
    """
    maps = [np.asarray(output, dtype=np.float64) for output in outputs]
    check_maps(spec, maps)
    levels = [candidates(spec, maps, level) for level in range(spec.levels)]
    box, score, label, points = (np.concatenate(each) for each in zip(*levels, strict=True))
    height, width = image_size
    clipped = box.clip(0.0, (width, height, width, height))
    compared = clipped if FORMULAS[spec.kind].clip_first else box
    of = np.zeros_like(label) if spec.across else label
    kept = nms(compared, score, of, spec.nms_iou, spec.max_detections)
    found = points[kept] if spec.points else None
    return Detections(clipped[kept], score[kept], label[kept], found)


def candidates(
    spec: HeadSpec, maps: Sequence[Floats], level: int
) -> tuple[Floats, Floats, NDArray[np.int64], Floats]:
    """The best of a level, at most `topk` above `score_threshold`, best first: boxes (n, 4), scores
    (n,), labels (n,) and landmarks (n, points, 2)."""
    parts, formulas = parts_at(spec, maps, level), FORMULAS[spec.kind]
    scores = scored(spec, parts, root=formulas.root)
    least = spec.score_threshold
    likely = scores >= least if formulas.reached else scores > least
    if spec.one_class:
        likely &= np.arange(scores.shape[1]) == scores.argmax(axis=1)[:, None]
    flat, keep = scores.ravel(), np.flatnonzero(likely)
    keep = keep[np.argsort(-flat[keep], kind="stable")[: spec.topk]]
    at, label = np.divmod(keep, len(spec.classes))
    anchors = anchor_boxes(spec, level, *maps[spec.place(0, level)].shape[1:])[at]
    points = np.zeros((len(at), 0, 2))
    if spec.points:
        points = landmarks(spec, anchors, parts["points"][at])
    return to_boxes(spec, level, anchors, parts["box"][at]), flat[keep], label, points


def level_scores(spec: HeadSpec, maps: Sequence[Floats], level: int) -> Floats:
    """Scores (h * w * A, classes) of one level in 0..1: of classes, times the location's quality
    where the head has one; `fcos` and `yunet` take the square root of that."""
    scores: Floats = scored(spec, parts_at(spec, maps, level), root=FORMULAS[spec.kind].root)
    return scores


def to_boxes(
    spec: HeadSpec, level: int, anchors: Any, regression: Any, library: ModuleType = np
) -> Any:
    """Boxes (n, 4) that `regression` (n, numbers of a box) makes of `anchors` (n, 4), not clipped.

    `library` is that of the arrays: numpy, or torch where gradients are wanted.
    """
    return FORMULAS[spec.kind].boxes(spec, level, anchors, regression, library)


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
    if len(order) <= AT_ONCE:
        return order[survivors(boxes[order], labels[order], threshold)[:limit]]
    kept: list[int] = []
    while len(order) and (limit is None or len(kept) < limit):
        best, order = order[0], order[1:]
        kept.append(int(best))
        rivals = labels[order] == labels[best]
        rivals[rivals] = iou(boxes[best : best + 1], boxes[order[rivals]])[0] > threshold
        order = order[~rivals]
    return np.array(kept, dtype=np.int64)


def survivors(boxes: Floats, labels: NDArray[np.int64], threshold: float) -> NDArray[np.int64]:
    """The same of a few boxes that are in order: every pair of a label is looked up at once."""
    count = len(labels)
    by_label = np.argsort(labels, kind="stable")
    named = labels[by_label]
    worse_ones = np.searchsorted(named, named, side="right") - np.arange(1, count + 1)
    first = np.repeat(np.arange(count), worse_ones)
    starts = np.cumsum(worse_ones) - worse_ones
    second = first + 1 + np.arange(len(first)) - starts[first]
    corners = boxes[by_label].T.copy()
    rivals = overlaps(corners[:, first], corners[:, second]) > threshold
    better, worse = first[rivals], second[rivals].tolist()
    ends = np.bincount(better, minlength=count).cumsum().tolist()
    alive = [True] * count
    for one, (start, end) in enumerate(pairwise([0, *ends])):
        if alive[one]:
            for other in worse[start:end]:
                alive[other] = False
    return np.sort(by_label[np.array(alive, dtype=np.bool_)])


def iou(a: Floats, b: Floats) -> Floats:
    """Intersection over union of (n, 4) and (m, 4) boxes: (n, m); 0 where both are empty."""
    return overlaps(a.T[:, :, None], b.T[:, None, :])


def overlaps(a: Floats, b: Floats) -> Floats:
    """The same of boxes (4, ...) side by side."""
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = a, b
    width = np.minimum(ax1, bx1) - np.maximum(ax0, bx0)
    height = np.minimum(ay1, by1) - np.maximum(ay0, by0)
    shared = width.clip(0.0) * height.clip(0.0)
    union = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - shared
    ratio: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratio


@lru_cache(maxsize=64)
def anchor_boxes(spec: HeadSpec, level: int, rows: int, columns: int) -> Floats:
    """Anchors (rows * columns * A, 4), x0 y0 x1 y1, of a level; read-only."""
    boxes = FORMULAS[spec.kind].anchors(spec, level, rows, columns)
    boxes.setflags(write=False)
    return boxes
