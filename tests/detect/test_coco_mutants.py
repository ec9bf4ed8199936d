"""Annotation files spoilt at random: the AP that pycocotools gives on a file cleaned otherwise and
simply, or a sentence where that cleaning finds no meaning either."""

import contextlib
import copy
import io
import json
import os.path
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from spoilt import Count, change, spoil

from intaglio.detect.coco import CocoData
from intaglio.detect.decode import Detections
from intaglio.detect.images import listed_files
from intaglio.detect.score import score
from intaglio.errors import DataError, DataWarning

CLASSES = ("cat", "dog", "7")
FILES = {  # name: (width, height) stored, orientation
    "a.png": ((32, 24), 1),
    "b.jpg": ((24, 32), 6),
    "c.png": ((32, 24), 8),
    "d.png": ((32, 24), 3),
    "sub/e.png": ((20, 20), 5),
}
Document = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("pictures")
    (found / "sub").mkdir()
    for name, (size, orientation) in FILES.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", size).save(found / name, exif=exif)
    return found


def point(x: float, y: float, size: tuple[int, int], orientation: int) -> tuple[float, float]:
    """Where a point of a stored picture of (width, height) comes when it is turned."""
    width, height = size
    return {
        1: (x, y), 3: (width - x, height - y), 5: (y, x), 6: (height - y, x),
        7: (height - y, width - x), 8: (y, width - x),
    }[orientation]  # fmt: skip


def turned(box: list[float], size: tuple[int, int], orientation: int) -> list[float]:
    x, y, w, h = box
    x0, y0 = point(x, y, size, orientation)
    x1, y1 = point(x + w, y + h, size, orientation)
    return [min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0)]


def shape(name: str) -> tuple[int, int]:
    """(width, height) of a picture as it is seen."""
    (width, height), orientation = FILES[name]
    return (height, width) if orientation >= 5 else (width, height)


def document(rng: np.random.Generator) -> tuple[Document, dict[str, list[tuple[Any, ...]]]]:
    """A file without fault, and detections by picture: (box, score, class), some of one score."""
    names = list(rng.permutation(list(FILES))[: int(rng.integers(1, 6))])
    images, annotations = [], []
    found: dict[str, list[tuple[Any, ...]]] = {name: [] for name in FILES}
    for i, name in enumerate(names, start=int(rng.integers(2))):
        width, height = shape(name)
        images.append({"id": i, "file_name": name, "width": width, "height": height})
        for _ in range(int(rng.integers(4))):
            x, y = (int(v) / 4 for v in rng.integers(0, 4 * 12, 2))
            w, h = (int(v) / 4 for v in rng.integers(4, 4 * 8, 2))
            annotation = {
                "id": len(annotations) + int(rng.integers(2) == 0),
                "image_id": i,
                "category_id": int(rng.integers(3)),
                "bbox": [x, y, w, h],
                "area": w * h,
                "iscrowd": int(rng.random() < 0.1),
            }
            annotations.append(annotation)
            for _ in range(int(rng.integers(1, 3))):
                moved = np.array([x, y, x + w, y + h]) + rng.integers(-2, 3, 4) * 0.5
                label = annotation["category_id"] if rng.random() < 0.9 else int(rng.integers(3))
                found[name].append((moved, round(float(rng.random()), 1), label))
    for name in found:
        found[name].sort(key=lambda each: -each[1])
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES)]
    return {"images": images, "categories": categories, "annotations": annotations}, found


def habit(rng: np.random.Generator, whole: Document) -> None:
    """What some tool or other does to every entry."""
    images, categories, boxes = (whole[k] for k in ("images", "categories", "annotations"))
    kind = int(rng.integers(14))
    field = ("id", "area", "iscrowd", "width", "height")[int(rng.integers(5))]
    for entry in images if field in ("width", "height") else boxes:
        if kind == 0:
            entry.pop(field, None)
        elif kind == 1:
            entry[field] = None
        elif kind == 2:
            entry[field] = 0
        elif kind == 3:
            entry[field] = str(entry.get(field))
        elif kind == 4:
            entry[field] = -1
    if kind == 5:
        for entry in images + categories:
            entry["id"] = f"no. {entry['id']}"
        for entry in boxes:
            entry |= {k: f"no. {entry[k]}" for k in ("image_id", "category_id")}
    elif kind == 6:
        for entry in images + categories:
            entry["id"] = str(entry["id"])
    elif kind == 7:
        for entry in boxes:
            refers = {k: entry[k] for k in ("image_id", "category_id")}
            entry |= {k: float(v) for k, v in refers.items() if isinstance(v, int)}
    elif kind == 8:
        for entry in images:
            entry["file_name"] = entry["file_name"].replace("/", "\\")
    elif kind == 9:
        images += copy.deepcopy(images)
        categories += copy.deepcopy(categories)
    elif kind == 10:
        categories.append({"id": 99, "name": CLASSES[int(rng.integers(3))]})
    elif kind == 11:
        for entry in boxes:
            entry["iscrowd"] = bool(entry.get("iscrowd"))
    elif kind == 12:
        for entry in images:
            name = entry["file_name"].replace("\\", "/")
            (width, height), orientation = FILES[name]
            if orientation < 5:
                continue
            entry |= {"width": width, "height": height}
            back = {6: 8, 8: 6}.get(orientation, orientation)
            for box in boxes:
                if box["image_id"] == entry["id"]:
                    box["bbox"] = turned(box["bbox"], shape(name), back)
    elif kind == 13:
        for entry in boxes:
            entry["image_id"] = images[0]["id"] if images else 0


