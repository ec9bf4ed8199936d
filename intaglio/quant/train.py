"""Training a quantised detector from a float one, with the Program's roundings in it."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader, Dataset

from intaglio.channels.losses import announce, losses_of
from intaglio.detect.coco import CocoData
from intaglio.detect.decode import HeadSpec, spec_of
from intaglio.detect.losses import check_trainable, detection_loss
from intaglio.detect.own import Head
from intaglio.detect.pictures import load_image
from intaglio.detect.train import follow
from intaglio.errors import DataError, ModelError
from intaglio.program import Program
from intaglio.quant.capture.graph import FloatGraph
from intaglio.quant.capture.work import macs
from intaglio.quant.learn.aqd import TrainedNetwork
from intaglio.quant.learn.distil import distillation_loss
from intaglio.quant.learn.learned_weight import WeightGrid
from intaglio.quant.lowering.exact import integers
from intaglio.quant.lowering.lower import lower
from intaglio.quant.pipeline import needed
from intaglio.quant.ranges.scales import Scales
from intaglio.quant.search.detptq import torch_device
from intaglio.quant.settings.config import QuantConfig
from intaglio.system.disk import write_bytes
from intaglio.system.places import FORCE
from intaglio.system.steps import Steps, counted
from intaglio.system.threads import for_torch, torch_threads

Report = Callable[[str, int, int], None]

STEPS = ("first ranges", "training", "integers")

CALIBRATED = 64  # pictures from which ranges start
SETTLING = 32  # batches on which the norms' statistics are measured at the end
KEPT_BYTES = 2**30
GRADIENT = 10.0  # the largest norm of all gradients


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long and how fast.

    epochs   passes over the pictures.
    rate     peak of a one-cycle schedule for AdamW, of norms, shifts and logarithms of steps.
    faster   weights, which are of variance 1, learn so many times faster.
    batch    pictures of a step.
    decay    weight decay of the weights.
    average  decay of the moving average whose values are exported.
    distil   weight of the distance to the real-valued network's results, beside the labels' loss.
    seed     of the order of the pictures.
    """

    epochs: int = 6
    rate: float = 4e-3
    faster: float = 3.0
    batch: int = 32
    decay: float = 1e-4
    average: float = 0.998
    distil: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} must be at least 1, not {getattr(self, name)}.")
        for name in ("rate", "faster"):
            if not 0 < getattr(self, name) < 100:
                raise ModelError(
                    f"{name} must be above 0 and below 100, not {getattr(self, name)}."
                )
        if not 0 <= self.distil < 1e6:
            raise ModelError(f"distil must be at least 0, not {self.distil}.")
        if not 0 <= self.seed < 2**63:
            raise ModelError(f"seed must be 0 to 2^63 - 1, not {self.seed}.")


class Pictures(Dataset[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]):
    """Annotated images of a COCO set for a detector of `classes` and input `size` (H, W).

    Items are uint8 (`channels`, H, W), boxes (G, 4) x0 y0 x1 y1 and labels (G,), padded with label
    -1 to the most boxes of any image. Small sets are kept in memory once read. Raises DataError
    where no image or no known class is there, and as `CocoData.check_files`.
    """

    def __init__(
        self,
        data: CocoData,
        classes: Sequence[str],
        size: tuple[int, int],
        *,
        resize: bool = False,
        channels: int = 3,
    ) -> None:
        if len(data) == 0:
            raise DataError(f"{data.path} must list at least one image, not 0.")
        if not set(classes) & set(data.names):
            raise DataError(
                f"The categories of {data.path} must share a name with the detector's classes"
                f" ({', '.join(classes[:3])}, ...), not be {', '.join(data.names[:3])}, ..."
            )
        data.check_files(data.ids)
        self.data = data
        self.size = size
        self.resize = resize
        self.channels = channels
        position = {name: k for k, name in enumerate(classes)}
        self.labels = np.array([position.get(name, -1) for name in data.names], np.int64)
        self.most = max([1, *(len(data.annotations(i)) for i in data.ids)])
        self.keep = len(data) * channels * size[0] * size[1] <= KEPT_BYTES
        self.read: dict[int, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        if index in self.read:
            return self.read[index]
        image_id = self.data.ids[index]
        file = self.data.file(image_id)
        image, scale = load_image(file, self.size, resize=self.resize, channels=self.channels)
        truth = self.data.truth(image_id)
        boxes = np.zeros((self.most, 4), np.float32)
        labels = np.full(self.most, -1, np.int64)
        boxes[: len(truth.labels)] = truth.boxes * scale
        labels[: len(truth.labels)] = self.labels[truth.labels]
        item = torch.tensor(image), torch.from_numpy(boxes), torch.from_numpy(labels)
        if self.keep:
            self.read[index] = item
        return item


@dataclass(frozen=True, eq=False)
class Trained:
    """`program` is what `network` learned; `graph` and `scales` are what it was lowered from."""

    program: Program
    network: TrainedNetwork
    graph: FloatGraph
    scales: Scales
    threads: int | None = None

    def __repr__(self) -> str:
        return f"<Trained to {self.program.in_words()}>"

    def integers(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.int64]]:
        """The network's own results as codes on uint8 images (N, C, H, W), in torch, with the
        Program's multipliers: what a simulator must give."""
        with torch_threads(for_torch(sum(self.program.macs().values()), self.threads)):
            return integers(self.graph, self.scales, self.program, images)


