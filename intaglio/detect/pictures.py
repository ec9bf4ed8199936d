"""One picture file as the uint8 array that a network reads; every command reads pictures here.

A picture is what a viewer shows: turned as its EXIF orientation says, as cv2.imread has it. Of 16
bits a channel the upper 8 are read, and an alpha channel is left out; cv2.imread does both. Colours
are RGB as stored, without a profile. A `.npy` file holds uint8 (C, H, W) of any C and needs no
Pillow. No torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from intaglio.errors import DataError, DataWarning
from intaglio.fixed import IntType

if TYPE_CHECKING:
    from PIL import Image
    from PIL.PngImagePlugin import PngImageFile

EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N")
LETTERBOX_GREY = 114  # close to the ImageNet mean, so the margin normalises to about zero
ORIENTATION = 0x0112  # the tag's number in TIFF 6.0, which EXIF takes over
LATE = (b"eXIf", b"iTXt")  # chunks of PNG that may have an orientation in them
RAW = b"Raw profile type exif"  # what others that have one begin with
TURNS = {  # what undoes an orientation, by Pillow's names
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


@dataclass(frozen=True)
class Header:
    """What a file says beside its pixels: `stored` (H, W), EXIF `orientation` of 1 to 8, whether
    it is `grey`, and whether it is `deep`, of 16 bits a channel."""

    stored: tuple[int, int]
    orientation: int = 1
    grey: bool = False
    deep: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the picture as it is read, turned."""
        height, width = self.stored
        return (width, height) if self.orientation >= 5 else (height, width)


def header(path: Path | str) -> Header:
    """Raises DataError where the file is missing or no picture."""
    if is_array(path):
        array = read_array(path)
        return Header((array.shape[1], array.shape[2]), grey=array.shape[0] == 1)
    with opened(path) as file:
        return header_of(file)


def prepare(files: Iterable[Path]) -> None:
    """Import what reading these files takes."""
    if not all(map(is_array, files)):
        from PIL import Image

        Image.preinit()


def load_image(
    path: Path | str, size: tuple[int, int] | None, *, resize: bool = False, channels: int = 3
) -> tuple[NDArray[np.uint8], float]:
    """A picture as uint8 (`channels`, H, W) of `size` (H, W), and the scale it was resized by.

    `channels` is 3, RGB, or 1 for grey pictures alone; `.npy` files have their own. With `resize`
    a picture is scaled to fit, kept in the top left corner and the rest made grey, so that its own
    pixels are those of the result divided by the scale. Without, its size must be `size`, unless
    that is None. Raises DataError where the file is missing, cannot be read, is too large, or has
    another size or other channels.
    """
    pixels, own = load_fitted(path, size, resize=resize, channels=channels)
    fits = size is None or own == tuple(size)
    return pixels, 1.0 if fits or size is None else letterbox_scale(own, size)