class NoMeaningError(Exception):
    """The file has none, or more than one."""


def need(condition: object) -> None:
    if not condition:
        raise NoMeaningError


def name_of(value: Any) -> str:
    """One text for everything that is one id: 7, 7.0 and "7"."""
    need(not isinstance(value, bool) and isinstance(value, int | float | str) and value != "")
    if isinstance(value, str):
        return value
    need(value == value and abs(value) < 2**63 and value == int(value))
    return str(int(value))


def numbers(names: list[str]) -> dict[str, int]:
    def plain(name: str) -> bool:
        try:
            return str(int(name)) == name and abs(int(name)) < 2**63
        except ValueError:
            return False

    if all(plain(name) for name in names):
        return {name: int(name) for name in names}
    return {name: n for n, name in enumerate(dict.fromkeys(names), start=1)}


def pairs_once(pairs: list[tuple[str, Any]]) -> Document:
    need(len({name for name, _ in pairs}) == len(pairs))
    return dict(pairs)


def cleaned(data: bytes, folder: Path) -> Document:
    """The file as it is meant; boxes of pictures as they are seen."""
    try:
        whole = json.loads(data, object_pairs_hook=pairs_once)
    except (ValueError, RecursionError):
        raise NoMeaningError from None
    need(isinstance(whole, dict))
    for section in ("images", "categories", "annotations"):
        need(isinstance(whole.get(section), list))
        need(all(isinstance(entry, dict) for entry in whole[section]))
    try:
        return meant(whole, folder)
    except KeyError:
        raise NoMeaningError from None


def meant(whole: Document, folder: Path) -> Document:
    images: dict[str, Document] = {}
    for entry in whole["images"]:
        name, file = name_of(entry["id"]), entry["file_name"]
        need(isinstance(file, str) and file and "\0" not in file)
        image = {"file_name": file} | sides(entry)
        need(images.setdefault(name, image) == image)
    files = [os.path.normpath(image["file_name"]) for image in images.values()]
    need(files and len(set(files)) == len(files))
    for image in images.values():
        path = folder / image["file_name"]
        other = folder / image["file_name"].replace("\\", "/")
        path = path if os.path.isfile(path) else other
        need(os.path.isfile(path) and path.suffix in (".png", ".jpg"))
        image["file"] = str(path.relative_to(folder))
        need(image["file"] in FILES)

    used = {name_of(entry["category_id"]) for entry in whole["annotations"]}
    categories: dict[str, str] = {}
    for entry in whole["categories"]:
        name, text = name_of(entry["id"]), entry["name"]
        need(isinstance(text, str | int) and not isinstance(text, bool))
        need(categories.setdefault(name, str(text)) == str(text))
    for text in set(categories.values()):
        same = [name for name in categories if categories[name] == text]
        kept = [name for name in same if name in used] or same[:1]
        need(len(kept) == 1)
        for name in set(same) - set(kept):
            del categories[name]

    image_number, category_number = numbers(list(images)), numbers(list(categories))
    boxes = []
    for n, entry in enumerate(whole["annotations"], start=1):
        image, category = name_of(entry["image_id"]), name_of(entry["category_id"])
        need(image in images and category in categories)
        box, crowd = entry["bbox"], entry.get("iscrowd")
        need(isinstance(box, list) and len(box) == 4)
        need(all(isinstance(v, int | float) and not isinstance(v, bool) for v in box))
        need(all(abs(v) <= 100_000 for v in box) and box[2] >= 0 and box[3] >= 0)
        crowd = crowd.lower() if isinstance(crowd, str) else crowd
        need(crowd in (None, 0, 1, "", "0", "1", "false", "true"))
        size, orientation = FILES[images[image]["file"]]
        given = tuple(images[image].get(k) for k in ("width", "height"))
        if given != (None, None) and given != shape(images[image]["file"]):
            box = turned(box, size, orientation)
        boxes.append({
            "id": n, "image_id": image_number[image], "category_id": category_number[category],
            "bbox": box, "area": box[2] * box[3], "iscrowd": int(crowd in (1, "1", "true")),
        })  # fmt: skip
    for image in images.values():
        given = tuple(image.get(k) for k in ("width", "height"))
        need(given in ((None, None), shape(image["file"]), FILES[image["file"]][0]))
    return {
        "info": {},
        "images": [{"id": image_number[k], "file": v["file"]} for k, v in images.items()],
        "categories": [{"id": category_number[k], "name": v} for k, v in categories.items()],
        "annotations": boxes,
    }


