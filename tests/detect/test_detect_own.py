"""Boxes by a function of one's own: taken as they are, or refused in a sentence."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heads import SIZE, SPECS, maps_of

from intaglio.detect.decode import Detections, decode
from intaglio.detect.own import OwnDecoder, boxes_of
from intaglio.errors import ModelError

BOX = [[1.0, 2.0, 300.0, 4.0]]


def returning(found: Any) -> OwnDecoder:
    """A decoder that finds this in every picture."""

    def boxes(maps: Any, size: Any) -> Any:
        return found

    boxes.classes = ["cat", "dog"]  # type: ignore[attr-defined]  # what a decoder has
    return OwnDecoder.of(boxes)


def test_boxes_are_clipped_and_best_first() -> None:
    decoder = returning(([*BOX, [5, 5, 9, 9]], [0.5, 0.75], [1, 0], np.ones((2, 3, 2))))
    found = boxes_of(decoder, [np.zeros((1, 2, 2))], SIZE)
    assert found.boxes.tolist() == [[5, 5, 9, 9], [1, 2, 80, 4]]
    assert (found.scores.tolist(), found.labels.tolist()) == ([0.75, 0.5], [0, 1])
    assert found.landmarks is not None
    assert found.landmarks.shape == (2, 3, 2)
    assert decoder.classes == ("cat", "dog")
    assert len(boxes_of(returning(([], [], [])), [], SIZE).boxes) == 0


@pytest.mark.parametrize("kind", ["yolox", "scrfd"])
def test_detections_are_taken_whole(kind: str) -> None:
    spec, maps = SPECS[kind], maps_of(SPECS[kind], 3)

    def boxes(given: Any, size: Any) -> Detections:
        assert all(map.dtype == np.float64 for map in given)
        return decode(spec, given, size)

    boxes.classes = spec.classes  # type: ignore[attr-defined]  # what a decoder has
    ours, theirs = boxes_of(OwnDecoder.of(boxes), maps, SIZE), boxes_of(spec, maps, SIZE)
    for name in ("boxes", "scores", "labels", "landmarks"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


FORM = "boxes (n, 4), scores (n,) and labels (n,), and perhaps landmarks (n, points, 2)"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, f"{FORM}, not NoneType."),
        ((BOX, [0.5]), f"{FORM}, not tuple."),
        ((BOX, [0.5], [0, 1]), f"{FORM}, not of (1, 4), (1,) and (2,)."),
        (([[1, 2, 3]], [0.5], [0]), f"{FORM}, not of (1, 3), (1,) and (1,)."),
        ((BOX, ["high"], [0]), f"{FORM}, but: could not convert string to float: 'high'."),
        ((BOX, [0.5], [2]), "labels that are whole numbers from 0 to 1, of its classes."),
        ((BOX, [0.5], [0.5]), "labels that are whole numbers from 0 to 1, of its classes."),
        ((BOX, [np.nan], [0]), "finite boxes and scores."),
        ((BOX, [0.5], [0], np.ones((1, 10))), "landmarks (1, points, 2), not (1, 10)."),
    ],
)
def test_what_it_returns_is_held_to_its_form(found: Any, words: str) -> None:
    with pytest.raises(ModelError) as refused:
        boxes_of(returning(found), [np.zeros((1, 2, 2))], SIZE)
    assert str(refused.value).startswith("--decode test_detect_own:returning.<locals>.boxes must ")
    assert str(refused.value).endswith(f"must return {words}")


def test_a_function_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("my_boxes.py").write_text(
        "def plain(maps, size):\n    raise KeyError('map 3')\n\n\n"
        "def named(maps, size):\n    raise KeyError('map 3')\n\n\nnamed.classes = ('cat',)\nN = 3\n"
    )
    decoder = OwnDecoder.of("my_boxes:named")
    assert len(decoder.digest) == 64
    for words, call in {
        "--decode must be package.module:function, not 'my_boxes'.": "my_boxes",
        "--decode 'my_boxes:nothing' must be importable, but: AttributeError: module 'my_boxes' has"
        " no attribute 'nothing'.": "my_boxes:nothing",
        "--decode my_boxes:N must be a function of maps and a size, not int.": "my_boxes:N",
        "--decode my_boxes:plain must have an attribute `classes`, the names of what its labels"
        " number: plain.classes = ('cat', 'dog').": "my_boxes:plain",
    }.items():
        with pytest.raises(ModelError) as refused:
            OwnDecoder.of(call)
        assert str(refused.value) == words
    with pytest.raises(ModelError) as raised:
        boxes_of(decoder, [], SIZE)
    assert str(raised.value) == (
        "--decode my_boxes:named must make boxes of the maps, but raised KeyError: 'map 3'."
    )


def test_pixels_are_the_codes_of_a_signed_input_less_128(tmp_path: Path) -> None:
    from PIL import Image

    from intaglio import api
    from intaglio.detect.pictures import as_codes
    from intaglio.fixed import IntType
    from intaglio.models import images_for
    from intaglio.ops import Conv2d, Input, Output
    from intaglio.program import Builder
    from intaglio.sim.engine import Simulator

    every = np.arange(256, dtype=np.uint8)
    assert as_codes(every, IntType(8, True)).tolist() == list(range(-128, 128))
    assert as_codes(every, IntType(8, False)).tolist() == list(range(256))
    b = Builder()
    b.add(Input(output="codes", shape=(3, 4, 5), type=IntType(8, True)))
    weight = b.constant("w", np.arange(-3, 3).reshape(2, 3, 1, 1))
    b.add(Conv2d(output="sum", input="codes", weight=weight, pad_value=(0,)))
    b.add(Output(output="out", input="sum"))
    program = b.build()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5), dtype=np.uint8)
    wanted = Simulator(program).run_dequantised(pixels.astype(np.int16) - 128)
    for engine in ("sim", "reference"):
        found = api.predictor(program, engine)(pixels)  # type: ignore[arg-type]  # a Literal
        np.testing.assert_array_equal(found[0], wanted[0])
    Image.fromarray(pixels[0].transpose(1, 2, 0)).save(tmp_path / "one.png")
    np.testing.assert_array_equal(
        images_for(program, [tmp_path / "one.png"]), pixels[:1].astype(np.int16) - 128
    )
