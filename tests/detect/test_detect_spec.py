"""A `HeadSpec` says one sentence about what is wrong in it, before any work."""

import json
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.detect.networks.kinds import FORMS, OF_SOME
from intaglio.detect.networks.spec import HeadSpec
from intaglio.errors import ModelError

FCOS = HeadSpec("fcos", ("a", "b", "c"), (8, 16))
YOLO = HeadSpec("yolov5", ("a",), (8, 16), anchor_shapes=(((9, 9),), ((9, 9), (20, 30))))
RETINA = HeadSpec("retinanet", ("a",), (8, 16), ((9.0,), (20.0,)), (1.0,))
FACES = HeadSpec("scrfd", ("face",), (8, 16, 32), repeats=2, points=5)
NANO = HeadSpec("nanodet", ("a",), (8,), bins=8, offset=0)


@pytest.mark.parametrize(
    ("spec", "change", "sentence"),
    [
        (FCOS, {"kind": "yolo"}, "head kind must be one of fcos, retinanet, ssd, yolov3, yolov5,"
         " yolox, yolov8, yunet, scrfd, retinaface, nanodet, not 'yolo'; boxes of another head are"
         " made by your own function, --decode package.module:function."),
        (FCOS, {"kind": ["fcos"]}, "head kind must be one of fcos, retinanet, ssd, yolov3, yolov5,"
         " yolox, yolov8, yunet, scrfd, retinaface, nanodet, not ['fcos']; boxes of another head"
         " are made by your own function, --decode package.module:function."),
        (FCOS, {"classes": "cat"}, "classes of a head must be tuple[str, ...], not 'cat'."),
        (FCOS, {"classes": ()}, "classes and strides must not be empty; name what the maps are"
         " of."),
        (FCOS, {"strides": ()}, "classes and strides must not be empty; name what the maps are"
         " of."),
        (FCOS, {"strides": ("8",)}, "strides of a head must be tuple[float, ...], not ('8',)."),
        (FCOS, {"strides": (8, 0)}, "strides must be numbers above 0."),
        (RETINA, {"anchor_sizes": ()}, "anchor_sizes must be given for each of 2 levels, not 0"),
        (RETINA, {"anchor_sizes": ((9.0,), ())}, "anchor_sizes must have at least one of each"
         " level, not none."),
        (RETINA, {"anchor_sizes": ((9.0,), (1.0, 2.0))}, "anchor_sizes and anchor_ratios must be as"
         " many on each level, not none."),
        (RETINA, {"anchor_sizes": ((9.0,), (-1.0,))}, "anchor_sizes must be numbers above 0."),
        (RETINA, {"anchor_ratios": ()}, "anchor_sizes and anchor_ratios must be as many on each"
         " level, not none."),
        (RETINA, {"anchor_ratios": (0,)}, "anchor_ratios must be numbers above 0."),
        (YOLO, {"anchor_shapes": ()}, "anchor_shapes must be given for each of 2 levels, not 0"),
        (YOLO, {"anchor_shapes": ((9, 9), (9, 9))}, "anchor_shapes of a head must be"
         " tuple[tuple[tuple[float, float], ...], ...], not ((9, 9), (9, 9))."),
        (YOLO, {"anchor_shapes": (((9, 9),), ((9, 0),))}, "anchor_shapes must be numbers above 0."),
        (YOLO, {"scales": (1.0, 1.0, 1.0, 1.0)}, "A yolov5 head must not have scales; of its own it"
         " has anchor_shapes."),
        (FCOS, {"bins": 8}, "A fcos head must not have bins; it has none of its own."),
        (FCOS, {"score_threshold": float("nan")}, "score_threshold of a head must be float, not"
         " nan."),
        (FCOS, {"nms_iou": "half"}, "nms_iou of a head must be float, not 'half'."),
        (FCOS, {"topk": 0}, "topk and max_detections must be at least 1, not 0 and 100."),
        (FCOS, {"max_detections": -1}, "topk and max_detections must be at least 1, not 1000 and"
         " -1."),
        (NANO, {"offset": 2.0}, "offset must be 0 to 1, of a stride, not 2.0."),
        (NANO, {"bins": 0}, "bins and repeats must be at least 1, and points at least 0, not 0, 1"
         " and 0."),
        (FACES, {"repeats": 0}, "bins and repeats must be at least 1, and points at least 0, not"
         " 16, 0 and 5."),
        (FACES, {"points": -5}, "bins and repeats must be at least 1, and points at least 0, not"
         " 16, 2 and -5."),
        (FACES, {"maps": ("class", "box")}, "maps of a scrfd head must name class, box, points once"
         " each, with + between those that one map holds, not class, box."),
        (FACES, {"maps": ("class+box", "points", "box")}, "maps of a scrfd head must name class,"
         " box, points once each, with + between those that one map holds, not class+box, points,"
         " box."),
        (YOLO, {"order": (0, 0)}, "order must have each number from 0 to 1 once, an output for each"
         " of 1 maps on 2 levels, not [0, 0]."),
        (NANO, {"probabilities": ("box",)}, "probabilities of a nanodet head must be among class,"
         " not box."),
        (FCOS, {"one_class": 1}, "one_class of a head must be bool, not 1."),
        (FCOS, {"across": None}, "across of a head must be bool, not None."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(spec: HeadSpec, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ModelError) as refused:
        replace(spec, **change)
    assert str(refused.value) == sentence


SSD = HeadSpec("ssd", ("a",), (8,), anchor_shapes=(((9, 9),),))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"scales": (10.0, 10.0, 5.0, 0.0)}, "scales must be numbers above 0."),
        ({"scales": (10.0, 5.0)}, "scales of a head must be tuple[float, float, float, float], not"
         " (10.0, 5.0)."),
        ({"box_order": "hwxy"}, "box_order of a head must be Literal['xywh', 'yxhw'], not 'hwxy'."),
        ({"activation": "none"}, "activation of a head must be Literal['softmax', 'sigmoid'], not"
         " 'none'."),
        ({"background": "first"}, "background of a head must be bool, not 'first'."),
    ],
)  # fmt: skip
def test_what_is_wrong_in_an_ssd_is_said(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ModelError) as refused:
        replace(SSD, **change)
    assert str(refused.value) == sentence


