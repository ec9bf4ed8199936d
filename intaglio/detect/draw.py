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


def draw(
    pixels: NDArray[np.uint8],
    found: Detections,
    classes: Sequence[str],
    *,
    zoom: int = 1,
    threshold: float = 0.3,
) -> Image.Image:
    """The image (C, H, W), enlarged `zoom` times, with every box scored above `threshold`: three
    channels in colour; of others the first, in grey."""
    shown = pixels if len(pixels) == 3 else pixels[:1].repeat(3, axis=0)
    picture = Image.fromarray(np.ascontiguousarray(shown.transpose(1, 2, 0)))
    picture = picture.resize(
        (picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST
    )
    pen = ImageDraw.Draw(picture)
    for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True):
        if score <= threshold:
            continue
        colour = COLOURS[int(label) % len(COLOURS)]
        corners = [float(v) * zoom for v in box]
        corners[2:] = np.maximum(corners[2:], corners[:2]).tolist()  # of an untrained network
        pen.rectangle(corners, outline=colour, width=max(1, zoom // 2))
        text = f"{classes[int(label)]} {score:.2f}" if score < 1 else classes[int(label)]
        where = (corners[0] + 2, max(0.0, corners[1] - 11))
        pen.rectangle(pen.textbbox(where, text), fill="black")
        pen.text(where, text, fill=colour)
    return picture


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
