"""The command that writes a Program's tensors for other people's benches: trace."""

from enum import StrEnum
from typing import Annotated

import typer

from intaglio.cli.options import (
    FolderOutput,
    JsonOption,
    PicturesArgument,
    ProgramArgument,
    ResizeOption,
)
from intaglio.cli.results import ForceOption, settle
from intaglio.cli.shared import command, console, progress, write_json
from intaglio.system.places import Result


class FormatName(StrEnum):
    """The files of a trace."""

    NPY = "npy"
    HEX = "hex"
    BEATS = "beats"


@command()
def trace(
    model: ProgramArgument,
    images: PicturesArgument,
    output: FolderOutput,
    format: Annotated[
        FormatName,
        typer.Option("--format", help="NumPy; $readmemh of codes; $readmemh of stream beats."),
    ] = FormatName.NPY,
    lanes: Annotated[int, typer.Option("--lanes", help="Channels of a beat.")] = 1,
    tensor: Annotated[
        list[str] | None, typer.Option("--tensor", metavar="NAME", help="Else all; repeatable.")
    ] = None,
    resize: ResizeOption = False,
    force: ForceOption = False,
    json_file: JsonOption = None,
) -> None:
    """Write every tensor of a run, accumulators too, for a bench: a folder with an index.json."""
    from intaglio.api import images_for
    from intaglio.cosim.trace import TRACE, write_trace
    from intaglio.detect.images import image_files
    from intaglio.file import load

    result = Result("-o", output, TRACE, folder=True)
    images = image_files(images)
    settle([model, *images], result, json_file=json_file, force=force)
    program = load(model)
    pixels = images_for(program, images, resize=resize)
    with progress(f"tracing {len(images)} images") as step:
        written = write_trace(
            program, pixels, output, format=format.value, lanes=lanes, tensors=tensor,
            force=force, progress=step,
        )  # fmt: skip
    count = len(written.tensors)
    console.print(f"{count} tensors of {len(images)} images in {output}; index {output}/index.json")
    write_json(json_file, dict(written.index))
