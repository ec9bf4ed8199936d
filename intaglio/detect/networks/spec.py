"""What a detector's raw maps mean: what `decode` needs to make boxes of them. No torch."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Literal

from intaglio.errors import ModelError
from intaglio.system.stored import fields_of, parsed

Kind = Literal["fcos", "retinanet"]
BACKGROUND, ABSENT = NOTHING = ("__background__", "N/A")  # torchvision's classes of nothing


@dataclass(frozen=True)
class HeadSpec:
    """What the output maps of a detector mean.

    The outputs, flattened, are one map per level for each of: class logits (A * classes, h, w),
    box regression (A * 4, h, w) and, for FCOS, the centre-ness logit (1, h, w), where A is the
    number of anchors per location (FCOS: 1). `strides` are in pixels, one per level. For RetinaNet
    `anchor_sizes` holds each level's sizes in pixels and `anchor_ratios` the height / width ratios;
    A is the product of their counts. A box needs a score above `score_threshold`; at most `topk`
    boxes of a level enter NMS at IoU `nms_iou`, and at most `max_detections` come out.
    """

    kind: Kind
    classes: tuple[str, ...]
    strides: tuple[int, ...]
    anchor_sizes: tuple[tuple[float, ...], ...] = ()
    anchor_ratios: tuple[float, ...] = ()
    score_threshold: float = 0.05
    nms_iou: float = 0.5
    topk: int = 1000
    max_detections: int = 100

    def __post_init__(self) -> None:
        if self.kind not in ("fcos", "retinanet"):
            raise ModelError(f"head kind must be 'fcos' or 'retinanet', not {self.kind!r}")
        if self.kind == "retinanet" and len(self.anchor_sizes) != len(self.strides):
            raise ModelError(
                f"anchor_sizes must be given for each of {len(self.strides)} levels, "
                f"not {len(self.anchor_sizes)}"
            )

        counts = {len(sizes) for sizes in self.anchor_sizes}
        if self.kind == "retinanet" and not (
            len(counts) == 1 and min(counts) and self.anchor_ratios
        ):
            raise ModelError(
                "anchor_sizes and anchor_ratios must be as many on each level, not none."
            )
        if not self.classes or not self.strides:
            raise ModelError("classes and strides must not be empty; name what the maps are of.")
        lengths = [
            *self.strides,
            *self.anchor_ratios,
            *(s for sizes in self.anchor_sizes for s in sizes),
        ]
        if not all(0 < value < math.inf for value in lengths):
            raise ModelError("strides, anchor_sizes and anchor_ratios must be numbers above 0.")
        if not all(math.isfinite(v) for v in (self.score_threshold, self.nms_iou)):
            raise ModelError("score_threshold and nms_iou must be finite numbers.")
        if self.topk < 1 or self.max_detections < 1:
            raise ModelError(
                f"topk and max_detections must be at least 1, not {self.topk} and"
                f" {self.max_detections}."
            )

    @property
    def levels(self) -> int:
        """Number of pyramid levels."""
        return len(self.strides)

    @property
    def anchors(self) -> int:
        """Anchors per location."""
        if self.kind == "fcos":
            return 1
        return len(self.anchor_sizes[0]) * len(self.anchor_ratios)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each map, in output order."""
        groups = [self.anchors * len(self.classes), self.anchors * 4]
        groups += [1] if self.kind == "fcos" else []
        return tuple(c for c in groups for _ in self.strides)

    def to_json(self) -> str:
        """One JSON object; `from_json` gives an equal spec back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "HeadSpec":
        """Raises ModelError where `text` is not what `to_json` writes."""
        try:
            return cls(**fields_of(cls, parsed(text)))
        except (ValueError, TypeError, AttributeError) as error:
            raise ModelError(
                f"head description must be JSON written by HeadSpec.to_json, but: {error}"
            ) from None


def spec_of(model: object) -> HeadSpec | None:
    """What a torch model says of its maps by its attribute `head_spec`; None if it says nothing.

    Raises ModelError where that is no HeadSpec.
    """
    spec = getattr(model, "head_spec", None)
    if spec is not None and not isinstance(spec, HeadSpec):
        raise ModelError(
            "A model's head_spec must be a HeadSpec of intaglio.detect.networks.spec, not"
            f" {type(spec).__name__}: HeadSpec('fcos', classes=('cat', 'dog'), strides=(8, 16))."
        )
    return spec
