"""Train a bundled detector on the CPU: python -m intaglio.detect.train fcos-nano --out FILE.

First the body learns to tell digits apart on crops, which takes a minute and spares the detector
the thousands of steps in which it would find boxes but no classes; a column of convolutions, which
is trained in minutes, does without. Then all of it is trained. The
weights of an exponential moving average are stored, convolutions in float16 and the rest in
float32; the mAP reported is that of the stored values.
"""

import argparse
import copy
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as as_bytes
from torch import nn
from torch.nn import functional

from intaglio.detect import zoo
from intaglio.detect.evaluate import EvalResult, Predict, evaluate
from intaglio.detect.losses import detection_loss
from intaglio.detect.networks.column import Column
from intaglio.detect.networks.fcos import Fcos
from intaglio.detect.networks.retinanet import RetinaNet
from intaglio.detect.pictures import LETTERBOX_GREY
from intaglio.detect.scenes import MAX_DIGITS, make_scene
from intaglio.system.disk import write_bytes

EMA_DECAY = 0.998
CROP_BATCH = 64
CROP_RATE = 4e-3


@dataclass(frozen=True)
class Recipe:
    """How long and how fast; `rate` is the peak of a one-cycle schedule for AdamW."""

    scenes: int
    crop_epochs: int
    epochs: int
    rate: float
    batch: int = 32
    decay: float = 0.02
    seed: int = zoo.TRAINING_SEED


RECIPES = {
    "fcos-nano": Recipe(scenes=12000, crop_epochs=4, epochs=14, rate=3e-3),
    "retinanet-small": Recipe(scenes=12000, crop_epochs=1, epochs=6, rate=2e-3),
    "digits-up5k": Recipe(scenes=12000, crop_epochs=0, epochs=40, rate=4e-3, decay=0.01),
}


@dataclass(frozen=True)
class Scenes:
    """A set in memory: uint8 (n, 3, H, W), boxes (n, G, 4) and labels (n, G), padded with -1."""

    images: torch.Tensor
    boxes: torch.Tensor
    labels: torch.Tensor


def make_scenes(count: int, size: int, seed: int) -> Scenes:
    """The first `count` training scenes of `seed`."""
    images = np.zeros((count, 3, size, size), dtype=np.uint8)
    boxes = np.zeros((count, MAX_DIGITS, 4), dtype=np.float32)
    labels = np.full((count, MAX_DIGITS), -1, dtype=np.int64)
    for i in range(count):
        scene = make_scene(i, size=size, seed=seed, split="train")
        images[i] = scene.image
        boxes[i, : len(scene.boxes)] = scene.boxes
        labels[i, : len(scene.labels)] = scene.labels
    return Scenes(*(torch.from_numpy(a) for a in (images, boxes, labels)))


def normalise(model: zoo.Detector, images: torch.Tensor) -> torch.Tensor:
    """uint8 pixels (N, 3, H, W) to the model's normalised input."""
    mean = torch.tensor(model.image_mean).view(3, 1, 1)
    std = torch.tensor(model.image_std).view(3, 1, 1)
    return (images.float() / 255.0 - mean) / std


def predictor(model: zoo.Detector) -> Predict:
    """`model` as the `predict` of `evaluate`."""

    def predict(images: NDArray[np.uint8]) -> list[NDArray[np.floating]]:
        with torch.inference_mode():
            outputs = model(normalise(model, torch.from_numpy(images)))
        return [level.numpy() for maps in outputs for level in maps]

    return predict


def train(name: str, recipe: Recipe) -> zoo.Detector:
    """The moving average of a detector trained by `recipe`; prints a line per epoch."""
    bundled = zoo.find(name)
    torch.manual_seed(recipe.seed)
    start = time.perf_counter()
    scenes = make_scenes(recipe.scenes, bundled.size[0], recipe.seed)
    print(f"{recipe.scenes} scenes in {time.perf_counter() - start:.0f} s", flush=True)
    model = bundled.build()
    if not isinstance(model, Column):
        pretrain(model, scenes, recipe)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    steps = recipe.scenes // recipe.batch
    optimiser = torch.optim.AdamW(_groups(model, recipe.decay), lr=recipe.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.rate, total_steps=steps * recipe.epochs, pct_start=0.15
    )
    for epoch in range(1, recipe.epochs + 1):
        start = time.perf_counter()
        totals: dict[str, float] = {}
        for images, boxes, labels in _batches(scenes, recipe.batch):
            terms = _loss(model, normalise(model, images), boxes, labels)
            optimiser.zero_grad()
            torch.autograd.backward(list(terms.values()))
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimiser.step()
            schedule.step()
            follow(average, model)
            for term, value in terms.items():
                totals[term] = totals.get(term, 0.0) + value.item() / steps
        seconds = time.perf_counter() - start
        losses = "  ".join(f"{term} {value:.3f}" for term, value in totals.items())
        print(f"epoch {epoch}/{recipe.epochs}  {losses}  {seconds:.0f} s", flush=True)
    return average


