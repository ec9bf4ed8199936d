"""Block reconstruction, and an outer objective: rounding, steps and tables trained without labels.

First the blocks, where asked for, in the network's order, each to give what it gives in the
real-valued network (AdaRound and BRECQ), on inputs and with activations of which some stay real
(QDrop). Then the whole network at once, by the detector's outputs (ODOL) and the blocks' results:
its weights are real at first and rounded few at a time, while the others make up for them. The
images are random variants of the calibration images, which the real-valued network labels.
docs/reconstruction.md says what is whose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from intaglio.detect.decode import HeadSpec
from intaglio.quant.capture.execute import compute, run, tensors
from intaglio.quant.capture.graph import Conv, FloatGraph, Image, Node
from intaglio.quant.learn.augment import variants
from intaglio.quant.learn.blocks import Block, blocks
from intaglio.quant.learn.learner import Learner, Values, mixed, product
from intaglio.quant.ranges.groups import PIXEL_BITS, Group
from intaglio.quant.ranges.scales import Scales
from intaglio.quant.search.odol import OutputLoss, nothing_found
from intaglio.quant.settings.config import QuantConfig, Reconstruction

Progress = Callable[[int, int], None]

PIXELS = 2**22  # of the images that are held at once
PASSES = 4  # over the images held, before others are made
PLAIN = 0.1  # share of images that are no variants
RUN = 32  # images run at once where nothing is trained
WARMING = 0.05  # of the iterations, in which rates rise
BEGUN, ENDED = 0.05, 0.85  # parts of the iterations between which weights are rounded,
EVERY = 10  # some more after so many
# Times the rate: small for a block, which has little to go by.
BLOCK_RATES = {"codes": 1.0, "steps": 0.3, "gains": 0.2, "shifts": 10.0}
WHOLE_RATES = {"codes": 10.0, "steps": 1.0, "gains": 1.0, "shifts": 5.0}
CONSTANT = 1e-4  # of a tensor's largest value: what counts as its deviation at least
NHWC = torch.channels_last  # a quarter faster than NCHW where channels are few


@dataclass(frozen=True, eq=False)
class Reconstructed:
    """What was learned. `start` and `end` are the outer objective on the calibration images before
    and after; where it did not fall, `graph` and `scales` are those of the start."""

    graph: FloatGraph
    scales: Scales
    start: float
    end: float

    def sentence(self) -> str:
        """One line for people."""
        return f"reconstruction: loss {self.start:.4f} -> {self.end:.4f}"

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {"start": self.start, "end": self.end}


def reconstruct(
    real: FloatGraph,
    graph: FloatGraph,
    scales: Scales,
    groups: Sequence[Group],
    images: NDArray[np.uint8],
    config: QuantConfig,
    spec: HeadSpec | None,
    progress: Progress | None = None,
) -> Reconstructed:
    """Train `scales`, and scale and shift of `graph`'s convolutions, on uint8 images (N, C, H, W),
    as `config.reconstruct` says.

    `graph` is `real`, with other shifts perhaps. The objective is ODOL if `spec` says what the
    results mean, else their squared error. Equal calls give equal results on one machine, with one
    number of torch threads.
    """
    training = Training(real, graph, scales, groups, images, config, spec, progress)
    start = training.loss_now()
    if spec is not None and not training.foreground:
        raise nothing_found(config.odol)
    training.learner.unround()
    training.by_block()
    training.as_a_whole()
    end = training.loss_now()
    if end < start:
        return Reconstructed(*training.learner.learned(), start, end)
    return Reconstructed(graph, scales, start, start)


class Training:
    """A reconstruction as it goes on."""

    def __init__(
        self,
        real: FloatGraph,
        graph: FloatGraph,
        scales: Scales,
        groups: Sequence[Group],
        images: NDArray[np.uint8],
        config: QuantConfig,
        spec: HeadSpec | None,
        progress: Progress | None = None,
    ) -> None:
        self.settings = settings = config.reconstruct or Reconstruction()
        self.real = real
        self.terms, self.spec = config.odol, spec
        self.images = torch.from_numpy(images).contiguous(memory_format=NHWC)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.weights = tensors(real, torch.float32)
        self.blocks = blocks(graph)
        self.results = list(graph.outputs.values())
        aims = dict.fromkeys([*(t for b in self.blocks for t in b.outputs), *self.results])
        convs = [node.output for node in graph.nodes if isinstance(node, Conv)]
        spread = measured(self.real, self.weights, self.images, {*aims, *convs})
        self.power = {t: spread[t] ** 2 for t in aims}
        self.features = [t for t in aims if t not in self.results]
        self.learner = Learner(
            graph, scales, groups, spread, power_of_two=config.power_of_two, reach=settings.reach
        )
        self.image = next(n.output for n in graph.nodes if isinstance(n, Image))
        self.progress = progress
        self.foreground = False  # whether the images show anything to the detector
        self.done = 0
        self.total = len(self.blocks) * settings.block_iterations + settings.iterations

    # --- blocks -----------------------------------------------------------------------------

    def by_block(self) -> None:
        """Train block after block."""
        if self.settings.block_iterations == 0:
            return
        pixels = self.pool(self.held())
        theirs: Values = {self.image: pixels}
        ours: Values = {self.image: pixels}
        fixed: set[str] = set()
        for number, block in enumerate(self.blocks):
            theirs |= batched(self.real_block(block), theirs, block.inputs, block.outputs)
            self.train_block(block, theirs, ours, fixed)
            ours |= batched(self.our_block(block), ours, block.inputs, block.outputs)
            fixed |= {node.output for node in block.nodes}
            later = {name for other in self.blocks[number + 1 :] for name in other.inputs}
            for name in [name for name in ours if name not in later]:
                del ours[name], theirs[name]

    def train_block(self, block: Block, theirs: Values, ours: Values, fixed: set[str]) -> None:
        """Make a block's outputs those of the real-valued network."""
        settings = self.settings
        count = len(ours[block.inputs[0]])
        order = self.order(count)

        def loss() -> torch.Tensor:
            which = next(order)
            values = {
                name: mixed(ours[name][which], theirs[name][which], settings.drop, self.generator)
                for name in block.inputs
            }
            values = {name: value.float() for name, value in values.items()}
            self.learner.run(block.nodes, values, settings.drop, self.generator)
            wanted = {name: theirs[name][which] for name in block.outputs}
            return self.distance(values, wanted, block.outputs)

        self.descend(block.nodes, fixed, settings.block_iterations, BLOCK_RATES, loss)

    def real_block(self, block: Block) -> Callable[[Values], None]:
        """The block in the real-valued network."""
        nodes = [self.real.producer[node.output] for node in block.nodes]

        def go(values: Values) -> None:
            for node in nodes:
                inputs = [values[name] for name in node.inputs]
                values[node.output] = compute(node, inputs, self.weights)

        return go

    def our_block(self, block: Block) -> Callable[[Values], None]:
        """The block as it is trained so far."""
        return lambda values: self.learner.run(block.nodes, values)

    # --- the whole network --------------------------------------------------------------------

    def as_a_whole(self) -> None:
        """Train all blocks at once by the outer objective."""
        if self.settings.iterations == 0:
            return
        nodes = [node for block in self.blocks for node in block.nodes]
        batches = self.batches()

        def loss() -> torch.Tensor:
            values, wanted = next(batches)
            self.learner.run(nodes, values)
            return self.objective(values, wanted)

        def round_some(iteration: int) -> None:
            if iteration % EVERY == 0:
                self.learner.tighten(rounded(iteration / self.settings.iterations))

        self.descend(nodes, set(), self.settings.iterations, WHOLE_RATES, loss, round_some)
        self.learner.tighten(1.0)

    def batches(self) -> Iterator[tuple[Values, Values]]:
        """Without end: images with the products of `untrained`, and the real-valued network's
        values for them."""
        first = self.untrained()
        ready = [self.image, *(product(node) for node in first)]
        while True:
            pixels = {self.image: self.pool(self.held())}
            given = batched(
                lambda values: self.learner.multiply(first, values), pixels, [self.image], ready
            )
            wanted = batched(
                lambda values: values.update(self.aims(values[self.image])),
                pixels, [self.image], list(self.power),
            )  # fmt: skip
            count = len(given[self.image])
            order = self.order(count)
            for _ in range(max(1, PASSES * count // self.settings.batch)):
                which = next(order)
                yield picked(given, which), picked(wanted, which)

    def untrained(self) -> list[Conv]:
        """Convolutions of the image alone whose weights have 8 bits and need no training: their
        products, the largest maps of all, are computed once for all passes over the images."""
        graph, found = self.learner.graph, []
        for name, codes in self.learner.scales.weights.items():
            sites = graph.call_sites[name]
            if codes.type.bits >= PIXEL_BITS and all(s.input == self.image for s in sites):
                found += sites
        return found

    def aims(self, pixels: torch.Tensor) -> Values:
        """Block results and final maps of the real-valued network."""
        kept: Values = {}

        def visit(node: Node, value: torch.Tensor) -> torch.Tensor:
            if node.output in self.power:
                kept[node.output] = value
            return value

        run(self.real, pixels, weights=self.weights, visit=visit)
        return kept

    def objective(self, values: Values, wanted: Values) -> torch.Tensor:
        """What the whole network is trained by."""
        near = self.distance(values, wanted, self.features) / max(len(self.features), 1)
        return self.settings.features * near + self.outer(values, wanted)

    def outer(self, values: Values, wanted: Values) -> torch.Tensor:
        """How far the final maps are from the real-valued network's: ODOL, or a squared error."""
        if self.spec is None:
            return self.distance(values, wanted, self.results) / len(self.results)
        odol = OutputLoss(self.spec, [wanted[t] for t in self.results], self.terms)
        self.foreground = self.foreground or bool(odol.total.any())
        return odol([values[t] for t in self.results]).mean().float()

    def loss_now(self) -> float:
        """`outer` on the calibration images."""
        nodes = [node for block in self.blocks for node in block.nodes]
        total = 0.0
        with torch.no_grad():
            for part in torch.split(self.images, RUN):
                pixels = part.float()
                values = {self.image: pixels}
                self.learner.run(nodes, values)
                total += float(self.outer(values, self.aims(pixels))) * len(part)
        return total / len(self.images)

    # --- both -----------------------------------------------------------------------------------

    def distance(self, values: Values, wanted: Values, names: Sequence[str]) -> torch.Tensor:
        """Squared errors over variances, summed over tensors."""
        errors = [(values[t] - wanted[t]).square().mean() / self.power[t] for t in names]
        return torch.stack(errors).sum() if errors else torch.zeros(())

    def held(self) -> int:
        """How many images are held at once."""
        _, _, height, width = self.images.shape
        return max(self.settings.batch, min(512, PIXELS // (height * width)))

    def pool(self, count: int) -> torch.Tensor:
        """So many variants of the images, and some of the images as they are."""
        picked = self.images[torch.randint(len(self.images), (count,), generator=self.generator)]
        if not self.settings.augment:
            return picked
        changed = torch.cat([variants(part, self.generator) for part in torch.split(picked, RUN)])
        plain = torch.rand(count, 1, 1, 1, generator=self.generator) < PLAIN
        return torch.where(plain, picked, changed).contiguous(memory_format=NHWC)

    def order(self, count: int) -> Iterator[torch.Tensor]:
        """Batches of indices without end, each index once a pass."""
        size = min(self.settings.batch, count)
        while True:
            shuffled = torch.randperm(count, generator=self.generator)
            yield from torch.split(shuffled[: count - count % size], size)

    def descend(
        self,
        nodes: Sequence[Node],
        fixed: set[str],
        iterations: int,
        relative: Mapping[str, float],
        loss: Callable[[], torch.Tensor],
        before: Callable[[int], None] = lambda iteration: None,
    ) -> None:
        """Adam with rates that rise, then fall to 0 as a cosine does. `before` is called with the
        number of each iteration."""
        variables = self.learner.variables(nodes, fixed)
        rate = self.settings.rate
        rates = {kind: relative[kind] * rate for kind, found in variables.items() if found}
        if not rates:
            return
        groups = [{"params": variables[kind], "lr": rate} for kind, rate in rates.items()]
        adam = torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)
        warm = max(1, int(iterations * WARMING))
        for iteration in range(iterations):
            part = min(1.0, (iteration + 1) / warm) * (1 + cos(pi * iteration / iterations)) / 2
            for group, rate in zip(adam.param_groups, rates.values(), strict=True):
                group["lr"] = rate * part
            before(iteration)
            adam.zero_grad()
            loss().backward()  # type: ignore[no-untyped-call]  # torch's
            adam.step()
            self.learner.confine()
            self.done += 1
            if self.progress is not None:
                self.progress(self.done, self.total)


def rounded(part: float) -> float:
    """The share of weights that are rounded after so large a part of the iterations: many at first,
    few of the last, which have most to make up for."""
    left = 1 - (part - BEGUN) / (ENDED - BEGUN)
    return 1 - min(max(left, 0.0), 1.0) ** 2


def batched(
    go: Callable[[Values], None], values: Values, inputs: Sequence[str], outputs: Sequence[str]
) -> Values:
    """The `outputs` that `go` adds to values, computed for some images at a time."""
    parts: dict[str, list[torch.Tensor]] = {name: [] for name in outputs}
    with torch.no_grad():
        for first in range(0, len(values[inputs[0]]), RUN):
            some = {name: values[name][first : first + RUN].float() for name in inputs}
            go(some)
            for name in outputs:
                parts[name].append(some[name])
    return {name: torch.cat(found) for name, found in parts.items()}


def picked(values: Values, which: torch.Tensor) -> Values:
    """Values of some images."""
    return {name: value[which] for name, value in values.items()}


def measured(
    graph: FloatGraph, weights: Values, images: torch.Tensor, names: set[str]
) -> dict[str, float]:
    """Standard deviations, over images and positions, about each channel's mean; for a tensor that
    is constant a small share of its size, so that it does not outweigh all others."""
    sums: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    least = dict.fromkeys(names, 1e-6)

    def visit(node: Node, value: torch.Tensor) -> torch.Tensor:
        if node.output in names:
            sums[node.output].append(value.var(dim=(0, 2, 3), correction=0).mean())
            size = CONSTANT * float(value.abs().amax())
            least[node.output] = max(least[node.output], size)
        return value

    with torch.no_grad():
        for part in torch.split(images, RUN):
            run(graph, part.float(), weights=weights, visit=visit)
    return {n: max(float(torch.stack(v).mean()) ** 0.5, least[n]) for n, v in sums.items()}
