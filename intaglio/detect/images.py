"""Image files as the uint8 arrays that a model and a Program read. No torch."""

from __future__ import annotations

import os.path
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from intaglio.detect.pictures import header, is_picture, load_image, tell
from intaglio.errors import DataError, DataWarning

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
    ones; else the place itself.

    An image is what `read` can read, whatever its name ends in. Warns of images in folders of a
    folder, which are not read. Raises DataError where a place does not exist or holds no image.
    """
    return [file for place in places for file in files_of(place)]


def files_of(place: Path) -> list[Path]:
    """The files of one place."""
    if not place.is_dir():
        if not os.path.exists(place):
            raise DataError(f"{place} must be an image or a folder of them, but does not exist.")
        return [place]
    try:
        found = sorted(path for path in place.iterdir() if not path.name.startswith("."))
        below = [path for path in found if path.is_dir() and any(map(named, path.iterdir()))]
    except OSError as error:
        raise DataError(f"{place} must be a folder that can be read, not: {error}.") from error
    files = [path for path in found if path.is_file() and (named(path) or is_picture(path))]
    if not files:
        where = f" itself, not 0; pass --images {below[0]}" if below else ", not 0"
        raise DataError(f"{place} must hold at least one image{where}.")
    if below:
        warnings.warn(
            f"Of {place} its own {len(files)} images are read, not those of the folders in it:"
            f" {', '.join(path.name for path in below)}; pass them as --images too.",
            DataWarning, stacklevel=4,
        )  # fmt: skip
    return files


def named(path: Path) -> bool:
    """Whether a file is called like an image."""
    return path.suffix.lower() in SUFFIXES


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