def pretrain(model: Fcos | RetinaNet, scenes: Scenes, recipe: Recipe) -> None:
    """Teach the body to name the digit at the centre of a crop, on each of its three maps.

    The crops are 64 x 64 pixels, so their centre is at 64 / 2 / stride on a map.
    """
    body = model.backbone.body
    logits = nn.ModuleList(nn.Linear(c, len(model.head_spec.classes)) for c in body.channels)
    parameters = [*body.parameters(), *logits.parameters()]
    scene, digit = torch.nonzero(scenes.labels >= 0, as_tuple=True)
    steps = len(scene) // CROP_BATCH
    optimiser = torch.optim.AdamW(parameters, lr=CROP_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, CROP_RATE, total_steps=steps * recipe.crop_epochs
    )
    for epoch in range(1, recipe.crop_epochs + 1):
        start, total = time.perf_counter(), 0.0
        order = torch.randperm(len(scene))
        for step in range(steps):
            chosen = order[step * CROP_BATCH : (step + 1) * CROP_BATCH]
            where = (scene[chosen], digit[chosen])
            maps = body(normalise(model, _crops(scenes.images[where[0]], scenes.boxes[where])))
            loss = torch.zeros(())
            for linear, m in zip(logits, maps, strict=True):
                middle = m[:, :, m.shape[2] // 2, m.shape[3] // 2]
                loss = loss + functional.cross_entropy(linear(middle), scenes.labels[where])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            total += loss.item() / steps / len(maps)
        seconds = time.perf_counter() - start
        print(f"crops {epoch}/{recipe.crop_epochs}  class {total:.3f}  {seconds:.0f} s", flush=True)


def save(model: zoo.Detector, path: Path, notes: dict[str, str]) -> None:
    """Write the parameters of `model`, rounded as the module says, with `notes` as metadata."""
    state = {
        key: value.half().contiguous() if value.ndim == 4 else value.contiguous()
        for key, value in model.state_dict().items()
    }
    write_bytes(path, as_bytes(state, metadata=notes))


def count_macs(model: nn.Module, size: tuple[int, int]) -> int:
    """Multiply-accumulates of all convolutions on one image of `size` (H, W)."""
    total = 0

    def count(conv: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        assert isinstance(conv, nn.Conv2d)
        total += output[0].numel() * conv.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, nn.Conv2d)]
    with torch.inference_mode():
        model(torch.zeros(1, 3, *size))
    for hook in hooks:
        hook.remove()
    return total


def measure(name: str, model: zoo.Detector) -> EvalResult:
    """mAP of a model shaped like the bundled `name` on the held-out scenes."""
    with TemporaryDirectory() as folder:
        data = zoo.held_out(name, Path(folder))
        return evaluate(predictor(model), data, model.head_spec, zoo.find(name).size)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m intaglio.detect.train")
    parser.add_argument("name", choices=list(zoo.BUNDLED))
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--scenes", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = RECIPES[options.name]
    recipe = replace(
        recipe, scenes=options.scenes or recipe.scenes, epochs=options.epochs or recipe.epochs
    )
    model = train(options.name, recipe)
    save(model, options.out, {})
    state, _ = zoo.read_weights(options.out)
    model.load_state_dict(state)
    result = measure(options.name, model)
    bundled = zoo.find(options.name)
    notes = {
        "command": f"python -m intaglio.detect.train {options.name} --out {options.out.name}"
        f" --threads {options.threads}",
        "recipe": json.dumps(asdict(recipe)),
        "parameters": str(sum(p.numel() for p in model.parameters())),
        "macs": str(count_macs(model, bundled.size)),
        "held_out": json.dumps(
            {"ap": result.ap, "ap50": result.ap50, "ap75": result.ap75, "images": result.images}
        ),
    }
    save(model, options.out, notes)
    print("\n".join(f"{key}: {value}" for key, value in notes.items()))


def _groups(model: nn.Module, decay: float) -> list[dict[str, object]]:
    """Weight decay for convolution weights only."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def _batches(scenes: Scenes, batch: int) -> Iterator[tuple[torch.Tensor, ...]]:
    """One epoch of images, boxes and labels in random order."""
    order = torch.randperm(len(scenes.images))
    for first in range(0, len(order) - batch + 1, batch):
        chosen = order[first : first + batch]
        yield scenes.images[chosen], scenes.boxes[chosen], scenes.labels[chosen]


def _loss(
    model: zoo.Detector, images: torch.Tensor, boxes: torch.Tensor, labels: torch.Tensor
) -> dict[str, torch.Tensor]:
    maps = [level for maps in model(images) for level in maps]
    return detection_loss(model.head_spec, maps, boxes, labels)


def _crops(images: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """64 x 64 pixels (n, 3, 64, 64) around the middle of each box, give or take 4 pixels."""
    jitter = torch.randint(-4, 5, (len(images), 2))
    corners = ((boxes[:, :2] + boxes[:, 2:]) / 2).long() + jitter
    padded = functional.pad(images, (32, 32, 32, 32), value=LETTERBOX_GREY)
    return torch.stack(
        [p[:, y : y + 64, x : x + 64] for p, (x, y) in zip(padded, corners.tolist(), strict=True)]
    )


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float = EMA_DECAY) -> None:
    """Move averaged parameters and batch-norm statistics a step towards the model's."""
    current = model.state_dict()
    for name, slow in average.state_dict().items():
        if slow.is_floating_point():
            slow.lerp_(current[name], 1.0 - decay)
        else:
            slow.copy_(current[name])


if __name__ == "__main__":
    main()
