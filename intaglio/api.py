"""The verbs as functions: quantise, train, evaluate. Building and verifying are in `codegen`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intaglio.errors import DataError, ModelError, ProgramError
from intaglio.fixed import Arithmetic, preset
from intaglio.models import (
    Model,
    Reading,
    Size,
    coco,
    head_of,
    input_channels,
    input_size,
    opened,
    places,
    to_be_quantised,
)
from intaglio.program import Program
from intaglio.quant.settings.budget import Budget, Widths
from intaglio.quant.settings.config import (
    POWERS,
    Method,
    OdolTerms,
    QuantConfig,
    Reconstruction,
)
from intaglio.system.copies import Copies
from intaglio.system.spread import HERE, Pool
from intaglio.system.steps import Steps, Tell
from intaglio.system.threads import for_torch, most, torch_threads

if TYPE_CHECKING:
    from torch import nn

    from intaglio.detect.coco import CocoData
    from intaglio.detect.evaluate import EvalResult, Predict
    from intaglio.detect.networks.spec import HeadSpec
    from intaglio.detect.own import Head
    from intaglio.quant import Differences, Quantized
    from intaglio.quant.learn.learned_weight import WeightGrid
    from intaglio.quant.train import Pictures, TrainConfig, Trained

Engine = Literal["float", "fake", "sim", "reference", "rtl"]
Progress = Callable[[int, int], None]
Images: TypeAlias = "NDArray[np.uint8] | str | Path | Sequence[str | Path]"
PICTURES = "pictures"  # the step in which they are read


def quantize(
    model: Model,
    images: Images,
    *,
    wbits: int = 4,
    abits: int = 4,
    first_wbits: int = 8,
    last_wbits: int | None = None,
    output_bits: int = 16,
    sum_bits: int | None = None,
    table_bits: int | None = None,
    method: Method = "lp",
    p: float = 2.4,
    powers: tuple[float, ...] = POWERS,
    odol: OdolTerms | None = None,
    thorough: bool = False,
    percentile: float = 99.99,
    per_channel: bool = True,
    symmetric: bool = True,
    pot_scales: bool = False,
    equalize: bool = False,
    equalize_tables: bool = False,
    equalize_noise: bool = False,
    compensate: bool = True,
    correct_bias: bool = True,
    reconstruct: Reconstruction | None = None,
    overrides: Mapping[str, tuple[int, int]] | None = None,
    budgets: Sequence[str | Budget] = (),
    widths: Widths | None = None,
    arithmetic: str | Arithmetic = "intaglio",
    weights: str | Path | None = None,
    limit: int | None = 64,
    size: Size | None = None,
    resize: bool = False,
    device: str = "cpu",
    state: Path | None = None,
    force: bool = False,
    pool: Pool = HERE,
    progress: Progress | None = None,
    steps: Steps | None = None,
    threads: int | None = None,
    head: Head | None = None,
) -> Program:
    """The integer Program of a torch model.

    model       a module, or a name as on the command line; `weights` is its state dict.
    images      uint8 (N, C, H, W) to calibrate on, or pictures and folders of them, of which
                `limit` are used, spread evenly; `size` (H, W) and `resize` say how they are read.
    arithmetic  a profile, or the name of a preset, like "tflite".
    budgets     like "bops=16".
    head        what the outputs mean, by default the module's `head_spec`: a HeadSpec, which the
                Program keeps, or `intaglio.detect.own.OwnDecoder.of` a function of your own.

    wbits to widths are the fields of `intaglio.quant.QuantConfig`, which says what each means;
    device to progress serve the search, as `intaglio.quant.quantize` says. `Steps(print)` for
    `steps` says what is done; `threads` are torch's. `intaglio.api.quantized` gives the
    fake-quantised model and the report on layers as well.

    Raises ModelError and DataError, each one sentence with a remedy.
    """
    config = QuantConfig(
        wbits=wbits, abits=abits, first_wbits=first_wbits, last_wbits=last_wbits,
        output_bits=output_bits, sum_bits=sum_bits, table_bits=table_bits, method=method, p=p,
        powers=powers, odol=odol or OdolTerms(), thorough=thorough, percentile=percentile,
        per_channel=per_channel, symmetric=symmetric, pot_scales=pot_scales, equalize=equalize,
        equalize_tables=equalize_tables, equalize_noise=equalize_noise, compensate=compensate,
        correct_bias=correct_bias, reconstruct=reconstruct,
        overrides=overrides or {}, widths=widths or Widths(),
        budgets=tuple(Budget.parse(b) if isinstance(b, str) else b for b in budgets),
        arithmetic=preset(arithmetic) if isinstance(arithmetic, str) else arithmetic,
    )  # fmt: skip
    return quantized(
        model, images, config, weights=weights, limit=limit, size=size, resize=resize,
        device=device, state=state, force=force, pool=pool, progress=progress, steps=steps,
        threads=threads, head=head,
    ).program  # fmt: skip


def quantized(
    model: Model,
    images: Images,
    config: QuantConfig,
    *,
    data: CocoData | None = None,
    weights: str | Path | None = None,
    limit: int | None = 64,
    size: Size | None = None,
    resize: bool = False,
    device: str = "cpu",
    state: Path | None = None,
    force: bool = False,
    pool: Pool = HERE,
    progress: Progress | None = None,
    steps: Steps | None = None,
    threads: int | None = None,
    head: Head | None = None,
) -> Quantized:
    """As `quantize`, by a `config`; the fake-quantised model and the report on layers too. With
    `data` the images are those that it lists."""
    from intaglio.quant.pipeline import planned
    from intaglio.quant.pipeline import quantize as run

    module = to_be_quantised(model, weights, Reading(size))
    steps = steps or Steps()
    if isinstance(images, np.ndarray):
        pixels = images
    else:
        steps.plan(PICTURES, *planned(config))
        pixels = calibration(module, images, data, limit, size, resize, steps)
    return run(
        module, pixels, config, device=device, state=state, force=force, pool=pool,
        progress=progress, steps=steps, threads=threads, head=head,
    )  # fmt: skip


def calibration(
    model: nn.Module, images: str | Path | Sequence[str | Path], data: CocoData | None,
    limit: int | None, size: Size | None, resize: bool, steps: Steps,
) -> NDArray[np.uint8]:  # fmt: skip
    """At most `limit` of the pictures, spread evenly, as the model reads them."""
    from intaglio.detect.images import image_files, listed_files, spread, stack

    listed = listed_files(data) if data is not None else image_files(places(images))
    files = spread(listed, len(listed) if limit is None else limit)
    shape = size or input_size(model)
    if resize and shape is None:
        raise DataError("--resize must come with --size HxW for a model without input_size.")
    with steps.step(PICTURES):
        channels = input_channels(model, files, shape)
        return stack(files, shape, resize=resize, channels=channels)


def train(
    model: Model,
    images: str | Path,
    data: CocoData | str | Path,
    *,
    wbits: int = 4,
    abits: int = 4,
    last_wbits: int | None = None,
    sum_bits: int | None = None,
    odd: bool = True,
    standardise: bool = False,
    epochs: int = 6,
    rate: float = 4e-3,
    batch: int = 32,
    distil: float = 0.0,
    seed: int = 1,
    arithmetic: str | Arithmetic = "intaglio",
    weights: str | Path | None = None,
    size: Size | None = None,
    resize: bool = False,
    device: str = "cpu",
    state: Path | None = None,
    force: bool = False,
    steps: Steps | None = None,
    threads: int | None = None,
    head: HeadSpec | None = None,
) -> Program:
    """The integer Program of a float detector, trained further with the hardware's roundings (AQD).

    model        a module with a `head_spec`, unless `head` is given, or a name as on the command
                 line.
    images       folder of the images that `data`, a COCO set or file, lists.
    odd          weights are odd multiples; else symmetric. `standardise`: of mean 0, variance 1.
    epochs, rate, batch, distil, seed  as `intaglio.quant.train.TrainConfig` says.
    state        a file from which a stopped training goes on; `force` replaces another's.

    The rest as in `quantize`. Raises ModelError and DataError, each one sentence with a remedy.
    """
    from intaglio.quant.learn.learned_weight import WeightGrid
    from intaglio.quant.train import TrainConfig

    config = QuantConfig(
        wbits=wbits, abits=abits, last_wbits=last_wbits, sum_bits=sum_bits,
        arithmetic=preset(arithmetic) if isinstance(arithmetic, str) else arithmetic,
    )  # fmt: skip
    training = TrainConfig(epochs=epochs, rate=rate, batch=batch, distil=distil, seed=seed)
    return trained_on(
        to_be_quantised(model, weights, Reading(size)), coco(data, images), config, training,
        WeightGrid(odd=odd, standardise=standardise), size=size, resize=resize, device=device,
        state=state, force=force, steps=steps, threads=threads, head=head,
    )[0].program  # fmt: skip


def trained_on(
    model: nn.Module,
    data: CocoData,
    config: QuantConfig,
    training: TrainConfig,
    grid: WeightGrid,
    *,
    name: str = "The model",
    size: Size | None = None,
    resize: bool = False,
    device: str = "cpu",
    state: Path | None = None,
    force: bool = False,
    report: Callable[[str, int, int], None] | None = None,
    steps: Steps | None = None,
    threads: int | None = None,
    head: Head | None = None,
) -> tuple[Trained, Pictures]:
    """What `train` does with its settings made, and the pictures."""
    from intaglio.detect.images import listed_files
    from intaglio.detect.losses import check_trainable
    from intaglio.quant.train import STEPS, Pictures, trained

    shape = size or input_size(model)
    if shape is None:
        raise ModelError("The model must say its input_size (H, W), or --size must be given.")
    steps = steps or Steps()
    spec = check_trainable(head_of(model, name, head))
    steps.plan(PICTURES, *STEPS)
    with steps.step(PICTURES):
        channels = input_channels(model, listed_files(data), shape)
        pictures = Pictures(data, spec.classes, shape, resize=resize, channels=channels)
    done = trained(
        model, pictures, config, training, grid, device=device, state=state, force=force,
        report=report, steps=steps, threads=threads, head=spec,
    )  # fmt: skip
    return done, pictures


def compare_with_simulator(quantized: Quantized, images: NDArray[np.uint8]) -> Differences:
    """Layer by layer, the codes in which the fake-quantised model and the simulator differ."""
    from intaglio.sim.engine import Simulator

    return quantized.differences(Simulator(quantized.program, trace=True)(images), images)


@dataclass(frozen=True)
class Agreement:
    """Integers of a Program's outputs on some images, and how many of them the trained network
    gives differently when it runs on the Program's multipliers."""

    compared: int
    mismatches: int

    def sentence(self) -> str:
        """One line for people."""
        return (
            f"trained network and simulator: {self.mismatches:,} of {self.compared:,} output"
            " integers differ"
        )


