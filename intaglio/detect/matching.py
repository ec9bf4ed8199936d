"""pycocotools' evaluation of boxes, with its definition and its figures to the last bit, faster.

pycocotools walks every detection of every image past every box of its class for each of four ranges
of size and ten overlaps, once all images are there. Few detections overlap a box by half, and few
ranges differ in the boxes of an image: those alone are walked here, image by image as they come,
and the curves at the end are made by NumPy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.cocoeval import COCOeval
from pycocotools.mask import iou

Bits = NDArray[np.bool_]
Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]
Box = Mapping[str, Any]  # an annotation, as `annotations.read_annotations` has it
Near = Sequence[tuple[int, list[tuple[int, float]]]]
CLOSE = 1 - 1e-10  # an overlap that counts as whole


@dataclass(frozen=True)
class Matched:
    """The detections of an image, those that it may have, class by class and the best of each
    first: category, place among those of its class, score and area. `pairs` (m, 5) are what they
    match: range of size, threshold, detection, whether it is right and whether it does not count.
    `boxes` (ranges, categories) are how many are to be found."""

    categories: Numbers
    ranks: Numbers
    scores: Floats
    areas: Floats
    pairs: Numbers
    boxes: Numbers


class Evaluation:
    """COCOeval for "bbox" with the categories given; `params` are pycocotools' own."""

    def __init__(self, categories: Sequence[int], most: Sequence[int] | None = None) -> None:
        self._made = COCOeval(iouType="bbox")
        self.params = self._made.params
        self.params.catIds = sorted(categories)
        self.params.maxDets = sorted(most or self.params.maxDets)
        self._thresholds = [min(t, CLOSE) for t in self.params.iouThrs]
        self._images: dict[int, Matched] = {}

    def add(
        self, image: int, truth: Sequence[Box], boxes: Floats, scores: Floats, categories: Numbers
    ) -> None:
        """An image, once: its annotations, and its detections (n, 4), x, y, width, height."""
        order, ranks = ranked(scores, categories, self.params.maxDets[-1])
        boxes, scores, categories = boxes[order], scores[order], categories[order]
        pairs: list[tuple[int, int, int, int, int]] = []
        wanted = np.zeros((len(self.params.areaRng), len(self.params.catIds)), dtype=np.int64)
        if truth:
            near = list(self._near(truth, boxes, categories))
            places = [self.params.catIds.index(box["category_id"]) for box in truth]
            known: dict[tuple[bool, ...], list[tuple[int, int, int]]] = {}
            for a, (least, most) in enumerate(self.params.areaRng):
                unwanted = tuple(
                    bool(box["iscrowd"] or box["area"] < least or box["area"] > most)
                    for box in truth
                )
                for place, left in zip(places, unwanted, strict=True):
                    wanted[a, place] += not left
                if near and unwanted not in known:
                    known[unwanted] = list(matches(truth, near, unwanted, self._thresholds))
                pairs += [
                    (a, t, n, truth[box]["id"] != 0, unwanted[box])
                    for t, n, box in known.get(unwanted, ())
                ]
        areas = boxes[:, 2] * boxes[:, 3]
        found = np.array(pairs, dtype=np.int64).reshape(-1, 5)
        self._images[image] = Matched(categories, ranks, scores, areas, found, wanted)

    def finish(self) -> Any:
        """The COCOeval, with its arrays in `eval` and its figures in `stats`: precision at each
        recall, for each overlap, class, range of size and number of boxes."""
        p, images = self.params, [self._images[image] for image in sorted(self._images)]
        counts = (len(p.iouThrs), len(p.recThrs), len(p.catIds), len(p.areaRng), len(p.maxDets))
        precision, scores = -np.ones(counts), -np.ones(counts)
        recall = -np.ones((counts[0], *counts[2:]))
        whole = joined(images)
        for k, category in enumerate(p.catIds):
            own = np.flatnonzero(whole.categories == category)
            found, ranks, areas = whole.scores[own], whole.ranks[own], whole.areas[own]
            order = np.argsort(-found, kind="mergesort")
            mine = whole.pairs[whole.categories[whole.pairs[:, 2]] == category]
            for a, (least, most) in enumerate(p.areaRng):
                boxes = int(whole.boxes[a, k])
                if boxes == 0:
                    continue
                right, ignored = np.zeros((2, counts[0], len(own)), dtype=bool)
                _, t, n, is_right, is_ignored = mine[mine[:, 0] == a].T
                at = t, np.searchsorted(own, n)
                right[at], ignored[at] = is_right, is_ignored
                ignored |= ~right & ((areas < least) | (areas > most))
                for m, limit in enumerate(p.maxDets):
                    taken = order[ranks[order] < limit]
                    curve = curves(
                        right[:, taken], ignored[:, taken], found[taken], boxes, p.recThrs
                    )
                    precision[:, :, k, a, m], recall[:, k, a, m], scores[:, :, k, a, m] = curve
        self._made.eval = {
            "params": p, "counts": list(counts), "precision": precision, "recall": recall,
            "scores": scores,
        }  # fmt: skip
        self._made.summarize()
        return self._made

    def _near(
        self, truth: Sequence[Box], boxes: Floats, categories: Numbers
    ) -> Iterator[tuple[int, list[tuple[int, float]]]]:
        """Each detection that is near a box of its class, the lowest first: which, and by what
        overlap."""
        least = min(*self._thresholds, CLOSE)
        theirs = np.array([box["category_id"] for box in truth])
        crowd = [int(box["iscrowd"]) for box in truth]
        if not len(boxes):
            return
        overlaps = iou(boxes, np.array([box["bbox"] for box in truth], dtype=np.float64), crowd)
        found: dict[int, list[tuple[int, float]]] = {}
        near = (overlaps >= least) & (categories[:, None] == theirs)
        for n, box in zip(*map(np.ndarray.tolist, np.nonzero(near)), strict=True):
            found.setdefault(n, []).append((box, float(overlaps[n, box])))
        yield from found.items()


