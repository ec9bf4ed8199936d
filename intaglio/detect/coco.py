"""COCO data sets on disk: files, true boxes, and mAP by pycocotools. No torch."""

import contextlib
import io
import os.path
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from intaglio.detect.annotations import read_annotations
from intaglio.detect.decode import Detections
from intaglio.detect.pictures import Header, header, tell
from intaglio.errors import DataError, DataWarning

SLACK = 1.0  # pixels by which rounding carries boxes over an edge


class CocoData:
    """The images and boxes of a COCO annotation file.

    `ids` are the image ids in the file's order, `names` the category names in the order of their
    ids; `annotations.read_annotations` says how ids are numbered. Raises DataError where the file
    cannot be read, or an entry has no single meaning.
    """

    def __init__(self, annotations: Path | str, images: Path | str) -> None:
        self.path = Path(annotations)
        self.folder = Path(images)
        document = read_annotations(self.path)
        if not self.folder.is_dir():
            raise DataError(f"{self.folder} must be the folder of the images of {self.path}")
        self.coco = COCO()
        self.coco.dataset = {"info": {}, **document}
        with contextlib.redirect_stdout(io.StringIO()):
            self.coco.createIndex()
        self.ids: list[int] = [image["id"] for image in document["images"]]
        categories = sorted(document["categories"], key=lambda category: category["id"])
        self.names = tuple(str(category["name"]) for category in categories)
        self._category_ids = {str(c["name"]): int(c["id"]) for c in categories}
        self._checked: set[int] = set()

    def __len__(self) -> int:
        return len(self.ids)

    def file(self, image_id: int) -> Path:
        """Where the image `image_id` lies; the file need not exist.

        A name that Windows wrote, with backslashes between its folders, is read so too.
        """
        name = str(self.coco.imgs[image_id]["file_name"])
        if "\\" in name and not os.path.isfile(self.folder / name):
            name = name.replace("\\", "/")
        return self.folder / name

    def check_files(self, ids: Iterable[int]) -> None:
        """Hold the sizes of images against their files, before their boxes are used.

        Boxes whose image has the size that the file has before it is turned (EXIF) are turned with
        it. Warns, once for all, of that, of what `pictures.tell` knows, and of boxes that reach
        beyond their picture, which stay. Raises DataError where a size is another, and as
        `pictures.header`.
        """
        headers = {i: header(self.file(i)) for i in ids if i not in self._checked}
        turned = [i for i, about in headers.items() if self._turn(i, about)]
        self._checked.update(headers)
        tell({self.file(i): about for i, about in headers.items()})
        if turned:
            self._warn(
                f"Boxes in {self.path} are turned with their pictures, whose width and height are"
                f" given as before their EXIF orientation turns them: {len(turned)} of"
                f" {len(headers)}, {self.file(turned[0])} first."
            )
        boxes = [(a, about.size) for i, about in headers.items() for a in self.coco.imgToAnns[i]]
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
        image = self.coco.imgs[image_id]
        if "height" not in image or (image["height"], image["width"]) == about.size:
            return False
        if (image["height"], image["width"]) != about.stored:
            (height, width), file = about.size, self.file(image_id)
            raise DataError(
                f"{self.path} must give {file} the width and height that it has, {width} and"
                f" {height}, not {image['width']} and {image['height']}, or its boxes are of"
                " another picture; correct them, or remove the two fields if the boxes are right."
            )
        for annotation in self.coco.imgToAnns[image_id]:
            annotation["bbox"] = turned_box(annotation["bbox"], about)
        image["height"], image["width"] = about.size
        return True

    def truth(self, image_id: int) -> Detections:
        """The boxes annotated in an image, in its own pixels, with labels into `names`.

        Crowd regions are left out; every score is 1.
        """
        found = [a for a in self.coco.imgToAnns[image_id] if not a.get("iscrowd", 0)]
        boxes = np.array([a["bbox"] for a in found], dtype=np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        order = sorted(self._category_ids.values())
        labels = [order.index(a["category_id"]) for a in found]
        return Detections(boxes, np.ones(len(found)), np.array(labels, dtype=np.int64))

    def mean_ap(
        self, found: Sequence[tuple[int, Detections]], classes: Sequence[str]
    ) -> tuple[float, float, float]:
        """AP at IoU 0.50:0.95, 0.50 and 0.75 over the images listed, by pycocotools.

        Crowd regions count neither for nor against.

        `found` pairs an image id with the detections in that image's own pixels; `classes` names
        their labels. Classes that the data set lacks are dropped; categories that the detector
        lacks count as missed. Raises DataError where no name is common to both, and where the
        images show nothing that can be found.
        """
        ids = [self._category_ids.get(name) for name in classes]
        if all(i is None for i in ids):
            raise DataError(
                f"the categories of {self.path} must share a name with the detector's classes "
                f"({', '.join(classes[:3])}, ...), not be {', '.join(self.names[:3])}, ...; rename"
                " the classes of one of the two."
            )
        if not any(len(self.truth(image_id).labels) for image_id, _ in found):
            raise DataError(
                f"{self.path} must have at least one box in the {len(found)} images evaluated, not"
                " 0; take more images."
            )
        rows = [
            {
                "image_id": image_id,
                "category_id": ids[label],
                "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                "score": score,
            }
            for image_id, d in found
            for box, score, label in zip(
                d.boxes.tolist(), d.scores.tolist(), d.labels.tolist(), strict=True
            )
            if ids[label] is not None
        ]
        if not rows:
            return 0.0, 0.0, 0.0
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(self.coco, self.coco.loadRes(rows), "bbox")
            evaluation.params.imgIds = [image_id for image_id, _ in found]
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        ap, ap50, ap75 = (float(value) for value in evaluation.stats[:3])
        return ap, ap50, ap75


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
