"""COCO's figures of a set of detections, by pycocotools. No torch."""

import contextlib
import io
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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
    if not any(data.plain(ids)):
        raise DataError(
            f"{data.path} must have at least one box in the {len(ids)} images evaluated, not 0;"
            " take more images."
        )


def tell_names(data: CocoData, ids: Sequence[int], classes: Sequence[str]) -> None:
    """Warn of categories with boxes in the images `ids` that are no class, and of classes that are
    no category."""
    used = {box["category_id"] for box in data.plain(ids)}
    shown = [name for name in data.names if data.category_ids[name] in used]
    missed = [name for name in shown if name not in classes]
    unused = [name for name in classes if name not in (*data.names, *NOTHING)]
    for names, known, what in (
        (missed, shown, "categories are no class of the detector, which misses their boxes"),
        (unused, classes, "classes are no category there, so that their boxes are left out"),
    ):
        if names:
            text = f"{data.path}: {len(names)} of {len(known)} {what}: {', '.join(names)}."
            warnings.warn(text, DataWarning, stacklevel=3)


class Scoring:
    """The detections of images as they come: `rows` have them in COCO's format, and at the end
    there are the figures.

    A row has `image_id`, `category_id`, `bbox` (x, y, width, height in the picture's own pixels)
    and `score`; `classes` names the detector's labels. Detections of classes that are no category
    are left out, and categories that the detector lacks count as missed; crowd regions count
    neither for nor against.
    """

    def __init__(self, data: CocoData, classes: Sequence[str]) -> None:
        self.data = data
        self.images: list[int] = []
        self.rows: list[Result] = []
        self._known = np.array([name in data.category_ids for name in classes], dtype=np.bool_)
        numbers = [data.category_ids.get(name, 0) for name in classes]
        self._categories = np.array(numbers, dtype=np.int64)
        self._evaluation = Evaluation(list(data.category_ids.values()))

    def add(self, image_id: int, seen: Detections) -> None:
        """An image that was not there yet, with what was found, in its own pixels."""
        kept = self._known[seen.labels]
        boxes = np.array(seen.boxes[kept], dtype=np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        scores, categories = seen.scores[kept], self._categories[seen.labels[kept]]
        self.images.append(image_id)
        self.rows += [
            {"image_id": image_id, "category_id": category, "bbox": box, "score": score}
            for box, score, category in zip(
                boxes.tolist(), scores.tolist(), categories.tolist(), strict=True
            )
        ]
        truth = self.data.annotations(image_id)
        self._evaluation.add(image_id, truth, boxes, scores, categories)

    def scores(self) -> Scores:
        """Over the images that were added."""
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = self._evaluation.finish()
        values = [None if value < 0 else float(value) for value in evaluation.stats]
        classes = tuple(by_class(self.data, self.images, evaluation))
        return Scores(dict(zip(FIGURES, values, strict=True)), classes)


def score(data: CocoData, found: Found, classes: Sequence[str]) -> Scores:
    """The figures over the images listed, of `Scoring`. `found` pairs an image id with the
    detections in that image's own pixels. Raises DataError as `check_names`."""
    check_names(data, [image_id for image_id, _ in found], classes)
    scoring = Scoring(data, classes)
    for image_id, seen in found:
        scoring.add(image_id, seen)
    return scoring.scores()


def by_class(data: CocoData, images: Sequence[int], evaluation: Any) -> Iterator[ClassScore]:
    """Each category, in the order of `data.names`."""
    boxes = Counter(box["category_id"] for box in data.plain(images))
    numbers = evaluation.params.catIds
    for name in data.names:
        number = data.category_ids[name]
        k = numbers.index(number)
        precision = evaluation.eval["precision"][:, :, k, 0, -1]  # any size, 100 boxes an image
        known = precision[precision >= 0]
        yield ClassScore(name, boxes[number], float(known.mean()) if known.size else None)
