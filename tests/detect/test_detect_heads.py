"""Every kind of head against a second implementation, one location at a time in plain Python, made
from the formulas as they are published."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from heads import SIZE, SPECS
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from intaglio.detect.decode import decode
from intaglio.detect.heads.kinds import FORMULAS
from intaglio.detect.networks.kinds import FORMS
from intaglio.detect.networks.spec import HeadSpec

Numbers = list[float]
Maps = dict[str, NDArray[np.float64]]  # a level's parts (A * K, h, w)


# --- the published formulas -----------------------------------------------------------------------


@dataclass
class Place:
    """One anchor of one location: its parts' numbers, column, row, stride and anchor."""

    parts: dict[str, Numbers]
    x: int
    y: int
    stride: float
    spec: HeadSpec
    level: int
    anchor: int


Found = tuple[Numbers, Numbers, Numbers]  # a score of each class, x0 y0 x1 y1, landmarks


def logistic(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value))


def shares(values: Numbers) -> Numbers:
    powers = [math.exp(v) for v in values]
    return [power / sum(powers) for power in powers]


def box(cx: float, cy: float, w: float, h: float) -> Numbers:
    return [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]


def yolov3(p: Place) -> Found:
    tx, ty, tw, th = p.parts["box"]
    pw, ph = p.spec.anchor_shapes[p.level][p.anchor]
    centre = (logistic(tx) + p.x) * p.stride, (logistic(ty) + p.y) * p.stride
    sure = logistic(p.parts["object"][0])
    scores = [sure * logistic(c) for c in p.parts["class"]]
    return scores, box(*centre, pw * math.exp(tw), ph * math.exp(th)), []


def yolov5(p: Place) -> Found:
    x, y, w, h = (logistic(v) for v in p.parts["box"])
    pw, ph = p.spec.anchor_shapes[p.level][p.anchor]
    centre = (2 * x - 0.5 + p.x) * p.stride, (2 * y - 0.5 + p.y) * p.stride
    sure = logistic(p.parts["object"][0])
    scores = [sure * logistic(c) for c in p.parts["class"]]
    return scores, box(*centre, (2 * w) ** 2 * pw, (2 * h) ** 2 * ph), []


def yolox(p: Place) -> Found:
    x, y, w, h = p.parts["box"]
    centre = (x + p.x) * p.stride, (y + p.y) * p.stride
    sure = logistic(p.parts["object"][0])
    scores = [sure * logistic(c) for c in p.parts["class"]]
    return scores, box(*centre, math.exp(w) * p.stride, math.exp(h) * p.stride), []


def expected(values: Numbers, bins: int) -> Numbers:
    sides = [shares(values[k * bins : (k + 1) * bins]) for k in range(4)]
    return [sum(n * share for n, share in enumerate(one)) for one in sides]


def yolov8(p: Place) -> Found:
    left, top, right, bottom = expected(p.parts["box"], 16)
    ax, ay, s = p.x + 0.5, p.y + 0.5, p.stride
    corners = [(ax - left) * s, (ay - top) * s, (ax + right) * s, (ay + bottom) * s]
    return [logistic(c) for c in p.parts["class"]], corners, []


def nanodet(p: Place) -> Found:
    left, top, right, bottom = (d * p.stride for d in expected(p.parts["box"], p.spec.bins))
    cx, cy = (p.x + p.spec.offset) * p.stride, (p.y + p.spec.offset) * p.stride
    scores = [logistic(c) for c in p.parts["class"]]
    return scores, [cx - left, cy - top, cx + right, cy + bottom], []


def ssd(p: Place) -> Found:
    """`TFLite_Detection_PostProcess`: ty, tx, th, tw."""
    ty, tx, th, tw = p.parts["box"]
    w, h = p.spec.anchor_shapes[p.level][p.anchor]
    sx, sy, sw, sh = p.spec.scales
    cx = tx / sx * w + (p.x + 0.5) * p.stride
    cy = ty / sy * h + (p.y + 0.5) * p.stride
    scores = [logistic(c) for c in p.parts["class"][1:]]
    return scores, box(cx, cy, math.exp(tw / sw) * w, math.exp(th / sh) * h), []


