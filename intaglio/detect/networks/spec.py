"""What a detector's raw maps mean: what `decode` needs to make boxes of them. No torch."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Literal

from intaglio.detect.networks.kinds import FORMS, JOIN, OF_SOME, Kind
from intaglio.errors import ModelError
from intaglio.system.stored import fields_of, hints_of, parsed, typed

BACKGROUND, ABSENT = NOTHING = ("__background__", "N/A")  # torchvision's classes of nothing
KEPT = 9  # fields that JSON always has; the others are there if they differ from their defaults


@dataclass(frozen=True, repr=False)
class HeadSpec:
    """What the output maps of a detector mean; docs/heads.md has every field and formula.

    The outputs, flattened, are maps (C, h, w) of each level for each of `maps`, where a map holds
    the channels of its parts for each of A anchors. `strides` are in pixels, one for each level.
    A box needs a score above `score_threshold`, in some kinds at least that; at most `topk` boxes
    of a level enter NMS at IoU `nms_iou`, and at most `max_detections` come out.

    anchor_sizes    of each level: sides of squares in pixels (`retinanet`, `retinaface`).
    anchor_ratios   height / width (`retinanet`).
    anchor_shapes   of each level: (width, height) in pixels (`ssd`, `yolov3`, `yolov5`).
    scales          what the x, y, w and h of a box are divided by (`ssd`, `retinaface`).
    box_order       of those four channels (`ssd`).
    activation      of the classes (`ssd`), and whether the first is `background`.
    offset          of a location's centre from its corner, in strides (`ssd`, `nanodet`).
    bins            of the distribution of each distance (`yolov8`, `nanodet`); 1: the distance.
    repeats         boxes of a location (`scrfd`).
    points          landmarks of a box (`yunet`, `scrfd`, `retinaface`).
    maps            parts in the order of the outputs, "box+class" where one map holds both; (): as
                    published.
    order           the number of the output that each of these maps is; (): as they come.
    probabilities   parts whose maps hold probabilities already, not logits.
    one_class       an anchor gives one box, of its best class; else one of each class.
    across          a box suppresses those of other classes too.

    Raises ModelError, one sentence, for what contradicts itself or belongs to other kinds.
    """

    kind: Kind
    classes: tuple[str, ...]
    strides: tuple[float, ...]
    anchor_sizes: tuple[tuple[float, ...], ...] = ()
    anchor_ratios: tuple[float, ...] = ()
    score_threshold: float = 0.05
    nms_iou: float = 0.5
    topk: int = 1000
    max_detections: int = 100
    anchor_shapes: tuple[tuple[tuple[float, float], ...], ...] = ()
    scales: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    box_order: Literal["xywh", "yxhw"] = "xywh"
    activation: Literal["softmax", "sigmoid"] = "softmax"
    background: bool = True
    offset: float = 0.5
    bins: int = 16
    repeats: int = 1
    points: int = 0
    maps: tuple[str, ...] = ()
    order: tuple[int, ...] = ()
    probabilities: tuple[str, ...] = ()
    one_class: bool = False
    across: bool = False

    def __post_init__(self) -> None:
        check_kind(self.kind)
        for name, hint in hints_of(HeadSpec).items():
            value = as_tuple(getattr(self, name))
            object.__setattr__(self, name, value)
            check_type(name, hint, value)
        check_belonging(self)
        check_numbers(self)
        check_maps_named(self)

    @property
    def levels(self) -> int:
        """Number of pyramid levels."""
        return len(self.strides)

    def anchors_at(self, level: int) -> int:
        """Anchors of a location of this level."""
        if self.anchor_shapes:
            return len(self.anchor_shapes[level])
        if self.anchor_sizes:
            return len(self.anchor_sizes[level]) * max(len(self.anchor_ratios), 1)
        return self.repeats

    @cached_property
    def layout(self) -> tuple[tuple[str, ...], ...]:
        """The parts of each map, as `maps` or the kind says."""
        named = self.maps or FORMS[self.kind].maps
        parts = (tuple(name.split(JOIN)) for name in named)
        return tuple(p for p in parts if p != ("points",) or self.points)

    def width(self, part: str) -> int:
        """Channels of a part for one anchor."""
        if part == "class":
            return len(self.classes) + self.with_background
        if part == "box":
            return 4 * self.bins if self.kind in ("yolov8", "nanodet") else 4
        return 2 * self.points if part == "points" else 1

    @property
    def with_background(self) -> bool:
        """Whether the first class channel is of nothing."""
        return self.kind == "retinaface" or (self.kind == "ssd" and self.background)

    @property
    def softmax(self) -> bool:
        """Whether the classes of an anchor share one probability; else each has its own."""
        return self.kind == "retinaface" or (self.kind == "ssd" and self.activation == "softmax")

    def place(self, index: int, level: int) -> int:
        """The number of the output that the map `index` of `layout` is on a level."""
        number = index * self.levels + level
        return self.order[number] if self.order else number

    @cached_property
    def channels(self) -> tuple[int, ...]:
        """Channels of each map, in output order."""
        found = [0] * (len(self.layout) * self.levels)
        for index, parts in enumerate(self.layout):
            for level in range(self.levels):
                of_one = sum(self.width(part) for part in parts)
                found[self.place(index, level)] = of_one * self.anchors_at(level)
        return tuple(found)

    def __repr__(self) -> str:
        given = [f"{name}={value!r}" for name, value in self.given().items()]
        return f"HeadSpec({', '.join(given)})"

    def given(self) -> dict[str, Any]:
        """The fields without those that stand at their defaults, but for the first ones."""
        every = fields(self)
        return {
            field.name: getattr(self, field.name)
            for n, field in enumerate(every)
            if n < KEPT or getattr(self, field.name) != field.default
        }

    def to_json(self) -> str:
        """One JSON object; `from_json` gives an equal spec back."""
        given = self.given()
        return json.dumps({name: value for name, value in asdict(self).items() if name in given})

    @classmethod
    def from_json(cls, text: str) -> "HeadSpec":
        """Raises ModelError where `text` is not what `to_json` writes."""
        try:
            found = parsed(text)
            if isinstance(found, dict) and "kind" in found:
                check_kind(found["kind"])
            return cls(**fields_of(cls, found))
        except (ValueError, TypeError, AttributeError) as error:
            raise ModelError(
                f"head description must be JSON written by HeadSpec.to_json, but: {error}"
            ) from None


# --- what a spec must be --------------------------------------------------------------------------


def check_kind(kind: object) -> None:
    """Raises ModelError for a kind that is none of ours."""
    if not isinstance(kind, str) or kind not in FORMS:
        raise ModelError(
            f"head kind must be one of {', '.join(FORMS)}, not {kind!r:.60}; boxes of another head"
            " are made by your own function, --decode package.module:function."
        )


def as_tuple(value: Any) -> Any:
    """Lists, and those in them, as tuples; numbers of NumPy as Python's."""
    if isinstance(value, (list, tuple)):
        return tuple(map(as_tuple, value))
    return value.item() if hasattr(value, "item") else value


