"""What a Program finds in pictures, drawn: `intaglio.run`, which a notebook shows."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from intaglio.errors import ModelError
from intaglio.models import head_of, images_for, opened, places
from intaglio.program import Program
from intaglio.system.html import snippet, tag, text_of

if TYPE_CHECKING:
    from intaglio.detect.own import Head


@dataclass(frozen=True, eq=False)
class Seen:
    """What a detector found in a picture: `boxes` (n, 4) x0 y0 x1 y1 in the picture's own pixels,
    `scores` (n,) in 0..1 descending, `labels` (n,) the names, `landmarks` (n, points, 2) if the
    head has them; and the picture with them drawn."""

    image: str
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: tuple[str, ...]
    png: bytes = field(repr=False)
    landmarks: NDArray[np.float64] | None = None

    def caption(self) -> str:
        """The picture's name and what is in it."""
        seen = [f"{n} {s:.2f}" for n, s in zip(self.labels, self.scores, strict=True)]
        return f"{self.image}: {', '.join(seen) or 'nothing'}"

    def __repr__(self) -> str:
        return f"<Seen in {self.caption()}>"

    def figure(self) -> str:
        """The picture with its caption, as HTML."""
        data = base64.b64encode(self.png).decode("ascii")
        picture = tag("img", src=f"data:image/png;base64,{data}", alt=self.caption())
        return tag("figure", picture, tag("figcaption", text_of(self.caption())))

    def _repr_html_(self) -> str:
        return snippet("Detections", self.figure())


class Gallery(tuple[Seen, ...]):
    """Pictures with what was found in each."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return snippet("Detections", *(seen.figure() for seen in self))


def run(
    model: Program | str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    threshold: float = 0.3,
    resize: bool = False,
    threads: int | None = None,
    name: str = "The Program",
    head: Head | None = None,
) -> Gallery:
    """What a Program finds in pictures, run in the simulator, drawn; in a notebook it is shown.

    model      a Program, a .intaglio file or the folder of a build.
    images     pictures, or folders of them; `resize` letterboxes other sizes.
    threshold  the least score.
    name       of the Program in refusals.
    head       what its outputs mean, as in `intaglio.quantize`; by default what it says itself.

    Raises ModelError for a Program without a head description, DataError for pictures.
    """
    from intaglio.detect.images import image_files
    from intaglio.detect.seen import seen as look
    from intaglio.sim.engine import Simulator

    program = opened(model)
    name = str(model) if isinstance(model, (str, Path)) else name
    if not isinstance(program, Program):
        raise ModelError(f"MODEL must be a .intaglio file or a build, not {name}; quantise it.")
    spec, files = head_of(program, name, head), image_files(places(images))
    simulator, found = Simulator(program, threads=threads), []
    for file in files:
        maps = simulator(images_for(program, [file], resize=resize))
        codes = {name: array[0] for name, array in maps.items()}
        looked = look(file, spec, program.outputs, codes, program.inputs[0].shape, threshold)
        data, boxes, kept = BytesIO(), looked.found, looked.kept
        looked.picture.save(data, format="PNG")
        labels = tuple(looked.name(n) for n in kept)
        points = None if boxes.landmarks is None else boxes.landmarks[kept]
        found.append(
            Seen(file.name, boxes.boxes[kept], boxes.scores[kept], labels, data.getvalue(), points)
        )
    return Gallery(found)
