"""Commands that exchange networks with other tools: export, import."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intaglio.cli.options import (
    ARITHMETIC,
    CheckOption,
    ExportOutput,
    HeadOption,
    JsonOption,
    MeanOption,
    OutputsOption,
    ProgramArgument,
    ProgramOutput,
    StdOption,
)
from intaglio.cli.quantizing import losses
from intaglio.cli.results import ForceOption, model_source, settle
from intaglio.cli.shared import (
    check_checked,
    command,
    console,
    numbers,
    parse_names,
    say_cut,
    step_log,
    write_json,
)
from intaglio.errors import DataError
from intaglio.system.disk import is_stream, whole_file
from intaglio.system.places import Kind, Result

if TYPE_CHECKING:
    from torch import nn

    from intaglio.detect.networks.spec import HeadSpec
    from intaglio.exchange.compared import Agreement
    from intaglio.program import Program


class Form(StrEnum):
    """How a file says what the Program computes."""

    INTEGER = "integer"
    QLINEAR = "qlinear"
    QDQ = "qdq"
    TOSA = "tosa"
    TFLITE = "tflite"
    TFLITE_INT4 = "tflite-int4"

    @property
    def suffix(self) -> str:
        """Of the files of this form."""
        return SUFFIXES.get(self, ".onnx")


SUFFIXES = {Form.TOSA: ".tosa", Form.TFLITE: ".tflite", Form.TFLITE_INT4: ".tflite"}
BY_SUFFIX = {".onnx": Form.INTEGER, ".tosa": Form.TOSA, ".tflite": Form.TFLITE}


class LiteRt(StrEnum):
    """Kernels of LiteRT."""

    REFERENCE = "reference"
    XNNPACK = "xnnpack"


def own_onnx(path: Path) -> bool:
    """Whether intaglio wrote an ONNX file; it may be the one that a Program was imported from."""
    from intaglio.exchange.to_onnx.graph import is_own

    return is_own(path)


def is_tosa(path: Path) -> bool:
    """Whether a file is a TOSA flatbuffer, which names its kind after a word."""
    with path.open("rb") as file:
        return file.read(8)[4:] == b"TOSA"


def own_tflite(path: Path) -> bool:
    """Whether intaglio wrote a TFLite file; it may be the one that a Program was imported from."""
    from intaglio.exchange.from_tflite.magic import is_tflite
    from intaglio.exchange.to_tflite.file import AUTHOR

    return is_tflite(path) and AUTHOR.encode() in path.read_bytes()


ONNX = Kind("ONNX of intaglio's own", own_onnx)
KINDS = {".tosa": Kind("TOSA", is_tosa), ".tflite": Kind("TFLite of intaglio's own", own_tflite)}


@command("export")
def export_program(
    model: ProgramArgument,
    output: ExportOutput,
    form: Annotated[
        Form | None,
        typer.Option(
            "--form",
            help="ONNX in exact integer operators or the runtimes' quantised ones; TOSA; or TFLite,"
            " with weights of up to 4 bits in bytes or two in one. Default: by the file's ending.",
        ),
    ] = None,
    check: CheckOption = None,
    tosa_python: Annotated[
        Path | None,
        typer.Option(
            "--tosa-python",
            metavar="PYTHON",
            help="Interpreter with tosa-tools, whose reference model runs TOSA files. Default: the"
            " one of .venv-tosa beside intaglio's own environment, if there is one.",
        ),
    ] = None,
    force: ForceOption = False,
    json_file: JsonOption = None,
) -> None:
    """Write a Program as ONNX, TOSA or TFLite, run it there and compare. Exit 1 on a mismatch.

    It is compared with the simulator on 2 random images, or as many as --check says. TFLite takes
    what was quantised with --arithmetic tflite --output-bits 8.
    """
    from intaglio.file import load

    named = not is_stream(output)
    if named and output.suffix not in BY_SUFFIX:
        raise DataError(f"--output must end in .onnx, .tosa or .tflite, not {output.name!r}.")
    form = form or BY_SUFFIX.get(output.suffix, Form.INTEGER)
    if named and output.suffix != form.suffix:
        raise DataError(
            f"--output must end in {form.suffix} for --form {form.value}, not {output.name!r}."
        )
    check_checked(check, 0)
    result = Result("-o", output, KINDS.get(form.suffix, ONNX))
    settle([model], result, json_file=json_file, force=force)
    program = load(model)
    count = 2 if check is None else check
    match form:
        case Form.TOSA:
            nodes, found = export_tosa(program, output, check, tosa_python)
            where = "the TOSA reference model"
        case Form.TFLITE | Form.TFLITE_INT4:
            nodes, found = export_tflite(program, output, form, count)
            where = "LiteRT's reference kernels"
        case _:
            nodes, found = export_onnx(program, output, form, count)
            where = "onnxruntime"
    seen = found.sentence() if found else "not run" if check == 0 else not_there()
    console.print(f"wrote {output} ({form.value} form); {where}: {seen}")
    write_json(
        json_file,
        {
            "model": str(model),
            "form": form.value,
            "nodes": nodes,
            "compared": found.compared if found else 0,
            "mismatches": found.mismatches if found else None,
        },
    )
    if found and found.mismatches:
        raise typer.Exit(1)


def export_onnx(
    program: "Program", output: Path, form: Form, check: int
) -> tuple[int, "Agreement | None"]:
    """Write and compare; the number of nodes, and what was compared."""
    from intaglio.exchange.compared import compare, random_codes
    from intaglio.exchange.runtime import run_onnx
    from intaglio.exchange.to_onnx.graph import write
    from intaglio.exchange.to_onnx.integer import to_integer
    from intaglio.exchange.to_onnx.quantised import to_quantised

    made = (
        to_integer(program) if form is Form.INTEGER else to_quantised(program, qdq=form is Form.QDQ)
    )
    images = random_codes(program, check)
    found = compare(program, run_onnx(made, images), images)
    write(made, output)
    return len(made.graph.node), found


def export_tosa(
    program: "Program", output: Path, check: int | None, python: Path | None
) -> tuple[int, "Agreement | None"]:
    """Write and, where the reference model is or was asked for, compare."""
    from intaglio.exchange.compared import compare, random_codes
    from intaglio.exchange.to_tosa.run import BESIDE, ReferenceModel, run_tosa
    from intaglio.exchange.to_tosa.tosa import to_tosa

    made, found = to_tosa(program), None
    asked = check is not None or python is not None
    if check != 0 and (asked or BESIDE.exists()):
        images = random_codes(program, check or 2)
        with ReferenceModel(python or BESIDE) as reference:
            found = compare(program, run_tosa(reference, program, made, images), images)
    with whole_file(output) as part:
        part.write_bytes(made.serialised())
    return len(made.nodes), found


def export_tflite(
    program: "Program", output: Path, form: Form, check: int
) -> tuple[int, "Agreement | None"]:
    """Write and compare; the number of operators, and what was compared."""
    from intaglio.exchange.compared import compare, random_codes
    from intaglio.exchange.to_tflite.run import run_tflite
    from intaglio.exchange.to_tflite.tflite import to_tflite

    made, found = to_tflite(program, four=form is Form.TFLITE_INT4), None
    if check:
        images = random_codes(program, check)
        found = compare(program, run_tflite(program, made, images), images)
    with whole_file(output) as part:
        part.write_bytes(made.content)
    return len(made.kinds), found


def not_there() -> str:
    """Why a TOSA file was not run."""
    from intaglio.exchange.to_tosa.run import BESIDE, how_to_make

    return f"not run, as there is no {BESIDE}; {how_to_make(BESIDE)}"


@command("import")
def import_program(
    model: Annotated[
        Path, typer.Argument(metavar="FILE", help="A quantised network, .onnx or .tflite.")
    ],
    output: ProgramOutput,
    arithmetic: Annotated[str | None, ARITHMETIC] = None,
    like: Annotated[
        str | None,
        typer.Option("--like", metavar="MODEL", help="Takes its mean, std and head from this."),
    ] = None,
    head: HeadOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    outputs: OutputsOption = None,
    kernels: Annotated[
        LiteRt,
        typer.Option(
            "--kernels",
            help="Of LiteRT, whose integers a .tflite file's Program has; XNNPACK's"
            " are those of its default, on x86, for the simulator alone.",
        ),
    ] = LiteRt.REFERENCE,
    check: CheckOption = None,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Do not run the file in its owner's runtime.")
    ] = False,
    force: ForceOption = False,
    json_file: JsonOption = None,
) -> None:
    """Turn a quantised ONNX file (QDQ, QLinear operators, QONNX) or TFLite file into a Program.

    Then the file itself runs in its owner's runtime on 2 to 32 random images, or as many as
    --check says: onnxruntime (QONNX: the qonnx package), beside what --arithmetic onnxruntime
    makes of it, or LiteRT's reference kernels, at every tensor of the file. Exit 1 where these
    integers differ.

    The Program reads uint8 pixels where --mean, --std or --like say how the file's float input is
    made of them, or where the file has operators before its first QuantizeLinear; else the codes
    of that QuantizeLinear. A .tflite file's Program reads the file's own codes: pixels, less 128
    where they are int8. --arithmetic is intaglio by default, and of a .tflite file its own, tflite.
    """
    from intaglio.exchange.from_tflite.magic import is_tflite
    from intaglio.file import MADE

    read = [model, model_source(like) if like else None, head]
    settle(read, Result("-o", output, MADE), json_file=json_file, force=force)
    check_checked(check, 1, "; use --no-check for none")
    if model.is_file() and not is_tflite(model):
        check_importable(model)
    made = import_tflite if model.is_file() and is_tflite(model) else import_onnx
    compared = None if no_check else check
    ends = parse_names(outputs)
    wishes = Wishes(arithmetic, like, head, mean, std, ends, compared, not no_check, kernels)
    facts, wrong = made(model, output, wishes)
    write_json(json_file, {"model": str(model)} | facts)
    if wrong:
        raise typer.Exit(1)


def check_importable(model: Path) -> None:
    """Raises ModelError for a file that is no ONNX, with what to do with it."""
    from intaglio.floats.kinds import kind_of, not_imported

    kind = kind_of(model)
    if kind != "onnx":
        raise not_imported(model, kind)


@dataclass(frozen=True)
class Wishes:
    """What the options of `import` say; `images` to compare on, and whether to."""

    arithmetic: str | None
    like: str | None
    head: Path | None
    mean: str | None
    std: str | None
    outputs: tuple[str, ...]
    images: int | None
    compared: bool
    kernels: LiteRt

    def source(self) -> "Program | nn.Module | None":
        """The model of --like."""
        from intaglio.models import opened

        return None if self.like is None else opened(self.like)

    def spec(self, source: "Program | nn.Module | None") -> "HeadSpec | None":
        """What the outputs mean, as --head says, or else the model of --like."""
        from intaglio.models import spec_from, spec_in

        if self.head is not None:
            return spec_from(self.head)
        return None if source is None else spec_in(source, str(self.like))


def kept(spec: "HeadSpec | None") -> dict[str, object]:
    """What a Program's file says of its head."""
    return {} if spec is None else {"head": spec.to_json()}


