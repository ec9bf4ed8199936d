"""Synthetic detection scenes with real handwritten digits, written as PNG files and COCO JSON.

The digits are the 1797 images (8x8, 17 grey levels) that scikit-learn ships (UCI "Optical
Recognition of Handwritten Digits", CC BY 4.0). The split `train` uses the first three quarters,
`held-out` the last one, so that no held-out digit was seen in training. Scene `i` depends on
(split, seed, i) alone.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from intaglio.errors import DataError
from intaglio.system.disk import whole_folder
from intaglio.system.places import Kind, check_folder, entries

Split = Literal["train", "held-out"]

CLASSES = tuple("0123456789")
IMAGES, DATA = "images", "scenes.json"
CALIBRATION_SEED, HELD_OUT_SEED = 2, 3
MAX_DIGITS = 4
MOST = 1_000_000  # scenes, whose files have six digits
SIDES = (32, 4096)  # pixels
SPLITS: tuple[Split, ...] = ("train", "held-out")
_INK = 0.4  # a pixel belongs to a digit where the digit's opacity exceeds this
_LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue
_CONTRAST = 70.0  # a digit is lighter than what it covers by at least this, of 255
_DARK = 144  # colours of the background stay below this
_MIN_VISIBLE = 0.8  # fraction of a digit's pixels that must stay unoccluded


@dataclass(frozen=True)
class Scene:
    """`image` uint8 (3, H, W); `boxes` float32 (G, 4), x0 y0 x1 y1 in pixels; `labels` (G,)."""

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]


@cache
def digits(split: Split) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (n, 8, 8) of 0..16 and labels (n,) of one split."""
    if split not in SPLITS:
        raise DataError(f"split must be 'train' or 'held-out', not {split!r}")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    cut = len(bunch.images) * 3 // 4
    part = slice(0, cut) if split == "train" else slice(cut, None)
    return bunch.images[part].astype(np.uint8), bunch.target[part].astype(np.int64)


def make_scene(index: int, *, size: int, seed: int, split: Split) -> Scene:
    """Scene number `index` of a set: `size` x `size` pixels, 1 to 4 digits on clutter."""
    images, targets = digits(split)
    rng = np.random.default_rng((seed, SPLITS.index(split), index))
    canvas = _background(rng, size)
    owner = np.full((size, size), -1)  # which digit, by order of painting, shows at a pixel
    areas: list[int] = []
    labels: list[int] = []
    for _ in range(int(rng.integers(1, MAX_DIGITS + 1))):
        pick = int(rng.integers(len(targets)))
        alpha = _glyph(rng, images[pick], size)
        for _attempt in range(8):
            placed = _place(rng, alpha, size)
            ink = placed > _INK
            covered = owner.copy()
            covered[ink] = len(areas)
            visible = [int((covered == k).sum()) for k in range(len(areas))]
            if all(v >= _MIN_VISIBLE * a for v, a in zip(visible, areas, strict=True)):
                owner = covered
                areas.append(int(ink.sum()))
                labels.append(int(targets[pick]))
                canvas = _paint(rng, canvas, placed)
                break
    canvas += rng.normal(0.0, rng.uniform(2.0, 12.0), canvas.shape)
    image = np.clip(np.rint(canvas), 0, 255).astype(np.uint8).transpose(2, 0, 1)
    boxes = np.array([_bounds(owner == k) for k in range(len(areas))], dtype=np.float32)
    return Scene(np.ascontiguousarray(image), boxes, np.array(labels, dtype=np.int64))


