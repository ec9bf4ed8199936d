"""Commands that make a Program: scenes, quantize."""

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intaglio.cli.choices import completing
from intaglio.cli.options import (
    AbitsOption,
    ArithmeticOption,
    BitsOption,
    DecodeOption,
    DeviceOption,
    HeadOption,
    ImagesOption,
    JobsOption,
    JsonOption,
    LastWbitsOption,
    LimitOption,
    MeanOption,
    ModelArgument,
    MultiplierBitsOption,
    OutputsOption,
    PowerOption,
    ProgramOutput,
    ResizeOption,
    ScenesOutput,
    SchedulerOption,
    SeedOption,
    SizeOption,
    SomeDataOption,
    StdOption,
    SumBitsOption,
    ThreadsOption,
    WbitsOption,
    WeightsOption,
)
from intaglio.cli.results import ForceOption, model_source, pictures, settle, state_beside
from intaglio.cli.shared import (
    check_limit,
    command,
    console,
    parse_size,
    read_coco,
    reading,
    record,
    say_cut,
    say_notes,
    show,
    step_log,
    write_json,
    write_steps,
)
from intaglio.errors import DataError
from intaglio.system.places import Result
from intaglio.system.spread import spread

if TYPE_CHECKING:
    from torch import nn

    from intaglio.program import Program
    from intaglio.quant import QuantConfig, Quantized


class Method(StrEnum):
    """How clipping ranges are chosen."""

    DETPTQ = "detptq"
    LP = "lp"
    MSE = "mse"
    MINMAX = "minmax"
    PERCENTILE = "percentile"
    KL = "kl"


MethodOption = Annotated[Method, typer.Option("--method", help="How ranges are chosen.")]


@command()
def scenes(
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", hidden=True)] = None,
    output: ScenesOutput = None,
    count: Annotated[int, typer.Option("--count", help="Number of scenes.")] = 200,
    split: Annotated[
        str,
        typer.Option("--split", help="Whose digits.", autocompletion=completing("--split")),
    ] = "held-out",
    side: Annotated[int, typer.Option("--side", help="Of a scene, in pixels.")] = 96,
    seed: SeedOption = 3,
    json_file: JsonOption = None,
) -> None:
    """Write COCO-format detection scenes of handwritten digits: DIR/images and a JSON."""
    steps = step_log()
    from intaglio.detect.scenes import MOST, SCENES, SIDES, SPLITS, write_scenes

    output = output or folder
    if output is None:
        raise DataError("--output must be given: the folder for the scenes.")

    chosen = next((name for name in SPLITS if name == split), None)
    if chosen is None:
        raise DataError(f"--split must be one of {', '.join(SPLITS)}, not {split!r}.")
    for option, value, (least, most) in (
        ("--count", count, (1, MOST)), ("--side", side, SIDES), ("--seed", seed, (0, 2**63 - 1)),
    ):  # fmt: skip
        if not least <= value <= most:
            raise DataError(f"{option} must be {least:,} to {most:,}, not {value:,}.")
    settle([], Result("-o", output, SCENES, folder=True), json_file=json_file)
    steps.plan("scenes")
    with steps.step("scenes"):
        path = write_scenes(output, count, side, seed, chosen, progress=steps.progress)
    console.print(f"{count} scenes in {output / 'images'}, boxes in {path}")
    write_json(json_file, {"scenes": count, "images": str(output / "images"), "data": str(path)})


def calibrate(
    model: "nn.Module", config: "QuantConfig", images: Sequence[Path], data: Path | None,
    size: str | None, limit: int | None, resize: bool, **settings: Any,
) -> "Quantized":  # fmt: skip
    """`api.quantized` with what the command line takes: COCO's file, a size in words."""
    from intaglio.api import quantized

    listed = read_coco(data, images) if data else None
    return quantized(
        model, images, config, data=listed, size=parse_size(size), limit=limit, resize=resize,
        **settings,
    )  # fmt: skip


