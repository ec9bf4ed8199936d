"""Training losses of FCOS and RetinaNet.

Ground truth comes padded: `boxes` (N, G, 4), x0 y0 x1 y1 in pixels, and `labels` (N, G), where
label -1 marks padding. Each loss returns its named terms; their sum is minimised.
"""

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from intaglio.detect.decode import HeadSpec, anchor_boxes
from intaglio.detect.own import Head
from intaglio.errors import ModelError

Maps = Sequence[torch.Tensor]


def focal_loss(
    logits: torch.Tensor, targets: torch.Tensor, *, alpha: float = 0.25, gamma: float = 2.0
) -> torch.Tensor:
    """Sigmoid focal loss of each element (Lin et al. 2017); `targets` are 0 or 1."""
    entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    p = torch.sigmoid(logits)
    missed = p + targets - 2 * p * targets
    weight = 1 - alpha + (2 * alpha - 1) * targets
    return weight * missed**gamma * entropy


def giou_loss(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """1 - GIoU (Rezatofighi et al. 2019) of (..., 4) boxes x0 y0 x1 y1: (...), in 0..2."""
    shared = _area(
        torch.maximum(found[..., :2], wanted[..., :2]),
        torch.minimum(found[..., 2:], wanted[..., 2:]),
    )
    hull = _area(
        torch.minimum(found[..., :2], wanted[..., :2]),
        torch.maximum(found[..., 2:], wanted[..., 2:]),
    )
    union = _area(found[..., :2], found[..., 2:]) + _area(wanted[..., :2], wanted[..., 2:]) - shared
    iou = shared / union.clamp(min=1e-7)
    return 1 - iou + (hull - union) / hull.clamp(min=1e-7)


def fcos_loss(
    spec: HeadSpec,
    outputs: tuple[Maps, Maps, Maps],
    boxes: torch.Tensor,
    labels: torch.Tensor,
    *,
    radius: float = 1.5,
    reach: tuple[float, float] = (0.75, 2.5),
) -> dict[str, torch.Tensor]:
    """Focal class loss, GIoU of the boxes and cross-entropy of the centre-ness.

    A location learns the smallest box that contains it, whose centre lies within `radius` strides
    and whose furthest side is within `reach` strides (without lower limit on the first level, nor
    upper on the last). The paper's reach is (4, 8), for pictures ten times as large; ours makes
    neighbouring levels overlap, so that a small object still has several locations.
    """
    cls, reg, ctr = (torch.cat([by_anchor(m, 1) for m in maps], dim=1) for maps in outputs)
    anchors, stride = _anchors(spec, outputs[0])
    x, y = (anchors[:, :2] + anchors[:, 2:]).T / 2
    x0, y0, x1, y1 = boxes[:, None].unbind(-1)
    x, y, stride = x[None, :, None], y[None, :, None], stride[None, :, None]
    sides = torch.stack([x - x0, y - y0, x1 - x, y1 - y], dim=-1)
    furthest = sides.amax(-1)
    last = stride == spec.strides[-1]
    first = stride == spec.strides[0]
    matches = (furthest <= reach[1] * stride) | last
    matches &= (furthest > reach[0] * stride) | first
    matches &= sides.amin(-1) > 0
    matches &= (x - (x0 + x1) / 2).abs() < radius * stride
    matches &= (y - (y0 + y1) / 2).abs() < radius * stride
    matches &= labels[:, None] >= 0
    area = ((x1 - x0) * (y1 - y0)).expand_as(furthest)
    smallest, chosen = area.masked_fill(~matches, math.inf).min(-1)
    positive = smallest < math.inf

    wanted_cls = _one_hot(labels.gather(1, chosen), positive, len(spec.classes))
    wanted = sides.gather(2, chosen[..., None, None].expand(-1, -1, 1, 4))[:, :, 0]
    wanted = (wanted / stride)[positive]
    horizontal, vertical = wanted[:, 0::2], wanted[:, 1::2]
    centred = torch.sqrt(
        (horizontal.amin(1) / horizontal.amax(1)) * (vertical.amin(1) / vertical.amax(1))
    )
    count = positive.sum().clamp(min=1)
    around = reg.new_tensor([-1.0, -1.0, 1.0, 1.0])
    entropy = functional.binary_cross_entropy_with_logits
    return {
        "class": focal_loss(cls, wanted_cls).sum() / count,
        "box": giou_loss(reg[positive] * around, wanted * around).sum() / count,
        "centre": entropy(ctr[positive][:, 0], centred, reduction="sum") / count,
    }


def retinanet_loss(
    spec: HeadSpec,
    outputs: tuple[Maps, Maps],
    boxes: torch.Tensor,
    labels: torch.Tensor,
    *,
    foreground: float = 0.5,
    background: float = 0.4,
) -> dict[str, torch.Tensor]:
    """Focal class loss and smooth L1 of the encoded boxes.

    An anchor learns the box it overlaps most if their IoU reaches `foreground`, or if no anchor
    overlaps that box more; below `background` it learns that there is nothing; between, nothing.
    """
    cls, reg = (
        torch.cat([by_anchor(m, spec.anchors_at(0)) for m in maps], dim=1) for maps in outputs
    )
    anchors, _ = _anchors(spec, outputs[0])
    overlap = _iou(anchors[None, :, None], boxes[:, None])
    overlap = overlap.masked_fill(labels[:, None] < 0, -1.0)
    best, chosen = overlap.max(-1)
    # An anchor that is the best one of some box belongs to whichever box it overlaps most.
    needed = ((overlap == overlap.amax(1, keepdim=True)) & (overlap > 0)).any(-1)
    positive = (best >= foreground) | needed
    counted = positive | (best < background)

    wanted_cls = _one_hot(labels.gather(1, chosen), positive, len(spec.classes))
    matched = boxes.gather(1, chosen[..., None].expand(-1, -1, 4))[positive]
    wanted = encode_deltas(anchors.expand(len(boxes), -1, -1)[positive], matched)
    count = positive.sum().clamp(min=1)
    box = functional.smooth_l1_loss(reg[positive], wanted, beta=0.1, reduction="sum")
    return {
        "class": focal_loss(cls, wanted_cls)[counted].sum() / count,
        "box": box / count,
    }


def check_trainable(head: Head) -> HeadSpec:
    """The head, if its loss is one of those here. Raises ModelError otherwise."""
    if not isinstance(head, HeadSpec):
        raise ModelError(
            "A model to be trained must have a head of kind fcos or retinanet, not boxes by"
            f" {head.reference}, which is no loss; quantise it, with --reconstruct --no-odol for"
            " fewer bits."
        )
    spec = head
    if spec.kind not in ("fcos", "retinanet"):
        raise ModelError(
            f"A model to be trained must have a head of kind fcos or retinanet, not {spec.kind}:"
            " no other loss is known here; quantise it, with --reconstruct for fewer bits."
        )
    if spec.maps or spec.order or spec.probabilities:
        raise ModelError(
            "A model to be trained must return logits in the order that docs/heads.md has for"
            f" {spec.kind}, without maps, order or probabilities in its head_spec."
        )
    return spec


def detection_loss(
    spec: HeadSpec, maps: Maps, boxes: torch.Tensor, labels: torch.Tensor
) -> dict[str, torch.Tensor]:
    """A detector's training loss by terms; `maps` are in the order of `spec.channels`."""
    levels = spec.levels
    cls, reg, ctr = (maps[first : first + levels] for first in (0, levels, 2 * levels))
    if spec.kind == "fcos":
        return fcos_loss(spec, (cls, reg, ctr), boxes, labels)
    return retinanet_loss(spec, (cls, reg), boxes, labels)


def encode_deltas(anchors: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """(dx, dy, dw, dh) (n, 4) that turn `anchors` into `boxes`: the inverse of `decode`'s coder."""
    side, wanted = anchors[:, 2:] - anchors[:, :2], boxes[:, 2:] - boxes[:, :2]
    shift = (boxes[:, :2] + boxes[:, 2:] - anchors[:, :2] - anchors[:, 2:]) / 2
    return torch.cat([shift / side, torch.log(wanted / side)], dim=1)


def _anchors(spec: HeadSpec, maps: Maps) -> tuple[torch.Tensor, torch.Tensor]:
    """All anchors (P, 4) and their strides (P,), in the order of `by_anchor` of all levels."""
    boxes = [torch.tensor(anchor_boxes(spec, i, *m.shape[-2:])) for i, m in enumerate(maps)]
    strides = [torch.full((len(b),), float(s)) for b, s in zip(boxes, spec.strides, strict=True)]
    return torch.cat(boxes).float(), torch.cat(strides)


def by_anchor(x: torch.Tensor, anchors: int) -> torch.Tensor:
    """(N, A * K, h, w) to (N, h * w * A, K)."""
    n, channels, rows, columns = x.shape
    split = x.reshape(n, anchors, channels // anchors, rows, columns)
    return split.permute(0, 3, 4, 1, 2).flatten(1, 3)


def _one_hot(labels: torch.Tensor, positive: torch.Tensor, classes: int) -> torch.Tensor:
    """(N, P, classes) floats, all zero where not `positive`."""
    hot = functional.one_hot(labels.clamp(min=0), classes).float()
    return hot * positive[..., None]


def _area(corner0: torch.Tensor, corner1: torch.Tensor) -> torch.Tensor:
    return (corner1 - corner0).clamp(min=0).prod(-1)


def _iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    shared = _area(torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:]))
    union = _area(a[..., :2], a[..., 2:]) + _area(b[..., :2], b[..., 2:]) - shared
    return shared / union.clamp(min=1e-7)
