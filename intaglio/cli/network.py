"""Commands on networks: scenes, quantize, info, run, eval, compare."""

from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from intaglio.cli.app import (
    JsonOption,
    ResizeOption,
    app,
    console,
    parse_size,
    progress,
    write_json,
)
from intaglio.disk import make_folder, whole_file
from intaglio.errors import DataError, ModelError
from intaglio.program import Program
from intaglio.spread import HERE, Pool, spread

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import nn

    from intaglio.detect.decode import Detections, HeadSpec
    from intaglio.detect.evaluate import Predict
    from intaglio.quant import QuantConfig, Quantized


DRAWN = 384  # pixels of a small picture's longer side, enlarged by a whole number


class Method(StrEnum):
    """How clipping ranges are chosen."""

    DETPTQ = "detptq"
    LP = "lp"
    MSE = "mse"
    MINMAX = "minmax"
    PERCENTILE = "percentile"
    KL = "kl"


class EngineName(StrEnum):
    """What executes the network."""

    FLOAT = "float"
    FAKE = "fake"
    SIM = "sim"
    REFERENCE = "reference"
    RTL = "rtl"


MODEL_HELP = "Bundled or torchvision's name, file.intaglio, BUILD folder, or module:factory."
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)]
ProgramArgument = Annotated[Path, typer.Argument(metavar="MODEL.intaglio")]
SizeOption = Annotated[str | None, typer.Option("--size", metavar="HxW", help="Input size.")]
WeightsOption = Annotated[
    Path | None, typer.Option("--weights", help="State dict, .pth or .safetensors.")
]
WbitsOption = Annotated[int, typer.Option("--wbits", help="Bits of the weights, 2 to 8.")]
AbitsOption = Annotated[int, typer.Option("--abits", help="Bits of the activations, 2 to 16.")]
MethodOption = Annotated[Method, typer.Option("--method", help="How ranges are chosen.")]
PowerOption = Annotated[float, typer.Option("--p", help="Of --method lp; detptq's start.")]
DeviceOption = Annotated[str, typer.Option("--device", help="Torch's, of a detptq search.")]
CountOption = Annotated[int, typer.Option("--count", help="Calibration images used.")]
ThreadsOption = Annotated[int | None, typer.Option("--threads", help="Simulator threads.")]
JobsOption = Annotated[int, typer.Option("--jobs", help="Processes to spread the work over.")]
SchedulerOption = Annotated[
    str | None,
    typer.Option("--scheduler", metavar="ADDRESS", help="Of a Dask cluster to spread it over."),
]


@app.command()
def scenes(
    folder: Annotated[Path, typer.Argument(metavar="DIR")],
    count: Annotated[int, typer.Option("--count", help="Number of scenes.")] = 200,
    split: Annotated[str, typer.Option("--split", help="train or held-out digits.")] = "held-out",
    size: Annotated[int, typer.Option("--size", help="Side in pixels.")] = 96,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same scenes.")] = 3,
    json_file: JsonOption = None,
) -> None:
    """Write COCO-format detection scenes of handwritten digits: DIR/images and a JSON."""
    from intaglio.detect.scenes import write_scenes

    known: dict[str, Literal["train", "held-out"]] = {"train": "train", "held-out": "held-out"}
    if split not in known:
        raise DataError(f"--split must be train or held-out, not {split!r}.")
    if count < 1 or size < 32 or seed < 0:
        raise DataError(
            f"--count must be at least 1, --size 32 and --seed 0, not {count}, {size}, {seed}."
        )
    make_folder(folder)
    path = write_scenes(folder, count, size, seed, known[split])
    console.print(f"{count} scenes in {folder / 'images'}, boxes in {path}")
    write_json(json_file, {"scenes": count, "images": str(folder / "images"), "data": str(path)})


def open_model(reference: str, weights: Path | None) -> "Program | nn.Module":
    """A `.intaglio` file, that in the folder of a build, or a torch model."""
    if Path(reference).is_dir():
        reference = f"{reference}/program.intaglio"  # of a build
    if reference.endswith(".intaglio"):
        from intaglio.file import load

        if weights is not None:
            raise ModelError("--weights must go with a torch model, not with a .intaglio file.")
        return load(reference)
    from intaglio.detect.resolve import resolve

    return resolve(reference, weights)


