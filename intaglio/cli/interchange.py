"""Commands that exchange networks with other tools: export."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from intaglio.cli.app import JsonOption, app, console, write_json
from intaglio.cli.network import ProgramArgument
from intaglio.errors import DataError


class Form(StrEnum):
    """How an ONNX file says what the Program computes."""

    INTEGER = "integer"


@app.command("export")
def export_program(
    model: ProgramArgument,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.onnx")],
    form: Annotated[
        Form, typer.Option("--form", help="Of ONNX: integer operators alone.")
    ] = Form.INTEGER,
    check: Annotated[
        int, typer.Option("--check", help="Random images to compare with the simulator.")
    ] = 2,
    json_file: JsonOption = None,
) -> None:
    """Write a Program as ONNX, run it in onnxruntime and compare. Exit 1 on a mismatch."""
    from intaglio.exchange.graph import write
    from intaglio.exchange.integer import to_integer
    from intaglio.exchange.runtime import compare, random_codes, run_onnx
    from intaglio.file import load

    if output.suffix != ".onnx":
        raise DataError(f"--output must end in .onnx, not {output.name!r}.")
    if check < 0:
        raise DataError(f"--check must be at least 0, not {check}.")
    program = load(model)
    made = to_integer(program)
    images = random_codes(program, check)
    found = compare(program, run_onnx(made, images), images)
    write(made, output)
    console.print(f"wrote {output} ({form.value} form); onnxruntime: {found.sentence()}")
    write_json(
        json_file,
        {
            "model": str(model),
            "form": form.value,
            "nodes": len(made.graph.node),
            "compared": found.compared,
            "mismatches": found.mismatches,
        },
    )
    if found.mismatches:
        raise typer.Exit(1)
