"""Train the detectors for the AQD rows and the ablation: python benchmarks/quant/aqd.py [--out D].

Programs go into D (build/aqd), where `benchmarks/quant/quant.py --trained D` finds them; what is
there is not trained again, and a stopped training goes on after its last whole epoch. Hours in
all on two cores; `--only fcos-nano 4` trains one.
"""

import argparse
import copy
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from quant_cells import Cell, Task, append_cell
from quant_methods import model_digest
from torch import nn

from intaglio.api import check_trained, evaluate
from intaglio.detect import zoo
from intaglio.detect.coco import CocoData
from intaglio.detect.networks.fcos import Fcos
from intaglio.detect.networks.norm import NormKind
from intaglio.detect.scenes import write_scenes
from intaglio.detect.train import normalise
from intaglio.file import save
from intaglio.fixed import Arithmetic
from intaglio.quant import QuantConfig
from intaglio.quant.capture.export import capture
from intaglio.quant.capture.passes import TRAINING_PASSES, simplify
from intaglio.quant.learn.aqd import TrainedNetwork
from intaglio.quant.learn.learned_weight import WeightGrid
from intaglio.quant.learn.norms import norm_paths
from intaglio.quant.lowering.lower import lower
from intaglio.quant.train import CALIBRATED, Pictures, TrainConfig, train, trained

ROOT = Path(__file__).parent.parent.parent
SCENES = 12000
GROUPS = 8  # of the group norm: 24 channels are no multiple of the usual 32


@dataclass(frozen=True)
class Recipe:
    """One training; tensors that only sums read have `sum_bits`, named in the results."""

    detector: str
    bits: int
    epochs: int
    rate: float
    sum_bits: int | None = None

    @property
    def command(self) -> str:
        """What does the same."""
        wider = f" --sum-bits {self.sum_bits}" if self.sum_bits else ""
        return (
            f"intaglio train {self.detector} --bits {self.bits} --epochs {self.epochs}"
            f" --rate {self.rate:g}{wider}"
        )


