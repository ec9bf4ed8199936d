"""Commands that exchange networks with other tools: export, import."""

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
    QLINEAR = "qlinear"
    QDQ = "qdq"


@app.command("export")
def export_program(
    model: ProgramArgument,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.onnx")],
    form: Annotated[
        Form,
        typer.Option("--form", help="Exact integer operators, or the runtimes' quantised ones."),
    ] = Form.INTEGER,
    check: Annotated[
        int, typer.Option("--check", help="Random images to compare with the simulator.")
    ] = 2,
    json_file: JsonOption = None,
) -> None:
    """Write a Program as ONNX, run it in onnxruntime and compare. Exit 1 on a mismatch."""
    from intaglio.exchange.graph import write
    from intaglio.exchange.integer import to_integer
    from intaglio.exchange.quantised import to_quantised
    from intaglio.exchange.runtime import compare, random_codes, run_onnx
    from intaglio.file import load

    if output.suffix != ".onnx":
        raise DataError(f"--output must end in .onnx, not {output.name!r}.")
    if check < 0:
        raise DataError(f"--check must be at least 0, not {check}.")
    program = load(model)
    made = (
        to_integer(program) if form is Form.INTEGER else to_quantised(program, qdq=form is Form.QDQ)
    )
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


@app.command("import")
def import_program(
    model: Annotated[Path, typer.Argument(metavar="FILE.onnx")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="MODEL.intaglio")],
    arithmetic: Annotated[str, typer.Option("--arithmetic", help="Preset.")] = "intaglio",
    like: Annotated[
        str | None,
        typer.Option("--like", metavar="MODEL", help="Takes its mean, std and head from this."),
    ] = None,
    mean: Annotated[
        str | None, typer.Option("--mean", metavar="R,G,B", help="Of pixel / 255.")
    ] = None,
    std: Annotated[str | None, typer.Option("--std", metavar="R,G,B")] = None,
    json_file: JsonOption = None,
) -> None:
    """Turn a quantised ONNX file (QDQ, QLinear operators, QONNX) into a Program.

    The Program reads uint8 pixels where --mean, --std or --like say how the file's float input is
    made of them, or where the file has operators before its first QuantizeLinear; else the codes
    of that QuantizeLinear.
    """
    from intaglio.exchange.importer import import_onnx
    from intaglio.file import save
    from intaglio.fixed import preset

    means, stds, meta = numbers("--mean", mean), numbers("--std", std), {}
    if like is not None:
        from intaglio.api import head_of
        from intaglio.cli.network import open_model
        from intaglio.program import Program

        source = open_model(like, None)
        meta["head"] = head_of(source, like).to_json()
        if not isinstance(source, Program):
            means = means or list(getattr(source, "image_mean", [0.0]))
            stds = stds or list(getattr(source, "image_std", [1.0]))
    program = import_onnx(model, preset(arithmetic), mean=means, std=stds, meta=meta)
    save(program, output)
    macs = sum(program.macs().values())
    console.print(f"wrote {output}: {len(program.ops)} operations, {macs / 1e6:.2f} MMAC an image")
    write_json(json_file, {"model": str(model), "operations": len(program.ops), "macs": macs})


def numbers(option: str, text: str | None) -> list[float] | None:
    """`0.5,0.4,0.3` as floats."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise DataError(f"{option} must be numbers like 0.5,0.4,0.3, not {text!r}.") from None
