"""Commands on networks: info, run, eval, compare."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zipfile import ZIP_DEFLATED, ZipFile

import typer

from intaglio.cli.options import (
    PROGRAM_HELP,
    AbitsOption,
    BitsOption,
    DataOption,
    DecodeOption,
    FolderOutput,
    HeadOption,
    ImagesOption,
    JobsOption,
    JsonOption,
    LimitOption,
    MeanOption,
    ModelArgument,
    OutputsOption,
    PicturesArgument,
    PowerOption,
    ProgramArgument,
    ResizeOption,
    SchedulerOption,
    SizeOption,
    SomeImagesOption,
    StdOption,
    ThreadsOption,
    ThresholdOption,
    WbitsOption,
    WeightsOption,
)
from intaglio.cli.quantizing import Method, MethodOption, calibrate
from intaglio.cli.results import begins, model_source, pictures, settle
from intaglio.cli.shared import (
    check_limit,
    check_threshold,
    command,
    console,
    image_sources,
    keep_record,
    parse_size,
    prepare_tables,
    read_coco,
    reading,
    record,
    say_cut,
    say_end,
    say_notes,
    show,
    step_log,
    write_json,
)
from intaglio.errors import DataError, ModelError
from intaglio.system.disk import whole_file, write_bytes, write_text
from intaglio.system.places import Kind, Result
from intaglio.system.spread import spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from intaglio.detect.evaluate import Predict
    from intaglio.detect.own import Head
    from intaglio.program import Program


MAPS = ".maps.npz"  # as `detect.seen.BOXES`, an ending that no picture of a user's has
ANY = Kind("a file")
BOXES_FOUND = Kind("COCO's results", begins(b"["))


class EngineName(StrEnum):
    """What executes the network."""

    FLOAT = "float"
    FAKE = "fake"
    SIM = "sim"
    REFERENCE = "reference"
    RTL = "rtl"


@command()
def info(
    model: ProgramArgument,
    size: SizeOption = None,
    outputs: OutputsOption = None,
    json_file: JsonOption = None,
) -> None:
    """Operations, types, accumulator widths and memory of a Program.

    Of a float .onnx or .pt2 file its layers, their names for --outputs, and what is cut off.
    """
    from intaglio.file import load
    from intaglio.sim.memory import planned
    from intaglio.summary import summarise

    settle([model], json_file=json_file)
    if model.suffix.lower() in (".onnx", ".pt2"):
        write_json(json_file, float_info(model, size, outputs))
        return
    if size is not None or outputs is not None:
        raise DataError("--size and --outputs must go with a float network; leave them out.")
    program = load(model)
    summary = summarise(program)
    columns = ("tensor", "op", "shape", "type", "range", "acc", "MMAC", "from")
    left = [column for column in columns if column not in ("acc", "MMAC")]
    rows = (row.cells() for row in summary.rows)
    show(str(model), columns, rows, left=left, names=("tensor", "from"))
    console.print(summary.footer())
    memory = planned(program)
    console.print(memory.sentence())
    say_cut(program)
    about = {"simulator_bytes": asdict(memory), "cut": list(program.meta.get("cut", ()))}
    write_json(json_file, summary.to_json() | about)


def float_info(model: Path, size: str | None, outputs: str | None) -> dict[str, Any]:
    """Print the layers of a float network in a file; facts for --json."""
    steps = step_log()
    from intaglio.floats.opening import shape_of
    from intaglio.models import to_be_quantised
    from intaglio.quant.capture.export import capture
    from intaglio.quant.capture.passes import simplify

    steps.plan("reading", "capture")
    with steps.step("reading"):
        network = to_be_quantised(str(model), None, reading(size, None, None, outputs))
    say_notes(network)
    shape = shape_of(network, parse_size(size), model)
    with steps.step("capture"):
        graph = simplify(capture(network, shape, steps.tell))
    macs = {node.output: graph.macs(node) for node in graph.nodes}
    rows = [
        (node.output, type(node).__name__, "x".join(map(str, node.shape)),
         f"{macs[node.output] / 1e6:.2f}" if macs[node.output] else "", node.origin)
        for node in graph.nodes
    ]  # fmt: skip
    columns = ("tensor", "op", "shape", "MMAC", "from")
    left = [column for column in columns if column != "MMAC"]
    show(str(model), columns, rows, left=left, names=("tensor", "from"))
    weights, total = sum(w.size for w in graph.weights.values()), sum(macs.values())
    console.print(f"{len(rows)} layers, {total / 1e6:.2f} MMAC an image, {weights:,} weights")
    say_end(graph.cut, graph.outputs)
    return {
        "model": str(model), "shape": list(shape), "macs": total, "weights": weights,
        "outputs": dict(graph.outputs), "cut": list(graph.cut),
    }  # fmt: skip


@command()
def run(
    model: ProgramArgument,
    images: PicturesArgument,
    output: FolderOutput = Path("runs"),
    raw: Annotated[bool, typer.Option("--raw", help="Integer maps as .npz.")] = False,
    resize: ResizeOption = False,
    threshold: ThresholdOption = 0.3,
    head: HeadOption = None,
    decode: DecodeOption = None,
    threads: ThreadsOption = None,
    json_file: JsonOption = None,
) -> None:
    """Run images through the bit-accurate simulator: DIR/NAME.boxes.png, or --raw integers in
    DIR/NAME.maps.npz, those of an imported file's own last softmax among them."""
    steps = step_log()
    from intaglio.detect.images import batch_size, image_files
    from intaglio.detect.pictures import header, tell
    from intaglio.detect.seen import BOXES, check_names
    from intaglio.file import load
    from intaglio.host import finished
    from intaglio.models import head_from, head_of, images_for
    from intaglio.sim.engine import Simulator

    images = image_files(images)
    check_names(images)
    targets = {path: output / f"{path.stem}{MAPS if raw else BOXES}" for path in images}
    settle(
        [model, head, model_source(decode or ""), *images],
        *(Result("-o", target, ANY) for target in targets.values()),
        json_file=json_file,
    )  # fmt: skip
    check_threshold(threshold)
    program = load(model)
    given = head_from(head, decode)
    if raw and given is not None:
        raise ModelError("--raw must go without --head and --decode: it makes no boxes.")
    spec = None if raw else head_of(program, str(model), given)
    _, height, width = program.inputs[0].shape
    tell({path: header(path) for path in images})
    simulator = Simulator(program, threads=threads)
    found: list[dict[str, Any]] = []
    step = batch_size((height, width))
    steps.plan("images")
    with steps.step("images"):
        for first in range(0, len(images), step):
            steps.progress(first, len(images))
            part = images[first : first + step]
            maps = simulator(images_for(program, part, resize=resize, quiet=True))
            if raw:
                maps = finished(program, maps)
            for n, path in enumerate(part):
                codes = {name: array[n] for name, array in maps.items()}
                if spec is None:
                    write_maps(path, codes, targets[path])
                else:
                    found.append(write_boxes(path, program, spec, codes, targets[path], threshold))
    write_json(json_file, {"model": str(model), "images": len(images), "detections": found})


