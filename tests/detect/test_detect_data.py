"""Scenes, the COCO loader and mAP."""

import contextlib
import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pycocotools.cocoeval import COCOeval

from intaglio.detect.coco import CocoData
from intaglio.detect.decode import Detections, HeadSpec
from intaglio.detect.evaluate import evaluate
from intaglio.detect.networks.spec import NOTHING
from intaglio.detect.pictures import LETTERBOX_GREY, load_image
from intaglio.detect.scenes import CLASSES, digits, make_scene, write_scenes
from intaglio.detect.score import FIGURES, Scores, Scoring, score, tell_names
from intaglio.errors import DataError, DataWarning


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> CocoData:
    folder = tmp_path_factory.mktemp("scenes")
    return CocoData(write_scenes(folder, 12, 96, 7, "held-out"), folder / "images")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from([64, 96, 130]))
def test_a_scene_is_a_function_of_its_arguments(index: int, seed: int, size: int) -> None:
    first = make_scene(index, size=size, seed=seed, split="train")
    again = make_scene(index, size=size, seed=seed, split="train")
    assert (first.image == again.image).all()
    assert (first.boxes == again.boxes).all()
    assert first.image.shape == (3, size, size)
    assert 1 <= len(first.boxes) == len(first.labels)
    assert (first.boxes[:, :2] >= 0).all()
    assert (first.boxes[:, 2:] <= size).all()
    assert (first.boxes[:, 2:] > first.boxes[:, :2]).all()
    other = make_scene(index + 1, size=size, seed=seed, split="train")
    assert (first.image != other.image).any()


def test_no_digit_is_both_trained_on_and_held_out() -> None:
    train, held_out = ({d.tobytes() for d in digits(s)[0]} for s in ("train", "held-out"))  # type: ignore[arg-type]  # a literal in a generator is a str
    assert len(train) + len(held_out) >= 1790  # a few of the 1797 are equal to another
    assert not train & held_out


def test_written_scenes_are_what_the_loader_reads(data: CocoData) -> None:
    assert data.names == CLASSES
    for index, image_id in enumerate(data.ids):
        scene = make_scene(index, size=96, seed=7, split="held-out")
        image, scale = load_image(data.file(image_id), (96, 96))
        truth = data.truth(image_id)
        assert scale == 1.0
        assert (image == scene.image).all()
        assert (truth.boxes == scene.boxes).all()
        assert (truth.labels == scene.labels).all()


def three(found: Scores) -> tuple[float, float, float]:
    return found.ap, found.ap50, found.ap75


def test_the_ground_truth_has_an_ap_of_one(data: CocoData) -> None:
    truth = [(i, data.truth(i)) for i in data.ids]
    assert three(score(data, truth, data.names)) == (1.0, 1.0, 1.0)
    reversed_names = data.names[::-1]
    renamed = [(i, Detections(t.boxes, t.scores, 9 - t.labels)) for i, t in truth]
    assert three(score(data, renamed, reversed_names)) == (1.0, 1.0, 1.0)


def test_boxes_of_the_wrong_class_or_none_have_an_ap_of_zero(data: CocoData) -> None:
    truth = [(i, data.truth(i)) for i in data.ids]
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, dtype=np.int64))
    assert three(score(data, [(i, nothing) for i in data.ids], data.names)) == (0.0, 0.0, 0.0)
    wrong = [(i, Detections(t.boxes, t.scores, (t.labels + 1) % 10)) for i, t in truth]
    ap, ap50, _ = three(score(data, wrong, data.names))
    assert ap <= ap50 < 0.1
    with pytest.raises(DataError, match="must share a name with the detector's classes"):
        score(data, truth, ["cat", "dog"])


