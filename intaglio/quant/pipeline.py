"""From a torch model and some images to a Program and its fake-quantised twin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils import _pytree as pytree

from intaglio.channels.losses import announce, losses_of
from intaglio.detect.decode import HeadSpec, spec_of
from intaglio.detect.heads.maps import check_shapes
from intaglio.detect.own import Head, OwnDecoder
from intaglio.errors import ModelError
from intaglio.fixed import Arithmetic
from intaglio.program import Program
from intaglio.quant.adjust.biases import fitted, rules
from intaglio.quant.adjust.compensate import compensated
from intaglio.quant.adjust.correct import corrected
from intaglio.quant.adjust.equalize import equalized
from intaglio.quant.adjust.silence import silenced
from intaglio.quant.capture.execute import run
from intaglio.quant.capture.export import capture, channel_values, in_eval
from intaglio.quant.capture.graph import FloatGraph
from intaglio.quant.capture.passes import own_weights, simplify
from intaglio.quant.capture.work import macs
from intaglio.quant.learn.reconstruct import Reconstructed, reconstruct
from intaglio.quant.lowering.lower import lower
from intaglio.quant.lowering.report import Differences, LayerReport, differences, layer_reports
from intaglio.quant.ranges.fake import FakeQuant
from intaglio.quant.ranges.groups import BUDGETED, groups
from intaglio.quant.ranges.observe import batches, check_images
from intaglio.quant.ranges.scales import Calibration, Scales, calibrate, choose
from intaglio.quant.search.detptq import Progress, Search, search, torch_device
from intaglio.quant.settings.config import QuantConfig
from intaglio.quant.widths.mixed import Mixed, mix
from intaglio.system.spread import HERE, Pool
from intaglio.system.steps import Steps
from intaglio.system.threads import for_torch, torch_threads

REPORTED = 16  # calibration images on which the report measures


@dataclass(frozen=True, eq=False)
class Quantized:
    """`program` runs on integers; `fake` is the same network in real numbers, rounded.

    `graph` is the simplified real-valued network, equalised if asked for; `fake.graph` is the same
    with corrected biases, and trained factors. `search` is what method "detptq" found, `mixed` the
    widths under budgets, `trained` what reconstruction did; `threads` are those that were asked
    for, of torch. `captured` is the network before all that, for another `quantize` of the model.
    """

    program: Program
    fake: FakeQuant
    graph: FloatGraph
    scales: Scales
    calibration: Calibration
    images: NDArray[np.uint8]
    search: Search | None = None
    mixed: Mixed | None = None
    trained: Reconstructed | None = None
    threads: int | None = None
    captured: FloatGraph | None = None

    def __repr__(self) -> str:
        return f"<Quantized to {self.program.in_words()}>"

    @cached_property
    def layers(self) -> tuple[LayerReport, ...]:
        """What quantisation does to each layer, measured on some of the calibration images."""
        images = self.images[:REPORTED]
        choices = self.search.choices if self.search else ()
        with torch_threads(self._torch_threads):
            return layer_reports(
                self.graph, self.fake, self.program, self.calibration, images, choices
            )

    def differences(
        self, integers: Mapping[str, NDArray[np.integer[Any]]], images: NDArray[np.uint8]
    ) -> Differences:
        """Where `fake`, in float64, departs from a simulator's tensors (all of them, by name)."""
        fake = FakeQuant(self.fake.graph, self.scales, torch.float64, self.fake.rules)
        with torch_threads(self._torch_threads):
            return differences(fake, integers, images)

    @property
    def _torch_threads(self) -> int:
        """How many torch is given."""
        return for_torch(sum(self.program.macs().values()), self.threads)


