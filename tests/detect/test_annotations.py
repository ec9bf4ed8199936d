"""Annotation files as people write them: the AP of what they mean, or a sentence."""

import copy
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from intaglio.detect.annotations import MOST, read_annotations
from intaglio.detect.coco import CocoData
from intaglio.detect.decode import Detections
from intaglio.detect.pictures import header
from intaglio.detect.score import score
from intaglio.errors import DataError, DataWarning
from intaglio.system.copies import Copies

Document = dict[str, Any]
BOX = (2.0, 3.0, 16.0, 8.0)  # x, y, width, height of the one cat of every picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("pictures")
    for name in "abc":
        Image.new("RGB", (32, 24)).save(found / f"{name}.png")
    (found / "deeper").mkdir()
    Image.new("RGB", (32, 24)).save(found / "deeper" / "d.png")
    return found


def plain() -> Document:
    """Three pictures, a cat in each."""
    return {
        "images": [
            {"id": i, "file_name": f"{name}.png", "width": 32, "height": 24}
            for i, name in enumerate("abc", start=1)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": list(BOX), "area": 128, "iscrowd": 0}
            for i in (1, 2, 3)
        ],
    }


def opened(folder: Path, document: Document) -> CocoData:
    path = folder / "data.json"
    path.write_text(json.dumps(document))
    return CocoData(path, folder)


def ap(folder: Path, document: Document) -> float:
    """Of a detector that finds exactly the cat of every picture."""
    data = opened(folder, document)
    data.check_files(data.ids)
    x, y, w, h = BOX
    cat = Detections(np.array([[x, y, x + w, y + h]]), np.ones(1), np.zeros(1, np.int64))
    return score(data, [(i, cat) for i in data.ids], ["cat"]).ap


def refusal(folder: Path, document: Document) -> str:
    with pytest.raises(DataError) as error:
        ap(folder, document)
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text.removeprefix(f"{folder / 'data.json'}").removeprefix(": ")


def fields(section: str, name: str, *values: Any) -> Document:
    """The plain document with a field of its first entries set, or removed for `...`."""
    document = plain()
    for entry, value in zip(document[section], values, strict=False):
        if value is ...:
            del entry[name]
        else:
            entry[name] = value
    return document


def changed(change: Callable[[Document], object]) -> Document:
    document = plain()
    change(document)
    return document


def text_ids(document: Document) -> None:
    for section in ("images", "categories"):
        for entry in document[section]:
            entry["id"] = f"id of {entry['id']}"
    for entry in document["annotations"]:
        entry["image_id"] = f"id of {entry['image_id']}"
        entry["category_id"] = f"id of {entry['category_id']}"


def gaps(document: Document) -> None:
    document["categories"] = [{"id": 90, "name": "dog"}, {"id": 0, "name": "cat"}]
    for entry in document["annotations"]:
        entry["category_id"] = 0


def parent_class(document: Document) -> None:
    """As an exporter writes that gives a class and its parent one name."""
    document["categories"] = [{"id": 0, "name": "cat"}, {"id": 1, "name": "cat"}]


RIGHT: dict[str, Document] = {
    "as it should be": plain(),
    **{
        f"annotation ids {values}": fields("annotations", "id", *values)
        for values in (
            (0, 1, 2), (0, 0, 0), (1, 1, 2), (7, ..., ...), (None,) * 3, ("a", "b", "c"),
            ([], {}, 0.5), (True, False, None), (2**70, -1, float("nan")), (..., ..., ...),
        )
    },
    **{
        f"area {value}": fields("annotations", "area", *[value] * 3)
        for value in (..., None, -1, "128", "much", 1e11, float("nan"), [], True, 0)
    },
    **{
        f"iscrowd {value}": fields("annotations", "iscrowd", *[value] * 3)
        for value in (..., None, False, 0.0, "0", "false", "")
    },
    "category ids with gaps and from 0": changed(gaps),
    "ids as text": changed(text_ids),
    "ids as numbers in text": fields("images", "id", "1", "2", "3"),
    "references as numbers in text": fields("annotations", "image_id", "1", "2", "3"),
    "ids as floats": fields("annotations", "image_id", 1.0, 2.0, 3.0),
    "a class and its parent of one name": changed(parent_class),
    "a category listed twice": changed(lambda d: d["categories"].append(dict(d["categories"][0]))),
    "an image listed twice": changed(lambda d: d["images"].append(dict(d["images"][0]))),
    "no sizes": changed(lambda d: [(i.pop("width"), i.pop("height")) for i in d["images"]]),
    **{
        f"width {value}": fields("images", "width", *[value] * 3)
        for value in (None, 0, -1, "", "32", 32.0)
    },
    "a class of a number": changed(lambda d: d["categories"][1].update(name=7)),
    "a folder in a name": fields("images", "file_name", "deeper/d.png", "./b.png"),
    "a folder in a name from Windows": fields("images", "file_name", "deeper\\d.png"),
    "other sections": changed(lambda d: d.update(info=None, licenses=3, more={"a": [None]})),
    "a segmentation of nonsense": fields("annotations", "segmentation", [[0]], None, "x"),
}  # fmt: skip