def as_list(value: Any) -> Any:
    """Tuples, and those in them, as JSON has them."""
    return list(map(as_list, value)) if isinstance(value, tuple) else value


def check_type(name: str, hint: Any, value: Any) -> None:
    """Raises ModelError for a value of another type than the field's."""
    try:
        typed(hint, as_list(value))
    except (TypeError, ValueError):
        words = getattr(hint, "__name__", "") if isinstance(hint, type) else ""
        words = words if words not in ("", "tuple") else str(hint).replace("typing.", "")
        raise ModelError(f"{name} of a head must be {words}, not {value!r:.60}.") from None


def check_belonging(spec: HeadSpec) -> None:
    """Raises ModelError for fields that the kind does not have, or lacks."""
    form = FORMS[spec.kind]
    has = form.needs + form.takes
    for field in fields(spec):
        name = field.name
        if name in OF_SOME and name not in has and getattr(spec, name) != field.default:
            own = f"of its own it has {', '.join(has)}" if has else "it has none of its own"
            raise ModelError(f"A {spec.kind} head must not have {name}; {own}.")
    if not spec.classes or not spec.strides:
        raise ModelError("classes and strides must not be empty; name what the maps are of.")
    for name in ("anchor_sizes", "anchor_shapes"):
        found: Sequence[Any] = getattr(spec, name)
        if name in form.needs and len(found) != spec.levels:
            raise ModelError(
                f"{name} must be given for each of {spec.levels} levels, not {len(found)}"
            )
        if not all(found):
            raise ModelError(f"{name} must have at least one of each level, not none.")
    counts = {len(sizes) for sizes in spec.anchor_sizes}
    if spec.kind == "retinanet" and not (len(counts) == 1 and spec.anchor_ratios):
        raise ModelError("anchor_sizes and anchor_ratios must be as many on each level, not none.")


def check_numbers(spec: HeadSpec) -> None:
    """Raises ModelError for numbers out of their ranges."""
    lengths: Mapping[str, Any] = {
        "strides": spec.strides,
        "anchor_sizes": [s for sizes in spec.anchor_sizes for s in sizes],
        "anchor_ratios": spec.anchor_ratios,
        "anchor_shapes": [s for shapes in spec.anchor_shapes for shape in shapes for s in shape],
        "scales": spec.scales,
    }
    for name, values in lengths.items():
        if not all(0 < value < math.inf for value in values):
            raise ModelError(f"{name} must be numbers above 0.")
    if not all(math.isfinite(v) for v in (spec.score_threshold, spec.nms_iou)):
        raise ModelError("score_threshold and nms_iou must be finite numbers.")
    if not 0 <= spec.offset <= 1:
        raise ModelError(f"offset must be 0 to 1, of a stride, not {spec.offset}.")
    if spec.topk < 1 or spec.max_detections < 1:
        raise ModelError(
            f"topk and max_detections must be at least 1, not {spec.topk} and"
            f" {spec.max_detections}."
        )
    if spec.bins < 1 or spec.repeats < 1 or spec.points < 0:
        raise ModelError(
            "bins and repeats must be at least 1, and points at least 0, not"
            f" {spec.bins}, {spec.repeats} and {spec.points}."
        )


def check_maps_named(spec: HeadSpec) -> None:
    """Raises ModelError unless the maps have each part once, and each output is one of them."""
    form = FORMS[spec.kind]
    wanted = [part for name in form.maps for part in name.split(JOIN)]
    wanted = [part for part in wanted if part != "points" or spec.points]
    named = [part for name in spec.maps for part in name.split(JOIN)]
    if spec.maps and sorted(named) != sorted(wanted):
        raise ModelError(
            f"maps of a {spec.kind} head must name {', '.join(wanted)} once each, with"
            f" {JOIN} between those that one map holds, not {', '.join(spec.maps)}."
        )
    count = len(spec.layout) * spec.levels
    if spec.order and sorted(spec.order) != list(range(count)):
        raise ModelError(
            f"order must have each number from 0 to {count - 1} once, an output for each of"
            f" {len(spec.layout)} maps on {spec.levels} levels, not {list(spec.order)!s:.60}."
        )
    if not set(spec.probabilities) <= set(form.activated):
        raise ModelError(
            f"probabilities of a {spec.kind} head must be among {', '.join(form.activated)}, not"
            f" {', '.join(spec.probabilities)}."
        )


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
