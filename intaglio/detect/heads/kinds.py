"""Which formulas each kind of head has."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from intaglio.detect.heads import anchors, coders
from intaglio.detect.heads.maps import Floats
from intaglio.detect.networks.spec import HeadSpec


@dataclass(frozen=True)
class Formulas:
    """What makes boxes of one kind's parts.

    anchors     spec, level, rows and columns to boxes (h * w * A, 4).
    boxes       spec, level, anchors, numbers and a library to boxes (n, 4).
    root        whether a score is the square root of class times quality.
    clip_first  whether boxes are clipped to the picture before they suppress each other, not after.
    reached     whether a score equal to the threshold is enough; of integers many are.
    """

    anchors: Callable[[HeadSpec, int, int, int], Floats]
    boxes: Callable[..., Any]
    root: bool = False
    clip_first: bool = False
    reached: bool = False


FORMULAS: dict[str, Formulas] = {
    "fcos": Formulas(anchors.rounded, coders.distances, root=True, clip_first=True),
    "retinanet": Formulas(anchors.rounded, coders.torchvision_deltas, clip_first=True),
    "ssd": Formulas(anchors.shaped, coders.scaled_deltas, reached=True),
    "yolov3": Formulas(anchors.shaped, coders.yolov3),
    "yolov5": Formulas(anchors.shaped, coders.yolov5),
    "yolox": Formulas(anchors.cornered, coders.deltas, reached=True),
    "yolov8": Formulas(anchors.centred, coders.distribution),
    "yunet": Formulas(anchors.cornered, coders.deltas, root=True, reached=True),
    "scrfd": Formulas(anchors.cornered, coders.distances, reached=True),
    "retinaface": Formulas(anchors.shaped, coders.scaled_deltas),
    "nanodet": Formulas(anchors.centred, coders.distribution),
}