def sides(entry: Document) -> dict[str, int]:
    found = {}
    for side in ("height", "width"):
        value = entry.get(side)
        if value is None or value == "" or (not isinstance(value, bool) and value in (0, -1)):
            return {}
        number = name_of(value)
        if number in ("0", "-1"):
            return {}
        need(number.isascii() and number.isdigit() and str(int(number)) == number)
        found[side] = int(number)
    return found


def wanted(data: bytes, folder: Path, found: dict[str, list[tuple[Any, ...]]]) -> list[float]:
    """AP, AP50, AP75 by pycocotools alone, from a file."""
    clean = cleaned(data, folder)
    by_name = {c["name"]: c["id"] for c in clean["categories"]}
    need(set(by_name) & set(CLASSES))
    need(any(not box["iscrowd"] for box in clean["annotations"]))
    rows = [
        {
            "image_id": image["id"],
            "category_id": by_name[CLASSES[label]],
            "bbox": [*map(float, (b[0], b[1], b[2] - b[0], b[3] - b[1]))],
            "score": score,
        }
        for image in clean["images"]
        for b, score, label in found[image["file"]]
        if CLASSES[label] in by_name
    ]
    if not rows:
        return [0.0, 0.0, 0.0]
    path = folder / "clean.json"
    path.write_text(json.dumps(clean))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(v) for v in evaluation.stats[:3]]


def ours(data: bytes, folder: Path, found: dict[str, list[tuple[Any, ...]]]) -> list[float] | str:
    path = folder / "mutant.json"
    path.write_bytes(data)
    try:
        coco = CocoData(path, folder)
        listed_files(coco)
        coco.check_files(coco.ids)
        seen = []
        for i in coco.ids:
            each = found[str(coco.file(i).relative_to(folder))]
            boxes = np.array([b for b, _, _ in each], float).reshape(-1, 4)
            scores, labels = np.array([s for _, s, _ in each]), [k for _, _, k in each]
            seen.append((i, Detections(boxes, scores, np.array(labels, np.int64))))
        scores = score(coco, seen, CLASSES)
        return [scores.ap, scores.ap50, scores.ap75]
    except DataError as error:
        return str(error)


def check(seed: int, folder: Path) -> str:
    """One file; "equal" or "refused"."""
    rng = np.random.default_rng((21, seed))
    whole, found = document(rng)
    for _ in range(int(rng.integers(3))):
        habit(rng, whole)
    for _ in range(int(rng.integers(4)) if rng.random() < 0.7 else 0):
        change(rng, whole)
    data = json.dumps(whole).encode()
    if rng.random() < 0.15:
        data = spoil(rng, data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        got = ours(data, folder, found)
    try:
        expected: list[float] | None = wanted(data, folder, found)
    except NoMeaningError:
        expected = None
    if isinstance(got, str):
        assert expected is None, f"seed {seed}: {got}"
        assert "\n" not in got, f"seed {seed}"
        assert " must " in got, f"seed {seed}"
        assert got.endswith("."), f"seed {seed}"
        return "refused"
    assert got == expected, f"seed {seed}"
    return "equal"


def test_spoilt_annotations_are_understood_or_refused(
    folder: Path, pytestconfig: pytest.Config
) -> None:
    count = Count(600, pytestconfig)
    for seed in range(count.total):
        count(check(seed, folder))
    assert min(count.seen.values()) > count.total // 5


@pytest.mark.slow
def test_many_spoilt_annotations_are_understood_or_refused(
    folder: Path, pytestconfig: pytest.Config
) -> None:
    count = Count(20_000, pytestconfig)
    for seed in range(1_000_000, 1_000_000 + count.total):
        count(check(seed, folder))
    assert min(count.seen.values()) > count.total // 5