def test_every_field_of_some_kinds_belongs_to_one() -> None:
    named = [name for form in FORMS.values() for name in form.needs + form.takes]
    assert set(named) == set(OF_SOME)
    assert set(OF_SOME) < {field.name for field in fields(HeadSpec)}


@pytest.mark.parametrize("spec", [FCOS, YOLO, RETINA, FACES, NANO, SSD])
def test_a_spec_survives_json(spec: HeadSpec) -> None:
    assert HeadSpec.from_json(spec.to_json()) == spec
    assert eval(repr(spec), {"HeadSpec": HeadSpec}) == spec


def test_json_of_a_plain_head_is_what_it_was() -> None:
    assert FCOS.to_json() == (
        '{"kind": "fcos", "classes": ["a", "b", "c"], "strides": [8, 16], "anchor_sizes": [],'
        ' "anchor_ratios": [], "score_threshold": 0.05, "nms_iou": 0.5, "topk": 1000,'
        ' "max_detections": 100}'
    )


def test_lists_and_numpys_numbers_are_taken() -> None:
    np = pytest.importorskip("numpy")
    spec = HeadSpec("yolov5", ["a"], [8, 16], anchor_shapes=np.full((2, 3, 2), 9.0).tolist())  # type: ignore[arg-type]  # as users write them
    assert spec == replace(spec, strides=(np.int64(8), np.float64(16)))
    assert hash(spec)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
VALUES = st.recursive(LEAVES, lambda more: st.lists(more, max_size=3), max_leaves=9)


@given(
    st.sampled_from([FCOS, YOLO, RETINA, FACES, NANO, SSD]),
    st.dictionaries(st.sampled_from([f.name for f in fields(HeadSpec)]), VALUES, max_size=3),
)
def test_any_value_of_any_field_is_a_spec_or_a_sentence(
    spec: HeadSpec, values: dict[str, Any]
) -> None:
    text = json.dumps(json.loads(spec.to_json()) | values)
    with suppress(ModelError):
        made = HeadSpec.from_json(text)
        assert len(made.channels) == len(made.layout) * made.levels
        assert HeadSpec.from_json(made.to_json()) == made


@given(st.text())
def test_any_text_is_a_spec_or_a_sentence(text: str) -> None:
    with suppress(ModelError):
        HeadSpec.from_json(text)
