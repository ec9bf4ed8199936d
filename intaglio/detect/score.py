"""COCO's figures of a set of detections, by pycocotools. No torch."""

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from intaglio.detect.coco import CocoData
from intaglio.detect.decode import Detections
from intaglio.detect.matching import Evaluation
from intaglio.detect.networks.spec import NOTHING
from intaglio.errors import DataError, DataWarning

# pycocotools' twelve, in its order: average precision at IoU 0.50:0.95, 0.50, 0.75, and of small,
# medium and large objects; recall with at most 1, 10 and 100 boxes an image, and by size again.
FIGURES = (
    "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip
Found = Sequence[tuple[int, Detections]]
Result = dict[str, Any]


@dataclass(frozen=True)
class ClassScore:
    """AP of one category, in 0..1, over its `boxes` in the images; None where it has none."""

    name: str
    boxes: int
    ap: float | None


@dataclass(frozen=True)
class Scores:
    """`figures` by their name in FIGURES, in 0..1 or None where no object is of that size; and each
    category of the data set by itself."""

    figures: Mapping[str, float | None]
    classes: tuple[ClassScore, ...]

    @property
    def ap(self) -> float:
        """At IoU 0.50:0.95."""
        return self.figures["AP"] or 0.0

    @property
    def ap50(self) -> float:
        """At IoU 0.50."""
        return self.figures["AP50"] or 0.0

    @property
    def ap75(self) -> float:
        """At IoU 0.75."""
        return self.figures["AP75"] or 0.0


def check_names(data: CocoData, ids: Sequence[int], classes: Sequence[str]) -> None:
    """Raises DataError where the categories and classes share no name, or the images `ids` have no
    box."""
    if not set(classes) & set(data.names):
        raise DataError(
            f"the categories of {data.path} must share a name with the detector's classes "
            f"({', '.join(classes[:3])}, ...), not be {', '.join(data.names[:3])}, ...; rename the"
            " classes of one of the two."
        )
    if not any(len(data.truth(i).labels) for i in ids):
        raise DataError(
            f"{data.path} must have at least one box in the {len(ids)} images evaluated, not 0;"
            " take more images."
        )


def tell_names(data: CocoData, ids: Sequence[int], classes: Sequence[str]) -> None:
    """Warn of categories with boxes in the images `ids` that are no class, and of classes that are
    no category."""
    labels = {int(label) for i in ids for label in data.truth(i).labels}
    shown = [data.names[label] for label in sorted(labels)]
    missed = [name for name in shown if name not in classes]
    unused = [name for name in classes if name not in (*data.names, *NOTHING)]
    for names, known, what in (
        (missed, shown, "categories are no class of the detector, which misses their boxes"),
        (unused, classes, "classes are no category there, so that their boxes are left out"),
    ):
        if names:
            text = f"{data.path}: {len(names)} of {len(known)} {what}: {', '.join(names)}."
            warnings.warn(text, DataWarning, stacklevel=3)


def results(data: CocoData, found: Found, classes: Sequence[str]) -> list[Result]:
    """The detections in COCO's format: `image_id`, `category_id`, `bbox` (x, y, width, height in
    the picture's own pixels) and `score`. Those of classes that are no category are left out."""
    ids = [data.category_ids.get(name) for name in classes]
    return [
        {
            "image_id": image_id,
            "category_id": ids[label],
            "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
            "score": score,
        }
        for image_id, seen in found
        for box, score, label in zip(
            seen.boxes.tolist(), seen.scores.tolist(), seen.labels.tolist(), strict=True
        )
        if ids[label] is not None
    ]


def score(
    data: CocoData, found: Found, classes: Sequence[str], rows: list[Result] | None = None
) -> Scores:
    """The figures over the images listed; `rows` are the `results` of the same, where they are
    known.

    `found` pairs an image id with the detections in that image's own pixels; `classes` names their
    labels. Categories that the detector lacks count as missed; crowd regions count neither for nor
    against. Raises DataError as `check_names`.
    """
    images = [image_id for image_id, _ in found]
    check_names(data, images, classes)
    rows = [dict(row) for row in rows or results(data, found, classes)]  # they are added to
    with contextlib.redirect_stdout(io.StringIO()):
        seen = data.coco.loadRes(rows) if rows else without_boxes(data.coco)
        evaluation = Evaluation(data.coco, seen, "bbox")
        evaluation.params.imgIds = images
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = [None if value < 0 else float(value) for value in evaluation.stats]
    return Scores(
        dict(zip(FIGURES, values, strict=True)), tuple(by_class(data, images, evaluation))
    )


def without_boxes(truth: Any) -> Any:
    """A set of results with none; `loadRes` takes no empty list."""
    made = COCO()
    made.dataset = {k: truth.dataset[k] for k in ("images", "categories")} | {"annotations": []}
    made.createIndex()
    return made


def by_class(data: CocoData, images: Sequence[int], evaluation: Any) -> Iterator[ClassScore]:
    """Each category, in the order of `data.names`."""
    labels = [data.truth(i).labels for i in images]
    counts = np.bincount(np.concatenate(labels).astype(np.int64), minlength=len(data.names))
    numbers = list(evaluation.params.catIds)
    for name, boxes in zip(data.names, counts.tolist(), strict=True):
        k = numbers.index(data.category_ids[name])
        precision = evaluation.eval["precision"][:, :, k, 0, -1]  # any size, 100 boxes an image
        known = precision[precision >= 0]
        yield ClassScore(name, boxes, float(known.mean()) if known.size else None)