def check_head(program: "Program", spec: "HeadSpec | None") -> None:
    """Raises ModelError where the outputs are not what --head or --like says."""
    from intaglio.detect.heads.maps import check_shapes

    if spec is not None:
        check_shapes(spec, [tensor.shape for tensor in program.outputs])


def wrote(output: Path, program: "Program") -> int:
    """Say what was written; multiply-accumulates of an image."""
    macs = sum(program.macs().values())
    console.print(f"wrote {output}: {len(program.ops)} operations, {macs / 1e6:.2f} MMAC an image")
    return macs


def import_onnx(model: Path, output: Path, wishes: Wishes) -> tuple[dict[str, object], bool]:
    """An ONNX file; facts for --json, and whether integers differ."""
    if wishes.kernels is not LiteRt.REFERENCE:
        raise DataError("--kernels must go with a .tflite file, not with an .onnx one.")
    steps = step_log()
    from intaglio.exchange import checked
    from intaglio.exchange.importer import imported
    from intaglio.file import save
    from intaglio.fixed import preset
    from intaglio.program import Program

    means, stds = numbers("--mean", wishes.mean), numbers("--std", wishes.std)
    source = wishes.source()
    spec = wishes.spec(source)
    if source is not None and not isinstance(source, Program):
        means = means or list(getattr(source, "image_mean", [0.0]))
        stds = stds or list(getattr(source, "image_std", [1.0]))
    arithmetic = wishes.arithmetic or "intaglio"
    steps.plan("import", *(("comparison",) if wishes.compared else ()))
    with steps.step("import"):
        made = imported(
            model, preset(arithmetic), mean=means, std=stds, outputs=wishes.outputs,
            meta=kept(spec), tell=steps.tell,
        )  # fmt: skip
    program, found = made.program, None
    check_head(program, spec)
    save(program, output)
    macs = wrote(output, program)
    say_cut(program)
    if made.wide:
        console.print(
            f"not quantised in the file, of 16 bits in the Program: {', '.join(made.wide)}"
        )
    if wishes.compared:
        with steps.step("comparison"):
            steps.tell("qonnx" if made.qonnx else "onnxruntime")
            found = checked.check(
                model, made, mean=means, std=stds, outputs=wishes.outputs, images=wishes.images
            )
        for line in found.sentences(arithmetic):
            console.print(line)
    facts: dict[str, object] = {
        "operations": len(program.ops),
        "macs": macs,
        "float32": made.notes,
        "wide": list(made.wide),
        "losses": losses(program),
        "check": found and found.to_json(),
    }
    return facts, found is not None and found.wrong


