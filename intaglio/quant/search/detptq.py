"""DetPTQ (arXiv 2304.09785): each layer's p of the Lp metric, chosen by the detector's outputs.

Steps are taken in the network's order: a layer's weights, then the tensor it makes. What comes
before a step is quantised as chosen, what comes after is real-valued. docs/detptq.md says what is
the paper's and what is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil, isfinite, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from intaglio.detect.own import Head
from intaglio.errors import ModelError
from intaglio.quant.capture.graph import FloatGraph
from intaglio.quant.ranges.scales import Calibration, Scales
from intaglio.quant.search.candidates import Candidates, Kind, Powers, Step, plan
from intaglio.quant.search.journal import Journal, digest
from intaglio.quant.search.judge import Ask, Judge, exactly, judged
from intaglio.quant.search.odol import nothing_found
from intaglio.quant.search.partial import Partial
from intaglio.quant.settings.config import QuantConfig
from intaglio.system.spread import HERE, Pool

Progress = Callable[[int, int], None]

ERRORS = 1.0  # a candidate that is worse by so many standard errors is out of the race
SHARE = 2  # a race looks at one in so many batches
NOTHING = 1e-12  # of ODOL


@dataclass(frozen=True)
class Choice:
    """The p chosen in a step.

    `curve` is {p: ODOL over that of the chosen p, on those images that both were run on}; p that
    make the same codes have the same value, and `tried` counts the different ones.
    """

    kind: Kind
    name: str
    p: float
    tried: int
    curve: Mapping[float, float]


@dataclass(frozen=True, eq=False)
class Search:
    """What a search found and what it took.

    `start` is the mean ODOL over the images with `config.p` everywhere, `end` with `scales`, which
    are those of the choices, or the start's if that is better (`kept`). `forwards` and
    `naive_forwards` are full-network forwards of one image, by multiply-accumulates: those that
    were run, and those of every p in every step on every image.
    """

    scales: Scales
    choices: tuple[Choice, ...]
    start: float
    end: float
    kept: bool
    forwards: float
    naive_forwards: int

    def sentence(self) -> str:
        """One line for people."""
        won = "" if self.kept else " (the start, as the choices gave more)"
        return (
            f"ODOL {self.start:.4f} -> {self.end:.4f}{won}; {self.forwards:,.0f} full-network"
            f" forwards instead of {self.naive_forwards:,}"
            f" ({self.naive_forwards / max(self.forwards, 1):.1f} times fewer)"
        )

    def to_json(self) -> dict[str, Any]:
        """JSON values; the choices are in the layers' report."""
        names = ("start", "end", "kept", "forwards", "naive_forwards")
        return {name: getattr(self, name) for name in names}


def search(
    graph: FloatGraph,
    calibration: Calibration,
    images: NDArray[np.uint8],
    config: QuantConfig,
    spec: Head,
    *,
    device: str = "cpu",
    state: Path | None = None,
    force: bool = False,
    pool: Pool = HERE,
    progress: Progress | None = None,
) -> Search:
    """Choose p for each step by ODOL on uint8 images (N, C, H, W).

    `state` is a file that the search keeps while it runs, resumes from, and removes at its end;
    that of another search is refused unless `force`d.
    A `pool` runs a step's candidates beside each other, with the same choices, but more forwards:
    each worker has a network of its own. `progress` is told (done, total) after each step. Raises
    ModelError for a device that torch does not have here and for result maps that do not fit
    `spec`, DataError for images on which the real-valued network finds nothing.
    """
    torch_device(device)
    journal = Journal(state, digest(graph, images, config, spec, device), force=force)
    candidates = Candidates(graph, calibration, config, images)
    steps = plan(graph, calibration)
    judge = Judge(candidates, images, spec, device)
    with exactly():
        network = judge.network()
        network.become(candidates.start)
        start = float(network.losses().mean())
        if start == 0:
            raise nothing_found(config.odol)
        if not isfinite(start):
            raise ModelError(
                "Results of the quantised network must be finite on the calibration images, not"
                " overflow float32; give its layers smaller weights."
            )
        choices = [read_choice(entry) for entry in journal.entries]
        scales = candidates.untouched()
        for step, choice in zip(steps, choices, strict=False):
            scales = joined(scales, candidates.change(step, choice.p))
        network.become(scales)
        if journal.entries:
            network.forwards = journal.entries[-1]["forwards"]
        for number in range(len(choices), len(steps)):
            tried = candidates.distinct(steps[number])
            others = None
            if pool is not HERE:
                others = judge.spread(pool, [choice.p for choice in choices], network)
            choice = decide(network, steps[number], tried, number, config, others)
            change = next(c for ps, c in tried.items() if choice.p in ps)
            network.accept(change)
            scales = joined(scales, change)
            choices.append(choice)
            journal.append(write_choice(choice, network.forwards))
            if progress is not None:
                progress(len(choices), len(steps))
        end = float(network.losses().mean())
    journal.remove()
    kept = end <= start
    return Search(
        scales if kept else candidates.start,
        tuple(choices),
        start,
        min(start, end),
        kept,
        network.forwards,
        len(candidates.powers) * len(steps) * len(images),
    )