def quantize(
    model: nn.Module,
    images: NDArray[np.uint8],
    config: QuantConfig | None = None,
    *,
    device: str = "cpu",
    state: Path | None = None,
    force: bool = False,
    pool: Pool = HERE,
    progress: Progress | None = None,
    steps: Steps | None = None,
    threads: int | None = None,
    head: Head | None = None,
    captured: FloatGraph | None = None,
) -> Quantized:
    """Quantise `model` after training, calibrated on uint8 images (N, C, H, W).

    Conventions of the model: see `capture`. `head` says what its outputs mean; by default its
    attribute `head_spec` does, if it has one. A HeadSpec is kept as JSON in `program.meta["head"]`;
    a function of the user's own is not, as nothing in a file is run. Raises ModelError and
    DataError, each one sentence with a remedy.

    Method "detptq" runs on the torch device `device` and resumes from the file `state` if it was
    stopped; the state of another search is replaced where that is `force`d, and refused otherwise.
    Its candidates run in `pool`, with the same Program. Budgets use `device` too. Both, and a
    reconstruction, tell `progress` (done, total), each its own. The other methods need none of
    these. `steps` are told of `planned(config)`. `threads` are torch's; by default as many as
    `system.threads` gives a network of this size. `captured` is that of a `Quantized` of the same
    model and size of images, which saves capturing it again.
    """
    config = config or QuantConfig()
    steps = steps or Steps()
    with torch_threads(for_torch(macs(model, check_images(images)), threads)):
        found = quantized(
            model, images, config, device, state, force, pool, progress, steps, head, captured
        )  # fmt: skip
    return replace(found, threads=threads)


def quantized(
    model: nn.Module, images: NDArray[np.uint8], config: QuantConfig, device: str,
    state: Path | None, force: bool, pool: Pool, progress: Progress | None, steps: Steps,
    head: Head | None = None, captured: FloatGraph | None = None,
) -> Quantized:  # fmt: skip
    """As `quantize`, with the threads that torch has."""
    steps.plan(*planned(config))
    progress = progress or steps.progress
    torch_device(device)  # refused where it is none, used or not
    with steps.step("capture"):
        shape = check_images(images)
        head = head or spec_of(model)
        spec = outer_spec(head, config)
        if captured is None:
            captured = simplify(capture(model, shape, steps.tell))
        graph = captured
        if isinstance(head, HeadSpec):
            check_shapes(head, [graph.producer[t].shape for t in graph.outputs.values()])
        if config.arithmetic.power_of_two:
            graph = own_weights(graph)
    if config.equalize:
        with steps.step("equalisation"):
            graph = equalized(graph, images, config, steps.tell)
    with steps.step("calibration"):
        calibration = calibrate(graph, images, config, steps.tell)
        if not config.by_channel:
            graph = silenced(graph, calibration)
    mixed = None
    if config.budgets:
        with steps.step("widths"):
            mixed = mix(
                graph, calibration, images, config, needed(head, "a budget", "set widths"),
                device=device, progress=progress,
            )  # fmt: skip
        config = replace(config, widths=mixed.widths)
        calibration = replace(calibration, groups=groups(graph, config))
    found = None
    if config.method == "detptq":
        with steps.step("search"):
            found = search(
                graph, calibration, images, config, needed(head),
                device=device, state=state, force=force, pool=pool, progress=progress,
            )  # fmt: skip
        scales = found.scales
    else:
        with steps.step("ranges"):
            scales = choose(graph, calibration, config, steps.tell)
        if config.compensate:
            with steps.step("compensation"):
                scales = compensated(graph, scales, images, steps.tell)
    shifted = graph
    if config.correct_bias:
        with steps.step("bias correction"):
            shifted = corrected(graph, scales, images, steps.tell)
    learned = None
    if config.reconstruct is not None:
        with steps.step("reconstruction"):
            learned = reconstruct(
                graph, shifted, scales, calibration.groups, images, config, spec, progress
            )
        shifted, scales = learned.graph, learned.scales
    with steps.step("integers"):
        shifted, scales = fitted(shifted, scales, config.arithmetic)
        program = lower(shifted, scales, config.arithmetic, meta(head, config, calibration, graph))
    announce(losses_of(program.meta))
    fake = FakeQuant(shifted, scales, twin_type(config.arithmetic), rules(shifted, scales, program))
    return Quantized(
        program, fake, graph, scales, calibration, images, found, mixed, learned, captured=captured
    )


def planned(config: QuantConfig) -> tuple[str, ...]:
    """The steps that `quantize` takes."""
    search = config.method == "detptq"
    every = {
        "capture": True,
        "equalisation": config.equalize,
        "calibration": True,
        "widths": bool(config.budgets),
        "search": search,
        "ranges": not search,
        "compensation": config.compensate and not search,
        "bias correction": config.correct_bias,
        "reconstruction": config.reconstruct is not None,
        "integers": True,
    }
    return tuple(name for name, taken in every.items() if taken)


