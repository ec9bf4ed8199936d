"""What a detector in training learns from the real-valued one, besides the labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from intaglio.detect.decode import HeadSpec
from intaglio.detect.losses import by_anchor

Maps = Sequence[torch.Tensor]


def distillation_loss(spec: HeadSpec, maps: Maps, real: Maps) -> dict[str, torch.Tensor]:
    """How far result maps are from the real-valued network's, both in the order of
    `spec.channels`; terms as of a training loss.

    Class scores by cross-entropy times the square of their difference, everywhere (the quality
    focal loss of Li et al., "Generalized Focal Loss", 2020, with the real-valued network's score as
    the quality); box and centre-ness values by their differences, where and as much as the
    real-valued network sees something. All are divided by the sum of its best scores.
    """
    levels = spec.levels
    scores = [
        torch.sigmoid(by_anchor(real[k], spec.anchors_at(0)).amax(-1, keepdim=True))
        for k in range(levels)
    ]
    total = sum(float(score.sum()) for score in scores) + 1.0
    terms = {"as class": real[0].new_zeros(()), "as box": real[0].new_zeros(())}
    for k, (found, wanted) in enumerate(zip(maps, real, strict=True)):
        if k < levels:
            p = torch.sigmoid(wanted)
            apart = (torch.sigmoid(found) - p).square()
            entropy = functional.binary_cross_entropy_with_logits(found, p, reduction="none")
            terms["as class"] = terms["as class"] + (apart * entropy).sum() / total
        else:
            anchors = spec.anchors_at(0) if k < 2 * levels else 1
            values, targets = (by_anchor(map, anchors) for map in (found, wanted))
            apart = functional.smooth_l1_loss(values, targets, reduction="none", beta=0.5)
            weighted = apart.mean(-1, keepdim=True) * scores[k % levels]
            terms["as box"] = terms["as box"] + weighted.sum() / total
    return terms
