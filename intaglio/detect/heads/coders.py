"""From the numbers of a box to the box: (n, 4) and anchors (n, 4) to corners (n, 4), in pixels."""

from types import ModuleType
from typing import Any

import numpy as np

from intaglio.detect.heads.scores import sigmoid, softmax
from intaglio.detect.networks.spec import HeadSpec

TORCHVISION_LOG_GROWTH = float(np.log(1000.0 / 16.0))  # torchvision's cap on dw and dh
LOG_GROWTH = 80.0  # published formulas have no cap, but float32's exp ends at 88


def middle(anchors: Any) -> Any:
    """Centres (n, 2)."""
    return (anchors[:, :2] + anchors[:, 2:]) / 2


def side(anchors: Any) -> Any:
    """Widths and heights (n, 2)."""
    return anchors[:, 2:] - anchors[:, :2]


def distances(
    spec: HeadSpec, level: int, anchors: Any, values: Any, library: ModuleType = np
) -> Any:
    """Left, top, right, bottom in anchor sides, from the anchor's centre."""
    centre, sides = middle(anchors), side(anchors)
    corners = [centre - values[:, :2] * sides, centre + values[:, 2:] * sides]
    return library.concatenate(corners, axis=1)


def distribution(
    spec: HeadSpec, level: int, anchors: Any, values: Any, library: ModuleType = np
) -> Any:
    """Each of the four distances is the mean of a softmax over 0, 1, ..., bins - 1 (Li et al.,
    "Generalized Focal Loss", 2020)."""
    if spec.bins > 1:
        likely = softmax(values.reshape(-1, 4, spec.bins), library)
        values = sum(k * likely[:, :, k] for k in range(spec.bins))
    return distances(spec, level, anchors, values, library)


def grown(centre: Any, sides: Any, logarithms: Any, cap: float, library: ModuleType) -> Any:
    """Boxes around `centre` with `sides` grown by exp(`logarithms`), at most exp(cap) times."""
    half = sides * library.exp(logarithms.clip(max=cap)) / 2
    return library.concatenate([centre - half, centre + half], axis=1)


def torchvision_deltas(
    spec: HeadSpec, level: int, anchors: Any, values: Any, library: ModuleType = np
) -> Any:
    """(dx, dy) in anchor sides and the logarithm of the growth (dw, dh)."""
    sides = side(anchors)
    centre = anchors[:, :2] + sides / 2 + values[:, :2] * sides
    return grown(centre, sides, values[:, 2:], TORCHVISION_LOG_GROWTH, library)


def deltas(spec: HeadSpec, level: int, anchors: Any, values: Any, library: ModuleType = np) -> Any:
    """The same without the cap: of YOLOX and YuNet, where an anchor is a location's square."""
    sides = side(anchors)
    centre = middle(anchors) + values[:, :2] * sides
    return grown(centre, sides, values[:, 2:], LOG_GROWTH, library)


def scaled_deltas(
    spec: HeadSpec, level: int, anchors: Any, values: Any, library: ModuleType = np
) -> Any:
    """The same divided by `scales` first; in the order `box_order`. (Liu et al., "SSD", 2016; the
    scales are one over the variances of its code.)"""
    at = [spec.box_order.index(letter) for letter in "xywh"]
    x, y, w, h = (values[:, k : k + 1] / scale for k, scale in zip(at, spec.scales, strict=True))
    return deltas(
        spec, level, anchors, library.concatenate([x, y, w, h], axis=1), library
    )  # fmt: skip


def yolov3(spec: HeadSpec, level: int, anchors: Any, values: Any, library: ModuleType = np) -> Any:
    """The centre anywhere in the location, sides by exp (Redmon and Farhadi, "YOLOv3", 2018)."""
    shift = (sigmoid(values[:, :2], library) - 0.5) * spec.strides[level]
    return grown(middle(anchors) + shift, side(anchors), values[:, 2:], LOG_GROWTH, library)


def yolov5(spec: HeadSpec, level: int, anchors: Any, values: Any, library: ModuleType = np) -> Any:
    """The centre up to a stride from the location's, sides 0 to 4 times the anchor's."""
    likely = values if "box" in spec.probabilities else sigmoid(values, library)
    centre = middle(anchors) + (2 * likely[:, :2] - 1) * spec.strides[level]
    half = side(anchors) * (2 * likely[:, 2:]) ** 2 / 2
    return library.concatenate([centre - half, centre + half], axis=1)


def landmarks(spec: HeadSpec, anchors: Any, values: Any) -> Any:
    """(n, points, 2) of values (n, 2 * points), x before y: from the anchor's centre, in its sides
    divided by the `scales` of a box's centre where it has them."""
    steps = side(anchors)
    if spec.kind == "retinaface":
        steps = steps / np.array(spec.scales[:2])
    return middle(anchors)[:, None] + values.reshape(-1, spec.points, 2) * steps[:, None]