def retinaface(p: Place) -> Found:
    """Variances .1 and .2."""
    side = p.spec.anchor_sizes[p.level][p.anchor]
    cx, cy = (p.x + 0.5) * p.stride, (p.y + 0.5) * p.stride
    x, y, w, h = p.parts["box"]
    points = [v * 0.1 * side + (cy if k % 2 else cx) for k, v in enumerate(p.parts["points"])]
    centre = cx + x * 0.1 * side, cy + y * 0.1 * side
    sides = side * math.exp(w * 0.2), side * math.exp(h * 0.2)
    return shares(p.parts["class"])[1:], box(*centre, *sides), points


def yunet(p: Place) -> Found:
    x, y, w, h = p.parts["box"]
    score = math.sqrt(logistic(p.parts["class"][0]) * logistic(p.parts["object"][0]))
    centre = (p.x + x) * p.stride, (p.y + y) * p.stride
    points = [(v + (p.y if k % 2 else p.x)) * p.stride for k, v in enumerate(p.parts["points"])]
    return [score], box(*centre, math.exp(w) * p.stride, math.exp(h) * p.stride), points


def scrfd(p: Place) -> Found:
    cx, cy = p.x * p.stride, p.y * p.stride
    left, top, right, bottom = (v * p.stride for v in p.parts["box"])
    points = [v * p.stride + (cy if k % 2 else cx) for k, v in enumerate(p.parts["points"])]
    return [logistic(p.parts["class"][0])], [cx - left, cy - top, cx + right, cy + bottom], points


def fcos(p: Place) -> Found:
    cx, cy = p.x * p.stride, p.y * p.stride
    left, top, right, bottom = (v * p.stride for v in p.parts["box"])
    centre = logistic(p.parts["centre"][0])
    scores = [math.sqrt(logistic(c) * centre) for c in p.parts["class"]]
    return scores, [cx - left, cy - top, cx + right, cy + bottom], []


