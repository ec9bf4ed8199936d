"""Boxes on pictures: the best on top, no name over another."""

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageColor, ImageDraw

from intaglio.detect.decode import Detections
from intaglio.detect.draw import COLOURS, Corners, draw, write_name

CLASSES = tuple("0123456789")


@given(st.permutations(range(10)), st.integers(1, 4))
def test_of_boxes_at_one_place_the_best_is_seen(labels: list[int], zoom: int) -> None:
    boxes = np.tile([[20.0, 60.0, 70.0, 90.0]], (10, 1))
    found = Detections(boxes, np.linspace(0.9, 0.4, 10), np.array(labels))
    picture = draw(np.zeros((3, 96, 96), np.uint8), found, CLASSES, zoom=zoom)
    assert picture.getpixel((70 * zoom, 90 * zoom)) == ImageColor.getrgb(COLOURS[labels[0]])


def test_what_scores_too_little_is_not_drawn() -> None:
    found = Detections(np.array([[20.0, 60.0, 70.0, 90.0]]), np.array([0.3]), np.array([1]))
    picture = draw(np.zeros((3, 96, 96), np.uint8), found, CLASSES, threshold=0.3)
    assert picture.getextrema() == ((0, 0),) * 3


PLACES = st.tuples(st.floats(-20, 120), st.floats(-20, 120))


@given(st.lists(st.tuples(PLACES, st.text("0123456789 abg", min_size=1, max_size=9)), max_size=8))
def test_no_name_is_over_another(names: list[tuple[tuple[float, float], str]]) -> None:
    picture = Image.new("RGB", (96, 96))
    taken: list[Corners] = []
    for at, text in names:
        write_name(ImageDraw.Draw(picture), at, text, "#ffffff", picture.width, taken)
    assert len(taken) == len(names)
    for (a, b, c, d), (e, f, g, h) in combinations(taken, 2):
        assert c <= e or g <= a or d <= f or h <= b
    assert all(left >= 0 and top >= 0 for left, top, _, _ in taken)


@given(st.floats(25, 65), st.floats(65, 85), st.integers(1, 4))
def test_landmarks_are_dots_in_the_colour_of_their_box(x: float, y: float, zoom: int) -> None:
    points = np.array([[[x, y], [5.0, 5.0]]])
    found = Detections(np.array([[20.0, 60.0, 70.0, 90.0]]), np.ones(1), np.array([2]), points)
    picture = draw(np.zeros((3, 96, 96), np.uint8), found, CLASSES, zoom=zoom)
    for at in points[0]:
        assert picture.getpixel((int(at[0] * zoom), int(at[1] * zoom))) == ImageColor.getrgb(
            COLOURS[2]
        )