def calibrate(
    model: "nn.Module", config: "QuantConfig", images: Path, data: Path | None,
    size: str | None, count: int, resize: bool, device: str = "cpu",
    state: Path | None = None, pool: Pool = HERE,
) -> "Quantized":  # fmt: skip
    """Quantise `model` on `count` images of a folder; `state` is where a search resumes from."""
    from intaglio.api import input_size
    from intaglio.detect.coco import CocoData
    from intaglio.detect.images import image_files, spread, stack
    from intaglio.quant import quantize

    files = spread(image_files(images, CocoData(data, images) if data else None), count)
    shape = parse_size(size) or input_size(model)
    if resize and shape is None:
        raise DataError("--resize must come with --size HxW for a model without input_size.")
    pixels = stack(files, shape, resize=resize)
    with progress(f"quantising on {len(files)} images") as step:
        return quantize(model, pixels, config, device=device, state=state, pool=pool, progress=step)


def parse_overrides(items: list[str]) -> dict[str, tuple[int, int]]:
    """`backbone.*=8x8` as {glob: (weight bits, activation bits)}."""
    found = {}
    for item in items:
        glob, _, widths = item.partition("=")
        wbits, _, abits = widths.partition("x")
        if not (glob and wbits.isdigit() and abits.isdigit()):
            raise DataError(f"--override must be GLOB=WxA, like 'head.*=8x8', not {item!r}.")
        found[glob] = (int(wbits), int(abits))
    return found