def retinanet(p: Place) -> Found:
    sizes = p.spec.anchor_sizes[p.level]
    ratio, size = p.spec.anchor_ratios[p.anchor // len(sizes)], sizes[p.anchor % len(sizes)]
    half_w, half_h = round(size / math.sqrt(ratio) / 2), round(size * math.sqrt(ratio) / 2)
    x, y, w, h = p.parts["box"]
    cx, cy = p.x * p.stride + x * 2 * half_w, p.y * p.stride + y * 2 * half_h
    cap = math.log(1000 / 16)
    sides = 2 * half_w * math.exp(min(w, cap)), 2 * half_h * math.exp(min(h, cap))
    return [logistic(c) for c in p.parts["class"]], box(cx, cy, *sides), []


PUBLISHED: dict[str, Callable[[Place], Found]] = {
    "fcos": fcos, "retinanet": retinanet, "ssd": ssd, "yolov3": yolov3, "yolov5": yolov5,
    "yolox": yolox, "yolov8": yolov8, "yunet": yunet, "scrfd": scrfd, "retinaface": retinaface,
    "nanodet": nanodet,
}  # fmt: skip
WIDTHS = {"box": 4, "object": 1, "centre": 1, "points": 10}
ANCHORS = {"retinanet": 6, "yolov3": 3, "yolov5": 3, "scrfd": 2}


def width_of(spec: HeadSpec, part: str) -> int:
    """Channels of a part for an anchor, as the publications have them."""
    if part == "class":
        return len(spec.classes) + (spec.kind in ("ssd", "retinaface"))
    if part == "box" and spec.kind in ("yolov8", "nanodet"):
        return 64 if spec.kind == "yolov8" else 32
    return WIDTHS[part]


def anchors_of(spec: HeadSpec, level: int) -> int:
    if spec.kind in ("ssd", "retinaface"):
        return len((spec.anchor_shapes or spec.anchor_sizes)[level])
    return ANCHORS.get(spec.kind, 1)


def places(spec: HeadSpec, levels: list[Maps]) -> Iterator[Place]:
    """Level, row, column, anchor."""
    for level, maps in enumerate(levels):
        count = anchors_of(spec, level)
        rows, columns = maps["box"].shape[1:]
        for y in range(rows):
            for x in range(columns):
                for anchor in range(count):
                    parts = {}
                    for name, values in maps.items():
                        k = len(values) // count
                        parts[name] = values[anchor * k : (anchor + 1) * k, y, x].tolist()
                    yield Place(parts, x, y, spec.strides[level], spec, level, anchor)


def clipped(corners: Numbers) -> Numbers:
    return [min(max(v, 0.0), SIZE[1 - k % 2]) for k, v in enumerate(corners)]


def overlap(a: Numbers, b: Numbers) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(w, 0.0) * max(h, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


def second(spec: HeadSpec, levels: list[Maps]) -> list[tuple[float, int, Numbers, Numbers]]:
    """Score, label, box and landmarks of what is left after suppression, best first."""
    found = []
    for place in places(spec, levels):
        scores, corners, points = PUBLISHED[spec.kind](place)
        best = max(range(len(scores)), key=lambda k: (scores[k], -k))
        for label, score in enumerate(scores):
            if score > spec.score_threshold and (label == best or not spec.one_class):
                found.append((score, label, corners, points))
    found.sort(key=lambda one: -one[0])
    first = spec.kind in ("fcos", "retinanet")  # torchvision clips before it suppresses
    kept: list[tuple[float, int, Numbers, Numbers]] = []
    for one in found:
        rivals = [k for k in kept if spec.across or k[1] == one[1]]
        a = clipped(one[2]) if first else one[2]
        if all(overlap(clipped(k[2]) if first else k[2], a) <= spec.nms_iou for k in rivals):
            kept.append(one)
    return [(s, label, clipped(b), p) for s, label, b, p in kept[: spec.max_detections]]


# --- against ours ---------------------------------------------------------------------------------


def drawn(spec: HeadSpec, seed: int, spread: float = 1.5) -> list[Maps]:
    """Parts of each level, of a detector that is quite sure here and there."""
    rng = np.random.default_rng(seed)
    levels = []
    for level in range(spec.levels):
        grid = tuple(rng.integers(1, 5, 2))
        count = anchors_of(spec, level)
        names = [part for parts in spec.layout for part in parts]
        levels.append({n: rng.normal(0, spread, (count * width_of(spec, n), *grid)) for n in names})
    return levels


def outputs(spec: HeadSpec, levels: list[Maps]) -> list[NDArray[np.float64]]:
    """The maps of `layout` in the order of the outputs."""
    found: list[Any] = [None] * (len(spec.layout) * spec.levels)
    for index, parts in enumerate(spec.layout):
        for level, maps in enumerate(levels):
            count, grid = anchors_of(spec, level), maps["box"].shape[1:]
            split = [maps[part].reshape(count, -1, *grid) for part in parts]
            number = index * spec.levels + level
            number = spec.order[number] if spec.order else number
            found[number] = np.concatenate(split, axis=1).reshape(-1, *grid)
    return found


def check(spec: HeadSpec, levels: list[Maps]) -> int:
    """Ours and the second are the same; how many boxes there are."""
    ours, theirs = decode(spec, outputs(spec, levels), SIZE), second(spec, levels)
    assert ours.labels.tolist() == [label for _, label, _, _ in theirs]
    np.testing.assert_allclose(ours.scores, [s for s, _, _, _ in theirs], atol=1e-5, rtol=0)
    boxes = np.array([b for _, _, b, _ in theirs]).reshape(-1, 4)
    np.testing.assert_allclose(ours.boxes, boxes, atol=1e-3, rtol=0)
    if spec.points:
        points = np.array([p for _, _, _, p in theirs]).reshape(-1, spec.points, 2)
        assert ours.landmarks is not None
        np.testing.assert_allclose(ours.landmarks, points, atol=1e-3, rtol=0)
    else:
        assert ours.landmarks is None
    return len(theirs)


@pytest.mark.parametrize("kind", SPECS)
@settings(max_examples=12)
@given(seed=st.integers(0, 2**32), one_class=st.booleans(), across=st.booleans())
def test_each_kind_is_its_published_decode(
    kind: str, seed: int, one_class: bool, across: bool
) -> None:
    spec = replace(SPECS[kind], one_class=one_class, across=across, nms_iou=0.45)
    check(spec, drawn(spec, seed))


@pytest.mark.parametrize("kind", SPECS)
def test_the_comparison_sees_boxes(kind: str) -> None:
    assert sum(check(SPECS[kind], drawn(SPECS[kind], seed)) for seed in range(4)) > 20


@pytest.mark.parametrize("kind", SPECS)
@settings(max_examples=6)
@given(data=st.data())
def test_maps_come_in_any_order_joined_or_apart(kind: str, data: st.DataObject) -> None:
    spec = SPECS[kind]
    parts = data.draw(st.permutations([part for parts in spec.layout for part in parts]))
    cuts = data.draw(st.lists(st.booleans(), min_size=len(parts), max_size=len(parts)))
    maps: list[str] = []
    for part, joined in zip(parts, cuts, strict=True):
        maps[-1:] = [f"{maps[-1]}+{part}"] if maps and joined else [*maps[-1:], part]
    order = data.draw(st.permutations(range(len(maps) * spec.levels)))
    check(replace(spec, maps=tuple(maps), order=tuple(order)), drawn(spec, 5))


@pytest.mark.parametrize("kind", SPECS)
def test_probabilities_may_come_instead_of_logits(kind: str) -> None:
    spec, levels = SPECS[kind], drawn(SPECS[kind], 7)
    plain = decode(spec, outputs(spec, levels), SIZE)
    for maps in levels:
        for part in FORMS[kind].activated:
            values = maps[part]
            if kind == "retinaface":
                split = values.reshape(-1, 2, *values.shape[1:])
                powers = np.exp(split)
                maps[part] = (powers / powers.sum(1, keepdims=True)).reshape(values.shape)
            else:
                maps[part] = 1 / (1 + np.exp(-values))
    given = replace(spec, probabilities=FORMS[kind].activated)
    found = decode(given, outputs(given, levels), SIZE)
    assert found.labels.tolist() == plain.labels.tolist()
    np.testing.assert_allclose(found.scores, plain.scores, rtol=1e-9)
    np.testing.assert_allclose(found.boxes, plain.boxes, atol=1e-9)


def test_one_bin_is_the_distance_itself() -> None:
    spec = HeadSpec("yolov8", ("a",), (8,), bins=1)
    cls, box_map = np.full((1, 1, 1), 3.0), np.array([0.25, 0.5, 1.0, 2.0]).reshape(4, 1, 1)
    found = decode(spec, [box_map, cls], SIZE)
    assert found.boxes.tolist() == [[2.0, 0.0, 12.0, 20.0]]


@pytest.mark.parametrize("kind", SPECS)
def test_a_score_at_the_threshold_is_a_box_where_it_is_its_owners(kind: str) -> None:
    """Equal codes of two classes have a probability of a half exactly."""
    full = SPECS[kind]
    parts = {part for of in full.layout for part in of} & {"class", "object", "centre"}
    spec = replace(
        full, score_threshold=0.5, strides=(8,), nms_iou=1.0, probabilities=tuple(parts),
        anchor_sizes=full.anchor_sizes[:1], anchor_shapes=full.anchor_shapes[:1],
    )  # fmt: skip
    values = {"class": 0.5, "centre": 0.5, "object": 0.5 if kind == "yunet" else 1.0}
    maps = []
    for of in spec.layout:
        one = [np.full((spec.width(part), 1, 1), values.get(part, 0.0)) for part in of]
        maps.append(np.concatenate(one * spec.anchors_at(0)))
    found = decode(spec, maps, SIZE)
    assert (len(found.scores) > 0) == (kind in ("ssd", "yolox", "yunet", "scrfd"))
    assert (found.scores == 0.5).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", SPECS)
@settings(max_examples=400)
@given(seed=st.integers(0, 2**32), one_class=st.booleans(), across=st.booleans())
def test_many_maps(kind: str, seed: int, one_class: bool, across: bool) -> None:
    spec = replace(SPECS[kind], one_class=one_class, across=across, nms_iou=0.45)
    check(spec, drawn(spec, seed))


def test_growth_without_end_is_no_warning() -> None:
    spec = SPECS["yolox"]
    levels = [{n: np.full(v.shape, 1e4) for n, v in maps.items()} for maps in drawn(spec, 1)]
    found = decode(spec, outputs(spec, levels), SIZE)
    assert np.isfinite(found.boxes).all()


def test_every_kind_has_formulas_a_form_and_a_second_implementation() -> None:
    assert list(FORMULAS) == list(FORMS) == list(PUBLISHED) == list(SPECS)
