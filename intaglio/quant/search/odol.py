"""Object Detection Output Loss: how far a detector's outputs are from the real-valued network's.

No labels. DetPTQ (arXiv 2304.09785) chooses by such a loss but does not publish its terms; those
here, their filter and their weights are ours (docs/detptq.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import logsigmoid

from intaglio.detect.decode import HeadSpec, anchor_boxes, level_scores, to_boxes
from intaglio.detect.heads.maps import check_shapes, parts_at
from intaglio.detect.heads.scores import logits as logits_of
from intaglio.detect.heads.scores import quality_of
from intaglio.detect.losses import by_anchor, giou_loss
from intaglio.errors import DataError
from intaglio.quant.settings.config import OdolTerms

Maps = Sequence[torch.Tensor]


@dataclass(frozen=True, eq=False)
class Foreground:
    """One level's candidates, F of them, in the real-valued network.

    `image` and `at` (F,) index (N, h * w * A). `logits` (F, classes), `centre` (F, 0 or 1), that of
    centre-ness or objectness, `boxes` and `anchors` (F, 4) and `score` (F,) are float64 on the CPU.
    """

    image: torch.Tensor
    at: torch.Tensor
    anchors: torch.Tensor
    logits: torch.Tensor
    centre: torch.Tensor
    boxes: torch.Tensor
    score: torch.Tensor


class OutputLoss:
    """ODOL of maps (N, C, h, w) against `real`, those of the real-valued network.

    Both are in the order of `spec.channels`. Raises ModelError where `real` does not fit `spec`.
    """

    def __init__(self, spec: HeadSpec, real: Maps, terms: OdolTerms) -> None:
        check_shapes(spec, [map.shape[1:] for map in real])
        self.spec = spec
        self.terms = terms
        self.images = len(real[0])
        self.levels = [self.foreground(real, level) for level in range(spec.levels)]
        self.total = torch.zeros(self.images, dtype=torch.float64)
        for level in self.levels:
            self.total.index_add_(0, level.image, level.score)

    def __call__(self, maps: Maps) -> torch.Tensor:
        """(N,) float64: 0 where the foreground is as in the real-valued network, else more; 0 for
        an image without foreground. Gradients reach the maps."""
        return self.by_level(maps).sum(dim=(0, 1))

    def by_level(self, maps: Maps) -> torch.Tensor:
        """(levels, 3, N): the class, box and centre-ness terms of each level, weighted."""
        return torch.stack([self.terms_at(maps, level) for level in range(self.spec.levels)])

    def foreground(self, real: Maps, level: int) -> Foreground:
        """The candidates of a level."""
        spec = self.spec
        arrays = [map.detach().double().cpu().numpy() for map in real]
        best = np.stack(
            [level_scores(spec, [a[n] for a in arrays], level).max(1) for n in range(self.images)]
        )
        image, at = (torch.from_numpy(i) for i in np.nonzero(best >= self.terms.foreground))
        first = real[spec.place(0, level)]
        every = torch.tensor(anchor_boxes(spec, level, *first.shape[-2:]))
        logits, centre, boxes = self.read(real, level, image, at, every[at])
        return Foreground(
            image, at, every[at], logits, centre, boxes, torch.from_numpy(best)[image, at]
        )

    def read(
        self, maps: Maps, level: int, image: torch.Tensor, at: torch.Tensor, anchors: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits (F, classes), those of the quality (F, 0 or 1) and boxes (F, 4) of candidates."""
        spec, picked = self.spec, {}
        for name, values in parts_at(spec, maps, level, by_anchor).items():
            where = (image.to(values.device), at.to(values.device))
            picked[name] = values[where].double().cpu()
        quality = quality_of(spec)
        centre = torch.zeros(len(image), 0, dtype=torch.float64)
        if quality is not None:
            centre = logits_of(spec, quality, picked[quality], torch)
        boxes = to_boxes(spec, level, anchors, picked["box"], torch)
        return logits_of(spec, "class", picked["class"], torch), centre, boxes

    def terms_at(self, maps: Maps, level: int) -> torch.Tensor:
        """(3, N) of one level."""
        real, terms = self.levels[level], self.terms
        logits, centre, boxes = self.read(maps, level, real.image, real.at, real.anchors)
        each = torch.stack(
            [
                terms.by_class * divergence(real.logits, logits).sum(dim=1),
                terms.by_box * giou_loss(boxes, real.boxes) * real.score,
                terms.by_centre * divergence(real.centre, centre).sum(dim=1) * real.score,
            ]
        )
        sums = torch.zeros(3, self.images, dtype=torch.float64).index_add_(1, real.image, each)
        return sums / self.total.where(self.total > 0, 1.0)


def divergence(real: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence of the probability with logit `found` from that with `real`."""
    p = torch.sigmoid(real)
    yes = p * (logsigmoid(real) - logsigmoid(found))
    no = (1 - p) * (logsigmoid(-real) - logsigmoid(-found))
    return (yes + no).clamp(min=0)  # rounding alone can make it negative


def nothing_found(terms: OdolTerms) -> DataError:
    """What to say of images on which ODOL is 0 whatever is quantised."""
    return DataError(
        "Calibration images must show what the model detects, not nothing with a score of"
        f" {terms.foreground} or more; give pictures like those it was trained on."
    )
