"""The kinds of heads that a `HeadSpec` can describe, and what each of them has. No torch."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "fcos", "retinanet", "ssd", "yolov3", "yolov5", "yolox", "yolov8", "yunet", "scrfd",
    "retinaface", "nanodet",
]  # fmt: skip
JOIN = "+"  # between the parts that one map holds


@dataclass(frozen=True)
class Form:
    """What a head of one kind gives and is given.

    maps        the parts of its maps as it is published: all levels of the first, then all of the
                second; "box+class" is one map that holds both.
    needs       fields of a HeadSpec that must be given for it, and
    takes       those that may be; others belong to other kinds.
    activated   parts whose maps may hold probabilities already.
    """

    maps: tuple[str, ...]
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    activated: tuple[str, ...] = ("class",)


FORMS: dict[str, Form] = {
    "fcos": Form(("class", "box", "centre"), activated=("class", "centre")),
    "retinanet": Form(("class", "box"), needs=("anchor_sizes", "anchor_ratios")),
    "ssd": Form(
        ("class", "box"),
        needs=("anchor_shapes",),
        takes=("scales", "box_order", "activation", "background", "offset"),
    ),
    "yolov3": Form(
        ("box+object+class",), needs=("anchor_shapes",), activated=("class", "object")
    ),
    "yolov5": Form(
        ("box+object+class",), needs=("anchor_shapes",), activated=("class", "object", "box")
    ),
    "yolox": Form(("box", "object", "class"), activated=("class", "object")),
    "yolov8": Form(("box", "class"), takes=("bins",)),
    "yunet": Form(
        ("class", "object", "box", "points"), takes=("points",), activated=("class", "object")
    ),
    "scrfd": Form(("class", "box", "points"), takes=("repeats", "points")),
    "retinaface": Form(
        ("box", "class", "points"), needs=("anchor_sizes",), takes=("scales", "points")
    ),
    "nanodet": Form(("class+box",), takes=("bins", "offset")),
}  # fmt: skip
OF_SOME = (
    "anchor_sizes", "anchor_ratios", "anchor_shapes", "scales", "box_order", "activation",
    "background", "offset", "bins", "repeats", "points",
)  # fmt: skip
