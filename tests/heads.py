"""A head of every kind, and maps for it."""

import numpy as np
from numpy.typing import NDArray

from intaglio.detect.networks.spec import HeadSpec

CLASSES = ("a", "b", "c")
SIZE = (64.0, 80.0)
SHAPES = (((10.0, 13.0), (16.0, 30.0), (33.0, 23.0)), ((30.0, 61.0), (62.0, 45.0), (59.0, 119.0)))

SPECS = {
    "fcos": HeadSpec("fcos", CLASSES, (8, 16)),
    "retinanet": HeadSpec(
        "retinanet", CLASSES, (8, 16), ((16.0, 20.0), (32.0, 40.0)), (0.5, 1.0, 2.0)
    ),
    "ssd": HeadSpec(
        "ssd", CLASSES, (8, 64 / 3), anchor_shapes=(SHAPES[0], SHAPES[1][:2]), box_order="yxhw",
        activation="sigmoid", scales=(10.0, 9.0, 5.0, 4.0),
    ),
    "yolov3": HeadSpec("yolov3", CLASSES, (16, 8), anchor_shapes=SHAPES[::-1]),
    "yolov5": HeadSpec("yolov5", CLASSES, (8, 16), anchor_shapes=SHAPES),
    "yolox": HeadSpec("yolox", CLASSES, (8, 16)),
    "yolov8": HeadSpec("yolov8", CLASSES, (8, 16)),
    "yunet": HeadSpec("yunet", ("face",), (8, 16), points=5),
    "scrfd": HeadSpec("scrfd", ("face",), (8, 16), repeats=2, points=5),
    "retinaface": HeadSpec("retinaface", ("face",), (8, 16), ((16.0, 32.0), (64.0,)), points=5),
    "nanodet": HeadSpec("nanodet", CLASSES, (8, 16), bins=8),
}  # fmt: skip


def maps_of(
    spec: HeadSpec, seed: int, grids: tuple[tuple[int, int], ...] = ((4, 5), (2, 3))
) -> list[NDArray[np.float64]]:
    """Output maps (C, h, w) of a detector that is quite sure here and there."""
    rng = np.random.default_rng(seed)
    count = spec.levels
    return [rng.normal(0, 1.5, (c, *grids[n % count])) for n, c in enumerate(spec.channels)]