class Oracle:
    """Writes the true boxes of one image after the other into FCOS maps of stride 2."""

    spec = HeadSpec("fcos", CLASSES, strides=(2,), nms_iou=1.0)

    def __init__(self, data: CocoData, scale: float) -> None:
        self.truths = (data.truth(i) for i in data.ids)
        self.scale = scale

    def __call__(self, images: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
        n, h, w = len(images), images.shape[2] // 2, images.shape[3] // 2
        cls, reg = np.full((n, 10, h, w), -20.0), np.zeros((n, 4, h, w))
        for k, truth in zip(range(n), self.truths, strict=False):
            for box, label in zip(truth.boxes * self.scale / 2, truth.labels, strict=True):
                x, y = ((box[:2] + box[2:]) / 2).astype(int)
                while cls[k, :, y, x].max() > 0:
                    x += 1
                cls[k, label, y, x] = 5.0
                reg[k, :, y, x] = [x - box[0], y - box[1], box[2] - x, box[3] - y]
        return [cls, reg, np.zeros((n, 1, h, w))]


@pytest.mark.parametrize(("size", "resize"), [((96, 96), False), ((48, 64), True)])
def test_evaluate_scores_an_oracle_at_one_in_silence(
    data: CocoData, capsys: pytest.CaptureFixture[str], size: tuple[int, int], resize: bool
) -> None:
    steps: list[tuple[int, int]] = []
    taken: list[Any] = []
    result = evaluate(
        Oracle(data, size[0] / 96),
        data,
        Oracle.spec,
        size,
        batch=5,
        resize=resize,
        progress=lambda done, total: steps.append((done, total)),
        take=taken.append,
    )
    assert [row for rows in taken for row in rows] == result.predictions
    assert len(taken) == len(steps)
    assert (result.ap, result.images) == (1.0, 12)
    assert steps == [(5, 12), (10, 12), (12, 12)]
    assert capsys.readouterr().out == ""


def test_a_limit_counts_only_the_images_seen(data: CocoData) -> None:
    spec = HeadSpec("fcos", CLASSES, strides=(8,))

    def blind(images: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
        return [np.zeros((len(images), c, 12, 12)) - 20.0 for c in spec.channels]

    assert evaluate(blind, data, spec, (96, 96), limit=5).images == 5
    with pytest.raises(DataError, match="at least one image"):
        evaluate(blind, data, spec, (96, 96), limit=0)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_images_of_every_mode_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "image.tiff"
    Image.new("RGB", (5, 4), (255, 255, 255)).convert(mode).save(path)
    image, _ = load_image(path, (4, 5))
    assert image.shape == (3, 4, 5)
    assert (image == 255).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_letterboxing_fits_at_the_top_left(
    tmp_path_factory: pytest.TempPathFactory, rows: int, columns: int, height: int, width: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "letterbox.png"
    Image.new("RGB", (columns, rows), (9, 9, 9)).save(path)
    image, scale = load_image(path, (height, width), resize=True)
    inside = np.zeros((height, width), dtype=bool)
    inside[: max(1, round(rows * scale)), : max(1, round(columns * scale))] = True
    assert (image == np.where(inside, 9, LETTERBOX_GREY)).all()
    assert scale == min(height / rows, width / columns)


def test_bad_images_are_refused_in_words(tmp_path: Path) -> None:
    missing, text, small = (tmp_path / n for n in ("none.png", "text.png", "small.png"))
    text.write_text("no picture")
    Image.new("RGB", (20, 10)).save(small)
    with pytest.raises(DataError) as error:
        load_image(missing, (96, 96))
    assert str(error.value) == f"{missing} must be an image file, but does not exist."
    with pytest.raises(DataError, match=r"text\.png must be an image that Pillow can read as RGB"):
        load_image(text, (96, 96))
    with pytest.raises(DataError) as error:
        load_image(small, (96, 96))
    assert str(error.value) == (
        f"{small} must be 96x96 pixels (height x width), not 10x20; "
        "resize it, or give --resize, which scales it to fit."
    )


def test_bad_annotation_files_are_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "data.json"

    def refusal(text: str | None) -> str:
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
        with pytest.raises(DataError) as error:
            CocoData(path, tmp_path)
        return str(error.value).removeprefix(str(path))

    whole = {"images": [], "annotations": [], "categories": []}
    assert refusal(None) == " must be a COCO annotation file, but does not exist."
    assert refusal("{").startswith(" must be a COCO annotation file in JSON: ")
    assert refusal("[]") == " must have a list named 'images', as COCO detection data do."
    assert refusal(json.dumps(whole | {"images": [{"id": 1}]})) == (
        ": images[0] must have the field 'file_name'."
    )
    assert refusal(json.dumps(whole | {"annotations": [{"image_id": 1, "category_id": 1}]})) == (
        ": annotations[0] must have the field 'bbox'."
    )
    path.write_text(json.dumps(whole))
    with pytest.raises(DataError, match="nowhere must be the folder of the images of"):
        CocoData(path, tmp_path / "nowhere")


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(DataError, match="split must be 'train' or 'held-out', not 'test'"):
        digits("test")  # type: ignore[arg-type]  # the refusal is the point


def test_every_category_has_its_own_figure(data: CocoData) -> None:
    rng = np.random.default_rng(5)
    found = []
    for i in data.ids:
        truth = data.truth(i)
        moved = truth.boxes + rng.integers(-6, 7, truth.boxes.shape)
        found.append((i, Detections(moved, rng.random(len(moved)), truth.labels)))
    scores = score(data, found, data.names)
    assert tuple(scores.figures) == FIGURES
    scoring = Scoring(data, data.names)
    for image_id, boxes in found:
        scoring.add(image_id, boxes)
    assert scoring.scores() == scores
    with contextlib.redirect_stdout(io.StringIO()):
        seen = data.coco.loadRes(scoring.rows)
        for each in scores.classes:
            one = COCOeval(data.coco, seen, "bbox")
            one.params.catIds = [data.category_ids[each.name]]
            one.evaluate()
            one.accumulate()
            one.summarize()
            assert each.ap == (None if one.stats[0] < 0 else one.stats[0])
    known = [each.ap for each in scores.classes if each.ap is not None]
    assert scores.ap == pytest.approx(sum(known) / len(known))
    assert sum(each.boxes for each in scores.classes) == sum(len(s.labels) for _, s in found)


def test_names_of_one_side_alone_are_told(data: CocoData) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tell_names(data, data.ids, (*data.names, *NOTHING))
    some = [i for i in data.ids if 4 in data.truth(i).labels]
    shown = {data.names[label] for i in some for label in data.truth(i).labels}
    with pytest.warns(DataWarning) as told:
        tell_names(data, some, ("cat", *(name for name in data.names if name != "4")))
    missed, unused = (str(warning.message) for warning in told)
    assert f"1 of {len(shown)} categories are no class of the detector" in missed
    assert missed.endswith("which misses their boxes: 4.")
    assert "1 of 10 classes are no category there" in unused
    assert unused.endswith("left out: cat.")