def losses(program: "Program") -> list[dict[str, Any]]:
    """Which channels' multipliers have too few bits, as JSON; a warning has said it."""
    from intaglio.channels.losses import losses_of

    return [loss.to_json() for loss in losses_of(program.meta)]


def parse_overrides(items: list[str]) -> dict[str, tuple[int, int]]:
    """`backbone.*=8x8` as {glob: (weight bits, activation bits)}."""
    found = {}
    for item in items:
        glob, _, widths = item.partition("=")
        wbits, _, abits = widths.partition("x")
        if not (glob and wbits.isdecimal() and abits.isdecimal()):
            raise DataError(f"--override must be GLOB=WxA, like 'head.*=8x8', not {item!r}.")
        found[glob] = (int(wbits), int(abits))
    return found


@command()
def quantize(
    ctx: typer.Context,
    model: ModelArgument,
    images: ImagesOption,
    output: ProgramOutput,
    data: SomeDataOption = None,
    limit: LimitOption = 64,
    size: SizeOption = None,
    weights: WeightsOption = None,
    head: HeadOption = None,
    decode: DecodeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    outputs: OutputsOption = None,
    bits: BitsOption = 4,
    wbits: WbitsOption = None,
    abits: AbitsOption = None,
    method: MethodOption = Method.LP,
    p: PowerOption = 2.4,
    percentile: Annotated[
        float, typer.Option("--percentile", help="Of --method percentile.")
    ] = 99.99,
    arithmetic: ArithmeticOption = "intaglio",
    multiplier_bits: MultiplierBitsOption = None,
    first_wbits: Annotated[int, typer.Option("--first-wbits", help="Stem's weights.")] = 8,
    last_wbits: LastWbitsOption = None,
    sum_bits: SumBitsOption = None,
    table_bits: Annotated[
        int | None,
        typer.Option("--table-bits", help="Of what tables are indexed by; 8 or --abits."),
    ] = None,
    output_bits: Annotated[int, typer.Option("--output-bits", help="Final maps, 8 to 16.")] = 16,
    per_tensor: Annotated[bool, typer.Option("--per-tensor", help="One weight scale.")] = False,
    asymmetric: Annotated[bool, typer.Option("--asymmetric", help="With zero points.")] = False,
    pot: Annotated[bool, typer.Option("--pot-scales", help="Scales are powers of two.")] = False,
    equalize: Annotated[bool, typer.Option("--equalize", help="Even out channels first.")] = False,
    equalize_tables: Annotated[
        bool,
        typer.Option("--equalize-tables", help="And at tables: a table for each channel."),
    ] = False,
    equalize_noise: Annotated[
        bool,
        typer.Option("--equalize-noise", help="By what rounding costs at the outputs."),
    ] = False,
    nearest: Annotated[bool, typer.Option("--nearest", help="Round weights alone.")] = False,
    keep_bias: Annotated[bool, typer.Option("--keep-bias", help="No bias correction.")] = False,
    override: Annotated[
        list[str] | None,
        typer.Option(
            "--override",
            metavar="GLOB=WxA",
            help="Widths of the layers of these names; repeatable.",
        ),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            "--budget",
            metavar="KIND=AVERAGE",
            help="Choose each layer's width: weight-bits=4 is bits of a weight on average, bops=16"
            " weight bits times code bits of a multiplication (of --wbits 4 --abits 4, 16).",
        ),
    ] = None,
    device: DeviceOption = "cpu",
    thorough: Annotated[bool, typer.Option("--thorough", help="No race in detptq.")] = False,
    reconstruct: Annotated[
        bool, typer.Option("--reconstruct", help="Train rounding and steps on the images.")
    ] = False,
    iterations: Annotated[
        int | None, typer.Option("--iterations", help="Of --reconstruct, on the whole network.")
    ] = None,
    block_iterations: Annotated[
        int | None,
        typer.Option("--block-iterations", help="Of --reconstruct, on each block before; 0."),
    ] = None,
    no_odol: Annotated[
        bool, typer.Option("--no-odol", help="Reconstruct by squared errors: no detector needed.")
    ] = False,
    resize: ResizeOption = False,
    jobs: JobsOption = 1,
    scheduler: SchedulerOption = None,
    threads: ThreadsOption = None,
    force: ForceOption = False,
    json_file: JsonOption = None,
) -> None:
    """Find low-bit parameters for a torch model and write its integer Program.

    It is calibrated on --limit of the images, spread evenly over them.
    """
    steps = step_log("layers measured")
    from intaglio.file import MADE, save
    from intaglio.fixed import preset
    from intaglio.models import head_from, to_be_quantised
    from intaglio.quant import Budget, QuantConfig, Reconstruction

    read = [model_source(model), weights, data, head, model_source(decode or "")]
    read += pictures(images)
    settle(read, Result("-o", output, MADE), json_file=json_file, force=force)
    means = head_from(head, decode)
    wbits, abits = bits if wbits is None else wbits, bits if abits is None else abits
    check_limit(limit)
    learned = None
    if reconstruct:
        learned = Reconstruction(odol=not no_odol)
        learned = learned if iterations is None else replace(learned, iterations=iterations)
        if block_iterations is not None:
            learned = replace(learned, block_iterations=block_iterations)
    elif no_odol or iterations is not None or block_iterations is not None:
        raise DataError(
            "--no-odol, --iterations and --block-iterations must go with --reconstruct."
        )
    config = QuantConfig(
        wbits=wbits, abits=abits, method=method.value, p=p, percentile=percentile,
        per_channel=not per_tensor, symmetric=not asymmetric, first_wbits=first_wbits,
        last_wbits=last_wbits, sum_bits=sum_bits, table_bits=table_bits, output_bits=output_bits,
        pot_scales=pot, equalize=equalize or equalize_tables or equalize_noise,
        equalize_tables=equalize_tables, equalize_noise=equalize_noise,
        compensate=not nearest, correct_bias=not keep_bias,
        overrides=parse_overrides(override or []), arithmetic=preset(arithmetic, multiplier_bits),
        thorough=thorough, reconstruct=learned,
        budgets=tuple(Budget.parse(text) for text in budget or []),
    )  # fmt: skip
    module = to_be_quantised(model, weights, reading(size, mean, std, outputs))
    say_notes(module)
    if (jobs != 1 or scheduler is not None) and method is not Method.DETPTQ:
        raise DataError("--jobs and --scheduler must go with --method detptq; others are quick.")
    state = state_beside(output, ".search.json")
    with spread(jobs, scheduler) as pool:
        done = calibrate(
            module, config, images, data, size, limit, resize, device=device, state=state,
            pool=pool, force=force, steps=steps, threads=threads, head=means,
        )  # fmt: skip
    save(done.program, output)
    widths = f"W{wbits}A{abits}" if done.mixed is None else ", ".join(budget or [])
    with steps.step("layers measured"):
        layers = done.layers
    columns = ("layer", "weights", "codes", "range", "clip %", "SQNR dB", "fake", "acc", "p (w a)")
    title, names = f"{model} {widths} {method.value}", columns[:1]
    show(title, columns, (row.cells() for row in layers), left=names, names=names)
    console.print(f"wrote {output}: {sum(done.program.macs().values()) / 1e6:.2f} MMAC an image")
    say_cut(done.program)
    result: dict[str, Any] = {
        **record(ctx, module), "program": done.program.digest(),
        "layers": [row.to_json() for row in layers],
    }  # fmt: skip
    result["losses"] = losses(done.program)
    if done.mixed is not None:
        console.print(done.mixed.sentence())
        result["mixed"] = done.mixed.to_json()
    if done.search is not None:
        console.print(done.search.sentence())
        result["search"] = done.search.to_json()
    if done.trained is not None:
        console.print(done.trained.sentence())
        result["reconstruction"] = done.trained.to_json()
    write_steps(steps, output)
    write_json(json_file, result | {"steps": steps.to_json()})