@app.command()
def quantize(
    model: ModelArgument,
    images: Annotated[Path, typer.Option("--images", help="Folder of calibration images.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="MODEL.intaglio")],
    data: Annotated[Path | None, typer.Option("--data", help="COCO JSON naming them.")] = None,
    size: SizeOption = None,
    weights: WeightsOption = None,
    wbits: WbitsOption = 4,
    abits: AbitsOption = 4,
    method: MethodOption = Method.LP,
    p: PowerOption = 2.4,
    percentile: Annotated[float, typer.Option("--percentile")] = 99.99,
    arithmetic: Annotated[str, typer.Option("--arithmetic", help="Preset.")] = "intaglio",
    count: CountOption = 64,
    first_wbits: Annotated[int, typer.Option("--first-wbits", help="Stem's weights.")] = 8,
    last_wbits: Annotated[int | None, typer.Option("--last-wbits", help="Predictors.")] = None,
    output_bits: Annotated[int, typer.Option("--output-bits", help="Final maps, 8 to 16.")] = 16,
    per_tensor: Annotated[bool, typer.Option("--per-tensor", help="One weight scale.")] = False,
    asymmetric: Annotated[bool, typer.Option("--asymmetric", help="With zero points.")] = False,
    pot: Annotated[bool, typer.Option("--pot-scales", help="Scales are powers of two.")] = False,
    equalize: Annotated[bool, typer.Option("--equalize", help="Even out channels first.")] = False,
    nearest: Annotated[bool, typer.Option("--nearest", help="Round weights alone.")] = False,
    keep_bias: Annotated[bool, typer.Option("--keep-bias", help="No bias correction.")] = False,
    override: Annotated[list[str] | None, typer.Option("--override", metavar="GLOB=WxA")] = None,
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
    no_odol: Annotated[
        bool, typer.Option("--no-odol", help="Reconstruct by squared errors: no detector needed.")
    ] = False,
    resize: ResizeOption = False,
    jobs: JobsOption = 1,
    scheduler: SchedulerOption = None,
    json_file: JsonOption = None,
) -> None:
    """Find low-bit parameters for a torch model and write its integer Program."""
    from intaglio.file import save
    from intaglio.fixed import preset
    from intaglio.quant import Budget, QuantConfig, Reconstruction

    learned = None
    if reconstruct:
        learned = Reconstruction(odol=not no_odol)
        learned = learned if iterations is None else replace(learned, iterations=iterations)
    elif no_odol or iterations is not None:
        raise DataError("--no-odol and --iterations must go with --reconstruct.")
    config = QuantConfig(
        wbits=wbits, abits=abits, method=method.value, p=p, percentile=percentile,
        per_channel=not per_tensor, symmetric=not asymmetric, first_wbits=first_wbits,
        last_wbits=last_wbits, output_bits=output_bits, pot_scales=pot,
        equalize=equalize, compensate=not nearest, correct_bias=not keep_bias,
        overrides=parse_overrides(override or []), arithmetic=preset(arithmetic),
        thorough=thorough, reconstruct=learned,
        budgets=tuple(Budget.parse(text) for text in budget or []),
    )  # fmt: skip
    module = open_model(model, weights)
    if isinstance(module, Program):
        raise ModelError(f"MODEL must be a torch model, not {model}, which is quantised already.")
    if (jobs != 1 or scheduler is not None) and method is not Method.DETPTQ:
        raise DataError("--jobs and --scheduler must go with --method detptq; others are quick.")
    state = output.with_name(f"{output.name}.search.json")
    with spread(jobs, scheduler) as pool:
        done = calibrate(module, config, images, data, size, count, resize, device, state, pool)
    save(done.program, output)
    widths = f"W{wbits}A{abits}" if done.mixed is None else ", ".join(budget or [])
    table = Table(title=f"{model} {widths} {method.value}")
    for column in ("layer", "weights", "codes", "range", "clip %", "SQNR dB", "acc", "p (w a)"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for row in done.layers:
        table.add_row(*row.cells())
    console.print(table)
    console.print(f"wrote {output}: {sum(done.program.macs().values()) / 1e6:.2f} MMAC an image")
    record: dict[str, Any] = {"model": model, "layers": [row.to_json() for row in done.layers]}
    if done.mixed is not None:
        console.print(done.mixed.sentence())
        record["mixed"] = done.mixed.to_json()
    if done.search is not None:
        console.print(done.search.sentence())
        record["search"] = done.search.to_json()
    if done.trained is not None:
        console.print(done.trained.sentence())
        record["reconstruction"] = done.trained.to_json()
    write_json(json_file, record)


@app.command()
def info(model: ProgramArgument, json_file: JsonOption = None) -> None:
    """Operations, types, accumulator widths and memory of a Program."""
    from intaglio.file import load
    from intaglio.sim.memory import planned
    from intaglio.summary import summarise

    program = load(model)
    summary = summarise(program)
    table = Table(title=str(model))
    for column in ("tensor", "op", "shape", "type", "range", "acc", "MMAC", "from"):
        table.add_column(column, justify="right" if column in ("acc", "MMAC") else "left")
    for row in summary.rows:
        table.add_row(*row.cells())
    console.print(table)
    console.print(summary.footer())
    memory = planned(program)
    console.print(memory.sentence())
    write_json(json_file, summary.to_json() | {"simulator_bytes": asdict(memory)})


@app.command()
def run(
    model: ProgramArgument,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR")] = Path("runs"),
    raw: Annotated[bool, typer.Option("--raw", help="Integer maps as .npz.")] = False,
    resize: ResizeOption = False,
    threshold: Annotated[float, typer.Option("--threshold", help="Score drawn.")] = 0.3,
    threads: ThreadsOption = None,
    json_file: JsonOption = None,
) -> None:
    """Run images through the bit-accurate simulator; draw boxes, or write the raw integers."""
    from intaglio.api import head_of
    from intaglio.detect.images import batch_size, stack
    from intaglio.file import load
    from intaglio.sim.engine import Simulator

    program = load(model)
    spec = None if raw else head_of(program, str(model))
    _, height, width = program.inputs[0].shape
    twice = [p for n, p in enumerate(images) if p.stem in {q.stem for q in images[:n]}]
    if twice:
        raise DataError(f"Images must have different names, but {twice[0].stem} comes twice.")
    simulator = Simulator(program, threads=threads)
    found: list[dict[str, Any]] = []
    step = batch_size((height, width))
    for first in range(0, len(images), step):
        part = images[first : first + step]
        maps = simulator(stack(part, (height, width), resize=resize))
        make_folder(output)
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
    path: Path, program: Program, spec: "HeadSpec", codes: "dict[str, NDArray[Any]]",
    threshold: float,
) -> "tuple[Image, Detections]":  # fmt: skip
    """An image file enlarged, with its boxes; and what was found, in the picture's own pixels."""
    from intaglio.detect.draw import draw
    from intaglio.detect.evaluate import decode_fitted
    from intaglio.detect.images import read
    from intaglio.sim.engine import dequantise

    picture = read(path, None)
    own, size = ((shape[1], shape[2]) for shape in (picture.shape, program.inputs[0].shape))
    real = [dequantise(t, codes[t.name][None])[0] for t in program.outputs]
    seen = decode_fitted(spec, real, own, size)
    zoom = max(1, DRAWN // max(own))
    return draw(picture, seen, spec.classes, zoom=zoom, threshold=threshold), seen


def write_boxes(
    path: Path, program: Program, spec: "HeadSpec", codes: "dict[str, NDArray[Any]]",
    folder: Path, threshold: float,
) -> dict[str, Any]:  # fmt: skip
    """Draw one image's boxes as FOLDER/NAME.png; what was found, in the picture's own pixels."""
    picture, seen = drawn_boxes(path, program, spec, codes, threshold)
    target = folder / f"{path.stem}.png"
    with whole_file(target) as part:
        picture.save(part)
    kept = [i for i in range(len(seen.scores)) if seen.scores[i] > threshold]
    names = [f"{spec.classes[seen.labels[i]]} {seen.scores[i]:.2f}" for i in kept]
    console.print(f"{path}: {', '.join(names) or 'nothing'} -> {target}")
    return {
        "image": str(path),
        "boxes": [[round(float(v), 2) for v in seen.boxes[i]] for i in kept],
        "labels": [spec.classes[seen.labels[i]] for i in kept],
        "scores": [round(float(seen.scores[i]), 4) for i in kept],
    }


@app.command("eval")
def evaluate(
    model: ModelArgument,
    data: Annotated[Path, typer.Option("--data", help="COCO JSON.")],
    images: Annotated[Path, typer.Option("--images", help="Folder of its images.")],
    engine: Annotated[EngineName | None, typer.Option("--engine", help="Executes it.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="First images only.")] = None,
    size: SizeOption = None,
    weights: WeightsOption = None,
    calibration: Annotated[Path | None, typer.Option("--calibration", help="For fake.")] = None,
    wbits: WbitsOption = 4,
    abits: AbitsOption = 4,
    method: MethodOption = Method.LP,
    p: PowerOption = 2.4,
    count: CountOption = 64,
    resize: ResizeOption = False,
    jobs: JobsOption = 1,
    scheduler: SchedulerOption = None,
    json_file: JsonOption = None,
) -> None:
    """mAP of a detector by pycocotools: float, fake-quantised, the hardware's integers, or RTL."""
    from intaglio.api import Engine
    from intaglio.api import evaluate as measure
    from intaglio.detect.coco import CocoData
    from intaglio.detect.images import image_files

    target = open_model(model, weights)
    if engine is None:
        engine = EngineName.SIM if isinstance(target, Program) else EngineName.FLOAT
    name: Engine = engine.value
    if limit is not None and limit < 1:
        raise DataError(f"--limit must be at least 1, not {limit}.")
    if calibration is not None and engine is not EngineName.FAKE:
        raise DataError("--calibration must go with --engine fake; other engines do not calibrate.")
    coco = CocoData(data, images)
    image_files(images, coco)
    predict: Predict | None = None
    with spread(jobs, scheduler) as pool:
        if name == "fake":
            if isinstance(target, Program) or calibration is None:
                raise ModelError("--engine fake must have a torch MODEL and --calibration DIR.")
            from intaglio.quant import QuantConfig

            config = QuantConfig(wbits=wbits, abits=abits, method=method.value, p=p)
            predict = calibrate(target, config, calibration, None, size, count, resize).fake
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
    from intaglio.codegen.compile import load as load_rtl

    folder = Path(model)
    if not folder.is_dir():
        raise ModelError(
            f"--engine rtl must have a folder written by `intaglio build`, not {model}."
        )
    with console.status(f"compiling the RTL of {model}"):
        kept = folder / "sim" / "function"
        return load_rtl(folder, folder=kept, threads=threads).run_dequantised


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A.intaglio")],
    b: Annotated[Path, typer.Argument(metavar="B.intaglio")],
    image: Annotated[list[Path] | None, typer.Option("--image", help="Else random pixels.")] = None,
    json_file: JsonOption = None,
) -> None:
    """First difference between two Programs: layer, channel, pixel, got, expected."""
    from intaglio.api import input_size
    from intaglio.file import load
    from intaglio.sim.compare import compare_programs

    first, second = load(a), load(b)
    pixels = None
    if image:
        from intaglio.detect.images import stack

        pixels = stack(image, input_size(first))
    result = compare_programs(first, second, pixels)
    console.print(result.sentence())
    write_json(json_file, result.to_json())
    if not result.equal:
        raise typer.Exit(1)
