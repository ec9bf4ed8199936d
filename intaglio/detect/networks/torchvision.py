"""Detectors with torchvision's parameter names and COCO's classes, for state dicts trained there.

Published are retinanet_resnet50_fpn, retinanet_resnet50_fpn_v2 and fcos_resnet50_fpn; the heads of
the last two have GroupNorm, which has no integer form, so that they run in float only.
"""

import re
from collections.abc import Callable, Collection, Mapping

import torch

from intaglio.detect.networks.fcos import Fcos, fcos_resnet
from intaglio.detect.networks.retinanet import RetinaNet, retinanet_resnet
from intaglio.detect.networks.spec import ABSENT, BACKGROUND, HeadSpec

# COCO numbers its 80 categories 1 to 90 and leaves these out.
ABSENT_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
COCO_CATEGORIES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange",
    "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant",
    "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
STRIDES = (8, 16, 32, 64, 128)
ANCHOR_SIZES = tuple(tuple(float(int(4 * s * 2 ** (i / 3))) for i in range(3)) for s in STRIDES)


def classes_by_id() -> tuple[str, ...]:
    """91 names, so that a class's number is its COCO category id: 0 is the background, and ids
    that COCO leaves out are called N/A."""
    names = iter(COCO_CATEGORIES)
    count = len(COCO_CATEGORIES) + len(ABSENT_IDS)
    return (
        BACKGROUND,
        *(ABSENT if i in ABSENT_IDS else next(names) for i in range(1, count + 1)),
    )


def retinanet_resnet50_fpn() -> RetinaNet:
    """34.0 M parameters; its norms were trained frozen, with an epsilon of 0."""
    return retinanet_resnet(50, retinanet_spec(), norm="none", fpn_norm=False, eps=0.0)


def retinanet_resnet50_fpn_v2() -> RetinaNet:
    """38.2 M parameters, GroupNorm in the head: float only."""
    return retinanet_resnet(50, retinanet_spec(), norm="group", fpn_norm=False, extra_source="c5")


def fcos_resnet50_fpn() -> Fcos:
    """32.3 M parameters, GroupNorm in the head: float only."""
    spec = HeadSpec("fcos", classes_by_id(), STRIDES, score_threshold=0.2, nms_iou=0.6)
    return fcos_resnet(50, spec, norm="group", fpn_norm=False)


def retinanet_spec() -> HeadSpec:
    """Anchors and thresholds of torchvision's RetinaNets."""
    return HeadSpec(
        "retinanet",
        classes_by_id(),
        STRIDES,
        anchor_sizes=ANCHOR_SIZES,
        anchor_ratios=(0.5, 1.0, 2.0),
        max_detections=300,
    )


MODELS: dict[str, Callable[[], Fcos | RetinaNet]] = {
    "retinanet_resnet50_fpn": retinanet_resnet50_fpn,
    "retinanet_resnet50_fpn_v2": retinanet_resnet50_fpn_v2,
    "fcos_resnet50_fpn": fcos_resnet50_fpn,
}

_PYRAMID = re.compile(r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)")
_TOWER = re.compile(r"(head\.(?:classification|regression)_head\.conv)\.(\d+)\.(weight|bias)")


def present_names(
    state: Mapping[str, torch.Tensor], own: Collection[str]
) -> dict[str, torch.Tensor]:
    """A state dict under the names `own` of a model.

    Until 2022 torchvision's pyramids had `inner_blocks.0` for what is `inner_blocks.0.0` now, and
    RetinaNet's towers `conv.2` for `conv.1.0`; files saved then have the older names. A name is
    changed only where the model has the new one and not the old.
    """

    def present(name: str) -> str:
        found = name
        if match := _PYRAMID.fullmatch(name):
            found = f"{match[1]}.0.{match[2]}"
        elif match := _TOWER.fullmatch(name):
            found = f"{match[1]}.{int(match[2]) // 2}.0.{match[3]}"
        return found if found in own and name not in own else name

    return {present(name): value for name, value in state.items()}
