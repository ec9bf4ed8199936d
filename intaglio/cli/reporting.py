"""The command that draws a Program or a build as a page: report."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intaglio.cli.network import drawn_boxes
from intaglio.cli.shared import ResizeOption, app, console
from intaglio.program import Program
from intaglio.system.disk import write_text

if TYPE_CHECKING:
    from intaglio.report.page import Picture


@app.command()
def report(
    model: Annotated[Path, typer.Argument(metavar="BUILD|MODEL.intaglio")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.html")] = Path(
        "report.html"
    ),
    quantization: Annotated[
        Path | None,
        typer.Option("--quantization", metavar="FILE.json", help="Of `intaglio quantize --json`."),
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option("--image", help="Detections are drawn on it; repeatable.")
    ] = None,
    threshold: Annotated[float, typer.Option("--threshold", help="Score drawn.")] = 0.3,
    resize: ResizeOption = False,
) -> None:
    """One HTML page: network, folding, resources, queues over time, layers, detections."""
    from intaglio.report.page import page, subject

    about = subject(model, quantization)
    pictures = pictures_of(about.program, model, image or [], threshold, resize)
    write_text(output, page(about, pictures))
    console.print(f"wrote {output}")


def pictures_of(
    program: Program, model: Path, files: list[Path], threshold: float, resize: bool
) -> "list[Picture]":
    """What the simulator finds in each image file, drawn."""
    from intaglio.api import head_of, images_for
    from intaglio.report.page import Picture
    from intaglio.sim.engine import Simulator

    found: list[Picture] = []
    if not files:
        return found
    spec = head_of(program, str(model))
    simulator = Simulator(program)
    for file in files:
        maps = simulator(images_for(program, [file], resize=resize))
        codes = {name: array[0] for name, array in maps.items()}
        picture, seen = drawn_boxes(file, program, spec, codes, threshold)
        data = BytesIO()
        picture.save(data, format="PNG")
        count = int((seen.scores > threshold).sum())
        found.append(Picture(data.getvalue(), f"{file.name}: {count} found"))
    return found
