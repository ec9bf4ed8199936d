"""The verbs as functions: quantise, evaluate. Building and verifying are in `codegen`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from intaglio.errors import ModelError, ProgramError
from intaglio.program import Program
from intaglio.system.spread import HERE, Pool
from intaglio.system.steps import Steps
from intaglio.system.threads import for_torch, torch_threads

if TYPE_CHECKING:
    from torch import nn

    from intaglio.detect.coco import CocoData
    from intaglio.detect.decode import HeadSpec
    from intaglio.detect.evaluate import EvalResult, Predict
    from intaglio.quant import Differences, Quantized
    from intaglio.quant.train import Trained

Engine = Literal["float", "fake", "sim", "reference", "rtl"]
Progress = Callable[[int, int], None]
Size = tuple[int, int]


def quantize(
    model: nn.Module,
    images: NDArray[np.uint8],
    *,
    device: str = "cpu",
    state: Path | None = None,
    pool: Pool = HERE,
    progress: Progress | None = None,
    **settings: Any,
) -> Program:
    """The integer Program of a torch model, calibrated on uint8 images (N, C, H, W).

    `settings` are the fields of `intaglio.quant.QuantConfig`; the rest serves method "detptq",
    as in `intaglio.quant.quantize`. For the fake-quantised model
    and the per-layer report as well, call `intaglio.quant.quantize`.
    """
    from intaglio.quant import QuantConfig
    from intaglio.quant import quantize as run

    config = QuantConfig(**settings)
    found = run(
        model, images, config, device=device, state=state, pool=pool, progress=progress
    )  # fmt: skip
    return found.program


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


def head_of(model: Program | nn.Module, name: str) -> HeadSpec:
    """The head description that turns output maps into boxes. Raises ModelError without one."""
    from intaglio.detect.networks.spec import HeadSpec, spec_of

    if isinstance(model, Program):
        text = model.meta.get("head")
        spec = HeadSpec.from_json(text) if text else None
    else:
        spec = spec_of(model)
    if spec is None:
        raise ModelError(
            f"{name} must carry a head description to decode boxes; give the torch model an"
            " attribute `head_spec`, or use `intaglio run --raw`."
        )
    return spec


def predictor(model: Program | nn.Module, engine: Engine, threads: int | None = None) -> Predict:
    """A function from uint8 images (N, C, H, W) to real-valued output maps.

    A Program runs in the simulator ("sim") or in the slow reference; a torch module in "float".
    For "rtl" pass `predict=running.compile.load(folder).run_dequantised` to `evaluate`.
    """
    if isinstance(model, Program):
        if engine == "sim":
            from intaglio.sim.engine import Simulator

            return Simulator(model, threads=threads).run_dequantised
        if engine == "reference":
            return partial(run_reference, model)
        raise ProgramError(f"A .intaglio file must run in sim or reference, not {engine}.")
    if engine != "float":
        raise ModelError(f"A torch model must run in float or fake, not {engine}; quantise it.")
    from intaglio.quant import float_predictor

    return float_predictor(model)


def run_reference(program: Program, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Output maps of the reference simulator as real values, in order."""
    from intaglio.sim.engine import dequantise
    from intaglio.sim.reference import run

    tensors = run(program, images.astype(np.int64)).tensors
    return [dequantise(t, tensors[t.name]) for t in program.outputs]


def input_size(model: Program | nn.Module) -> tuple[int, int] | None:
    """(H, W) that the model is made for, if it says so."""
    if isinstance(model, Program):
        _, height, width = model.inputs[0].shape
        return height, width
    size = getattr(model, "input_size", None)
    return (int(size[0]), int(size[1])) if size is not None else None


def input_channels(model: Program | nn.Module, files: Sequence[Path], size: Size | None) -> int:
    """Channels of pictures as the network reads them: a Program's own; 3, but 1 for a torch model
    that takes one and not three, where all `files` are grey pictures."""
    if isinstance(model, Program):
        return model.inputs[0].shape[0]
    from intaglio.detect.pictures import header, is_array
    from intaglio.quant import float_predictor

    if not all(not is_array(file) and header(file).grey for file in files):
        return 3
    predict, (height, width) = float_predictor(model), size or header(files[0]).size

    def takes(channels: int) -> bool:
        try:
            predict(np.zeros((1, channels, height, width), np.uint8))
        except Exception:  # a module of the user's: whatever it raises, it does not take this
            return False
        return True

    return 1 if not takes(3) and takes(1) else 3


def images_for(
    program: Program, files: Sequence[Path], *, resize: bool = False, quiet: bool = False
) -> NDArray[np.uint8]:
    """Image files (N, C, H, W) as a Program reads them; see `detect.images.stack`."""
    from intaglio.detect.images import stack

    channels, height, width = program.inputs[0].shape
    return stack(list(files), (height, width), resize=resize, channels=channels, quiet=quiet)


def evaluate(
    model: Program | nn.Module,
    data: CocoData,
    *,
    engine: Engine | None = None,
    limit: int | None = None,
    size: tuple[int, int] | None = None,
    resize: bool = False,
    predict: Predict | None = None,
    pool: Pool = HERE,
    progress: Progress | None = None,
    steps: Steps | None = None,
    threads: int | None = None,
) -> EvalResult:
    """mAP (pycocotools) of a Program or a torch detector on a COCO data set.

    `engine` defaults to "sim" for a Program and "float" for a module; `predict` replaces it, as
    for the fake-quantised model. Boxes are decoded in float from the outputs' real values.
    `threads` are the simulator's or torch's; by default as many as `system.threads` gives.
    """
    from intaglio.detect.evaluate import evaluate as run

    engine = engine or ("sim" if isinstance(model, Program) else "float")
    size = size or input_size(model)
    if size is None:
        raise ModelError("The model must say its input_size (H, W), or --size must be given.")
    channels = input_channels(model, [data.file(i) for i in data.ids[:limit]], size)
    with torch_threads(
        None if isinstance(model, Program) else threads_of(model, channels, size, threads)
    ):
        return run(
            predict or predictor(model, engine, threads or pool.threads),
            data,
            head_of(model, "The model"),
            size,
            limit=limit,
            resize=resize,
            channels=channels,
            pool=pool,
            progress=progress,
            steps=steps,
        )


def threads_of(model: nn.Module, channels: int, size: Size, threads: int | None) -> int:
    """How many threads torch is given for a module."""
    from intaglio.quant.capture.work import macs

    return for_torch(macs(model, (channels, *size)), threads)
