"""Figures of detections, with pycocotools' own evaluation as their definition."""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from intaglio.detect.matching import Evaluation

IMAGES, CATEGORIES = (1, 2, 5), (1, 3)
# Few places and sizes, so that many boxes overlap, and by the same; sizes on both sides of COCO's.
SIDES = st.sampled_from((4, 10, 31, 32, 33, 96, 97))
BOX = st.tuples(st.integers(0, 12), st.integers(0, 12), SIDES, SIDES)
PLACE = st.tuples(st.sampled_from(IMAGES), st.sampled_from(CATEGORIES))
TRUTH = st.tuples(PLACE, BOX, st.sampled_from((0, 0, 0, 1)))
SEEN = st.tuples(PLACE, BOX, st.sampled_from((0.1, 0.3, 0.3, 0.5, 0.9)))


def truth_of(found: list[Any]) -> Any:
    """A set of annotations."""
    made = COCO()
    made.dataset = {
        "info": {},
        "images": [{"id": n} for n in IMAGES],
        "categories": [{"id": n, "name": str(n)} for n in CATEGORIES],
        "annotations": [
            {
                "id": n, "image_id": image, "category_id": category, "bbox": list(map(float, box)),
                "area": float(box[2] * box[3]), "iscrowd": crowd,
            }
            for n, ((image, category), box, crowd) in enumerate(found, 1)
        ],
    }  # fmt: skip
    made.createIndex()
    return made


def theirs(truth: Any, rows: list[Any], most: list[int]) -> Any:
    """pycocotools' evaluation, with at most so many boxes an image."""
    truth = copy.deepcopy(truth)
    made = COCOeval(truth, truth.loadRes(copy.deepcopy(rows)), "bbox")
    made.params.imgIds, made.params.maxDets = list(IMAGES), most
    made.evaluate()
    made.accumulate()
    made.summarize()
    return made


def ours(truth: Any, rows: list[Any], most: list[int], images: list[int]) -> Any:
    """The same, of images as they come."""
    made = Evaluation(CATEGORIES, most)
    for image in images:
        seen = [row for row in rows if row["image_id"] == image]
        boxes = np.array([row["bbox"] for row in seen], dtype=np.float64).reshape(-1, 4)
        scores = np.array([row["score"] for row in seen], dtype=np.float64)
        named = np.array([row["category_id"] for row in seen], dtype=np.int64)
        made.add(image, truth.imgToAnns[image], boxes, scores, named)
    return made.finish()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(TRUTH, max_size=12), st.lists(SEEN, min_size=1, max_size=24),
    st.sampled_from(([1, 10, 100], [1, 2, 3])), st.permutations(IMAGES),
)  # fmt: skip
def test_every_figure_is_pycocotools_own(
    truth: Any, seen: Any, most: list[int], images: list[int]
) -> None:
    rows = [
        {"image_id": image, "category_id": category, "bbox": list(map(float, box)), "score": score}
        for (image, category), box, score in seen
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        data = truth_of(truth)
        own, found = theirs(data, rows, most), ours(data, rows, most, images)
    for name in ("precision", "recall", "scores"):
        np.testing.assert_array_equal(found.eval[name], own.eval[name], err_msg=name)
    assert found.eval["counts"] == own.eval["counts"]
    np.testing.assert_array_equal(found.stats, own.stats)
