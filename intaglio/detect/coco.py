"""COCO data sets on disk: images as uint8 arrays, and mAP by pycocotools. No torch."""

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from intaglio.detect.decode import Detections
from intaglio.errors import DataError

EIGHT_BIT_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
LETTERBOX_GREY = 114  # close to the ImageNet mean, so the margin normalises to about zero


class CocoData:
    """The images and boxes of a COCO annotation file.

    `ids` are the image ids in the file's order, `names` the category names in the order of their
    ids. Raises DataError where the file cannot be read or lacks what detection needs.
    """

    def __init__(self, annotations: Path | str, images: Path | str) -> None:
        self.path = Path(annotations)
        self.folder = Path(images)
        document = _read_json(self.path)
        if not self.folder.is_dir():
            raise DataError(f"{self.folder} must be the folder of the images of {self.path}")
        document.setdefault("info", {})
        self.coco = COCO()
        self.coco.dataset = document
        with contextlib.redirect_stdout(io.StringIO()):
            self.coco.createIndex()
        self.ids: list[int] = [image["id"] for image in document["images"]]
        categories = sorted(document["categories"], key=lambda category: category["id"])
        self.names = tuple(str(category["name"]) for category in categories)
        self._category_ids = {str(c["name"]): int(c["id"]) for c in categories}

    def __len__(self) -> int:
        return len(self.ids)

    def file(self, image_id: int) -> Path:
        """Where the image `image_id` lies; the file need not exist."""
        return self.folder / str(self.coco.imgs[image_id]["file_name"])

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
                f"({', '.join(classes[:3])}, ...), not be {', '.join(self.names[:3])}, ..."
            )
        if not any(len(self.truth(image_id).labels) for image_id, _ in found):
            raise DataError(
                f"{self.path} must have at least one box in the {len(found)} images evaluated, not"
                " 0; take more images"
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


def load_image(
    path: Path | str, size: tuple[int, int], *, resize: bool = False
) -> tuple[NDArray[np.uint8], float]:
    """An image as uint8 (3, H, W) RGB of `size` (H, W), and the scale it was resized by.

    With `resize` the image is scaled to fit, kept in the top left corner and the rest made grey,
    so its own pixels are those of the result divided by the scale. Without, its size must be
    `size`. Raises DataError where the file is missing, no RGB image or of another size.
    """
    height, width = size
    try:
        with Image.open(path) as file:
            if file.mode not in EIGHT_BIT_MODES:
                raise DataError(
                    f"{path} must be an image with 8 bits per channel, not of mode {file.mode!r};"
                    " convert it to RGB."
                )
            picture = file.convert("RGB")
    except FileNotFoundError:
        raise DataError(f"{path} must be an image file, but does not exist") from None
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise DataError(f"{path} must be an image that Pillow can read as RGB: {error}") from None
    if picture.size == (width, height):
        return _channels_first(picture), 1.0
    if not resize:
        raise DataError(
            f"{path} must be {height}x{width} pixels (height x width), "
            f"not {picture.height}x{picture.width}; resize it or ask for letterboxing"
        )
    scale = letterbox_scale((picture.height, picture.width), size)
    fitted = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    canvas = Image.new("RGB", (width, height), (LETTERBOX_GREY,) * 3)
    canvas.paste(picture.resize(fitted, Image.Resampling.BILINEAR), (0, 0))
    return _channels_first(canvas), scale


def letterbox_scale(own: tuple[int, int], size: tuple[int, int]) -> float:
    """By how much a picture of `own` (H, W) is scaled to fit into `size` (H, W)."""
    return min(size[0] / own[0], size[1] / own[1])


def _channels_first(picture: Image.Image) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.asarray(picture, dtype=np.uint8).transpose(2, 0, 1))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} must be a COCO annotation file, but does not exist") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} must be a COCO annotation file in JSON: {error}") from None
    needs = {
        "images": ("id", "file_name"),
        "annotations": ("image_id", "category_id", "bbox"),
        "categories": ("id", "name"),
    }
    for section, fields in needs.items():
        entries = document.get(section) if isinstance(document, dict) else None
        if not isinstance(entries, list):
            raise DataError(f"{path} must have a list named {section!r}, as COCO detection data do")
        for i, entry in enumerate(entries):
            missing = [f for f in fields if not isinstance(entry, dict) or f not in entry]
            if missing:
                raise DataError(f"{path}: {section}[{i}] must have the field {missing[0]!r}")
    _check_annotations(path, document)
    for number, entry in enumerate(document["annotations"], start=1):
        # pycocotools reads these three, which matter little to boxes and are often left out.
        entry.setdefault("id", number)
        entry.setdefault("iscrowd", 0)
        entry.setdefault("area", float(entry["bbox"][2] * entry["bbox"][3]))
    checked: dict[str, Any] = document
    return checked


def _check_annotations(path: Path, document: dict[str, Any]) -> None:
    """Boxes must be four numbers and refer to an image and a category of the file."""
    images = {image["id"] for image in document["images"]}
    categories = {category["id"] for category in document["categories"]}
    for i, entry in enumerate(document["annotations"]):
        box = entry["bbox"]
        numbers = isinstance(box, list) and all(isinstance(v, int | float) for v in box)
        if not numbers or len(box) != 4 or not np.isfinite(box).all():
            raise DataError(f"{path}: annotations[{i}] must have a bbox of 4 numbers, not {box}")
        if entry["image_id"] not in images or entry["category_id"] not in categories:
            raise DataError(
                f"{path}: annotations[{i}] must refer to an image and a category of the file"
            )
