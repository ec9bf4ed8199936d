"""Commands on networks: info, run, eval, compare."""

from dataclasses import asdict
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intaglio.cli.options import (
    PROGRAM_HELP,
    AbitsOption,
    BitsOption,
    DataOption,
    FolderOutput,
    ImagesOption,
    JobsOption,
    JsonOption,
    LimitOption,
    ModelArgument,
    PicturesArgument,
    PowerOption,
    ProgramArgument,
    ResizeOption,
    SchedulerOption,
    SizeOption,
    SomeImagesOption,
    ThreadsOption,
    ThresholdOption,
    WbitsOption,
    WeightsOption,
)
from intaglio.cli.quantizing import Method, MethodOption, calibrate, open_model
from intaglio.cli.shared import (
    check_limit,
    command,
    console,
    image_sources,
    parse_size,
    progress,
    read_coco,
    show,
    waiting,
    write_json,
)
from intaglio.errors import DataError, ModelError
from intaglio.system.disk import whole_file, write_bytes
from intaglio.system.spread import spread

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from intaglio.detect.decode import Detections, HeadSpec
    from intaglio.detect.evaluate import Predict
    from intaglio.program import Program


DRAWN = 384  # pixels of a small picture's longer side, enlarged by a whole number


class EngineName(StrEnum):
    """What executes the network."""

    FLOAT = "float"
    FAKE = "fake"
    SIM = "sim"
    REFERENCE = "reference"
    RTL = "rtl"


@command()
def info(model: ProgramArgument, json_file: JsonOption = None) -> None:
    """Operations, types, accumulator widths and memory of a Program."""
    from intaglio.file import load
    from intaglio.sim.memory import planned
    from intaglio.summary import summarise

    program = load(model)
    summary = summarise(program)
    columns = ("tensor", "op", "shape", "type", "range", "acc", "MMAC", "from")
    left = [column for column in columns if column not in ("acc", "MMAC")]
    rows = (row.cells() for row in summary.rows)
    show(str(model), columns, rows, left=left, names=("tensor", "from"))
    console.print(summary.footer())
    memory = planned(program)
    console.print(memory.sentence())
    write_json(json_file, summary.to_json() | {"simulator_bytes": asdict(memory)})


@command()
def run(
    model: ProgramArgument,
    images: PicturesArgument,
    output: FolderOutput = Path("runs"),
    raw: Annotated[bool, typer.Option("--raw", help="Integer maps as .npz.")] = False,
    resize: ResizeOption = False,
    threshold: ThresholdOption = 0.3,
    threads: ThreadsOption = None,
    json_file: JsonOption = None,
) -> None:
    """Run images through the bit-accurate simulator; draw boxes, or write the raw integers."""
    from intaglio.api import head_of, images_for
    from intaglio.detect.images import batch_size
    from intaglio.detect.pictures import header, tell
    from intaglio.file import load
    from intaglio.sim.engine import Simulator

    program = load(model)
    spec = None if raw else head_of(program, str(model))
    _, height, width = program.inputs[0].shape
    twice = [p for n, p in enumerate(images) if p.stem in {q.stem for q in images[:n]}]
    if twice:
        raise DataError(f"Images must have different names, but {twice[0].stem} comes twice.")
    tell({path: header(path) for path in images})
    simulator = Simulator(program, threads=threads)
    found: list[dict[str, Any]] = []
    step = batch_size((height, width))
    for first in range(0, len(images), step):
        part = images[first : first + step]
        maps = simulator(images_for(program, part, resize=resize, quiet=True))
        for n, path in enumerate(part):
            codes = {name: array[n] for name, array in maps.items()}
            if spec is None:
                write_maps(path, codes, output)
            else:
                found.append(write_boxes(path, program, spec, codes, output, threshold))
    write_json(json_file, {"model": str(model), "images": len(images), "detections": found})


def write_maps(path: Path, codes: "dict[str, Any]", folder: Path) -> None:
    """The integers of one image's output maps, as FOLDER/NAME.npz."""
    import numpy as np

    target = folder / f"{path.stem}.npz"
    with whole_file(target) as part:
        np.savez_compressed(part, **codes)
    console.print(f"{path}: {len(codes)} integer maps in {target}")


