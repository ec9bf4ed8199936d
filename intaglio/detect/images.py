"""Image files as the uint8 arrays that a model and a Program read. No torch."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from intaglio.detect.coco import CocoData, load_image
from intaglio.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".npy")
MOST_AT_ONCE = 32
PIXELS_AT_ONCE = 2**21


def batch_size(size: tuple[int, int]) -> int:
    """Images of `size` (H, W) that are run together: fewer of large ones, to save memory."""
    return max(1, min(MOST_AT_ONCE, PIXELS_AT_ONCE // (size[0] * size[1])))


def image_files(folder: Path, data: CocoData | None = None) -> list[Path]:
    """The images of a COCO set, or every image file of a folder by name.

    Raises DataError where the folder does not exist, holds no image, or lacks one that is listed.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} must be an existing folder of images.")
    if data is not None:
        files = [data.file(i) for i in data.ids]
        lost = [file for file in files if not file.is_file()]
        if lost:
            raise DataError(
                f"{data.path} lists {len(files)} images that must exist, but {len(lost)} do not,"
                f" the first of them {lost[0]}; pass the right --images folder."
            )
    else:
        files = sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError(f"{folder} must hold at least one image ({', '.join(SUFFIXES)}), not 0.")
    return files


def spread(files: list[Path], count: int) -> list[Path]:
    """`count` of the files at even distances, the first included; all if there are fewer."""
    if count < 1:
        raise DataError(f"The calibration set must have at least 1 image, not {count}.")
    if count >= len(files):
        return files
    return [files[i * len(files) // count] for i in range(count)]


def read(path: Path, size: tuple[int, int] | None, *, resize: bool = False) -> NDArray[np.uint8]:
    """One image (C, H, W). A `.npy` file holds uint8 (C, H, W) of any channel count.

    Without `size` the image keeps its own.
    """
    if path.suffix.lower() != ".npy":
        return load_image(path, size or own_size(path), resize=resize)[0]
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} must be a NumPy array file, but: {error}.") from error
    if array.dtype != np.uint8 or array.ndim != 3:
        raise DataError(
            f"{path} must be uint8 (C, H, W), not {array.dtype} with {array.ndim} dimensions."
        )
    if size is not None and array.shape[1:] != tuple(size):
        raise DataError(f"{path} must be {size[0]}x{size[1]}, not {array.shape[1:]}.")
    return np.asarray(array, dtype=np.uint8)


def own_size(path: Path) -> tuple[int, int]:
    """(H, W) of an image file."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return picture.height, picture.width
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{path} must be an image that Pillow can read: {error}.") from error


def stack(
    files: list[Path], size: tuple[int, int] | None, *, resize: bool = False
) -> NDArray[np.uint8]:
    """Images (N, C, H, W) of one size: `size`, or else that of the first."""
    first = read(files[0], size, resize=resize)
    shape = (first.shape[1], first.shape[2])
    rest = [read(f, shape, resize=resize) for f in files[1:]]
    for file, image in zip(files[1:], rest, strict=True):
        if image.shape != first.shape:
            raise DataError(f"{file} must be {first.shape}, not {image.shape}.")
    return np.stack([first, *rest])