@pytest.mark.parametrize("document", RIGHT.values(), ids=RIGHT.keys())
def test_what_has_one_meaning_is_given_it(folder: Path, document: Document) -> None:
    assert ap(folder, document) == pytest.approx(1.0, abs=1e-9)


BOX_OF = "annotations[0] must have a bbox of 4 numbers [x, y, width, height] within 100,000 pixels"
REFUSED: dict[str, tuple[Document, str]] = {
    **{
        f"a bbox of {value}": (
            fields("annotations", "bbox", value),
            f"{BOX_OF}, not {json.dumps(value)}; correct it or remove the annotation.",
        )
        for value in (
            None, [], [1, 2, 3], [1, 2, 3, 4, 5], "1 2 3 4", ["1", "2", "3", "4"], {"x": 1},
            [1, 2, float("nan"), 4], [0, 0, float("inf"), 1], [1, 2, True, 4], [0, 0, 1e6, 1],
            [None] * 4, [10**40, 0, 1, 1],
        )
    },
    "a negative width": (
        fields("annotations", "bbox", [16, 16, -16, -16]),
        "annotations[0] must have a bbox [x, y, width, height] with a width and height of at least"
        " 0, not [16, 16, -16, -16]; x and y are its top left corner: correct it or remove the"
        " annotation.",
    ),
    "no bbox": (
        fields("annotations", "bbox", ...), "annotations[0] must have the field 'bbox'.",
    ),
    "an unknown image": (
        fields("annotations", "image_id", 1, 99),
        "annotations[1] must have the image_id of an image in the file, not 99; add the image or"
        " remove the annotation.",
    ),
    "an unknown category": (
        fields("annotations", "category_id", "dogs"),
        'annotations[0] must have the category_id of a category in the file, not "dogs"; add the'
        " category or remove the annotation.",
    ),
    "a reference to null": (
        fields("annotations", "image_id", None),
        "annotations[0] must have the image_id of an image in the file, not null; add the image"
        " or remove the annotation.",
    ),
    "two files of one id": (
        fields("images", "id", 1, 1),
        "images[1] must have an id of its own, unlike images[0], not 1; give it another, or remove"
        " one of the two.",
    ),
    "two ids of one file": (
        fields("images", "file_name", "a.png", "./a.png"),
        'images[1] must have a file_name of its own, unlike images[0], not "./a.png"; give the'
        " boxes of both one image_id and remove one of the two.",
    ),
    "two names of one id": (
        fields("categories", "id", 1, 1),
        "categories[1] must have an id of its own, unlike categories[0], not 1; give it another.",
    ),
    "two classes of one name, both with boxes": (
        changed(lambda d: (d["categories"][1].update(name="cat"),
                           d["annotations"][2].update(category_id=2))),
        'categories[1] must have a name of its own, unlike categories[0], not "cat"; give it'
        " another, or the boxes of both one category_id.",
    ),
    "an id of null": (
        fields("images", "id", None),
        "images[0] must have an id that is a whole number or text, not null; give it one.",
    ),
    "an id of true": (
        fields("categories", "id", True),
        "categories[0] must have an id that is a whole number or text, not true; give it one.",
    ),
    "a name of null": (
        fields("categories", "name", None),
        "categories[0] must have a name that is text, not null; name it.",
    ),
    "a file of no name": (
        fields("images", "file_name", ""),
        'images[0] must have a file_name that is text, not ""; name its file.',
    ),
    "half a crowd": (
        fields("annotations", "iscrowd", 0.5),
        "annotations[0] must have an iscrowd of 0 or 1, not 0.5; correct or remove it.",
    ),
    "half a pixel": (
        fields("images", "height", 23.5),
        "images[0] must have a height in whole pixels, not 23.5; correct or remove the height.",
    ),
    "an entry that is none": (
        changed(lambda d: d["annotations"].append(3)),
        "annotations[3] must have the field 'image_id'.",
    ),
    "no list of annotations": (
        changed(lambda d: d.update(annotations={})),
        " must have a list named 'annotations', as COCO detection data do.",
    ),
    "crowds alone": (
        fields("annotations", "iscrowd", 1, "true", True),
        " must have at least one box in the 3 images evaluated, not 0; take more images.",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("document", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_what_has_none_or_two_is_refused_in_words(
    folder: Path, document: Document, sentence: str
) -> None:
    assert refusal(folder, document) == sentence


def test_sizes_of_another_picture_are_refused_with_a_remedy_that_works(folder: Path) -> None:
    document = fields("images", "width", 64)
    assert refusal(folder, document) == (
        f" must give {folder / 'a.png'} the width and height that it has, 32 and 24, not 64 and 24,"
        " or its boxes are of another picture; correct them, or remove the two fields if the boxes"
        " are right."
    )
    del document["images"][0]["width"], document["images"][0]["height"]
    assert ap(folder, document) == pytest.approx(1.0, abs=1e-9)


def test_boxes_beyond_their_picture_count_and_are_told_once(folder: Path) -> None:
    document = plain()
    document["annotations"][1]["bbox"] = [20, 10, 30, 20]  # two corners, taken for a size
    data = opened(folder, document)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        data.check_files(data.ids)
        data.check_files(data.ids)
    assert [str(w.message) for w in told] == [
        f"Boxes in {folder / 'data.json'} reach beyond their pictures and count as they are: 1 of"
        " 3, annotations[1] first; a bbox is [x, y, width, height]."
    ]
    assert data.truth(2).boxes.tolist() == [[20, 10, 50, 30]]


def test_files_are_checked_while_something_else_is_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As without: the same is told and refused, however many a copy opens."""
    document = plain()
    document["annotations"][1]["bbox"] = [20, 10, 30, 20]
    for ahead in (1, 2, 9):
        monkeypatch.setattr("intaglio.detect.coco.AHEAD", ahead)
        data = opened(folder, document)
        with (
            pytest.warns(DataWarning, match="reach beyond") as told,
            data.checking(data.ids, Copies(2)),
        ):
            assert not told
        data.check_files(data.ids)
        assert len(told) == 1
        data = opened(folder, fields("images", "width", 64))
        with (
            pytest.raises(DataError, match=r"must give .* the width and height that it has"),
            data.checking(data.ids, Copies(2)),
        ):
            pass
        data = opened(folder, plain())
        with pytest.raises(ZeroDivisionError), data.checking(data.ids, Copies(2)):
            raise ZeroDivisionError


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "must be a COCO annotation file in JSON: "),
        (b"{", "must be a COCO annotation file in JSON: "),
        (b"\xff\xfe\xfd", "must be a COCO annotation file in JSON: "),
        (b"[" * 100_000, "it must not be so many lists in lists."),
        (b"[]", "must have a list named 'images', as COCO detection data do."),
        (b"null", "must have a list named 'images', as COCO detection data do."),
        (b'{"images": [], "images": []}', "an object has the name 'images' twice; remove one."),
        (b'{"images": [{"id": 1%s}]}' % (b"0" * 5000), "must be a COCO annotation file in JSON: "),
    ],
)  # fmt: skip
def test_what_is_no_such_file_is_refused_in_words(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "data.json"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"^[^\n]*\.$") as error:
        read_annotations(path)
    assert str(error.value).startswith(str(path))
    assert words in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_unicode_with_a_mark_is_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "data.json"
    document = plain()
    document["categories"][0]["name"] = "łódź"
    path.write_text(json.dumps(document, ensure_ascii=False), encoding=encoding)
    assert read_annotations(path)["categories"][0]["name"] == "łódź"


def test_a_cleaned_file_is_what_it_was(folder: Path) -> None:
    document = plain()
    document["annotations"][0]["bbox"] = [0, 0, MOST, MOST]
    document["annotations"][0]["area"] = MOST**2
    path = folder / "data.json"
    path.write_text(json.dumps(document))
    assert read_annotations(path) == document
    assert read_annotations(path) == json.loads(json.dumps(copy.deepcopy(document)))


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_are_turned_with_a_picture_whose_size_is_given_unturned(
    tmp_path: Path, orientation: int
) -> None:
    """The box is the white part of the stored pixels, and stays it in the turned ones."""
    pixels = np.zeros((24, 32, 3), np.uint8)
    x, y, w, h = (int(v) for v in BOX)
    pixels[y : y + h, x : x + w] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in "abc":
        Image.fromarray(pixels).save(tmp_path / f"{name}.png", exif=exif)
    data = opened(tmp_path, plain())
    with pytest.warns(DataWarning) as told:
        data.check_files(data.ids)
    first, count = tmp_path / "a.png", "3 of 3"
    assert [str(w.message) for w in told] == [
        "Pictures are turned as their EXIF orientation says, as viewers and cv2.imread do:"
        f" {count}, {first} first.",
        f"Boxes in {data.path} are turned with their pictures, whose width and height are given as"
        f" before their EXIF orientation turns them: {count}, {first} first.",
    ]
    from intaglio.detect.images import read

    seen = read(first, None)
    assert header(first).size == seen.shape[1:] == (32, 24)
    left, top, right, below = data.truth(1).boxes[0].astype(int)
    mask = np.zeros((32, 24), bool)
    mask[top:below, left:right] = True
    assert ((seen[0] == 255) == mask).all()
    again = opened(tmp_path, fields("images", "width", *[24] * 3))
    for image in again.coco.dataset["images"]:
        image["height"] = 32  # as turned: the boxes are of the picture as it is seen
    with pytest.warns(DataWarning, match="Pictures are turned"):
        again.check_files(again.ids)
    assert again.truth(1).boxes.tolist() == [[x, y, x + w, y + h]]
