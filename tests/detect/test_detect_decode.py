"""Laws of box decoding: coders invert, NMS equals a naive one, errors name the fault."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from intaglio.detect.decode import Detections, HeadSpec, anchor_boxes, decode, iou, nms
from intaglio.errors import ModelError

FCOS = HeadSpec("fcos", ("a", "b", "c"), strides=(8, 16), nms_iou=0.6)
RETINA = HeadSpec(
    "retinanet",
    ("a", "b", "c"),
    strides=(8, 16),
    anchor_sizes=((16.0, 20.0), (32.0, 40.0)),
    anchor_ratios=(0.5, 1.0, 2.0),
)
SIZE = (64, 96)


def quiet_maps(spec: HeadSpec) -> list[NDArray[np.float64]]:
    """Output maps of a detector that sees nothing in an image of SIZE."""
    grids = [(SIZE[0] // s, SIZE[1] // s) for s in spec.strides]
    maps = [
        np.zeros((c, *grids[i % spec.levels]), dtype=np.float64)
        for i, c in enumerate(spec.channels)
    ]
    for level in range(spec.levels):
        maps[level] -= 20.0
    return maps


def naive_nms(
    boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    threshold: float,
) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        for k in kept:
            w = min(boxes[i, 2], boxes[k, 2]) - max(boxes[i, 0], boxes[k, 0])
            h = min(boxes[i, 3], boxes[k, 3]) - max(boxes[i, 1], boxes[k, 1])
            shared = max(w, 0.0) * max(h, 0.0)
            areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (boxes[k], boxes[i])]
            union = areas[0] + areas[1] - shared
            if labels[i] == labels[k] and union > 0 and shared / union > threshold:
                break
        else:
            kept.append(i)
    return kept


@st.composite
def crowds(draw: st.DrawFn) -> Detections:
    """Many small whole-number boxes, so that overlaps, empty boxes and ties are common."""
    n = draw(st.integers(0, 40))
    corner = draw(hnp.arrays(np.int64, (n, 2), elements=st.integers(0, 12)))
    side = draw(hnp.arrays(np.int64, (n, 2), elements=st.integers(0, 8)))
    scores = draw(hnp.arrays(np.int64, n, elements=st.integers(0, 5))) / 5.0
    labels = draw(hnp.arrays(np.int64, n, elements=st.integers(0, 2)))
    boxes = np.concatenate([corner, corner + side], axis=1).astype(np.float64)
    return Detections(boxes, scores, labels)


@given(crowds(), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.integers(0, 40))
def test_nms_equals_the_naive_one_and_a_limit_cuts_it_short(
    crowd: Detections, threshold: float, limit: int
) -> None:
    expected = naive_nms(crowd.boxes, crowd.scores, crowd.labels, threshold)
    fields = (crowd.boxes, crowd.scores, crowd.labels, threshold)
    assert nms(*fields).tolist() == expected
    assert nms(*fields, limit).tolist() == expected[:limit]


@given(crowds())
def test_iou_is_symmetric_and_one_only_for_equal_boxes(crowd: Detections) -> None:
    overlap = iou(crowd.boxes, crowd.boxes)
    assert (overlap == overlap.T).all()
    solid = (crowd.boxes[:, 2:] > crowd.boxes[:, :2]).all(axis=1)
    equal = (crowd.boxes[:, None] == crowd.boxes[None]).all(axis=2)
    assert ((overlap == 1.0) == (equal & solid[:, None])).all()


@given(
    st.integers(0, 1),
    st.integers(0, 3),
    st.integers(0, 5),
    st.integers(0, 2),
    hnp.arrays(np.float64, 4, elements=st.floats(0.125, 4.0)),
    st.floats(-2.0, 5.0),
)
def test_fcos_decodes_distances_measured_in_strides(
    level: int, row: int, column: int, label: int, sides: NDArray[np.float64], logit: float
) -> None:
    row, column = row % (4 >> level), column % (6 >> level)
    maps = quiet_maps(FCOS)
    maps[level][label, row, column] = logit
    maps[2 + level][:, row, column] = sides
    found = decode(FCOS, maps, SIZE)
    stride = FCOS.strides[level]
    centre = np.array([column, row, column, row]) * float(stride)
    expected = (centre + sides * stride * [-1, -1, 1, 1]).clip(0, [96, 64, 96, 64])
    assert found.labels.tolist() == [label]
    np.testing.assert_allclose(found.boxes, [expected], atol=1e-9)
    np.testing.assert_allclose(found.scores, [np.sqrt(0.5 / (1 + np.exp(-logit)))], rtol=1e-12)


def test_retinanet_anchors_follow_torchvisions_order_and_rounding() -> None:
    # torchvision: ratios (height / width) outer, sizes inner, half sides rounded half to even.
    base = anchor_boxes(RETINA, 0, 1, 1)
    assert base.tolist() == [
        [-11.0, -6.0, 11.0, 6.0],
        [-14.0, -7.0, 14.0, 7.0],
        [-8.0, -8.0, 8.0, 8.0],
        [-10.0, -10.0, 10.0, 10.0],
        [-6.0, -11.0, 6.0, 11.0],
        [-7.0, -14.0, 7.0, 14.0],
    ]
    grid = anchor_boxes(RETINA, 0, 3, 2).reshape(3, 2, 6, 4)
    assert (grid[2, 1] - base == [8.0, 16.0, 8.0, 16.0]).all()


@given(st.integers(0, 7), st.integers(0, 11), st.integers(0, 5), st.integers(0, 2))
def test_retinanet_channels_are_anchor_major(
    row: int, column: int, anchor: int, label: int
) -> None:
    maps = quiet_maps(RETINA)
    maps[0][anchor * 3 + label, row, column] = 2.0
    maps[2][anchor * 4 : anchor * 4 + 4, row, column] = [0.25, -0.5, np.log(2.0), 9.0]
    found = decode(RETINA, maps, (1000, 1000))
    x0, y0, x1, y1 = anchor_boxes(RETINA, 0, 8, 12)[(row * 12 + column) * 6 + anchor]
    w, h = x1 - x0, y1 - y0
    x, y, height = (x0 + x1) / 2 + w / 4, (y0 + y1) / 2 - h / 2, h * 1000 / 16
    expected = np.clip([x - w, y - height / 2, x + w, y + height / 2], 0, 1000)
    assert found.labels.tolist() == [label]
    np.testing.assert_allclose(found.boxes[0], expected, atol=1e-9)


@given(st.integers(1, 6), st.integers(1, 6))
def test_topk_and_max_detections_keep_the_best(topk: int, most: int) -> None:
    spec = replace(FCOS, topk=topk, max_detections=most, nms_iou=1.0)
    rng = np.random.default_rng(0)
    maps = quiet_maps(FCOS)
    for level in range(2):
        maps[level] = rng.normal(0.0, 1.0, maps[level].shape)
    per_level = [np.sort(m.ravel())[::-1][:topk] for m in maps[:2]]
    best = np.sort(np.concatenate(per_level))[::-1][:most]
    found = decode(spec, maps, SIZE)
    np.testing.assert_allclose(found.scores, np.sqrt(0.5 / (1 + np.exp(-best))), rtol=1e-12)


@pytest.mark.parametrize("spec", [FCOS, RETINA])
def test_a_spec_survives_json(spec: HeadSpec) -> None:
    assert HeadSpec.from_json(spec.to_json()) == spec


def test_wrong_maps_and_specs_are_refused_in_words() -> None:
    maps = quiet_maps(FCOS)
    with pytest.raises(ModelError) as few:
        decode(FCOS, maps[:5], SIZE)
    assert str(few.value) == (
        "a fcos head with 2 levels must have 6 output maps (class, box, centre of each level), not"
        " 5; give the model the head description that fits it"
    )
    maps[1] = maps[1][:2]
    with pytest.raises(ModelError) as narrow:
        decode(FCOS, maps, SIZE)
    assert str(narrow.value) == (
        "output map 1 of a fcos head must have shape (3, h, w), not (2, 4, 6): it is class of level"
        " 1; give the head maps and order that fit outputs of 3x8x12, 2x4x6, 4x8x12, 4x4x6, 1x8x12,"
        " 1x4x6"
    )
    with pytest.raises(ModelError, match="must be JSON written by HeadSpec"):
        HeadSpec.from_json('{"kind": "fcos"}')


def test_maps_of_one_level_must_have_one_size() -> None:
    maps = [np.zeros((c, 4 >> k % 2, 4 >> k % 2)) for k, c in enumerate(FCOS.channels)]
    decode(FCOS, maps, (32, 32))
    maps[2] = np.zeros((4, 7, 4))
    with pytest.raises(ModelError) as error:
        decode(FCOS, maps, (32, 32))
    assert str(error.value) == (
        "output map 2 of a fcos head must have the 4x4 locations of its level's other maps,"
        " not 7x4."
    )
