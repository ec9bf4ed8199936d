"""COCO annotation files as people write them, cleaned for pycocotools, or refused in a sentence.

What has one meaning is given it: ids that are missing, repeated or text, areas and crowd marks that
are null. What has none, or two, is refused with file, entry and remedy. Nothing is guessed from a
picture here, and nothing is dropped but what no box refers to.
"""

import json
import os.path
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from intaglio.errors import DataError
from intaglio.system.stored import parsed

MOST = 100_000  # pixels; pycocotools leaves out, unsaid, a box of an area above its square
FIELDS = {
    "images": ("id", "file_name"),
    "annotations": ("image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}
WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}")
CROWD = {"": 0, "0": 0, "1": 1, "false": 0, "true": 1}
Key = int | str
Entry = dict[str, Any]


def read_annotations(path: Path) -> dict[str, list[Entry]]:
    """The images, categories and annotations of a COCO file as pycocotools needs them.

    Images have `id`, `file_name` and, where known, `height` and `width`; categories `id` and
    `name`; annotations `id` (from 1, in the file's order), `image_id`, `category_id`, `bbox` (x, y,
    width, height: floats of at most MOST), `area` and `iscrowd` (0 or 1). Ids of images and
    categories are whole numbers: the file's own, or 1, 2, ... in its order if any is text. Raises
    DataError where the file is not JSON or an entry has no single meaning.
    """
    document = sections(path, document_of(path))
    images, image_ids = cleaned_images(path, document["images"])
    categories, category_ids = cleaned_categories(path, document)
    annotations = [
        cleaned_annotation(Place(path, "annotations", i), entry, image_ids, category_ids)
        for i, entry in enumerate(document["annotations"])
    ]
    return {"images": images, "categories": categories, "annotations": annotations}


class Place:
    """An entry of a file, for sentences about it."""

    def __init__(self, path: Path, section: str, index: int) -> None:
        self.path, self.section, self.index = path, section, index

    def refuse(self, must: str, value: object, remedy: str) -> NoReturn:
        """Raise the sentence."""
        raise DataError(
            f"{self.path}: {self.section}[{self.index}] must {must}, not {shown(value)}; {remedy}."
        )


def shown(value: object) -> str:
    """A value as JSON has it, short."""
    try:
        text = json.dumps(value)
    except RecursionError:
        text = "lists in lists"
    return text if len(text) <= 60 else f"{text[:57]}..."


def document_of(path: Path) -> object:
    """The JSON of a file."""
    try:
        return parsed(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path} must be a COCO annotation file, but does not exist.") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} must be a COCO annotation file in JSON: {error}.") from None


def sections(path: Path, document: object) -> dict[str, list[Entry]]:
    """The three lists, every entry an object with the fields that it needs."""
    found = document if isinstance(document, dict) else {}
    for section, fields in FIELDS.items():
        entries = found.get(section)
        if not isinstance(entries, list):
            raise DataError(
                f"{path} must have a list named {section!r}, as COCO detection data do."
            )
        for i, entry in enumerate(entries):
            missing = [f for f in fields if not isinstance(entry, dict) or f not in entry]
            if missing:
                raise DataError(f"{path}: {section}[{i}] must have the field {missing[0]!r}.")
    return found