def check_trained(trained: Trained, images: NDArray[np.uint8]) -> Agreement:
    """Run a trained network in torch and its Program in the simulator; every output integer."""
    from intaglio.sim.engine import Simulator

    ours = trained.integers(images)
    theirs = Simulator(trained.program)(images)
    pairs = [(ours[name], theirs[name]) for name in ours]
    return Agreement(sum(a.size for a, _ in pairs), sum(int((a != b).sum()) for a, b in pairs))


def predictor(model: Program | nn.Module, engine: Engine, threads: int | None = None) -> Predict:
    """A function from uint8 images (N, C, H, W) to real-valued output maps.

    A Program runs in the simulator ("sim") or in the slow reference; a torch module in "float".
    For "rtl" see `rtl_predictor`.
    """
    if isinstance(model, Program):
        if engine == "sim":
            from intaglio.sim.engine import Simulator

            return partial(on_pixels, model, Simulator(model, threads=threads).run_dequantised)
        if engine == "reference":
            return partial(on_pixels, model, partial(run_reference, model))
        raise ProgramError(f"A .intaglio file must run in sim or reference, not {engine}.")
    if engine != "float":
        raise ModelError(f"A torch model must run in float or fake, not {engine}; quantise it.")
    from intaglio.quant import float_predictor

    return float_predictor(model)