def twin_type(arithmetic: Arithmetic) -> torch.dtype:
    """What the fake-quantised twin computes in: whole biases put many values on a tie, from which
    float32 would fall to either side."""
    plain = arithmetic.forms == "own" and arithmetic.product == "exact"
    return torch.float32 if plain else torch.float64


def outer_spec(head: Head | None, config: QuantConfig) -> HeadSpec | None:
    """What a reconstruction is told of the outputs; None where it does not ask. Raises ModelError
    where it asks and no spec says."""
    if config.reconstruct is None or not config.reconstruct.odol:
        return None
    if isinstance(head, OwnDecoder):
        raise ModelError(
            "A model reconstructed by ODOL must have a HeadSpec, not a function of your own, which"
            " has no gradient; use Reconstruction(odol=False), on the command line --no-odol."
        )
    if head is None:
        raise ModelError(
            "A model reconstructed by ODOL must have an attribute `head_spec` that says what its"
            " outputs mean, and has none; use Reconstruction(odol=False), on the command line"
            " --no-odol."
        )
    return head


def needed(
    head: Head | None, purpose: str = "method detptq", remedy: str = "use method lp"
) -> Head:  # fmt: skip
    """What says what a detector's outputs mean. Raises ModelError without it."""
    if head is None:
        raise ModelError(
            f"A model for {purpose} must have an attribute `head_spec` that says what its"
            f" outputs mean, and has none; {remedy} for other networks."
        )
    return head


def meta(
    head: Head | None, config: QuantConfig, calibration: Calibration, graph: FloatGraph
) -> dict[str, Any]:
    """What the Program's file tells people and decoders."""
    record: dict[str, Any] = {
        "quantisation": {
            "wbits": config.wbits,
            "abits": config.abits,
            "first_wbits": config.first_wbits,
            "last_wbits": config.predictor_wbits,
            "sum_bits": config.operand_bits,
            "table_bits": config.index_bits,
            "method": config.method,
            "p": config.p,
            "equalize": config.equalize,
            "equalize_tables": config.equalize_tables,
            "equalize_noise": config.equalize_noise,
            "compensate": config.compensate,
            "correct_bias": config.correct_bias,
            "reconstruct": asdict(config.reconstruct) if config.reconstruct else None,
            "budgets": [str(budget) for budget in config.budgets],
            "wider": {
                g.tensors[0]: [g.bits, g.why]
                for g in calibration.groups
                if g.why not in ("", BUDGETED)
            },
        }
    }
    if isinstance(head, HeadSpec):
        record["head"] = head.to_json()
    if graph.cut:
        record["cut"] = list(graph.cut)
    return record


def float_predictor(model: nn.Module) -> Callable[[NDArray[np.uint8]], list[NDArray[np.float32]]]:
    """A function from uint8 images (N, C, H, W) to the torch model's own result maps, flattened:
    those that a Program of it has, where decoding is behind them."""
    whole, model = model, in_eval(model)
    graph: FloatGraph | None = None

    def predict(images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        channels = check_images(images)[0]
        mean, std = (
            torch.from_numpy(channel_values(model, name, channels, default)).float()
            for name, default in (("image_mean", 0.0), ("image_std", 1.0))
        )
        nonlocal graph
        parts = []
        with torch.no_grad():
            for pixels in batches(images, torch.float32):
                if graph is None:
                    x = (pixels / 255 - mean[:, None, None]) / std[:, None, None]
                    maps = pytree.tree_leaves(model(x))
                    if decoded(whole, maps):
                        graph = capture(whole, tuple(images.shape[1:]))
                if graph is not None:
                    maps = list(run(graph, pixels).values())
                parts.append([map.numpy() for map in maps])
        return [np.concatenate(maps) for maps in zip(*parts, strict=True)]

    return predict


def decoded(model: nn.Module, results: list[torch.Tensor]) -> bool:
    """Whether results are no maps as a head's layers make them, or others than were asked for."""
    return bool(getattr(model, "output_layers", None)) or any(r.ndim not in (2, 4) for r in results)