def key(value: object) -> Key | None:
    """An id: a whole number, also as 7.0 or "7", or other text; None where it is neither."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and not WHOLE.fullmatch(value):
        return value or None
    if isinstance(value, str):
        value = int(value)
    return value if isinstance(value, int) and abs(value) < 2**63 else None


def checked_key(place: Place, entry: Entry) -> Key:
    """The id of an image or category."""
    found = key(entry["id"])
    if found is None:
        place.refuse("have an id that is a whole number or text", entry["id"], "give it one")
    return found


def numbered(keys: Iterable[Key]) -> dict[Key, int]:
    """The number of each id: itself, or all from 1 in their order if any is text."""
    ordered = list(dict.fromkeys(keys))
    if all(isinstance(k, int) for k in ordered):
        return {k: int(k) for k in ordered}
    return {k: n for n, k in enumerate(ordered, start=1)}


def cleaned_images(path: Path, entries: list[Entry]) -> tuple[list[Entry], dict[Key, int]]:
    """The images, each once, and the number of each id."""
    by_id: dict[Key, tuple[int, Entry]] = {}
    by_file: dict[str, int] = {}
    for i, entry in enumerate(entries):
        place = Place(path, "images", i)
        found, name = checked_key(place, entry), entry["file_name"]
        if not isinstance(name, str) or not name or "\0" in name:
            place.refuse("have a file_name that is text", name, "name its file")
        image = {"file_name": name} | size_of(place, entry)
        if found in by_id:
            first, known = by_id[found]
            if known != image:
                place.refuse(
                    f"have an id of its own, unlike images[{first}]", entry["id"],
                    "give it another, or remove one of the two",
                )  # fmt: skip
            continue
        file = os.path.normpath(name)
        if file in by_file:
            place.refuse(
                f"have a file_name of its own, unlike images[{by_file[file]}]", name,
                "give the boxes of both one image_id and remove one of the two",
            )  # fmt: skip
        by_id[found], by_file[file] = (i, image), i
    numbers = numbered(by_id)
    return [{"id": numbers[k], **image} for k, (_, image) in by_id.items()], numbers


def size_of(place: Place, entry: Entry) -> dict[str, int]:
    """`height` and `width`, or neither where one is missing, null, empty, 0 or -1."""
    found = {}
    for side in ("height", "width"):
        value = entry.get(side)
        number = key(value)
        if value in (None, "") or number in (0, -1):
            return {}
        if not isinstance(number, int) or number < 0:
            place.refuse(f"have a {side} in whole pixels", value, f"correct or remove the {side}")
        found[side] = number
    return found


def cleaned_categories(
    path: Path, document: Mapping[str, list[Entry]]
) -> tuple[list[Entry], dict[Key, int]]:
    """The categories, each once, and the number of each id. Of several with one name, as some
    exporters write a class and its parent, those that no box has are left out."""
    used = {key(entry["category_id"]) for entry in document["annotations"]}
    by_id: dict[Key, tuple[int, str]] = {}
    by_name: dict[str, Key] = {}
    for i, entry in enumerate(document["categories"]):
        place = Place(path, "categories", i)
        found, name = checked_key(place, entry), entry["name"]
        if isinstance(name, bool) or not isinstance(name, str | int):
            place.refuse("have a name that is text", name, "name it")
        name = str(name)
        if found in by_id:
            first, known = by_id[found]
            if known != name:
                place.refuse(
                    f"have an id of its own, unlike categories[{first}]", entry["id"],
                    "give it another",
                )  # fmt: skip
            continue
        by_id[found] = i, name
        other = by_name.get(name)
        if other in used and found in used and other is not None:
            place.refuse(
                f"have a name of its own, unlike categories[{by_id[other][0]}]", name,
                "give it another, or the boxes of both one category_id",
            )  # fmt: skip
        if other is None or found in used:
            by_name[name] = found
    kept = [k for k in by_id if by_name[by_id[k][1]] == k]
    numbers = numbered(kept)
    return [{"id": numbers[k], "name": by_id[k][1]} for k in kept], numbers


def cleaned_annotation(
    place: Place, entry: Entry, images: Mapping[Key, int], categories: Mapping[Key, int]
) -> Entry:
    """One box, numbered from 1: pycocotools takes the id 0 for "not matched", and one id that comes
    twice for one box."""
    numbers = {}
    for kind, one, known in (
        ("image", "an image", images),
        ("category", "a category", categories),
    ):
        name = f"{kind}_id"
        found = key(entry[name])
        if found is None or found not in known:
            place.refuse(
                f"have the {name} of {one} in the file", entry[name],
                f"add the {kind} or remove the annotation",
            )  # fmt: skip
        numbers[name] = known[found]
    box = cleaned_box(place, entry["bbox"])
    area: Any = entry.get("area")
    if not between(area, 0, MOST**2):
        area = box[2] * box[3]
    mark = crowd_mark(place, entry.get("iscrowd"))
    return {
        "id": place.index + 1, **numbers, "bbox": box, "area": float(area), "iscrowd": mark,
    }  # fmt: skip


def crowd_mark(place: Place, value: object) -> int:
    """0 or 1; null is 0."""
    if value is None:
        return 0
    mark = CROWD.get(value.lower(), value) if isinstance(value, str) else value
    if not isinstance(mark, int | float) or mark not in (0, 1):
        place.refuse("have an iscrowd of 0 or 1", value, "correct or remove it")
    return int(mark)


def cleaned_box(place: Place, box: object) -> list[float]:
    """x, y, width, height."""
    if not isinstance(box, list) or len(box) != 4 or not all(between(v, -MOST, MOST) for v in box):
        place.refuse(
            f"have a bbox of 4 numbers [x, y, width, height] within {MOST:,} pixels", box,
            "correct it or remove the annotation",
        )  # fmt: skip
    if box[2] < 0 or box[3] < 0:
        place.refuse(
            "have a bbox [x, y, width, height] with a width and height of at least 0", box,
            "x and y are its top left corner: correct it or remove the annotation",
        )  # fmt: skip
    return [float(v) for v in box]


def between(value: Any, lo: int, hi: int) -> bool:
    """Whether it is a number of [lo, hi]; no truth value is one, nor is NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and lo <= value <= hi
