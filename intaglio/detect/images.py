"""Image files as the uint8 arrays that a model and a Program read. No torch."""

from __future__ import annotations

import os.path
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from intaglio.detect.pictures import header, load_image, tell
from intaglio.errors import DataError

if TYPE_CHECKING:
    from intaglio.detect.coco import CocoData

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".npy")
MOST_AT_ONCE = 32
PIXELS_AT_ONCE = 2**21


def batch_size(size: tuple[int, int]) -> int:
    """Images of `size` (H, W) that are run together: fewer of large ones, to save memory."""
    return max(1, min(MOST_AT_ONCE, PIXELS_AT_ONCE // (size[0] * size[1])))


def listed_files(data: CocoData) -> list[Path]:
    """The images of a COCO set. Raises DataError where it lists none, or one is not there."""
    files = [data.file(i) for i in data.ids]
    lost = [file for file in files if not os.path.isfile(file)]
    if lost:
        raise DataError(
            f"{data.path} lists {len(files)} images that must exist, but {len(lost)} do not,"
            f" the first of them {lost[0]}; pass the right --images folder."
        )
    if not files:
        raise DataError(f"{data.path} must list at least one image, not 0.")
    return files


def image_files(places: Sequence[Path]) -> list[Path]:
    """The files of these places in order: of a folder every image in it, by name, but for hidden
    ones; else the place itself. Raises DataError where one does not exist or holds no image."""
    return [file for place in places for file in files_of(place)]


def files_of(place: Path) -> list[Path]:
    """The files of one place."""
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise DataError(f"{place} must be an existing folder of images, or an image.")
    files = sorted(
        f
        for f in place.iterdir()
        if f.suffix.lower() in SUFFIXES and not f.name.startswith(".") and f.is_file()
    )
    if not files:
        raise DataError(f"{place} must hold at least one image ({', '.join(SUFFIXES)}), not 0.")
    return files


def spread(files: list[Path], count: int) -> list[Path]:
    """`count` of the files at even distances, the first included; all if there are fewer."""
    if count < 1:
        raise DataError(f"The calibration set must have at least 1 image, not {count}.")
    if count >= len(files):
        return files
    return [files[i * len(files) // count] for i in range(count)]


def read(
    path: Path, size: tuple[int, int] | None, *, resize: bool = False, channels: int = 3
) -> NDArray[np.uint8]:
    """One image (C, H, W) as `pictures.load_image` reads it; without `size` it keeps its own."""
    return load_image(path, size, resize=resize, channels=channels)[0]


def stack(
    files: list[Path], size: tuple[int, int] | None, *, resize: bool = False, channels: int = 3,
    quiet: bool = False,
) -> NDArray[np.uint8]:  # fmt: skip
    """Images (N, C, H, W) of one size: `size`, or else that of the first.

    Warns as `pictures.tell` does, unless `quiet`.
    """
    first = read(files[0], size, resize=resize, channels=channels)
    shape = (first.shape[1], first.shape[2])
    rest = [read(f, shape, resize=resize, channels=channels) for f in files[1:]]
    for file, image in zip(files[1:], rest, strict=True):
        if image.shape != first.shape:
            raise DataError(f"{file} must be {first.shape} like {files[0]}, not {image.shape}.")
    if not quiet:
        tell({file: header(file) for file in files})
    return np.stack([first, *rest])