def on_pixels(
    program: Program, run: Callable[[NDArray[Any]], Any], pixels: NDArray[np.uint8]
) -> Any:
    """What `run` makes of pixels, as codes of the Program's input."""
    from intaglio.detect.pictures import as_codes

    return run(as_codes(pixels, program.inputs[0].type))


def run_reference(program: Program, images: NDArray[Any]) -> list[NDArray[np.float32]]:
    """Output maps of the reference simulator as real values, in order."""
    from intaglio.ops import dequantise
    from intaglio.sim.reference import run

    tensors = run(program, images.astype(np.int64)).tensors
    return [dequantise(t, tensors[t.name]) for t in program.outputs]


def evaluate(
    model: Model,
    data: CocoData | str | Path,
    images: str | Path | None = None,
    *,
    engine: Engine | None = None,
    limit: int | None = None,
    size: tuple[int, int] | None = None,
    resize: bool = False,
    weights: str | Path | None = None,
    predict: Predict | None = None,
    pool: Pool = HERE,
    progress: Progress | None = None,
    steps: Steps | None = None,
    threads: int | None = None,
    head: Head | None = None,
    take: Callable[[Sequence[Mapping[str, Any]]], None] | None = None,
) -> EvalResult:
    """mAP (pycocotools) of a Program or a torch detector on a COCO data set.

    model    a Program, a module, or a name as on the command line; `weights` is a state dict.
    data     a COCO set, or its file, and then `images`, the folder of its images.
    engine   "sim" for a Program and "float" for a module, unless it is stated; "rtl" runs the
             Verilog of a build's folder, compiled. `predict` replaces it, as for the
             fake-quantised model.
    limit    the first images alone; `size` (H, W) and `resize` say how pictures are read.
    threads  of the simulator or of torch; by default as many as `system.threads` gives.
    head     what the outputs mean, as in `quantize`; by default what the model says.
    take     is given the predictions of each batch as they come, in COCO's format and in order.

    Boxes are decoded in float from the outputs' real values. Raises ModelError and DataError.
    """
    from intaglio.detect.evaluate import STEPS
    from intaglio.detect.evaluate import evaluate as run

    steps = steps or Steps()
    if engine == "rtl" and predict is None:
        steps.plan("compilation", *STEPS)
        with steps.step("compilation"):
            predict = rtl_predictor(model, threads or pool.threads, steps.tell)
    model, data = opened(model, weights, Reading(size)), coco(data, images)
    head = head_of(model, "The model", head)
    engine = engine or ("sim" if isinstance(model, Program) else "float")
    size = size or input_size(model)
    if size is None:
        raise ModelError("The model must say its input_size (H, W), or --size must be given.")
    channels = input_channels(model, [data.file(i) for i in data.ids[:limit]], size)
    if predict is None and engine == "sim" and pool is HERE and isinstance(model, Program):
        # Pictures and boxes are Python's work, in which threads would wait for each other.
        pool = Copies(most(threads))
        with data.checking(data.ids[:limit], pool):
            predict = predictor(model, engine, 1)
            predict(np.zeros((1, *model.inputs[0].shape), np.uint8))  # compiled once, not by each
    alone = None if isinstance(model, Program) else threads_of(model, channels, size, threads)
    with torch_threads(alone):
        return run(
            predict or predictor(model, engine, threads or pool.threads),
            data,
            head,
            size,
            limit=limit,
            resize=resize,
            channels=channels,
            pool=pool,
            progress=progress,
            steps=steps,
            take=take,
        )


def rtl_predictor(model: Model, threads: int | None, tell: Tell) -> Predict:
    """The RTL in the folder of a build, compiled; kept in its folder sim/function."""
    from intaglio.codegen.running.compile import load as load_rtl

    if not isinstance(model, (str, Path)) or not Path(model).is_dir():
        name = model if isinstance(model, (str, Path)) else type(model).__name__
        raise ModelError(
            f"--engine rtl must have a folder written by `intaglio build`, not {name}."
        )
    kept, program = Path(model) / "sim" / "function", opened(model)
    compiled = load_rtl(model, folder=kept, threads=threads, tell=tell)
    assert isinstance(program, Program)  # of a build's folder
    return partial(on_pixels, program, compiled.run_dequantised)


def threads_of(model: nn.Module, channels: int, size: Size, threads: int | None) -> int:
    """How many threads torch is given for a module."""
    from intaglio.quant.capture.work import macs

    return for_torch(macs(model, (channels, *size)), threads)
