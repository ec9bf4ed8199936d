"""The command that draws a Program or a build as a page: report."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from intaglio.cli.options import (
    JsonOption,
    LimitOption,
    PageOutput,
    ResizeOption,
    SomeImagesOption,
    ThresholdOption,
)
from intaglio.cli.results import PAGE, model_source, pictures, settle
from intaglio.cli.shared import (
    check_threshold,
    command,
    console,
    image_sources,
    made_by,
    write_json,
)
from intaglio.system.disk import write_text
from intaglio.system.places import Result


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
    from intaglio.gallery import run
    from intaglio.report.page import Picture, page, subject

    read = [model_source(model), quantization, *pictures(images)]
    settle(read, Result("-o", output, PAGE), json_file=json_file)
    check_threshold(threshold)
    about = replace(subject(model, quantization), made=made_by())
    files = image_sources(images, limit)
    seen = (
        run(about.program, files, threshold=threshold, resize=resize, name=str(model))
        if files
        else ()
    )
    drawn = [Picture(one.png, one.caption()) for one in seen]
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
