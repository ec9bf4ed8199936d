"""pycocotools' evaluation of boxes, with its definition and its figures to the last bit, faster.

pycocotools walks every detection of every image past every box of its class for each of four ranges
of size and ten overlaps. Few detections overlap a box by half, and few ranges differ in the boxes
of an image: those alone are walked here, and the curves are made by NumPy.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.cocoeval import COCOeval
from pycocotools.mask import iou

Bits = NDArray[np.bool_]
CLOSE = 1 - 1e-10  # an overlap that counts as whole


@dataclass(frozen=True)
class Column:
    """A class in one image: `scores` and `areas` of its detections, best first, those that an image
    may have; its boxes; and of each detection that is `near` any, which, and by what overlap.
    `matched` are the `matches` that are known, by which boxes are unwanted."""

    scores: list[float]
    areas: list[float]
    boxes: list[dict[str, Any]]
    near: list[tuple[int, list[tuple[int, float]]]]
    matched: dict[tuple[bool, ...], list[tuple[int, int, int]]] = field(default_factory=dict)


class Evaluation(COCOeval):  # type: ignore[misc]  # without types
    """As COCOeval for "bbox" with categories; `eval` has the same arrays."""

    def evaluate(self) -> None:
        """Make ready; what COCOeval does here is done with the curves."""
        p = self.params
        p.imgIds, p.catIds = list(np.unique(p.imgIds)), list(np.unique(p.catIds))
        p.maxDets = sorted(p.maxDets)
        self._prepare()
        self._near = dict(self._overlaps())
        self._paramsEval = copy.deepcopy(p)

    def accumulate(self, p: Any = None) -> None:
        """Precision at each recall, for each overlap, class, range of size and number of boxes."""
        p = self.params
        counts = (len(p.iouThrs), len(p.recThrs), len(p.catIds), len(p.areaRng), len(p.maxDets))
        precision, scores = -np.ones(counts), -np.ones(counts)
        recall = -np.ones((counts[0], *counts[2:]))
        for k, category in enumerate(p.catIds):
            columns = list(self._columns(category))
            found = np.array([s for column in columns for s in column.scores], dtype=np.float64)
            rank = np.array([n for column in columns for n in range(len(column.scores))], dtype=int)
            order = np.argsort(-found, kind="mergesort")
            for a, area in enumerate(p.areaRng):
                right, ignored, boxes = self._matched(columns, area)
                if boxes == 0:
                    continue
                for m, most in enumerate(p.maxDets):
                    taken = order[rank[order] < most]
                    curve = curves(
                        right[:, taken], ignored[:, taken], found[taken], boxes, p.recThrs
                    )
                    precision[:, :, k, a, m], recall[:, k, a, m], scores[:, :, k, a, m] = curve
        self.eval = {
            "params": p, "counts": list(counts), "precision": precision, "recall": recall,
            "scores": scores,
        }  # fmt: skip

    def _overlaps(self) -> Iterator[tuple[int, list[tuple[int, float]]]]:
        """Each detection, by its id, that is near a box of its class: which of those in its image,
        and by what overlap. Of an image all at once: pycocotools would be asked for each class."""
        least = min(*self.params.iouThrs, CLOSE)
        for image in self.params.imgIds:
            named = [
                (category, number, box)
                for category in self.params.catIds
                for number, box in enumerate(self._gts.get((image, category), ()))
            ]
            seen = self.cocoDt.imgToAnns.get(image)
            if not named or not seen:
                continue
            crowd = [int(box["iscrowd"]) for _, _, box in named]
            overlaps = iou([one["bbox"] for one in seen], [box["bbox"] for *_, box in named], crowd)
            found: dict[int, list[tuple[int, float]]] = {}
            for n, k in zip(*map(np.ndarray.tolist, np.nonzero(overlaps >= least)), strict=True):
                category, number, _ = named[k]
                if seen[n]["category_id"] == category:
                    found.setdefault(seen[n]["id"], []).append((number, float(overlaps[n, k])))
            yield from found.items()

    def _columns(self, category: int) -> Iterator[Column]:
        """Of every image that has any, in order."""
        for image in self.params.imgIds:
            boxes, seen = self._gts.get((image, category)), self._dts.get((image, category))
            if not boxes and not seen:
                continue
            seen = sorted(seen or (), key=worst_last)[: self.params.maxDets[-1]]
            near = [(n, self._near[one["id"]]) for n, one in enumerate(seen)
                    if one["id"] in self._near]  # fmt: skip
            areas = [one["area"] for one in seen]
            yield Column([one["score"] for one in seen], areas, boxes or [], near)

    def _matched(self, columns: Sequence[Column], area: Sequence[float]) -> tuple[Bits, Bits, int]:
        """For every overlap and detection, whether it has a box and whether it does not count; and
        how many boxes there are to be found."""
        thresholds = [min(t, CLOSE) for t in self.params.iouThrs]
        areas = np.array([one for column in columns for one in column.areas])
        outside = (areas < area[0]) | (areas > area[1])
        shape = (len(thresholds), len(areas))
        right, ignored = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
        first = boxes = 0
        for column in columns:
            if column.boxes:
                unwanted = tuple(
                    bool(one["ignore"] or one["area"] < area[0] or one["area"] > area[1])
                    for one in column.boxes
                )
                boxes += unwanted.count(False)
                if column.near and unwanted not in column.matched:
                    column.matched[unwanted] = list(matches(column, unwanted, thresholds))
                for t, n, box in column.matched.get(unwanted, ()):
                    right[t, first + n] = column.boxes[box]["id"] != 0
                    ignored[t, first + n] = unwanted[box]
            first += len(column.scores)
        return right, ignored | (~right & outside), boxes


def worst_last(one: dict[str, Any]) -> float:
    """For sorting detections."""
    return -float(one["score"])


def matches(
    column: Column, unwanted: Sequence[bool], thresholds: Sequence[float]
) -> Iterator[tuple[int, int, int]]:
    """(number of the threshold, detection, box) of each detection that has one: best first, they
    take the box that they overlap most, the last of equals; one that is unwanted only where there
    is no other. A box is taken once, but for a crowd's."""
    near = column.near
    if any(unwanted):  # they come last
        near = [(n, sorted(found, key=lambda one: unwanted[one[0]])) for n, found in near]
    for t, threshold in enumerate(thresholds):
        taken: set[int] = set()
        for n, found in near:
            best, most = -1, threshold
            for box, overlap in found:
                if box in taken and not column.boxes[box]["iscrowd"]:
                    continue
                if best >= 0 and not unwanted[best] and unwanted[box]:
                    break
                if overlap >= most:
                    best, most = box, overlap
            if best >= 0:
                taken.add(best)
                yield t, n, best


def curves(
    right: Bits, ignored: Bits, found: NDArray[np.float64], boxes: int, recalls: Any
) -> tuple[Any, Any, Any]:
    """Of detections (thresholds, n), best first: precision at the `recalls`, the recall reached,
    and the scores there."""
    true = np.cumsum(right & ~ignored, axis=1).astype(float)
    false = np.cumsum(~right & ~ignored, axis=1).astype(float)
    reached = true / boxes
    exact = true / (false + true + np.spacing(1))
    exact = np.maximum.accumulate(exact[:, ::-1], axis=1)[:, ::-1]
    shape = (len(right), len(recalls))
    precision, scores = np.zeros(shape), np.zeros(shape)
    for t, row in enumerate(reached):
        places = np.searchsorted(row, recalls, side="left")
        places = places[places < len(row)]  # they ascend
        precision[t, : len(places)] = exact[t, places]
        scores[t, : len(places)] = found[places]
    return precision, reached[:, -1] if len(found) else np.zeros(len(right)), scores
