"""mAP of anything that turns uint8 images into a detector's output maps. No torch."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from intaglio.detect.coco import CocoData
from intaglio.detect.decode import Detections
from intaglio.detect.images import batch_size
from intaglio.detect.own import Head
from intaglio.detect.pictures import load_fitted, prepare
from intaglio.detect.score import Result, Scores, Scoring, check_names, tell_names
from intaglio.detect.seen import decode_fitted
from intaglio.errors import DataError
from intaglio.system.copies import Copies
from intaglio.system.html import cards, folded, snippet, table
from intaglio.system.spread import HERE, Pool
from intaglio.system.steps import Steps

STEPS = ("images", "average precision")

Predict = Callable[[NDArray[np.uint8]], Sequence[NDArray[np.floating]]]


@dataclass(frozen=True)
class EvalResult:
    """COCO AP (IoU 0.50:0.95), AP50 and AP75 in 0..1, over `images` images in `seconds`; all of
    COCO's `scores`, and the `predictions` themselves as the rows of `score.Scoring`."""

    ap: float
    ap50: float
    ap75: float
    images: int
    seconds: float
    scores: Scores = field(repr=False)
    predictions: list[Result] = field(repr=False)

    def _repr_html_(self) -> str:
        figures = {k: "-" if v is None else f"{v:.4f}" for k, v in self.scores.figures.items()}
        rows = [(c.name, f"{c.boxes:,}", "-" if c.ap is None else f"{c.ap:.4f}")
                for c in self.scores.classes]  # fmt: skip
        classes = folded("categories", table(("category", "boxes", "AP"), rows))
        return snippet(f"AP over {self.images:,} images", cards(figures), classes)


def evaluate(
    predict: Predict,
    data: CocoData,
    spec: Head,
    size: tuple[int, int],
    *,
    limit: int | None = None,
    batch: int | None = None,
    resize: bool = False,
    channels: int = 3,
    pool: Pool = HERE,
    progress: Callable[[int, int], None] | None = None,
    steps: Steps | None = None,
    take: Callable[[Sequence[Result]], None] | None = None,
) -> EvalResult:
    """mAP of `predict` on the first `limit` images of `data` (all without a limit).

    `predict` maps uint8 (N, `channels`, H, W) pixels of `size` (H, W) to the maps `spec` describes,
    or of which it makes boxes, as real values (N, C, h, w), in the order of the outputs. `batch`
    images run together, fewer where they are large by default. `pool` runs the batches; the result
    does not depend on it. `progress` is told (done, total) after each batch, `steps` of STEPS;
    `take` is given the predictions of each batch, in order. Raises DataError as `load_image`,
    `CocoData.check_files` and `score.check_names` do, and what the pool raises.
    """
    ids = data.ids if limit is None else data.ids[:limit]
    if not ids:
        raise DataError(f"{data.path} must list at least one image to evaluate on, not 0")
    start = time.perf_counter()
    data.check_files(ids, pool if isinstance(pool, Copies) else HERE)
    check_names(data, ids, spec.classes)
    tell_names(data, ids, spec.classes)
    batch = batch or batch_size(size)
    files = [data.file(i).absolute() for i in ids]  # a worker may be in another folder
    parts = [files[first : first + batch] for first in range(0, len(files), batch)]
    scoring = Scoring(data, spec.classes)
    steps = steps or Steps()
    steps.plan(*STEPS)
    progress = progress or steps.progress
    if isinstance(pool, Copies):
        prepare(files)  # once, not by each
    with steps.step("images"):
        for found in pool.map(Detector(predict, spec, size, resize, channels), parts):
            known = len(scoring.rows)
            for seen in found:
                scoring.add(ids[len(scoring.images)], seen)
            if take is not None:
                take(scoring.rows[known:])
            progress(len(scoring.images), len(ids))
    with steps.step("average precision"):
        scores = scoring.scores()
    seconds = time.perf_counter() - start
    figures = (scores.ap, scores.ap50, scores.ap75)
    return EvalResult(*figures, len(ids), seconds, scores, scoring.rows)


@dataclass(frozen=True)
class Detector:
    """From the files of a batch to the boxes in each, in its own pixels."""

    predict: Predict
    spec: Head
    size: tuple[int, int]
    resize: bool
    channels: int = 3

    def __call__(self, files: Sequence[Path]) -> list[Detections]:
        loaded = [
            load_fitted(file, self.size, resize=self.resize, channels=self.channels)
            for file in files
        ]
        outputs = self.predict(np.stack([pixels for pixels, _ in loaded]))
        return [
            decode_fitted(self.spec, [m[n] for m in outputs], own, self.size)
            for n, (_, own) in enumerate(loaded)
        ]