def trained(
    model: nn.Module,
    pictures: Pictures,
    config: QuantConfig,
    training: TrainConfig,
    grid: WeightGrid | None = None,
    *,
    device: str = "cpu",
    state: Path | None = None,
    force: bool = False,
    report: Report | None = None,
    steps: Steps | None = None,
    threads: int | None = None,
    head: Head | None = None,
) -> Trained:
    """Train `model`, a float detector, at the widths of `config`; `head` says what its outputs
    mean, by default its `head_spec`.

    The first ranges come from some of the pictures; `state`, `force` and `report` as in `train`;
    `steps` are told of STEPS; `threads` are torch's, by default as many as `system.threads` gives a
    network of this size. Raises ModelError and DataError, each one sentence with a remedy.
    """
    size = macs(model, (pictures.channels, *pictures.size))
    with torch_threads(for_torch(size, threads)):
        found = learned(
            model, pictures, config, training, grid, device, state, force, report,
            steps or Steps(), head,
        )  # fmt: skip
    return replace(found, threads=threads)


def learned(
    model: nn.Module, pictures: Pictures, config: QuantConfig, training: TrainConfig,
    grid: WeightGrid | None, device: str, state: Path | None, force: bool, report: Report | None,
    steps: Steps, head: Head | None = None,
) -> Trained:  # fmt: skip
    """As `trained`, with the threads that torch has."""
    place = str(torch_device(device))
    spec = check_trainable(needed(head or spec_of(model), "training", "use quantize"))
    steps.plan(*STEPS)
    with steps.step("first ranges"):
        chosen = [pictures[i * len(pictures) // CALIBRATED] for i in range(CALIBRATED)]
        images = np.stack([image.numpy() for image, _, _ in chosen])
        network = TrainedNetwork(model, images, config, grid)
    with steps.step("training"):

        def told(line: str, number: int, total: int) -> None:
            steps.watch(partial(counted, line, number, total))
            if report is not None:
                report(line, number, total)

        done = train(
            network, spec, pictures, training, device=place, state=state, force=force, report=told
        )
    record = {
        "quantisation": {
            "method": "aqd",
            "wbits": config.wbits,
            "abits": config.abits,
            "first_wbits": config.first_wbits,
            "last_wbits": config.predictor_wbits,
            "sum_bits": config.operand_bits,
            "grid": asdict(grid or WeightGrid()),
            "training": asdict(training),
            "wider": {g.tensors[0]: [g.bits, g.why] for g in network.calibration.groups if g.why},
        },
        "head": spec.to_json(),
        **({"cut": list(network.graph.cut)} if network.graph.cut else {}),
    }
    with steps.step("integers"):
        graph, scales = done.exported(images)
        program = lower(graph, scales, config.arithmetic, record)
    announce(losses_of(program.meta))
    return Trained(program, done.cpu(), graph, scales)


def train(
    network: TrainedNetwork,
    spec: HeadSpec,
    pictures: Pictures,
    config: TrainConfig,
    *,
    device: str = "cpu",
    state: Path | None = None,
    force: bool = False,
    report: Report | None = None,
) -> TrainedNetwork:
    """The moving average of `network` trained on `pictures`, its norms settled.

    `state` is a file kept after each epoch, from which a stopped training goes on, and removed at
    the end; that of another training is refused unless `force`d. `report` is told (line about the
    losses, steps done, steps in all).
    """
    torch.manual_seed(config.seed)
    network = network.to(device).train()
    average = copy.deepcopy(network).requires_grad_(False)
    loader: DataLoader[Any] = DataLoader(pictures, config.batch, shuffle=True, drop_last=True)
    if len(loader) == 0:
        raise DataError(
            f"{pictures.data.path} must list at least {config.batch} images, one batch, not"
            f" {len(pictures)}."
        )
    steps = len(loader) * config.epochs
    groups = parameter_groups(network, config)
    optimiser = torch.optim.AdamW(groups, lr=config.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, [group["lr"] for group in groups], total_steps=steps, pct_start=0.1
    )
    parts = {"network": network, "average": average, "optimiser": optimiser, "schedule": schedule}
    key = digest(network, pictures, config)
    first = resumed(state, key, parts, force=force)
    for epoch in range(first, config.epochs):
        totals: dict[str, float] = {}
        for number, (images, boxes, labels) in enumerate(loader, start=1):
            seen = images.to(device).float()
            maps = network(seen)
            terms = detection_loss(spec, maps, boxes.to(device), labels.to(device))
            if config.distil:
                more = distillation_loss(spec, maps, network.real(seen))
                terms |= {term: config.distil * value for term, value in more.items()}
            optimiser.zero_grad()
            torch.autograd.backward(list(terms.values()))
            nn.utils.clip_grad_norm_(network.parameters(), GRADIENT)
            optimiser.step()
            schedule.step()
            follow(average, network, config.average)
            if not all(value.isfinite() for value in terms.values()):
                raise ModelError(
                    f"Losses of the training must stay finite, not overflow in epoch {epoch + 1};"
                    " lower its rate."
                )
            for term, value in terms.items():
                totals[term] = totals.get(term, 0.0) + value.item()
            if report is not None:
                shown = "  ".join(f"{term} {total / number:.3f}" for term, total in totals.items())
                report(
                    f"epoch {epoch + 1}/{config.epochs}  {shown}",
                    epoch * len(loader) + number,
                    steps,
                )
        kept(state, key, epoch + 1, parts)
    average.settle(pixels(loader, device))
    if state is not None:
        state.unlink(missing_ok=True)
    return average.eval()


def pixels(loader: DataLoader[Any], device: str) -> Iterator[torch.Tensor]:
    """Some batches of images."""
    for number, (images, _, _) in enumerate(loader):
        if number == SETTLING:
            return
        yield images.to(device).float()


def parameter_groups(network: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Weights, which alone decay and learn faster, and the rest."""
    weights = [p for name, p in network.named_parameters() if name.endswith(".latent")]
    others = [p for name, p in network.named_parameters() if not name.endswith(".latent")]
    return [
        {"params": weights, "lr": config.rate * config.faster, "weight_decay": config.decay},
        {"params": others, "lr": config.rate, "weight_decay": 0.0},
    ]


def digest(network: nn.Module, pictures: Pictures, config: TrainConfig) -> str:
    """A key that changes with the network's start, the pictures and the settings."""
    found = hashlib.sha256(repr((config, pictures.size, pictures.data.ids)).encode())
    for name, value in network.state_dict().items():
        found.update(name.encode() + value.detach().cpu().numpy().tobytes())
    return found.hexdigest()


def kept(state: Path | None, key: str, epoch: int, parts: Mapping[str, Any]) -> None:
    """Write what a training needs to go on after `epoch` epochs; the file is replaced whole."""
    if state is None:
        return
    record = {name: part.state_dict() for name, part in parts.items()}
    record |= {"key": key, "epoch": epoch, "random": torch.get_rng_state()}
    data = BytesIO()  # torch does not say why it could not write a file
    torch.save(record, data)
    write_bytes(state, data.getvalue())


def resumed(state: Path | None, key: str, parts: Mapping[str, Any], *, force: bool) -> int:
    """Epochs already done, with every part as it was then; 0 where none was, or it is of another
    training and that is `force`d. Raises DataError."""
    if state is None or not state.exists():
        return 0
    try:
        record = torch.load(state, weights_only=True)
    except Exception as error:  # torch names no base class for what a damaged file raises
        raise DataError(
            f"{state} must be the state of a stopped training; remove it to start anew."
        ) from error
    if record.get("key") != key:
        if force:
            return 0
        raise DataError(
            f"{state} must be the state of this training, not of another that was stopped; finish"
            f" that one with its own settings, choose another place, or give {FORCE}."
        )
    for name, part in parts.items():
        part.load_state_dict(record[name])
    torch.set_rng_state(record["random"])
    return int(record["epoch"])
