"""A step's candidates judged by whoever is free: what DetPTQ's search hands to other processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from intaglio.detect.own import Head
from intaglio.quant.ranges.scales import Scales
from intaglio.quant.search.candidates import Candidates, Powers, plan
from intaglio.quant.search.found import loss_of
from intaglio.quant.search.partial import Partial, Values
from intaglio.system.spread import Pool

Ask = Callable[[int, Sequence[Powers]], list[torch.Tensor]]


@dataclass(frozen=True)
class Question:
    """The losses of one candidate of the step after those where p was `chosen`, on one batch?"""

    chosen: tuple[float, ...]
    batch: int
    candidate: Powers


@dataclass(frozen=True)
class Answer:
    """Losses (n,) of the batch's images, and the full-network forwards that they took."""

    losses: NDArray[np.float64]
    forwards: float


class Judge:
    """Answers questions with a network of its own, which follows what was chosen.

    A copy in another process begins without the network and makes it at its first question.
    """

    def __init__(
        self, candidates: Candidates, images: NDArray[np.uint8], spec: Head, device: str
    ) -> None:
        self.candidates = candidates
        self.images = images
        self.spec = spec
        self.device = device
        self._network: Partial | None = None
        self._chosen: tuple[float, ...] = ()
        self._tried: dict[Powers, Scales] = {}

    def __getstate__(self) -> dict[str, Any]:
        """The question's side alone."""
        return {**self.__dict__, "_network": None, "_chosen": (), "_tried": {}}

    def __call__(self, question: Question) -> Answer:
        with exactly():
            network = self._follow(question.chosen)
            before = network.forwards
            (losses,) = judged(network, self._tried, question.batch, [question.candidate])
        return Answer(losses.numpy(), network.forwards - before)

    def _follow(self, chosen: tuple[float, ...]) -> Partial:
        """The network after those choices."""
        candidates = self.candidates
        network, known = self._network, len(self._chosen)
        if network is None or self._chosen != chosen[:known]:
            network, known = self.network(), 0
            network.become(candidates.untouched())
        elif chosen == self._chosen:
            return network
        steps = plan(candidates.graph, candidates.calibration)
        for step, p in zip(steps[known:], chosen[known:], strict=False):
            network.accept(candidates.change(step, p))
        self._network, self._chosen = network, chosen
        self._tried = candidates.distinct(steps[len(chosen)])
        return network

    def network(self) -> Partial:
        """The real-valued network, and ODOL of each batch."""
        config = self.candidates.config
        return Partial(
            self.candidates.graph,
            self.images,
            loss_of(self.spec, config.odol, (self.images.shape[2], self.images.shape[3])),
            correct_bias=config.correct_bias,
            device=torch.device(self.device),
        )

    def spread(self, pool: Pool, chosen: Sequence[float], network: Partial) -> Ask:
        """Asks the workers of `pool`, a candidate each; `network` counts their forwards."""

        def ask(batch: int, racing: Sequence[Powers]) -> list[torch.Tensor]:
            questions = [Question(tuple(chosen), batch, ps) for ps in racing]
            answers = list(pool.map(self, questions))
            network.forwards += sum(answer.forwards for answer in answers)
            return [torch.from_numpy(answer.losses) for answer in answers]

        return ask


def judged(
    network: Partial, tried: Mapping[Powers, Scales], batch: int, racing: Sequence[Powers]
) -> list[torch.Tensor]:
    """The losses (n,) of each candidate racing, on a batch."""
    nodes = network.after(next(iter(tried.values())))
    kept: Values = {}
    return [network.run(network.batches[batch], nodes, tried[ps], kept) for ps in racing]


def exactly() -> AbstractContextManager[Any]:
    """torch without gradients, and the same from run to run."""
    stack = ExitStack()
    stack.enter_context(torch.no_grad())
    stack.enter_context(torch.backends.cudnn.flags(deterministic=True, allow_tf32=False))
    return stack