RECIPES = (
    Recipe("fcos-nano", 4, 16, 1.2e-2),
    Recipe("fcos-nano", 3, 10, 1e-2, sum_bits=8),
    Recipe("fcos-nano", 2, 96, 1.2e-2, sum_bits=8),
    Recipe("retinanet-small", 4, 5, 8e-3),
    Recipe("retinanet-small", 3, 5, 8e-3, sum_bits=8),
    Recipe("retinanet-small", 2, 8, 8e-3, sum_bits=8),
)
ABLATION = Recipe("fcos-nano", 2, 6, 1.2e-2, sum_bits=8)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What differs from AQD as it is trained for the results."""

    norm: NormKind = "multi"
    groups: bool = False
    grid: WeightGrid = field(default_factory=WeightGrid)
    sum_bits: int | None = 8
    distil: float = 0.0


VARIANTS = {
    "multi-level BN": Variant(),
    "shared BN": Variant(norm="shared"),
    "GroupNorm": Variant(norm="shared", groups=True),
    "symmetric grid": Variant(grid=WeightGrid(odd=False)),
    "standardised weights": Variant(grid=WeightGrid(standardise=True)),
    "sums of 2 bits": Variant(sum_bits=None),
    "distilled": Variant(distil=1.0),
}


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "aqd")
    parser.add_argument("--only", nargs=2, metavar=("DETECTOR", "BITS"))
    parser.add_argument("--ablation", nargs="*", choices=VARIANTS, help="these variants only")
    parser.add_argument("--scenes", type=Path, help="folder of training scenes written before")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scenes = options.scenes or Path(folder)
        if options.scenes is None:
            write_scenes(scenes, SCENES, 96, zoo.TRAINING_SEED, "train")
        data = CocoData(scenes / "scenes.json", scenes / "images")
        for recipe in RECIPES if options.ablation is None else ():
            if options.only in (None, [recipe.detector, str(recipe.bits)]):
                row(recipe, data, options.out)
        for name in VARIANTS if options.ablation is None else options.ablation:
            if options.only is None:
                vary(name, data, options.out)


def row(recipe: Recipe, data: CocoData, out: Path) -> None:
    """A detector at one width."""
    path = out / recipe.detector / f"aqd-w{recipe.bits}a{recipe.bits}.intaglio"
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    model = zoo.load(recipe.detector)
    pictures = Pictures(data, model.head_spec.classes, zoo.find(recipe.detector).size)
    training = TrainConfig(epochs=recipe.epochs, rate=recipe.rate)
    state = path.with_name(f"{path.name}.train.pt")
    done = trained(model, pictures, config(recipe), training, state=state, report=Lines(recipe))
    print(check_trained(done, calibration(pictures)).sentence(), flush=True)
    save(done.program, path)


def config(recipe: Recipe) -> QuantConfig:
    """The widths of a recipe."""
    return QuantConfig(wbits=recipe.bits, abits=recipe.bits, sum_bits=recipe.sum_bits)


def calibration(pictures: Pictures) -> NDArray[np.uint8]:
    """Some of the pictures (N, 3, H, W)."""
    every = len(pictures) // CALIBRATED
    return np.stack([pictures[k * every][0].numpy() for k in range(CALIBRATED)])


class Lines:
    """Prints a line for every epoch."""

    def __init__(self, recipe: Recipe) -> None:
        print(recipe.command, flush=True)

    def __call__(self, line: str, done: int, total: int) -> None:
        if done % 125 == 0 or done == total:
            print(f"{done}/{total} {line}", flush=True)


# --- one thing changed ----------------------------------------------------------------------------


def vary(name: str, data: CocoData, out: Path) -> None:
    """`fcos-nano` with fresh norms in its heads, trained alike for every variant.

    The group norm has no integer form: its AP is that of the network in torch, with all else
    rounded. It is put among the cells of the results at once.
    """
    path = (
        out / ABLATION.detector / "ablation" / f"{name}-w{ABLATION.bits}a{ABLATION.bits}.intaglio"
    )
    if path.exists() or path.with_suffix(".done").exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    variant = VARIANTS[name]
    model = fresh(variant.norm, data)
    pictures = Pictures(data, model.head_spec.classes, zoo.find(ABLATION.detector).size)
    images = calibration(pictures)
    replaced = group_norms(model, images) if variant.groups else {}
    torch.manual_seed(1)
    settings = config(replace(ABLATION, sum_bits=variant.sum_bits))
    network = TrainedNetwork(model, images, settings, variant.grid, replaced)
    training = TrainConfig(epochs=ABLATION.epochs, rate=ABLATION.rate, distil=variant.distil)
    state = path.with_suffix(".train.pt")
    spec = model.head_spec
    done = train(network, spec, pictures, training, state=state, report=Lines(ABLATION))
    if not replaced:
        graph, scales = done.exported(images)
        record = {"head": spec.to_json(), "quantisation": {"variant": name}}
        save(lower(graph, scales, Arithmetic(), record), path)
        return
    with tempfile.TemporaryDirectory() as folder:
        held_out = zoo.held_out(ABLATION.detector, Path(folder))

        def predict(pixels: NDArray[np.uint8]) -> list[NDArray[np.floating]]:
            with torch.inference_mode():
                return [m.numpy() for m in done(torch.from_numpy(pixels).float())]

        found = evaluate(model, held_out, predict=predict)
    depends = {"model": model_digest(ABLATION.detector), "program": "in torch, not integers"}
    task = Task(
        ABLATION.detector, f"{name} (not integers)", ABLATION.bits, ABLATION.bits, 0, found.images,
        depends, ablation=True,
    )  # fmt: skip
    cells = ROOT / "benchmarks" / "results" / "quant-cells.jsonl"
    append_cell(cells, Cell(task, found.ap, found.ap50, found.ap75))
    path.with_suffix(".done").touch()


def fresh(kind: NormKind, data: CocoData) -> Fcos:
    """The bundled detector, its head's norms new and with statistics measured on some scenes."""
    bundled = zoo.load(ABLATION.detector)
    assert isinstance(bundled, Fcos)
    channels = bundled.head.classification_head.cls_logits.in_channels
    model = Fcos(
        copy.deepcopy(bundled.backbone.body), bundled.head_spec, channels=channels, convs=2,
        norm=kind,
    )  # fmt: skip
    model.input_size = zoo.find(ABLATION.detector).size
    own = model.state_dict()
    kept = {
        key: value for key, value in bundled.state_dict().items()
        if key in own and ".levels." not in key
    }  # fmt: skip
    model.load_state_dict(own | kept)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    pictures = Pictures(data, model.head_spec.classes, zoo.find(ABLATION.detector).size)
    with torch.no_grad():
        model.train()(normalise(model, torch.from_numpy(calibration(pictures))))
    return model.eval()


def group_norms(model: Fcos, images: NDArray[np.uint8]) -> dict[str, nn.Module]:
    """A group norm for each of the head's norms, for the call sites of its convolution."""
    raw = capture(model, images.shape[1:])
    paths = norm_paths(raw, simplify(raw, TRAINING_PASSES), model)
    found: dict[str, nn.Module] = {}
    norms: dict[str, nn.Module] = {}
    for tensor, path in paths.items():
        if path.startswith("head."):
            channels = model.get_submodule(path).num_features
            found[tensor] = norms.setdefault(path, nn.GroupNorm(GROUPS, channels))
    return found


if __name__ == "__main__":
    main()
