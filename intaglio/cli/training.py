"""The command that trains a quantised detector: train."""

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from intaglio.cli.options import (
    AbitsOption,
    ArithmeticOption,
    BitsOption,
    DataOption,
    DecodeOption,
    DeviceOption,
    HeadOption,
    ImagesOption,
    JsonOption,
    LastWbitsOption,
    MeanOption,
    ModelArgument,
    MultiplierBitsOption,
    OutputsOption,
    ProgramOutput,
    ResizeOption,
    SeedOption,
    SizeOption,
    StdOption,
    SumBitsOption,
    ThreadsOption,
    WbitsOption,
    WeightsOption,
)
from intaglio.cli.quantizing import losses
from intaglio.cli.results import ForceOption, model_source, settle, state_beside
from intaglio.cli.results import pictures as places_of
from intaglio.cli.shared import (
    command,
    console,
    parse_size,
    read_coco,
    reading,
    record,
    say_cut,
    say_notes,
    step_log,
    write_json,
    write_steps,
)
from intaglio.system.places import Result

CHECKED = 64  # images on which the Program is held against the trained network


class GridName(StrEnum):
    """Which integers a weight can be."""

    ODD = "odd"
    SYMMETRIC = "symmetric"


@command()
def train(
    ctx: typer.Context,
    model: ModelArgument,
    images: ImagesOption,
    data: DataOption,
    output: ProgramOutput,
    bits: BitsOption = 4,
    wbits: WbitsOption = None,
    abits: AbitsOption = None,
    last_wbits: LastWbitsOption = None,
    sum_bits: SumBitsOption = None,
    grid: Annotated[GridName, typer.Option("--grid", help="Of the weights.")] = GridName.ODD,
    standardise: Annotated[
        bool, typer.Option("--standardise", help="Weights of mean 0 and variance 1.")
    ] = False,
    epochs: Annotated[int, typer.Option("--epochs", help="Passes over the images.")] = 6,
    rate: Annotated[float, typer.Option("--rate", help="Peak learning rate.")] = 4e-3,
    batch: Annotated[int, typer.Option("--batch", help="Images of a step.")] = 32,
    distil: Annotated[
        float, typer.Option("--distil", help="Weight of following the float detector.")
    ] = 0.0,
    seed: SeedOption = 1,
    arithmetic: ArithmeticOption = "intaglio",
    multiplier_bits: MultiplierBitsOption = None,
    size: SizeOption = None,
    weights: WeightsOption = None,
    head: HeadOption = None,
    decode: DecodeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    outputs: OutputsOption = None,
    resize: ResizeOption = False,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    force: ForceOption = False,
    json_file: JsonOption = None,
) -> None:
    """Train a detector with the hardware's roundings in it (AQD) and write its integer Program.

    It starts from the float weights. A training that was stopped goes on after its last whole epoch
    when the same command is given again.
    """
    steps = step_log("comparison with the simulator")
    import numpy as np

    from intaglio.api import check_trained, trained_on
    from intaglio.file import MADE, save
    from intaglio.fixed import preset
    from intaglio.models import head_from, to_be_quantised
    from intaglio.quant import QuantConfig
    from intaglio.quant.learn.learned_weight import WeightGrid
    from intaglio.quant.train import TrainConfig

    read = [model_source(model), weights, data, head, model_source(decode or "")]
    read += places_of(images)
    settle(read, Result("-o", output, MADE), json_file=json_file, force=force)
    means = head_from(head, decode)
    config = QuantConfig(
        wbits=bits if wbits is None else wbits,
        abits=bits if abits is None else abits,
        last_wbits=last_wbits,
        sum_bits=sum_bits,
        arithmetic=preset(arithmetic, multiplier_bits),
    )
    training = TrainConfig(epochs=epochs, rate=rate, batch=batch, seed=seed, distil=distil)
    module = to_be_quantised(model, weights, reading(size, mean, std, outputs))
    say_notes(module)
    about = record(ctx, module)
    listed = read_coco(data, images)
    last = ""

    def report(line: str, number: int, total: int) -> None:
        nonlocal last
        if last and line.partition("  ")[0] != last.partition("  ")[0]:
            console.print(last)
        last = line

    done, pictures = trained_on(
        module, listed, config, training,
        WeightGrid(odd=grid is GridName.ODD, standardise=standardise), name=model,
        size=parse_size(size), resize=resize, device=device,
        state=state_beside(output, ".train.pt"), force=force, report=report, steps=steps,
        threads=threads, head=means,
    )  # fmt: skip
    console.print(last)
    save(done.program, output)
    count = min(len(pictures), CHECKED)
    with steps.step("comparison with the simulator"):
        checked = check_trained(done, np.stack([pictures[k][0].numpy() for k in range(count)]))
    console.print(checked.sentence())
    console.print(f"wrote {output}: {sum(done.program.macs().values()) / 1e6:.2f} MMAC an image")
    say_cut(done.program)
    result = {
        **about, "program": done.program.digest(), "epochs": epochs, "agreement": asdict(checked),
        "losses": losses(done.program), "steps": steps.to_json(),
    }  # fmt: skip
    write_steps(steps, output)
    write_json(json_file, result)
