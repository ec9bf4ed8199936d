"""Boxes drawn on pictures."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from intaglio.detect.decode import Detections

COLOURS = (
    "#e6194b",
    "#3cb44b",
    "#ffe119",
    "#4363d8",
    "#f58231",
    "#b446d8",
    "#46f0f0",
    "#f032e6",
    "#bcf60c",
    "#ffd8b1",
)

LETTERS = 14  # pixels
Corners = tuple[float, float, float, float]  # x0 y0 x1 y1


def draw(
    pixels: NDArray[np.uint8],
    found: Detections,
    classes: Sequence[str],
    *,
    zoom: int = 1,
    threshold: float = 0.3,
) -> Image.Image:
    """The image (C, H, W), enlarged `zoom` times, with every box scored above `threshold` and its
    landmarks, the best on top: three channels in colour; of others the first, in grey."""
    shown = pixels if len(pixels) == 3 else pixels[:1].repeat(3, axis=0)
    picture = Image.fromarray(np.ascontiguousarray(shown.transpose(1, 2, 0)))
    picture = picture.resize(
        (picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST
    )
    pen = ImageDraw.Draw(picture)
    best = np.flatnonzero(found.scores > threshold).tolist()  # in falling order
    for n in best[::-1]:
        pen.rectangle(
            box_of(found, n, zoom), outline=colour_of(found, n), width=max(1, (zoom + 1) // 2)
        )
        mark_points(pen, found, n, zoom)
    taken: list[Corners] = []
    for n in best:
        score, label = found.scores[n], classes[int(found.labels[n])]
        x, y, _, _ = box_of(found, n, zoom)
        text = f"{label} {score:.2f}" if score < 1 else label
        write_name(pen, (x, y - LETTERS - 4), text, colour_of(found, n), picture.width, taken)
    return picture


def box_of(found: Detections, n: int, zoom: int) -> Corners:
    """Corners in the enlarged picture; of an untrained network they may be in any order."""
    x0, y0, x1, y1 = (float(v) * zoom for v in found.boxes[n])
    return x0, y0, max(x0, x1), max(y0, y1)


def mark_points(pen: ImageDraw.ImageDraw, found: Detections, n: int, zoom: int) -> None:
    """Dots at the landmarks of a box, in its class's colour."""
    if found.landmarks is None:
        return
    radius = max(2, zoom)
    for x, y in found.landmarks[n] * zoom:
        around = (float(x) - radius, float(y) - radius, float(x) + radius, float(y) + radius)
        pen.ellipse(around, fill=colour_of(found, n), outline="black")


def colour_of(found: Detections, n: int) -> str:
    """That of the box's class."""
    return COLOURS[int(found.labels[n]) % len(COLOURS)]


def write_name(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, colour: str, width: int,
    taken: list[Corners],
) -> None:  # fmt: skip
    """A box's name at its upper left corner, inside the picture and below names that are there."""
    x0, y0, x1, y1 = pen.textbbox((0, 0), text, font_size=LETTERS)
    across, down = x1 - x0 + 6, LETTERS + 4
    left, top = max(0.0, min(at[0], width - across)), max(0.0, at[1])
    while any(
        left < right and a < left + across and top < low and b < top + down
        for a, b, right, low in taken
    ):
        top += down
    taken.append((left, top, left + across, top + down))
    pen.rectangle(taken[-1], fill=colour)
    pen.text((left + 3 - x0, top + (down - y1 - y0) / 2), text, fill="black", font_size=LETTERS)


def sheet(rows: Sequence[Sequence[Image.Image]], titles: Sequence[str]) -> Image.Image:
    """Pictures of one size in rows, a title above each row."""
    width, height = rows[0][0].size
    gap, head = 6, 20
    canvas = Image.new(
        "RGB", (len(rows[0]) * (width + gap) - gap, len(rows) * (head + height)), "white"
    )
    pen = ImageDraw.Draw(canvas)
    for y, (row, title) in enumerate(zip(rows, titles, strict=True)):
        top = y * (head + height)
        pen.text((2, top + 3), title, fill="black", font_size=13)
        for x, picture in enumerate(row):
            canvas.paste(picture, (x * (width + gap), top + head))
    return canvas
