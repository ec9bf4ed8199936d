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


def evaluated(kind: Any, truth: Any, rows: list[Any], most: list[int]) -> Any:
    """The evaluation, with at most so many boxes an image."""
    truth = copy.deepcopy(truth)
    made = kind(truth, truth.loadRes(copy.deepcopy(rows)), "bbox")
    made.params.imgIds, made.params.maxDets = list(IMAGES), most
    made.evaluate()
    made.accumulate()
    made.summarize()
    return made


@settings(max_examples=150, deadline=None)
@given(
    st.lists(TRUTH, max_size=12), st.lists(SEEN, min_size=1, max_size=24),
    st.sampled_from(([1, 10, 100], [1, 2, 3])),
)  # fmt: skip
def test_every_figure_is_pycocotools_own(truth: Any, seen: Any, most: list[int]) -> None:
    rows = [
        {"image_id": image, "category_id": category, "bbox": list(map(float, box)), "score": score}
        for (image, category), box, score in seen
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        data = truth_of(truth)
        ours, theirs = (evaluated(kind, data, rows, most) for kind in (Evaluation, COCOeval))
    for name in ("precision", "recall", "scores"):
        np.testing.assert_array_equal(ours.eval[name], theirs.eval[name], err_msg=name)
    assert ours.eval["counts"] == theirs.eval["counts"]
    np.testing.assert_array_equal(ours.stats, theirs.stats)