def write_maps(path: Path, codes: "dict[str, Any]", target: Path) -> None:
    """The integers of one image's output maps as an .npz file."""
    from numpy.lib.format import write_array

    # As numpy.savez_compressed, which has keywords of its own that a map may be called.
    with whole_file(target) as part, ZipFile(part, "w", ZIP_DEFLATED) as archive:
        for name, array in codes.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                write_array(file, array, allow_pickle=False)
    console.print(f"{path}: {len(codes)} integer maps in {target}")


def write_boxes(
    path: Path, program: "Program", spec: "Head", codes: "dict[str, NDArray[Any]]",
    target: Path, threshold: float,
) -> dict[str, Any]:  # fmt: skip
    """Draw one image's boxes; what was found, in the picture's own pixels."""
    from intaglio.detect.seen import seen

    shape = program.inputs[0].shape
    found = seen(path, spec, program.outputs, codes, shape, threshold)
    data = BytesIO()  # Pillow does not say why it could not write a file
    found.picture.save(data, format="PNG")
    write_bytes(target, data.getvalue())
    console.print(f"{path}: {found.words()} -> {target}")
    return found.to_json()


@command("eval")
def evaluate(
    ctx: typer.Context,
    model: ModelArgument,
    data: DataOption,
    images: ImagesOption,
    engine: Annotated[EngineName | None, typer.Option("--engine", help="Executes it.")] = None,
    limit: LimitOption = None,
    size: SizeOption = None,
    weights: WeightsOption = None,
    head: HeadOption = None,
    decode: DecodeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    outputs: OutputsOption = None,
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
    threads: ThreadsOption = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions", metavar="FILE.json", help="Write the boxes found, as COCO's results."
        ),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """mAP of a detector by pycocotools: float, fake-quantised, the hardware's integers, or RTL.

    All of COCO's figures, and AP of every category by itself.
    """
    steps = step_log()
    from intaglio.api import PICTURES, Engine, rtl_predictor
    from intaglio.api import evaluate as measure
    from intaglio.detect.evaluate import STEPS
    from intaglio.detect.images import listed_files
    from intaglio.models import head_from, head_of, opened
    from intaglio.program import Program

    read = [model_source(model), data, weights, head, model_source(decode or "")]
    read += [*pictures(images), *pictures(calibration)]
    boxes = [Result("--predictions", predictions, BOXES_FOUND)] if predictions else []
    settle(read, *boxes, json_file=json_file)
    target = opened(model, weights, reading(size, mean, std, outputs))
    say_notes(target)
    means = head_of(target, "The model", head_from(head, decode))
    if engine is None:
        engine = EngineName.SIM if isinstance(target, Program) else EngineName.FLOAT
    name: Engine = engine.value
    check_limit(limit)
    check_limit(calibration_limit, "--calibration-limit")
    if calibration and engine is not EngineName.FAKE:
        raise DataError("--calibration must go with --engine fake; other engines do not calibrate.")
    coco = read_coco(data, images)
    listed_files(coco)
    predict: Predict | None = None
    texts: list[str] = []

    def take(rows: Sequence[Mapping[str, Any]]) -> None:
        """Written in JSON while other processes find more."""
        if predictions is not None and rows:
            texts.append(json.dumps(rows)[1:-1])
        prepare_tables()

    with spread(jobs, scheduler) as pool:
        if name == "fake":
            if isinstance(target, Program) or not calibration:
                raise ModelError("--engine fake must have a torch MODEL and --calibration DIR.")
            from intaglio.quant import QuantConfig
            from intaglio.quant.pipeline import planned

            config = QuantConfig(
                wbits=bits if wbits is None else wbits, abits=bits if abits is None else abits,
                method=method.value, p=p,
            )  # fmt: skip
            steps.plan(PICTURES, *planned(config), *STEPS)
            predict = calibrate(
                target,
                config,
                calibration,
                None,
                size,
                calibration_limit,
                resize,
                steps=steps,
                threads=threads,
            ).fake
        if name == "rtl":
            steps.plan("compilation", *STEPS)
            with steps.step("compilation"):
                predict = rtl_predictor(model, threads or pool.threads, steps.tell)
        result = measure(
            target, coco, engine=name, limit=limit, size=parse_size(size), predict=predict,
            resize=resize, pool=pool, steps=steps, threads=threads, head=means, take=take,
        )  # fmt: skip
    figures = {k: "-" if v is None else f"{v:.4f}" for k, v in result.scores.figures.items()}
    seen = f"{result.images:,} images, {result.seconds:.1f} s"
    console.print(f"{model} {name}: AP {result.ap:.4f} ({seen})")
    show(None, list(figures), [list(figures.values())], left=(), names=())
    columns = ("category", "boxes", "AP")
    rows = [(c.name, f"{c.boxes:,}", "-" if c.ap is None else f"{c.ap:.4f}") for c in
            result.scores.classes]  # fmt: skip
    show(None, columns, rows, left=columns[:1], names=columns[:1])
    if predictions is not None:
        write_text(predictions, f"[{', '.join(texts)}]\n")
        console.print(f"wrote {predictions}: {len(result.predictions):,} boxes")
    about = {
        **record(ctx, target),
        "data": str(data), "engine": name, "images": result.images, "seconds": result.seconds,
        "ap": result.ap, "ap50": result.ap50, "ap75": result.ap75,
        "figures": dict(result.scores.figures),
        "classes": [asdict(each) for each in result.scores.classes],
        "steps": steps.to_json(),
    }  # fmt: skip
    if Path(model).is_dir():
        keep_record(Path(model), f"eval-{name}", about)
    write_json(json_file, about)


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
    step_log()
    from intaglio.file import load
    from intaglio.models import images_for
    from intaglio.sim.compare import compare_programs

    settle([a, b, *pictures(images)], json_file=json_file)
    first, second = load(a), load(b)
    files = image_sources(images, limit)
    pixels = images_for(first, files, resize=resize) if files else None
    result = compare_programs(first, second, pixels)
    console.print(result.sentence())
    write_json(json_file, result.to_json())
    if not result.equal:
        raise typer.Exit(1)
