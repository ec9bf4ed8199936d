"""Picture files of every kind: the pixels that a viewer shows, or a sentence."""

import io
import json
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from intaglio.detect.coco import CocoData
from intaglio.detect.images import image_files, stack
from intaglio.detect.pictures import Header, header, load_image
from intaglio.errors import DataError, DataWarning
from intaglio.quant.train import Pictures

COLOURS = np.random.default_rng(5).integers(0, 256, (6, 9, 3)).astype(np.uint8)
GREYS = np.random.default_rng(6).integers(0, 65536, (6, 9)).astype(np.uint16)


def pixels(path: Path, channels: int = 3) -> NDArray[np.uint8]:
    return load_image(path, None, channels=channels)[0]


def refusal(path: Path, channels: int = 3) -> str:
    """The sentence that refuses the file, without its name."""
    with pytest.raises(DataError) as error:
        pixels(path, channels)
    text = str(error.value)
    assert text.startswith(f"{path} must ")
    assert text.endswith(".")
    assert "\n" not in text
    return text.removeprefix(f"{path} ")


def as_orientation(orientation: object) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_a_viewer_turns_them(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    plain, path = tmp_path / f"plain.{suffix}", tmp_path / f"turned.{suffix}"
    exact: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(COLOURS).save(plain, **exact)
    Image.fromarray(COLOURS).save(path, exif=as_orientation(orientation), **exact)
    stored = Image.open(plain)
    stored.load()
    stored.getexif()[0x0112] = orientation
    wanted = np.asarray(ImageOps.exif_transpose(stored).convert("RGB")).transpose(2, 0, 1)
    assert header(path) == Header((6, 9), orientation)
    assert header(path).size == wanted.shape[1:]
    assert (pixels(path) == wanted).all()
    if orientation == 6:  # a quarter clockwise: the first column, read upwards, is the first row
        first = Image.open(plain).convert("RGB")
        assert (wanted[:, 0] == np.asarray(first)[::-1, 0].T).all()


def test_an_orientation_may_stand_behind_the_pixels(tmp_path: Path) -> None:
    path = tmp_path / "late.png"
    Image.fromarray(COLOURS).save(path, exif=as_orientation(6))
    data = path.read_bytes()
    at = data.index(b"eXIf") - 4
    chunk = data[at : at + 12 + int.from_bytes(data[at : at + 4], "big")]
    path.write_bytes(data.replace(chunk, b"").replace(data[-12:], chunk + data[-12:]))
    assert path.read_bytes().index(b"eXIf") > path.read_bytes().index(b"IDAT")
    assert header(path) == Header((6, 9), 6)
    assert pixels(path).shape == (3, 9, 6)


@pytest.mark.parametrize("orientation", [0, 9, 60000])
def test_an_orientation_that_is_none_turns_nothing(tmp_path: Path, orientation: object) -> None:
    path = tmp_path / "odd.png"
    Image.fromarray(COLOURS).save(path, exif=as_orientation(orientation))
    assert header(path) == Header((6, 9))
    assert (pixels(path) == COLOURS.transpose(2, 0, 1)).all()


@pytest.mark.parametrize("block", [b"", b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"x" * 50])
def test_a_damaged_exif_block_turns_nothing(tmp_path: Path, block: bytes) -> None:
    path = tmp_path / "odd.jpg"
    Image.new("RGB", (9, 6), (90, 90, 90)).save(path, exif=block)
    assert header(path) == Header((6, 9))
    assert (pixels(path) == 90).all()


@pytest.mark.parametrize(("suffix", "kind"), [("png", "I;16"), ("tif", "I;16"), ("pgm", "I")])
def test_of_sixteen_bits_the_upper_eight_are_read(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(GREYS).save(path)
    assert Image.open(path).mode == kind
    assert (pixels(path) == GREYS >> 8).all()
    assert (pixels(path, channels=1) == GREYS >> 8).all()
    assert header(path) == Header((6, 9), grey=True, deep=True)


def test_colours_of_sixteen_bits_are_read_alike(tmp_path: Path) -> None:
    """Pillow writes none, so the file is put together by hand: chunks of the PNG specification."""
    path = tmp_path / "deep.png"
    rows = np.random.default_rng(7).integers(0, 65536, (6, 9, 3))
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    start = b"".join(n.to_bytes(4, "big") for n in (9, 6)) + bytes([16, 2, 0, 0, 0])
    chunks = ((b"IHDR", start), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
            for kind, data in chunks
        )
    )
    assert header(path) == Header((6, 9), deep=True)
    assert (pixels(path) == (rows >> 8).transpose(2, 0, 1)).all()
    with pytest.warns(DataWarning) as told:
        stack([path, path], None)
    assert [str(w.message) for w in told] == [
        "Of pictures with 16 bits a channel the upper 8 are read, as cv2.imread does: 1 of 1,"
        f" {path} first."
    ]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_pictures_of_every_mode_are_read_as_colours(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    picture = Image.fromarray(COLOURS).convert(mode)
    picture.save(path)
    assert (pixels(path) == np.asarray(picture.convert("RGB")).transpose(2, 0, 1)).all()
    grey = mode in ("1", "L", "LA")
    assert header(path) == Header((6, 9), grey=grey)
    if grey:
        assert (pixels(path, channels=1) == np.asarray(picture.convert("L"))).all()
    else:
        assert refusal(path, channels=1) == (
            "must be a grey picture for a network of one channel, not one of colours (mode"
            f" {mode!r}); convert it to grey."
        )


def test_what_is_transparent_has_the_colours_below(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    alpha = np.zeros((6, 9, 1), np.uint8)
    alpha[2:4] = 128
    Image.fromarray(np.concatenate([COLOURS, alpha], axis=2)).save(path)
    assert (pixels(path) == COLOURS.transpose(2, 0, 1)).all()


def test_cmyk_from_a_photograph_is_not_inverted(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(path)  # cyan
    red, green, blue = pixels(path).mean(axis=(1, 2))
    assert red < 5
    assert min(green, blue) > 250


@pytest.mark.parametrize("mode", ["F", "I"])
def test_numbers_that_are_no_pixels_are_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tif"
    Image.new(mode, (9, 6)).save(path)
    assert refusal(path) == (
        f"must be an image with 8 or 16 bits per channel, not of mode {mode!r}; convert it to RGB."
    )


def test_pictures_beyond_pillows_limit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "large.png"
    Image.new("L", (80, 100)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3999)
    sentence = (
        "must have at most 7,998 pixels, the limit of Pillow, not more; scale it down or cut it"
        " into tiles."
    )
    assert refusal(path) == sentence
    with pytest.raises(DataError, match="at most 7,998 pixels"):
        header(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    assert pixels(path).shape == (3, 100, 80)
    assert not recwarn.list


def whole(suffix: str) -> bytes:
    data = io.BytesIO()
    Image.fromarray(COLOURS).save(data, suffix, exif=as_orientation(6))
    return data.getvalue()


WHOLE = {suffix: whole(suffix) for suffix in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_damaged_files_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    changed = bytearray(WHOLE[kind])
    for _ in range(data.draw(st.integers(0, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(changed[: data.draw(st.integers(0, len(changed)))])
    for read in (pixels, header):
        with suppress(DataError):
            read(path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: None, "must be an image file, but does not exist."),
        (lambda p: p.mkdir(), "must be an image that Pillow can read as RGB, not a damaged or"),
        (lambda p: p.write_bytes(b""), "must be an image that Pillow can read as RGB, not a"),
        (lambda p: p.write_text("<svg/>"), "must be an image that Pillow can read as RGB, not a"),
        (lambda p: p.write_bytes(WHOLE["JPEG"][:-9]), "must be an image that Pillow can read"),
    ],
)
def test_what_is_no_picture_is_refused(
    tmp_path: Path, make: Callable[[Path], object], words: str
) -> None:
    path = tmp_path / "a.png"
    make(path)
    assert refusal(path).startswith(words)


def test_arrays_have_channels_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    array = np.arange(4 * 6 * 9, dtype=np.uint8).reshape(4, 6, 9)
    np.save(path, array)
    assert (pixels(path, channels=4) == array).all()
    assert header(path) == Header((6, 9))
    for bad, words in (
        (array.astype(np.float32), "must be uint8 (C, H, W), not float32 with 3 dimensions"),
        (array[0], "must be uint8 (C, H, W), not uint8 with 2 dimensions (6, 9)."),
        (array[:, :0], "must be "),
        (np.array([{}]), "must be a NumPy array file, but: "),
    ):
        np.save(path, bad)
        assert refusal(path).startswith(words)
    np.save(path, array)
    path.write_bytes(path.read_bytes()[:-1])
    assert refusal(path).startswith("must be a NumPy array file, but: ")
    path.write_bytes(path.read_bytes().replace(b"(4, 6, 9)", b"(4,6,9000000000)"[:9]))
    assert refusal(path).startswith("must be a NumPy array file, but: ")
    path.unlink()
    assert refusal(path) == "must be a NumPy array file, but does not exist."


def test_other_channels_than_a_pictures_come_from_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(COLOURS).save(path)
    assert refusal(path, channels=4) == (
        "must be a .npy file of uint8 (C, H, W) for a network of 4 channels, not a picture, which"
        " has 3, or 1 if it is grey."
    )


def test_turned_pictures_of_a_stack_are_told_once(tmp_path: Path) -> None:
    files = [tmp_path / f"{n}.png" for n in range(4)]
    for n, file in enumerate(files):
        turned = n % 2 == 1
        picture = Image.fromarray(COLOURS)
        picture = picture.transpose(Image.Transpose.ROTATE_90) if turned else picture
        picture.save(file, exif=as_orientation(6 if turned else 1))
    with pytest.warns(DataWarning) as told:
        found = stack(files, None)
    assert (found == COLOURS.transpose(2, 0, 1)).all()
    assert [str(w.message) for w in told] == [
        "Pictures are turned as their EXIF orientation says, as viewers and cv2.imread do: 2 of 4,"
        f" {files[1]} first."
    ]


def test_hidden_files_and_folders_are_no_pictures(tmp_path: Path) -> None:
    for name in ("b.TIF", "a.webp", "._a.webp", ".hidden.png"):
        Image.fromarray(COLOURS).save(tmp_path / name)
    (tmp_path / "folder.png").mkdir()
    assert [file.name for file in image_files([tmp_path])] == ["a.webp", "b.TIF"]


def test_a_folder_holds_what_can_be_read_whatever_its_name(tmp_path: Path) -> None:
    for kind in ("png", "jpeg", "gif", "ppm", "tga", "jpeg2000", "ico", "webp", "tiff"):
        Image.fromarray(COLOURS).save(tmp_path / f"a.{kind}", format=kind)
    Image.fromarray(COLOURS).save(tmp_path / "camera_7", format="png")
    for name in ("a.json", "a.txt", "README"):
        (tmp_path / name).write_text('{"shapes": []}')
    found = image_files([tmp_path])
    assert len(found) == 10
    for file in tmp_path.iterdir():
        try:
            load_image(file, None)
        except DataError:
            assert file not in found
        else:
            assert file in found
    (tmp_path / "b.png").write_text("cut")  # called a picture: refused by name, not left out
    assert len(image_files([tmp_path])) == 11


def test_pictures_in_folders_of_a_folder_are_told(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "labels").mkdir()
    with pytest.raises(DataError, match=r"must hold at least one image, not 0\.$"):
        image_files([tmp_path])
    Image.fromarray(COLOURS).save(inner / "a.png")
    with pytest.raises(DataError, match=f"one image itself, not 0; pass --images {inner}.$"):
        image_files([tmp_path])
    Image.fromarray(COLOURS).save(tmp_path / "b.png")
    with pytest.warns(DataWarning, match="its own 1 images are read, not those of the folders in"):
        assert image_files([tmp_path]) == [tmp_path / "b.png"]
    found = image_files([inner, tmp_path / "b.png"])
    assert found == [inner / "a.png", tmp_path / "b.png"]


def test_training_sees_turned_pictures_with_their_boxes(tmp_path: Path) -> None:
    """The box is the white part of the picture, turned and scaled, whichever frame it is given in;
    pictures of one channel stay so."""
    stored = np.zeros((16, 32), np.uint8)
    stored[4:12, 8:24] = 255
    Image.fromarray(stored).save(tmp_path / "a.png", exif=as_orientation(6))
    path = tmp_path / "data.json"
    for (width, height), box in (((32, 16), [8, 4, 16, 8]), ((16, 32), [4, 8, 8, 16])):
        image = {"id": 0, "file_name": "a.png", "width": width, "height": height}
        annotation = {"id": 0, "image_id": 0, "category_id": 0, "bbox": box}
        document = {"images": [image], "annotations": [annotation]}
        path.write_text(json.dumps(document | {"categories": [{"id": 0, "name": "cat"}]}))
        for channels in (3, 1):
            data = CocoData(path, tmp_path)
            with pytest.warns(DataWarning, match="Pictures are turned"):
                pictures = Pictures(data, ["dog", "cat"], (16, 16), resize=True, channels=channels)
            seen, boxes, labels = pictures[0]
            assert seen.shape == (channels, 16, 16)
            assert labels.tolist() == [1]
            left, top, right, below = (int(v) for v in boxes[0])
            white = np.zeros((16, 16), bool)
            white[top:below, left:right] = True
            inside = seen[0].numpy()[:, :8]  # the rest is the margin
            assert (inside[white[:, :8]] > 200).mean() > 0.8
            assert (inside[~white[:, :8]] < 120).all()
