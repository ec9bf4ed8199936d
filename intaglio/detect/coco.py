"""COCO data sets on disk: files and true boxes. No torch."""

import contextlib
import io
import os.path
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from intaglio.detect.annotations import read_annotations
from intaglio.detect.decode import Detections
from intaglio.detect.pictures import Header, header, tell
from intaglio.errors import DataError, DataWarning
from intaglio.system.copies import Copies, meanwhile
from intaglio.system.spread import HERE, Pool

if TYPE_CHECKING:
    from pycocotools.coco import COCO

AT_ONCE = 64  # files that a worker opens
AHEAD = 4096  # files that are opened while something else is done
SLACK = 1.0  # pixels by which rounding carries boxes over an edge


class CocoData:
    """The images and boxes of a COCO annotation file.

    `ids` are the image ids in the file's order, `names` the category names in the order of their
    ids, `category_ids` those ids by name; `annotations.read_annotations` says how ids are
    numbered. Raises DataError where the file cannot be read, or an entry has no single meaning.
    """

    def __init__(self, annotations: Path | str, images: Path | str) -> None:
        self.path = Path(annotations)
        self.folder = Path(images)
        document = read_annotations(self.path)
        if not self.folder.is_dir():
            raise DataError(f"{self.folder} must be the folder of the images of {self.path}")
        self._document = document
        self._images = {image["id"]: image for image in document["images"]}
        self._annotations: dict[int, list[Any]] = {i: [] for i in self._images}
        for annotation in document["annotations"]:
            self._annotations[annotation["image_id"]].append(annotation)
        self._files: dict[int, Path] = {}
        self.ids: list[int] = [image["id"] for image in document["images"]]
        categories = sorted(document["categories"], key=lambda category: category["id"])
        self.names = tuple(str(category["name"]) for category in categories)
        self.category_ids = {str(c["name"]): int(c["id"]) for c in categories}
        self._checked: set[int] = set()

    def __len__(self) -> int:
        return len(self.ids)

    def file(self, image_id: int) -> Path:
        """Where the image `image_id` lies; the file need not exist.

        A name that Windows wrote, with backslashes between its folders, is read so too.
        """
        if image_id in self._files:
            return self._files[image_id]
        name = str(self._images[image_id]["file_name"])
        if "\\" in name:
            at = self.folder / name
            return at if os.path.isfile(at) else self.folder / name.replace("\\", "/")
        return self._files.setdefault(image_id, self.folder / name)

    def annotations(self, image_id: int) -> Sequence[Mapping[str, Any]]:
        """All boxes of an image, as `annotations.read_annotations` has them."""
        return self._annotations[image_id]

    def plain(self, ids: Iterable[int]) -> Iterator[Mapping[str, Any]]:
        """The boxes of several images, but for crowd regions."""
        return (box for i in ids for box in self._annotations[i] if not box["iscrowd"])

    @cached_property
    def coco(self) -> "COCO":
        """The set as pycocotools has it."""
        from pycocotools.coco import COCO

        made = COCO()
        made.dataset = {"info": {}, **self._document}
        with contextlib.redirect_stdout(io.StringIO()):
            made.createIndex()
        return made

    def check_files(self, ids: Iterable[int], pool: Pool = HERE) -> None:
        """Hold the sizes of images against their files, opened by a pool in this folder, before
        their boxes are used.

        Boxes whose image has the size that the file has before it is turned (EXIF) are turned with
        it. Warns, once for all, of that, of what `pictures.tell` knows, and of boxes that reach
        beyond their picture, which stay. Raises DataError where a size is another, and as
        `pictures.header`.
        """
        left = self._left(ids)
        self._hold(left, opened_by(pool, [self.file(i) for i in left]))

    @contextmanager
    def checking(self, ids: Iterable[int], pool: Copies) -> Iterator[None]:
        """`check_files` at the end of what is inside, while a copy of this process opens the first
        files."""
        left = self._left(ids)
        files = [self.file(i) for i in left]
        with meanwhile(headers_of, files[:AHEAD], jobs=pool.jobs) as found:
            yield
            self._hold(left, [*found(), *opened_by(pool, files[AHEAD:])])

    def _left(self, ids: Iterable[int]) -> list[int]:
        """Those whose files were not opened yet."""
        return [i for i in ids if i not in self._checked]

    def _hold(self, left: Sequence[int], found: Iterable[Header]) -> None:
        """Sizes against files."""
        headers = dict(zip(left, found, strict=True))
        turned = [i for i, about in headers.items() if self._turn(i, about)]
        self._checked.update(headers)
        tell({self.file(i): about for i, about in headers.items()})
        if turned:
            self._warn(
                f"Boxes in {self.path} are turned with their pictures, whose width and height are"
                f" given as before their EXIF orientation turns them: {len(turned)} of"
                f" {len(headers)}, {self.file(turned[0])} first."
            )
        boxes = [(a, about.size) for i, about in headers.items() for a in self._annotations[i]]
        beyond = [annotation["id"] for annotation, size in boxes if is_beyond(annotation, size)]
        if beyond:
            self._warn(
                f"Boxes in {self.path} reach beyond their pictures and count as they are:"
                f" {len(beyond)} of {len(boxes)}, annotations[{beyond[0] - 1}] first; a bbox is"
                " [x, y, width, height]."
            )

    def _warn(self, sentence: str) -> None:
        warnings.warn(sentence, DataWarning, stacklevel=4)

    def _turn(self, image_id: int, about: Header) -> bool:
        """Whether boxes were of the unturned picture; now they are of the turned one."""
        image = self._images[image_id]
        if "height" not in image or (image["height"], image["width"]) == about.size:
            return False
        if (image["height"], image["width"]) != about.stored:
            (height, width), file = about.size, self.file(image_id)
            raise DataError(
                f"{self.path} must give {file} the width and height that it has, {width} and"
                f" {height}, not {image['width']} and {image['height']}, or its boxes are of"
                " another picture; correct them, or remove the two fields if the boxes are right."
            )
        for annotation in self._annotations[image_id]:
            annotation["bbox"] = turned_box(annotation["bbox"], about)
        image["height"], image["width"] = about.size
        return True

    def truth(self, image_id: int) -> Detections:
        """The boxes annotated in an image, in its own pixels, with labels into `names`.

        Crowd regions are left out; every score is 1.
        """
        found = list(self.plain((image_id,)))
        boxes = np.array([a["bbox"] for a in found], dtype=np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        order = sorted(self.category_ids.values())
        labels = [order.index(a["category_id"]) for a in found]
        return Detections(boxes, np.ones(len(found)), np.array(labels, dtype=np.int64))


def opened_by(pool: Pool, files: Sequence[Path]) -> Iterator[Header]:
    """The header of each."""
    parts = [files[first : first + AT_ONCE] for first in range(0, len(files), AT_ONCE)]
    return chain.from_iterable(pool.map(headers_of, parts))


def headers_of(files: Sequence[Path]) -> list[Header]:
    """Of each."""
    return [header(file) for file in files]


def is_beyond(annotation: Mapping[str, Any], size: tuple[int, int]) -> bool:
    """Whether a box leaves a picture of `size` (H, W) by more than SLACK."""
    x, y, width, height = annotation["bbox"]
    return bool(min(x, y) < -SLACK or x + width > size[1] + SLACK or y + height > size[0] + SLACK)


def turned_box(box: Sequence[float], about: Header) -> list[float]:
    """x, y, width, height in a picture once its orientation, 5 to 8, has turned it."""
    x, y, width, height = box
    right, below = about.stored[1] - x - width, about.stored[0] - y - height
    left = y if about.orientation in (5, 8) else below
    top = x if about.orientation in (5, 6) else right
    return [left, top, height, width]