def write_scenes(
    folder: Path,
    count: int,
    size: int,
    seed: int,
    split: Split,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write `count` scenes under `folder`: images/*.png and scenes.json, whose path is returned.

    They appear together or not at all, and replace earlier scenes. `progress` is told (done,
    total). Raises DataError where the folder holds something else or cannot be written.
    """
    check_folder(folder, SCENES)
    digits(split)  # first, as its package brings Pillow too
    from PIL import Image

    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    with whole_folder(folder) as part:
        (part / IMAGES).mkdir()
        for index in range(count):
            if progress is not None:
                progress(index, count)
            scene = make_scene(index, size=size, seed=seed, split=split)
            name = f"{index:06d}.png"
            picture = BytesIO()  # Pillow does not say why it could not write a file
            Image.fromarray(scene.image.transpose(1, 2, 0)).save(picture, format="PNG")
            (part / IMAGES / name).write_bytes(picture.getvalue())
            images.append({"id": index + 1, "file_name": name, "width": size, "height": size})
            for box, label in zip(scene.boxes.tolist(), scene.labels.tolist(), strict=True):
                width, height = box[2] - box[0], box[3] - box[1]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": index + 1,
                        "category_id": label + 1,
                        "bbox": [box[0], box[1], width, height],
                        "area": width * height,
                        "iscrowd": 0,
                    }
                )
        categories = [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)]
        document = {"images": images, "annotations": annotations, "categories": categories}
        (part / DATA).write_text(json.dumps(document))
    return folder / DATA


def write_calibration(folder: Path, count: int, size: int) -> Path:
    """Scenes for choosing quantisation parameters: digits seen in training."""
    return write_scenes(folder, count, size, CALIBRATION_SEED, "train")


def write_held_out(folder: Path, count: int, size: int) -> Path:
    """The scenes on which every figure is measured: digits never trained on."""
    return write_scenes(folder, count, size, HELD_OUT_SEED, "held-out")


def is_scenes(folder: Path) -> bool:
    """Whether a folder holds scenes and nothing else: no picture of anybody's, no other classes."""
    try:
        document = json.loads((folder / DATA).read_bytes())
        listed = {image["file_name"] for image in document["images"]}
        classes = tuple(category["name"] for category in document["categories"])
        return (
            {entry.name for entry in entries(folder)} == {IMAGES, DATA}
            and {entry.name for entry in (folder / IMAGES).iterdir()} == listed
            and listed == {f"{index:06d}.png" for index in range(len(listed))}
            and classes == CLASSES
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


SCENES = Kind("a folder of scenes alone", is_scenes)


def _background(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """A smooth colour field under random ellipses, rectangles and strokes: (size, size, 3)."""
    from PIL import Image, ImageDraw

    coarse = rng.integers(0, _DARK, (3, 3, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(2, 10))):
        colour = tuple(int(c) for c in rng.integers(0, _DARK, 3))
        x, y = (int(v) for v in rng.integers(-8, size, 2))
        w, h = (int(v) for v in rng.integers(3, size // 2, 2))
        kind = int(rng.integers(4))
        if kind == 0:
            draw.ellipse((x, y, x + w, y + h), fill=colour)
        elif kind == 1:
            draw.rectangle((x, y, x + w, y + h), fill=colour)
        elif kind == 2:
            draw.line((x, y, x + w, y + int(rng.integers(-h, h + 1))), colour, 1 + w % 4)
        else:
            start = int(rng.integers(360))
            draw.arc((x, y, x + w, y + h), start, start + 90 + 4 * h, colour, 1 + w % 4)
    return np.asarray(picture, dtype=np.float64)


def _glyph(rng: np.random.Generator, digit: NDArray[np.uint8], size: int) -> NDArray[np.float64]:
    """A digit enlarged, squeezed and turned, as opacity in 0..1, cut to its ink."""
    from PIL import Image

    height = int(np.exp(rng.uniform(np.log(size * 0.3), np.log(size * 0.65))))
    width = max(6, int(height * rng.uniform(0.7, 1.1)))
    levels = Image.fromarray((digit.astype(np.uint16) * 255 // 16).astype(np.uint8))
    large = levels.resize((width, height), Image.Resampling.BICUBIC)
    turned = large.rotate(rng.uniform(-20.0, 20.0), Image.Resampling.BILINEAR, expand=True)
    alpha = np.asarray(turned, dtype=np.float64) / 255.0
    x0, y0, x1, y1 = (int(v) for v in _bounds(alpha > _INK))
    return alpha[y0:y1, x0:x1]


def _place(rng: np.random.Generator, alpha: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """The opacity of a digit at a random place wholly inside a (size, size) scene."""
    h, w = alpha.shape
    y, x = int(rng.integers(0, size - h + 1)), int(rng.integers(0, size - w + 1))
    placed = np.zeros((size, size))
    placed[y : y + h, x : x + w] = alpha
    return placed


def _paint(
    rng: np.random.Generator, canvas: NDArray[np.float64], alpha: NDArray[np.float64]
) -> NDArray[np.float64]:
    """`canvas` with a digit in a colour lighter than what lies under it."""
    under = canvas[alpha > _INK].mean(axis=0)
    colours = rng.uniform(0.0, 255.0, (16, 3))
    gaps = (colours - under) @ _LUMA
    colour = colours[np.argmax(np.minimum(gaps, _CONTRAST))]  # the first that suffices, or the best
    opacity = np.clip(alpha * 1.3, 0.0, 1.0)[..., None] * rng.uniform(0.8, 1.0)
    painted: NDArray[np.float64] = canvas * (1.0 - opacity) + colour * opacity
    return painted


def _bounds(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 (exclusive) of the true pixels of a mask that has some."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
