"""Commands that write a Program for other people's benches: trace, golden."""

from enum import StrEnum
from typing import Annotated

import typer

from intaglio.cli.options import (
    CheckOption,
    FolderOutput,
    JsonOption,
    PicturesArgument,
    ProgramArgument,
    ResizeOption,
)
from intaglio.cli.results import ForceOption, settle
from intaglio.cli.shared import check_checked, command, console, step_log, write_json
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
    """Write every tensor of a run, and every layer's formula and tables, for a bench: a folder.

    Accumulators are tensors too. The folder has an index.json, and below `tables` the weights, M,
    B, S and lookups as NumPy arrays and as texts for $readmemh.
    """
    steps = step_log()
    from intaglio.cosim.trace import TRACE, write_trace
    from intaglio.detect.images import image_files
    from intaglio.file import load
    from intaglio.models import images_for

    result = Result("-o", output, TRACE, folder=True)
    images = image_files(images)
    settle([model, *images], result, json_file=json_file, force=force)
    program = load(model)
    pixels = images_for(program, images, resize=resize)
    steps.plan("tensors")
    with steps.step("tensors"):
        written = write_trace(
            program, pixels, output, format=format.value, lanes=lanes, tensors=tensor,
            force=force, progress=steps.progress,
        )  # fmt: skip
    count = len(written.tensors)
    console.print(f"{count} tensors of {len(images)} images in {output}; index {output}/index.json")
    write_json(json_file, dict(written.index))


@command()
def golden(
    model: ProgramArgument,
    output: FolderOutput,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Of the network in C. Default: the file's."),
    ] = None,
    check: CheckOption = None,
    force: ForceOption = False,
    json_file: JsonOption = None,
) -> None:
    """Write a Program as a C library for DPI and VPI, run it and compare. Exit 1 on a mismatch.

    Every tensor is compared with the simulator's on 2 random images, or as many as --check says,
    if there is a C compiler.
    """
    steps = step_log()
    from intaglio.cmodel.compiled import COMPILER, compare, has_compiler
    from intaglio.cmodel.folder import GOLDEN, c_name, check_name, write_c_model
    from intaglio.exchange.compared import random_codes
    from intaglio.file import load

    check_checked(check, 0)
    name = c_name(model.stem) if name is None else name
    check_name(name)
    result = Result("-o", output, GOLDEN, folder=True)
    settle([model], result, json_file=json_file, force=force)
    program = load(model)
    compiling = bool(check or (check is None and has_compiler()))
    steps.plan("C", *(("compilation and comparison",) if compiling else ()))
    with steps.step("C"):
        made, found = write_c_model(program, output, name, force=force), None
    if compiling:
        with steps.step("compilation and comparison"):
            found = compare(program, made, random_codes(program, check or 2))
    absent = "not compiled" if check == 0 else f"not compiled, as there is no {COMPILER}"
    seen = f"compiled: {found.sentence()}" if found else absent
    console.print(f"wrote {output}: {made.name}.h and {made.name}.c; {seen}")
    write_json(
        json_file,
        {
            "model": str(model),
            "folder": str(output),
            "name": made.name,
            "files": made.manifest["files"],
            "compared": found.compared if found else 0,
            "mismatches": found.mismatches if found else None,
        },
    )
    if found and found.mismatches:
        raise typer.Exit(1)
