"""What a detector saw in a picture file: its boxes, drawn, in words and as JSON. No torch.

`intaglio run` and the host program of a board both end here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike, NDArray

from intaglio.detect.decode import Detections
from intaglio.detect.own import Head, boxes_of
from intaglio.detect.pictures import letterbox_scale, load_image
from intaglio.errors import DataError
from intaglio.ops import Tensor, dequantise

if TYPE_CHECKING:
    from PIL import Image

BOXES = ".boxes.png"  # the ending of a drawn picture: no picture of a user's has it
DRAWN = 384  # pixels of a small picture's longer side, enlarged by a whole number


@dataclass(frozen=True)
class Seen:
    """The boxes `found` in the file `path`, in its own pixels, those above `threshold` drawn."""

    path: Path
    classes: Sequence[str]
    threshold: float
    picture: Image.Image
    found: Detections

    @property
    def kept(self) -> list[int]:
        """Numbers of the boxes that are drawn."""
        scores = self.found.scores
        return [i for i in range(len(scores)) if scores[i] > self.threshold]

    def words(self) -> str:
        """Class and score of every box that is drawn."""
        scores = self.found.scores
        return ", ".join(f"class {self.name(i)} (score {scores[i]:.2f})" for i in self.kept) or (
            "nothing"
        )

    def name(self, box: int) -> str:
        """A box's class."""
        return self.classes[int(self.found.labels[box])]

    def to_json(self) -> dict[str, Any]:
        """image, boxes, labels and scores of what is drawn, and landmarks if there are any."""
        kept, found = self.kept, self.found
        made: dict[str, Any] = {
            "image": str(self.path),
            "boxes": [[round(float(v), 2) for v in found.boxes[i]] for i in kept],
            "labels": [self.name(i) for i in kept],
            "scores": [round(float(found.scores[i]), 4) for i in kept],
        }
        if found.landmarks is not None:
            points = [found.landmarks[i] for i in kept]
            made["landmarks"] = [[[round(float(v), 2) for v in p] for p in of] for of in points]
        return made


def check_names(files: Sequence[Path]) -> None:
    """Raises DataError where the results of two files would have one name."""
    twice = [name for name, times in Counter(file.stem for file in files).items() if times > 1]
    if twice:
        raise DataError(f"Images must have different names, but {twice[0]} comes twice.")


def seen(
    path: Path,
    head: Head,
    outputs: Sequence[Tensor],
    codes: Mapping[str, NDArray[Any]],
    shape: tuple[int, int, int],
    threshold: float,
) -> Seen:
    """From the integers (C, h, w) of a network's `outputs`, for the picture that `load_image` made
    of the file for its input of `shape` (C, H, W), letterboxed if need be."""
    from intaglio.detect.draw import draw

    channels, height, width = shape
    picture, _ = load_image(path, None, channels=channels)
    own = (picture.shape[1], picture.shape[2])
    real = [dequantise(t, codes[t.name][None])[0] for t in outputs]
    found = decode_fitted(head, real, own, (height, width))
    zoom = max(1, DRAWN // max(own))
    drawn = draw(picture, found, head.classes, zoom=zoom, threshold=threshold)
    return Seen(path, head.classes, threshold, drawn, found)


def decode_fitted(
    head: Head, outputs: Sequence[ArrayLike], own: tuple[int, int], size: tuple[int, int]
) -> Detections:
    """Boxes in the pixels of a picture of `own` (H, W), clipped to it, from the maps (C, h, w) of
    what `load_image` made of it: `size` (H, W)."""
    scale = letterbox_scale(own, size)
    seen = boxes_of(head, outputs, (own[0] * scale, own[1] * scale))
    points = None if seen.landmarks is None else seen.landmarks / scale
    return Detections(seen.boxes / scale, seen.scores, seen.labels, points)