def drawn_boxes(
    path: Path, program: "Program", spec: "HeadSpec", codes: "dict[str, NDArray[Any]]",
    threshold: float,
) -> "tuple[Image, Detections]":  # fmt: skip
    """An image file enlarged, with its boxes; and what was found, in the picture's own pixels."""
    from intaglio.detect.draw import draw
    from intaglio.detect.evaluate import decode_fitted
    from intaglio.detect.images import read
    from intaglio.sim.engine import dequantise

    channels, height, width = program.inputs[0].shape
    picture = read(path, None, channels=channels)
    own, size = (picture.shape[1], picture.shape[2]), (height, width)
    real = [dequantise(t, codes[t.name][None])[0] for t in program.outputs]
    seen = decode_fitted(spec, real, own, size)
    zoom = max(1, DRAWN // max(own))
    return draw(picture, seen, spec.classes, zoom=zoom, threshold=threshold), seen


def write_boxes(
    path: Path, program: "Program", spec: "HeadSpec", codes: "dict[str, NDArray[Any]]",
    folder: Path, threshold: float,
) -> dict[str, Any]:  # fmt: skip
    """Draw one image's boxes as FOLDER/NAME.png; what was found, in the picture's own pixels."""
    picture, seen = drawn_boxes(path, program, spec, codes, threshold)
    target = folder / f"{path.stem}.png"
    data = BytesIO()  # Pillow does not say why it could not write a file
    picture.save(data, format="PNG")
    write_bytes(target, data.getvalue())
    kept = [i for i in range(len(seen.scores)) if seen.scores[i] > threshold]
    names = [f"{spec.classes[seen.labels[i]]} {seen.scores[i]:.2f}" for i in kept]
    console.print(f"{path}: {', '.join(names) or 'nothing'} -> {target}")
    return {
        "image": str(path),
        "boxes": [[round(float(v), 2) for v in seen.boxes[i]] for i in kept],
        "labels": [spec.classes[seen.labels[i]] for i in kept],
        "scores": [round(float(seen.scores[i]), 4) for i in kept],
    }


@command("eval")
def evaluate(
    model: ModelArgument,
    data: DataOption,
    images: ImagesOption,
    engine: Annotated[EngineName | None, typer.Option("--engine", help="Executes it.")] = None,
    limit: LimitOption = None,
    size: SizeOption = None,
    weights: WeightsOption = None,
    calibration: Annotated[
        list[Path] | None,
        typer.Option("--calibration", metavar="DIR|IMAGE", help="As --images, for --engine fake."),
    ] = None,
    calibration_limit: Annotated[
        int, typer.Option("--calibration-limit", metavar="N", help="At most so many of those.")
    ] = 64,
    bits: BitsOption = 4,
    wbits: WbitsOption = None,
    abits: AbitsOption = None,
    method: MethodOption = Method.LP,
    p: PowerOption = 2.4,
    resize: ResizeOption = False,
    jobs: JobsOption = 1,
    scheduler: SchedulerOption = None,
    json_file: JsonOption = None,
) -> None:
    """mAP of a detector by pycocotools: float, fake-quantised, the hardware's integers, or RTL."""
    from intaglio.api import Engine
    from intaglio.api import evaluate as measure
    from intaglio.detect.images import listed_files
    from intaglio.program import Program

    target = open_model(model, weights)
    if engine is None:
        engine = EngineName.SIM if isinstance(target, Program) else EngineName.FLOAT
    name: Engine = engine.value
    check_limit(limit)
    if calibration and engine is not EngineName.FAKE:
        raise DataError("--calibration must go with --engine fake; other engines do not calibrate.")
    coco = read_coco(data, images)
    listed_files(coco)
    predict: Predict | None = None
    with spread(jobs, scheduler) as pool:
        if name == "fake":
            if isinstance(target, Program) or not calibration:
                raise ModelError("--engine fake must have a torch MODEL and --calibration DIR.")
            from intaglio.quant import QuantConfig

            config = QuantConfig(
                wbits=bits if wbits is None else wbits, abits=bits if abits is None else abits,
                method=method.value, p=p,
            )  # fmt: skip
            predict = calibrate(
                target, config, calibration, None, size, calibration_limit, resize
            ).fake
        if name == "rtl":
            predict = rtl_predictor(model, pool.threads)
        with progress(f"{model} ({name})") as step:
            result = measure(
                target, coco, engine=name, limit=limit, size=parse_size(size), predict=predict,
                resize=resize, pool=pool, progress=step,
            )  # fmt: skip
    console.print(
        f"{model} {name}: AP {result.ap:.4f}  AP50 {result.ap50:.4f}  AP75 {result.ap75:.4f}"
        f"  ({result.images} images, {result.seconds:.1f} s)"
    )
    write_json(
        json_file,
        {
            "ap": result.ap,
            "ap50": result.ap50,
            "ap75": result.ap75,
            "images": result.images,
            "engine": name,
            "seconds": result.seconds,
        },
    )


def rtl_predictor(model: str, threads: int | None) -> "Predict":
    """The RTL in the folder of a build, compiled; kept in its folder sim/function."""
    from intaglio.codegen.running.compile import load as load_rtl

    folder = Path(model)
    if not folder.is_dir():
        raise ModelError(
            f"--engine rtl must have a folder written by `intaglio build`, not {model}."
        )
    with waiting(f"compiling the RTL of {model}"):
        kept = folder / "sim" / "function"
        return load_rtl(folder, folder=kept, threads=threads).run_dequantised


@command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A.intaglio", help=PROGRAM_HELP)],
    b: Annotated[Path, typer.Argument(metavar="B.intaglio", help="Another.")],
    images: SomeImagesOption = None,
    limit: LimitOption = None,
    resize: ResizeOption = False,
    json_file: JsonOption = None,
) -> None:
    """First difference between two Programs: layer, channel, pixel, got, expected.

    Without images they run on random pixels.
    """
    from intaglio.api import images_for
    from intaglio.file import load
    from intaglio.sim.compare import compare_programs

    first, second = load(a), load(b)
    files = image_sources(images, limit)
    pixels = images_for(first, files, resize=resize) if files else None
    result = compare_programs(first, second, pixels)
    console.print(result.sentence())
    write_json(json_file, result.to_json())
    if not result.equal:
        raise typer.Exit(1)
