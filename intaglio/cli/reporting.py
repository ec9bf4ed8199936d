"""The command that draws a Program or a build as a page: report."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intaglio.cli.network import drawn_boxes
from intaglio.cli.options import (
    JsonOption,
    LimitOption,
    PageOutput,
    ResizeOption,
    SomeImagesOption,
    ThresholdOption,
)
from intaglio.cli.results import PAGE, model_source, pictures, settle
from intaglio.cli.shared import check_threshold, command, console, image_sources, write_json
from intaglio.system.disk import write_text
from intaglio.system.places import Result

if TYPE_CHECKING:
    from intaglio.program import Program
    from intaglio.report.page import Picture


@command()
def report(
    model: Annotated[
        Path, typer.Argument(metavar="BUILD|MODEL.intaglio", help="What it is about.")
    ],
    output: PageOutput = Path("report.html"),
    quantization: Annotated[
        Path | None,
        typer.Option("--quantization", metavar="FILE.json", help="Of `intaglio quantize --json`."),
    ] = None,
    images: SomeImagesOption = None,
    limit: LimitOption = None,
    threshold: ThresholdOption = 0.3,
    resize: ResizeOption = False,
    json_file: JsonOption = None,
) -> None:
    """One HTML page: network, folding, resources, queues over time, layers, detections.

    What the network finds in the images is drawn on them.
    """
    from intaglio.report.page import page, subject

    read = [model_source(model), quantization, *pictures(images)]
    settle(read, Result("-o", output, PAGE), json_file=json_file)
    check_threshold(threshold)
    about = subject(model, quantization)
    files = image_sources(images, limit)
    drawn = pictures_of(about.program, model, files, threshold, resize)
    write_text(output, page(about, drawn))
    console.print(f"wrote {output}")
    write_json(
        json_file,
        {
            "model": str(model),
            "digest": about.program.digest(),
            "page": str(output),
            "pictures": [picture.caption for picture in drawn],
        },
    )


def pictures_of(
    program: "Program", model: Path, files: list[Path], threshold: float, resize: bool
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
