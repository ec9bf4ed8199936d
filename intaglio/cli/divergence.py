"""The command that runs a Program under other arithmetic: diverge."""

from typing import Annotated

import typer

from intaglio.cli.choices import completing
from intaglio.cli.options import (
    ArithmeticsOption,
    ImagesOption,
    JsonOption,
    LimitOption,
    ProgramArgument,
    ResizeOption,
    SomeDataOption,
)
from intaglio.cli.results import pictures, settle
from intaglio.cli.shared import check_limit, command, console, read_coco, show, step_log, write_json
from intaglio.errors import DataError


@command()
def diverge(
    model: ProgramArgument,
    images: ImagesOption,
    data: SomeDataOption = None,
    arithmetic: ArithmeticsOption = None,
    rounding: Annotated[
        list[str] | None,
        typer.Option(
            "--rounding",
            metavar="RULE",
            help="Of every right shift.",
            autocompletion=completing("--rounding"),
        ),
    ] = None,
    acc_bits: Annotated[
        list[str] | None,
        typer.Option(
            "--acc-bits",
            metavar="N[:HOW]",
            help="Accumulator of N bits that wraps (the default), or HOW: saturate, saturate-mac.",
        ),
    ] = None,
    limit: LimitOption = None,
    tensor_limit: Annotated[
        int, typer.Option("--tensor-limit", metavar="N", help="Images compared tensor by tensor.")
    ] = 16,
    resize: ResizeOption = False,
    json_file: JsonOption = None,
) -> None:
    """AP of one Program under other roundings and accumulators, and where tensors first differ.

    The Program's tables stay as they are. Without --arithmetic, --rounding and --acc-bits: every
    rounding and preset that the tables allow. AP needs --data, and is of --limit images; tensors
    are compared on --tensor-limit of them.
    """
    steps = step_log()
    from intaglio.detect.images import image_files, listed_files, spread
    from intaglio.diverge import asked_for, every_variant
    from intaglio.diverge import diverge as run
    from intaglio.file import load
    from intaglio.models import images_for

    settle([model, data, *pictures(images)], json_file=json_file)
    check_limit(tensor_limit, "--tensor-limit")
    program = load(model)
    if limit is not None and (limit < 1 or data is None):
        raise DataError(f"--limit must be at least 1 and go with --data, not {limit}.")
    refused: dict[str, str] = {}
    if arithmetic or rounding or acc_bits:
        variants = asked_for(program, arithmetic or (), rounding or (), acc_bits or ())
    else:
        variants, refused = every_variant(program)
    coco = read_coco(data, images) if data else None
    files = spread(listed_files(coco) if coco else image_files(images), tensor_limit)
    pixels = images_for(program, files, resize=resize)
    report = run(
        program, variants, pixels, data=coco, limit=limit, resize=resize, refused=refused,
        steps=steps,
    )  # fmt: skip
    columns = ("arithmetic", "AP", "AP50", "AP75", "outputs differ %", "largest", "overflows")
    names = columns[:1]
    show(None, columns, (row.cells() for row in report.rows), left=names, names=names)
    console.print(f"Tensors of {report.images} images; where they first differ:")
    for row in report.rows[1:]:
        console.print(f"  {row.sentence()}")
    for sentence in report.refused.values():
        console.print(f"Not run: {sentence}")
    write_json(json_file, {"model": str(model), **report.to_json()})