def import_tflite(model: Path, output: Path, wishes: Wishes) -> tuple[dict[str, object], bool]:
    """A TFLite file; facts for --json, and whether integers differ."""
    if wishes.arithmetic not in (None, "tflite"):
        raise DataError(
            f"--arithmetic must be tflite for a .tflite file, not {wishes.arithmetic}: its tables"
            " are of that arithmetic; leave the option out."
        )
    if wishes.mean is not None or wishes.std is not None:
        raise DataError("--mean and --std must go with .onnx files; a .tflite file reads codes.")
    if wishes.outputs:
        raise DataError("--outputs must go with .onnx files; a .tflite file ends by itself.")
    steps = step_log()
    from intaglio.exchange.from_tflite.checked import check
    from intaglio.exchange.from_tflite.importer import imported
    from intaglio.file import save

    spec = wishes.spec(wishes.source())
    steps.plan("import", *(("comparison",) if wishes.compared else ()))
    with steps.step("import"):
        made = imported(model, kept(spec), wishes.kernels.value)
    check_head(made.program, spec)
    save(made.program, output)
    macs = wrote(output, made.program)
    say_cut(made.program)
    found = None
    if wishes.compared:
        with steps.step("comparison"):
            steps.tell("LiteRT")
            found = check(made, images=wishes.images)
        for line in found.sentences():
            console.print(line)
    facts: dict[str, object] = {
        "operations": len(made.program.ops),
        "macs": macs,
        "cut": dict(made.cut),
        "check": found and found.to_json(),
    }
    return facts, found is not None and found.wrong