def load_fitted(
    path: Path | str, size: tuple[int, int] | None, *, resize: bool = False, channels: int = 3
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """As `load_image`, with the picture's own (H, W) instead of the scale."""
    if is_array(path):
        array = array_of(path, size)
        return array, (array.shape[1], array.shape[2])
    if channels not in (1, 3):
        raise DataError(
            f"{path} must be a .npy file of uint8 (C, H, W) for a network of {channels} channels,"
            " not a picture, which has 3, or 1 if it is grey."
        )
    with opened(path) as file:
        picture = upright(path, file, channels)
    own = (picture.height, picture.width)
    if size is None or own == tuple(size):
        return channels_first(picture), own
    if not resize:
        raise DataError(
            f"{path} must be {size[0]}x{size[1]} pixels (height x width), not {own[0]}x{own[1]};"
            " resize it, or give --resize, which scales it to fit."
        )
    from PIL import Image

    scale = letterbox_scale(own, size)
    fitted = (max(1, round(own[1] * scale)), max(1, round(own[0] * scale)))
    grey = LETTERBOX_GREY if channels == 1 else (LETTERBOX_GREY,) * 3
    canvas = Image.new(picture.mode, (size[1], size[0]), grey)
    canvas.paste(picture.resize(fitted, Image.Resampling.BILINEAR), (0, 0))
    return channels_first(canvas), own


def as_codes(pixels: NDArray[np.uint8], type: IntType) -> NDArray[np.uint8 | np.int8]:
    """Pixels as codes of a network's input: as they are, or less 128 where these are signed and of
    8 bits, as in TFLite's files; every such file that takes pixels counts so."""
    if type == IntType(8, True):
        return (pixels ^ np.uint8(128)).view(np.int8)
    return pixels


def letterbox_scale(own: tuple[int, int], size: tuple[int, int]) -> float:
    """By how much a picture of `own` (H, W) is scaled to fit into `size` (H, W)."""
    return min(size[0] / own[0], size[1] / own[1])


def tell(headers: Mapping[Path, Header]) -> None:
    """Warn, once for all of the files, of what is done to some of them."""
    turned = [file for file, about in headers.items() if about.orientation != 1]
    deep = [file for file, about in headers.items() if about.deep]
    what = "Pictures are turned as their EXIF orientation says, as viewers and cv2.imread do"
    which = "Of pictures with 16 bits a channel the upper 8 are read, as cv2.imread does"
    for files, sentence in ((turned, what), (deep, which)):
        if files:
            count = f"{len(files)} of {len(headers)}"
            warnings.warn(f"{sentence}: {count}, {files[0]} first.", DataWarning, stacklevel=3)


@contextmanager
def opened(path: Path | str) -> Iterator[Image.Image]:
    """The picture file, open; what fails inside is one DataError that names it."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd tags and large pictures: Pillow's to tell
            with Image.open(path) as file:
                yield file
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path} must be an image file, but does not exist.") from None
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise DataError(
            f"{path} must have at most {most:,} pixels, the limit of Pillow, not more; scale it"
            " down or cut it into tiles."
        ) from None
    except Exception as error:  # a damaged file: Pillow's decoders promise no list of errors
        raise DataError(
            f"{path} must be an image that Pillow can read as RGB, not a damaged or other file:"
            f" {' '.join(str(error).split()) or type(error).__name__}."
        ) from None


def header_of(file: Image.Image) -> Header:
    """The header of an open file. An orientation that cannot be read is none, as for viewers."""
    tiles = getattr(file, "tile", ())  # the names of the decoders' pixels, like "RGB;16B"
    grey, deep = file.mode in GREY, any("16" in str(tile[3]) for tile in tiles)
    try:
        found = exif_of(file).get(ORIENTATION)
    except Exception:  # a damaged EXIF block: Pillow's parser promises no list of errors
        found = None
    orientation = found if isinstance(found, int) and found in TURNS else 1
    if turned_by_pillow(file):
        file.load()
    height, width = file.height, file.width
    if turned_by_pillow(file) and orientation >= 5:
        height, width = width, height
    return Header((height, width), orientation, grey, deep)


def exif_of(file: Image.Image) -> Image.Exif:
    """The EXIF tags of an open file. For them Pillow decodes a whole PNG file, where they may stand
    behind the pixels; here only if they may be there."""
    from PIL import Image
    from PIL.PngImagePlugin import PngImageFile

    if isinstance(file, PngImageFile) and not is_late(file):
        return Image.Image.getexif(file)
    return file.getexif()


def is_late(file: PngImageFile) -> bool:
    """Whether an open file has such a chunk, or is none that can be looked through."""
    assert file.fp is not None
    at = file.fp.tell()
    place = 8  # behind the signature
    try:
        while True:
            file.fp.seek(place)
            head = file.fp.read(8 + len(RAW))
            if head[4:8] == b"IEND":
                return False
            if len(head) < 8 or head[4:8] in LATE or head[8:] == RAW:
                return True
            place += 12 + int.from_bytes(head[:4], "big")  # with its sum behind it
    finally:
        file.fp.seek(at)


def turned_by_pillow(file: Image.Image) -> bool:
    """Whether loading the file turns it: Pillow does so for TIFF alone."""
    return file.format == "TIFF"


def upright(path: Path | str, file: Image.Image, channels: int) -> Image.Image:
    """The pixels of an open file, as RGB or as grey ("L"), turned."""
    from PIL import Image

    about = header_of(file)
    picture = file
    if about.deep and file.mode.startswith("I"):
        values = np.asarray(file)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise DataError(f"{path} must have values of 16 bits without a sign; convert it.")
        picture = Image.fromarray((values >> 8).astype(np.uint8))
    elif file.mode not in EIGHT_BITS:
        raise DataError(
            f"{path} must be an image with 8 or 16 bits per channel, not of mode {file.mode!r};"
            " convert it to RGB."
        )
    if channels == 1 and not about.grey:
        raise DataError(
            f"{path} must be a grey picture for a network of one channel, not one of colours"
            f" (mode {file.mode!r}); convert it to grey."
        )
    picture = picture.convert("L" if channels == 1 else "RGB")
    if about.orientation == 1 or turned_by_pillow(file):
        return picture
    return picture.transpose(Image.Transpose[TURNS[about.orientation]])


def channels_first(picture: Image.Image) -> NDArray[np.uint8]:
    """(C, H, W) of a picture in RGB or grey."""
    array = np.asarray(picture, dtype=np.uint8)
    array = array[:, :, None] if array.ndim == 2 else array
    return np.ascontiguousarray(array.transpose(2, 0, 1))


def is_picture(path: Path | str) -> bool:
    """Whether Pillow takes the file for a picture by what it begins with."""
    from PIL import Image

    try:
        with opened(path) as file:
            return isinstance(file, Image.Image)
    except DataError:
        return False


def is_array(path: Path | str) -> bool:
    """Whether the file is NumPy's and no picture."""
    return Path(path).suffix.lower() == ".npy"


def read_array(path: Path | str) -> NDArray[np.uint8]:
    """The uint8 (C, H, W) of a `.npy` file, not yet read into memory."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise DataError(f"{path} must be a NumPy array file, but does not exist.") from None
    except Exception as error:  # a damaged file: NumPy's reader promises no list of errors
        raise DataError(f"{path} must be a NumPy array file, but: {error}.") from None
    if array.dtype != np.uint8 or array.ndim != 3 or not array.size:
        raise DataError(
            f"{path} must be uint8 (C, H, W), not {array.dtype} with {array.ndim} dimensions"
            f" {array.shape}."
        )
    return array


def array_of(path: Path | str, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """The array of a `.npy` file, whose (H, W) must be `size` where one is given."""
    array = read_array(path)
    if size is not None and array.shape[1:] != tuple(size):
        raise DataError(f"{path} must be {size[0]}x{size[1]}, not {array.shape[1:]}.")
    return np.array(array, dtype=np.uint8)