def ranked(scores: Floats, categories: Numbers, most: int) -> tuple[Numbers, Numbers]:
    """Detections by category, and in each the best first, at most so many, equal ones as they come;
    and the place of each in its category."""
    order = np.lexsort((-scores, categories))
    named = categories[order]
    ranks = np.arange(len(order)) - np.searchsorted(named, named)
    taken = ranks < most
    return order[taken], ranks[taken]


def joined(images: Sequence[Matched]) -> Matched:
    """All images, of which there is one at least, as one; detections are numbered on."""
    pairs, first = [], 0
    for one in images:
        pairs.append(one.pairs + np.array([0, 0, first, 0, 0]))
        first += len(one.scores)
    return Matched(
        np.concatenate([one.categories for one in images]),
        np.concatenate([one.ranks for one in images]),
        np.concatenate([one.scores for one in images]),
        np.concatenate([one.areas for one in images]),
        np.concatenate(pairs),
        np.sum([one.boxes for one in images], axis=0),
    )


def matches(
    truth: Sequence[Box], near: Near, unwanted: Sequence[bool], thresholds: Sequence[float]
) -> Iterator[tuple[int, int, int]]:
    """(number of the threshold, detection, box) of each detection that has one: best first, they
    take the box that they overlap most, the last of equals; one that is unwanted only where there
    is no other. A box is taken once, but for a crowd's."""
    if any(unwanted):  # they come last
        near = [(n, sorted(found, key=lambda one: unwanted[one[0]])) for n, found in near]
    for t, threshold in enumerate(thresholds):
        taken: set[int] = set()
        for n, found in near:
            best, most = -1, threshold
            for box, overlap in found:
                if box in taken and not truth[box]["iscrowd"]:
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
