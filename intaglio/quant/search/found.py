"""ODOL of a detector whose boxes a function of the user's own makes: the boxes themselves compared.

No labels and no gradients. As in `odol`, the terms and their weights are ours (docs/detptq.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from intaglio.detect.decode import Detections, HeadSpec, iou
from intaglio.detect.own import Head, OwnDecoder
from intaglio.quant.search.odol import OutputLoss
from intaglio.quant.settings.config import OdolTerms

Maps = Sequence[torch.Tensor]


class FoundLoss:
    """How far the boxes of maps (N, C, h, w) are from those of `real`, the real-valued network's.

    Of each image count the boxes that have an area in it and a score of `terms.foreground` or more.
    A real one, best first, is matched with the free one of its class that overlaps it most, and
    costs its score times (1 - IoU), and the difference of the scores; without a match its score
    twice. What is left over costs its score. The sum is divided by that of the real ones' scores.
    """

    def __init__(
        self, head: OwnDecoder, real: Maps, terms: OdolTerms, size: tuple[int, int]
    ) -> None:  # fmt: skip
        self.head, self.terms, self.size = head, terms, size
        self.real = self.boxes(real)

    def __call__(self, maps: Maps) -> torch.Tensor:
        """(N,) float64: 0 where the boxes are the real-valued network's; 0 for an image without."""
        pairs = zip(self.real, self.boxes(maps), strict=True)
        return torch.tensor([self.apart(*pair) for pair in pairs], dtype=torch.float64)

    def boxes(self, maps: Maps) -> list[Detections]:
        """Those of every image that count."""
        arrays = [map.detach().double().cpu().numpy() for map in maps]
        found = []
        for n in range(len(arrays[0])):
            seen = self.head([array[n] for array in arrays], self.size)
            kept = seen.scores >= self.terms.foreground
            kept &= (seen.boxes[:, 2:] > seen.boxes[:, :2]).all(axis=1)
            found.append(Detections(seen.boxes[kept], seen.scores[kept], seen.labels[kept]))
        return found

    def apart(self, real: Detections, found: Detections) -> float:
        """Of one image."""
        if not len(real.scores):
            return 0.0
        overlap = iou(real.boxes, found.boxes)
        overlap[real.labels[:, None] != found.labels] = 0.0
        free = np.ones(len(found.scores), dtype=np.bool_)
        by_box, by_class = self.terms.by_box, self.terms.by_class
        cost = 0.0
        for score, row in zip(real.scores, overlap, strict=True):
            best = int(np.argmax(row * free)) if len(row) else -1
            if best < 0 or not free[best] or row[best] <= 0:
                cost += (by_box + by_class) * score
                continue
            free[best] = False
            cost += by_box * score * (1 - row[best])
            cost += by_class * abs(score - found.scores[best])
        cost += by_class * found.scores[free].sum()
        return float(cost / real.scores.sum())


def loss_of(
    head: Head, terms: OdolTerms, size: tuple[int, int]
) -> Callable[[Maps], Callable[[Maps], torch.Tensor]]:
    """What makes of the real-valued network's maps the loss of others; of pictures of `size`."""
    if isinstance(head, HeadSpec):
        return partial(OutputLoss, head, terms=terms)
    return partial(FoundLoss, head, terms=terms, size=size)