def decide(
    network: Partial,
    step: Step,
    tried: Mapping[Powers, Scales],
    number: int,
    config: QuantConfig,
    others: Ask | None = None,
) -> Choice:
    """Race a step's candidates, batch after batch from the one called `number` on.

    Out of the race is who is clearly behind. It ends when one is left or a share of the batches
    was seen; with `config.thorough` all run on all. A tie goes to the p nearest to `config.p`.
    `others` run the candidates instead of `network`.
    """
    ask = others or partial(judged, network, tried)
    racing = list(tried)
    losses: dict[Powers, torch.Tensor] = {ps: torch.zeros(0, dtype=torch.float64) for ps in tried}
    count = len(network.batches)
    limit = count if config.thorough else max(2, ceil(count / SHARE))

    def rank(ps: Powers) -> tuple[float, float]:
        return float(losses[ps].sum()), min(abs(p - config.p) for p in ps)

    for turn in range(min(limit, count)):
        if len(racing) == 1:
            break
        for ps, more in zip(racing, ask((number + turn) % count, racing), strict=True):
            losses[ps] = torch.cat([losses[ps], more])
        if not config.thorough:
            best = min(racing, key=rank)
            racing = [ps for ps in racing if ps == best or close(losses[ps], losses[best])]
    best = min(racing, key=rank)
    curve = {p: ratio(losses[ps], losses[best]) for ps in tried for p in ps}
    p = min(best, key=lambda p: abs(p - config.p))
    return Choice(step.kind, step.name, p, len(tried), dict(sorted(curve.items())))


def close(losses: torch.Tensor, best: torch.Tensor) -> bool:
    """Whether losses (n,) may be as good as the best on the same images, after all."""
    if len(losses) < 2:
        return True
    behind = losses - best
    spread = float(behind.std()) / sqrt(len(behind))
    return float(behind.mean()) <= ERRORS * spread


def ratio(losses: torch.Tensor, best: torch.Tensor) -> float:
    """Their sums' ratio on the images of the shorter."""
    return (float(losses.sum()) + NOTHING) / (float(best[: len(losses)].sum()) + NOTHING)


def joined(scales: Scales, change: Scales) -> Scales:
    """`scales` with a change."""
    return Scales({**scales.grids, **change.grids}, {**scales.weights, **change.weights})


def torch_device(name: str) -> torch.device:
    """A device on which torch can hold a tensor. Raises ModelError where there is none."""
    try:
        device = torch.empty(0, device=name).device
        if device.type == "meta":
            raise RuntimeError("it holds no values")
        return device
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        reason = str(error).splitlines()[0].partition(". ")[0].rstrip(".")
        raise ModelError(
            f"device must be one that torch can use here, like cpu, not {name!r}: {reason}."
        ) from error


def write_choice(choice: Choice, forwards: float) -> dict[str, Any]:
    """A journal entry: the choice, and the forwards run so far."""
    return {
        "kind": choice.kind,
        "name": choice.name,
        "p": choice.p,
        "tried": choice.tried,
        "curve": list(choice.curve.items()),
        "forwards": forwards,
    }


def read_choice(entry: Mapping[str, Any]) -> Choice:
    """The choice of a journal entry."""
    curve = {float(p): float(value) for p, value in entry["curve"]}
    return Choice(entry["kind"], entry["name"], entry["p"], entry["tried"], curve)
