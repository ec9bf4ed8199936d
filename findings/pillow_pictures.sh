#!/bin/sh
# One would have guessed: Pillow reads a channel of 16 bits alike in grey and in colour, and leaves the EXIF
# orientation of every format to `ImageOps.exif_transpose`; cv2.imread turns every format or none.
#
# Seen with Pillow 13.0.0 and opencv-python-headless 4.12.0.88:
#  - The values 0, 255, 1000, 65535 of a PNG with 16 bits, after convert("RGB"): as grey they are clipped,
#    0 255 255 255; as red, green and blue the upper byte is taken, 0 0 3 255. OpenCV: 0 0 3 255 both times.
#    So a set of 16-bit grey pictures is white through Pillow, without a word.
#  - A picture of 4 x 2 with orientation 6: `load()` of Pillow turns TIFF to 2 x 4 (and `open` says 2 x 4
#    already), but not JPEG, PNG or WebP; OpenCV turns JPEG, PNG and TIFF, but not WebP.
#    So code that turns what Pillow loaded by the orientation that it read before turns a TIFF twice.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 opencv-python-headless==4.12.0.88
"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys

import cv2
import numpy as np
import PIL
from PIL import Image

print("Pillow", PIL.__version__, "OpenCV", cv2.__version__)
VALUES = np.array([[0, 255, 1000, 65535]], np.uint16)
SIZES = {  # Pillow after open, after load, OpenCV: width and height
    "JPEG": ((4, 2), (4, 2), (2, 4)),
    "PNG": ((4, 2), (4, 2), (2, 4)),
    "TIFF": ((2, 4), (2, 4), (2, 4)),
    "WEBP": ((4, 2), (4, 2), (4, 2)),
}
same = True


def check(name, got, seen):
    global same
    same &= got == seen
    print(name, got, "" if got == seen else f"but it was {seen}")


for name, picture, seen in (
    ("grey", VALUES, [0, 255, 255, 255]),
    ("colour", np.repeat(VALUES[..., None], 3, axis=2), [0, 0, 3, 255]),
):
    _, data = cv2.imencode(".png", picture)
    file = Image.open(io.BytesIO(data.tobytes())).convert("RGB")
    check(f"16 bits, {name}, Pillow", np.asarray(file)[0, :, 0].tolist(), seen)
    read = cv2.imdecode(data, cv2.IMREAD_COLOR)[0, :, 0].tolist()
    check(f"16 bits, {name}, OpenCV", read, [0, 0, 3, 255])
for kind, seen in SIZES.items():
    exif, data = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.new("RGB", (4, 2), (9, 9, 9)).save(data, kind, exif=exif)
    file = Image.open(data)
    sizes = [file.size]
    file.load()
    pixels = cv2.imdecode(np.frombuffer(data.getvalue(), np.uint8), cv2.IMREAD_COLOR)
    check(f"orientation 6, {kind}", (*sizes, file.size, pixels.shape[1::-1]), seen)
sys.exit(not same)
PYTHON
