"""DetPTQ: the loss, the search against a naive one, its cost, and going on after a stop."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Pyramid, conv_norm, pixels, trained
from torch import nn

from intaglio.detect.decode import HeadSpec
from intaglio.detect.networks.fcos import FcosHead
from intaglio.detect.networks.retinanet import RetinaNetHead
from intaglio.errors import DataError, ModelError
from intaglio.file import save
from intaglio.quant import QuantConfig, Quantized, quantize
from intaglio.quant.capture import execute
from intaglio.quant.capture.export import capture
from intaglio.quant.capture.graph import Conv, FloatGraph, Image, Node
from intaglio.quant.capture.passes import simplify
from intaglio.quant.ranges.fake import rounded
from intaglio.quant.ranges.scales import Calibration, calibrate
from intaglio.quant.search.candidates import Candidates, plan
from intaglio.quant.search.detptq import decide, search
from intaglio.quant.search.odol import OdolTerms, OutputLoss
from intaglio.quant.search.partial import BATCH, Partial

torch.set_num_threads(1)
KINDS = ("fcos", "retinanet")
FAINT = OdolTerms(foreground=0.01)  # scores of untrained networks are low
CONFIG = QuantConfig(method="detptq", wbits=3, abits=3, odol=FAINT)
SHAPE = (3, 32, 40)
SPECS = {
    "fcos": HeadSpec("fcos", ("a", "b"), (4, 8)),
    "retinanet": HeadSpec(
        "retinanet", ("a", "b"), (4, 8), anchor_sizes=((9.0, 12.0), (18.0, 24.0)),
        anchor_ratios=(1.0,),
    ),
}  # fmt: skip


class Detector(nn.Module):
    """A skip, two levels, and the head of the kind."""

    def __init__(self, kind: str, channels: int = 5) -> None:
        super().__init__()
        self.head_spec = SPECS[kind]
        self.stem = conv_norm(3, channels, stride=2)
        self.body = conv_norm(channels, channels)
        self.fine = conv_norm(channels, channels, stride=2)
        self.coarse = conv_norm(channels, channels, stride=2)
        if kind == "fcos":
            self.head: nn.Module = FcosHead(channels, self.head_spec, 2, "multi")
        else:
            self.head = RetinaNetHead(channels, self.head_spec, 2, "multi")

    def forward(self, x: torch.Tensor) -> tuple[object, ...]:
        x = self.stem(x)
        fine = self.fine(torch.relu(x + self.body(x)))
        maps: tuple[object, ...] = self.head([fine, self.coarse(fine)])
        return maps


@cache
def detector(kind: str) -> nn.Module:
    """Weights from a seed, its last layers wide enough that scores differ."""
    torch.manual_seed(5)
    model = Detector(kind)
    for name, parameter in model.named_parameters():
        if name.endswith(("cls_logits.weight", "bbox_reg.weight", "ctrness.weight")):
            parameter.data *= 30
    return trained(model)


def maps(kind: str, seed: int, count: int = 3) -> list[torch.Tensor]:
    """Random result maps (count, C, h, w), some of them above the foreground's threshold."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [(8, 10), (4, 5)] * 3
    channels = SPECS[kind].channels
    return [
        torch.randn(count, c, h, w, generator=generator).abs()
        for c, (h, w) in zip(channels, sizes, strict=False)
    ]


def network(kind: str, images: np.ndarray, config: QuantConfig) -> tuple[FloatGraph, Calibration]:
    graph = simplify(capture(detector(kind), SHAPE))
    return graph, calibrate(graph, images, config)


# --- the loss -----------------------------------------------------------------------------------


@given(st.sampled_from(KINDS), st.integers(0, 2**31), st.floats(0.01, 3))
@settings(max_examples=25)
def test_odol_is_zero_for_equal_outputs_and_positive_for_others(
    kind: str, seed: int, noise: float
) -> None:
    real = maps(kind, seed)
    loss = OutputLoss(SPECS[kind], real, OdolTerms())
    assert loss(real).tolist() == [0.0, 0.0, 0.0]
    generator = torch.Generator().manual_seed(seed)
    found = [m + noise * torch.randn(m.shape, generator=generator) for m in real]
    by_level = loss.by_level(found)
    assert by_level.shape == (2, 3, 3)
    assert (by_level[:, :2] > 0).all()
    assert ((by_level[:, 2] > 0) == (kind == "fcos")).all()
    torch.testing.assert_close(loss(found), by_level.sum(dim=(0, 1)))


@pytest.mark.parametrize("kind", KINDS)
def test_each_map_moves_its_own_term_of_its_own_level_and_image(kind: str) -> None:
    real = maps(kind, 0)
    loss = OutputLoss(SPECS[kind], real, OdolTerms())
    for index in range(len(real)):
        found = [m.clone() for m in real]
        found[index][1] += 0.5
        term, level = divmod(index, 2)
        moved = loss.by_level(found).nonzero().tolist()
        assert moved == [[level, term, 1]]


def test_only_the_foreground_of_the_real_network_counts() -> None:
    real = [m - 20 if n < 2 else m for n, m in enumerate(maps("fcos", 1))]
    real[0][0, 0, 2, 3] = 4.0
    loss = OutputLoss(SPECS["fcos"], real, OdolTerms())
    found = [m.clone() for m in real]
    found[0][:, :, 4:] += 19
    assert loss(found).tolist() == [0, 0, 0]
    found[2][0, 0, 2, 3] += 1
    assert (loss(found) > 0).tolist() == [True, False, False]


@given(st.integers(0, 2**31), st.floats(0.1, 8))
@settings(max_examples=15)
def test_terms_are_weighted(seed: int, weight: float) -> None:
    real, found = maps("fcos", seed), maps("fcos", seed + 1)
    plain, heavy = (
        OutputLoss(SPECS["fcos"], real, OdolTerms(by_box=w)).by_level(found) for w in (1, weight)
    )
    torch.testing.assert_close(heavy[:, 1], weight * plain[:, 1])
    torch.testing.assert_close(heavy[:, ::2], plain[:, ::2])


# --- the search ---------------------------------------------------------------------------------


def naive(
    graph: FloatGraph, calibration: Calibration, images: np.ndarray, config: QuantConfig
) -> list[tuple[float, dict[float, float]]]:
    """Every p in every step through the whole network on every image: (the best, the losses)."""
    candidates = Candidates(graph, calibration, config, images)
    spec = SPECS["fcos" if any("ctr" in n.output for n in graph.nodes) else "retinanet"]
    parts = [torch.from_numpy(images[i : i + BATCH]).float() for i in range(0, len(images), BATCH)]
    chosen, found = candidates.untouched(), []

    def total(grids: dict, weights: dict) -> float:
        def visit(node: Node, value: torch.Tensor) -> torch.Tensor:
            return rounded(node, value, grids) if node.output in grids else value

        real = execute.tensors(graph, torch.float32)
        codes = {n: torch.from_numpy(c.real).float() for n, c in weights.items()}
        losses = []
        for part in parts:
            loss = OutputLoss(spec, list(execute.run(graph, part).values()), config.odol)
            maps = execute.run(graph, part, weights=real | codes, visit=visit)
            losses.append(loss(list(maps.values())))
        return float(torch.cat(losses).sum())

    grids, weights = dict(chosen.grids), dict(chosen.weights)
    with torch.no_grad():
        for step in plan(graph, calibration):
            made = {p: candidates.change(step, p) for p in candidates.powers}
            losses = {p: total(grids | c.grids, weights | c.weights) for p, c in made.items()}
            best = min(losses, key=lambda p: (losses[p], abs(p - config.p)))
            grids |= made[best].grids
            weights |= made[best].weights
            found.append((best, losses))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_thorough_search_chooses_as_the_naive_one(kind: str) -> None:
    config = QuantConfig(
        method="detptq",
        wbits=3,
        abits=3,
        correct_bias=False,
        compensate=False,
        thorough=True,
        odol=FAINT,
    )
    images = pixels(SHAPE, 2 * BATCH)
    graph, calibration = network(kind, images, config)
    done = search(graph, calibration, images, config, SPECS[kind])
    expected = naive(graph, calibration, images, config)
    assert len(done.choices) == len(expected) == len(plan(graph, calibration))
    for choice, (p, losses) in zip(done.choices, expected, strict=True):
        assert choice.p == p, choice.name
        assert choice.curve[p] == 1.0
        for other, ratio in choice.curve.items():
            assert ratio == pytest.approx(losses[other] / losses[p], rel=1e-9), choice.name
    assert done.naive_forwards == 7 * len(expected) * len(images)
    assert done.forwards * 2 < done.naive_forwards


def test_a_race_is_ten_times_cheaper_than_the_naive_search() -> None:
    images = pixels(SHAPE, 32)
    for kind in KINDS:
        graph, calibration = network(kind, images, CONFIG)
        done = search(graph, calibration, images, CONFIG, SPECS[kind])
        assert done.forwards * 10 <= done.naive_forwards
        assert done.end <= done.start


def test_what_a_race_chooses_is_as_good_on_all_images() -> None:
    """Both judge the same candidates, after the same choices: what the race's p give away against
    the best p is less than a fifth of what the worst p would, and never 3 % of ODOL."""
    images = pixels(SHAPE, 32)
    graph, calibration = network("fcos", images, CONFIG)
    candidates = Candidates(graph, calibration, CONFIG, images)
    partial = Partial(
        graph, images, lambda real: OutputLoss(SPECS["fcos"], real, CONFIG.odol),
        correct_bias=True, device=torch.device("cpu"),
    )  # fmt: skip
    lost = worst = 0.0
    with torch.no_grad():
        partial.become(candidates.untouched())
        for number, step in enumerate(plan(graph, calibration)):
            tried = candidates.distinct(step)
            everything = replace(CONFIG, thorough=True)
            full, race = (decide(partial, step, tried, number, c) for c in (everything, CONFIG))
            assert full.curve[race.p] < 1.03, step.name
            lost += full.curve[race.p] - 1
            worst += max(full.curve.values()) - 1
            partial.accept(next(change for ps, change in tried.items() if race.p in ps))
    assert lost < worst / 5


def test_steps_cover_every_weight_and_every_searched_tensor_once() -> None:
    images = pixels(SHAPE, 4)
    config = QuantConfig(method="detptq", odol=FAINT)
    graph, calibration = network("fcos", images, config)
    steps = plan(graph, calibration)
    assert len({(s.kind, s.name) for s in steps}) == len(steps)
    assert {s.name for s in steps if s.kind == "weights"} == set(graph.weights)
    tensors = {t for s in steps if s.group for t in s.group.tensors}
    wide = set(graph.outputs.values())
    image = next(n.output for n in graph.nodes if isinstance(n, Image))
    assert tensors | wide | {image} == {n.output for n in graph.nodes}
    order = [n.output for n in graph.nodes]
    first = {n.weight: n.output for n in reversed(graph.nodes) if isinstance(n, Conv)}
    places = [order.index(first.get(s.name, s.name)) for s in steps]
    assert places == sorted(places)


def test_p_that_make_the_same_codes_are_tried_once() -> None:
    images = pixels(SHAPE, 4)
    config = QuantConfig(method="detptq", pot_scales=True, compensate=False, odol=FAINT)
    graph, calibration = network("fcos", images, config)
    candidates = Candidates(graph, calibration, config, images)
    counts = []
    for step in plan(graph, calibration):
        distinct = candidates.distinct(step)
        assert sorted(p for ps in distinct for p in ps) == list(candidates.powers)
        counts.append(len(distinct))
        for ps, scales in distinct.items():
            for p in ps:
                again = candidates.change(step, p)
                assert again.grids == scales.grids
                for name, codes in again.weights.items():
                    np.testing.assert_array_equal(codes.codes, scales.weights[name].codes)
    assert sum(counts) < 0.5 * 7 * len(counts)
    done = search(graph, calibration, images, config, SPECS["fcos"])
    assert [choice.tried for choice in done.choices] == counts


# --- as a user meets it -------------------------------------------------------------------------


def written(done: Quantized, path: Path) -> bytes:
    save(done.program, path)
    return path.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_the_report_gives_each_layers_p_and_curve(kind: str) -> None:
    told: list[tuple[int, int]] = []
    config = QuantConfig(method="detptq", odol=FAINT)
    done = quantize(
        detector(kind), pixels(SHAPE, 8), config, progress=lambda *step: told.append(step)
    )
    assert done.search is not None
    total = len(done.search.choices)
    assert told == [(n + 1, total) for n in range(total)]
    by_name = {(c.kind, c.name): c for c in done.search.choices}
    nodes = done.graph.producer
    for row in done.layers:
        node, codes = nodes[row.layer], by_name.get(("codes", row.layer))
        assert (row.p, dict(row.odol)) == ((codes.p, dict(codes.curve)) if codes else (None, {}))
        if isinstance(node, Conv):
            assert row.weight_p == by_name["weights", node.weight].p
            assert row.weight_odol[row.weight_p] == 1.0
        json.dumps(row.to_json())
    assert "times fewer" in done.search.sentence()
    assert set(done.search.to_json()) == {"start", "end", "kept", "forwards", "naive_forwards"}


class StoppedError(Exception):
    """Raised in the middle of a search."""


@pytest.mark.parametrize("after", [1, 7, 19])
def test_a_stopped_search_goes_on_to_the_same_program(after: int, tmp_path: Path) -> None:
    config, images = QuantConfig(method="detptq", odol=FAINT), pixels(SHAPE, 8)
    state = tmp_path / "state.json"
    whole = quantize(detector("fcos"), images, config)

    def stop(done: int, total: int) -> None:
        if done == after:
            raise StoppedError

    with pytest.raises(StoppedError):
        quantize(detector("fcos"), images, config, state=state, progress=stop)
    assert len(json.loads(state.read_text())["entries"]) == after
    told: list[int] = []
    again = quantize(
        detector("fcos"), images, config, state=state, progress=lambda n, _: told.append(n)
    )
    assert told[0] == after + 1
    assert not list(tmp_path.iterdir())
    assert written(again, tmp_path / "again") == written(whole, tmp_path / "whole")
    assert again.search is not None
    assert whole.search is not None
    assert again.search.choices == whole.search.choices
    assert (again.search.start, again.search.end) == (whole.search.start, whole.search.end)


def test_the_state_of_another_search_is_kept_and_not_used(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    state.write_text(json.dumps({"key": "other", "entries": [{"p": 5.0}]}))
    config, images = QuantConfig(method="detptq", odol=FAINT), pixels(SHAPE, 4)
    before = state.read_bytes()
    with pytest.raises(DataError) as error:
        quantize(detector("fcos"), images, config, state=state)
    assert str(error.value) == (
        f"{state} must be the state of this search, not of another that was interrupted; finish"
        " that one with its own settings, choose another place, or give --force."
    )
    assert state.read_bytes() == before
    done = quantize(detector("fcos"), images, config, state=state, force=True)
    assert not state.exists()
    plain = quantize(detector("fcos"), images, config)
    assert written(done, tmp_path / "a") == written(plain, tmp_path / "b")


def test_what_a_search_refuses(tmp_path: Path) -> None:
    config, images = QuantConfig(method="detptq", odol=FAINT), pixels(SHAPE, 4)
    with pytest.raises(ModelError) as error:
        quantize(trained(Pyramid()), pixels((3, 24, 30), 2), config)
    assert str(error.value) == (
        "A model for method detptq must have an attribute `head_spec` that says what its outputs"
        " mean, and has none; use method lp for other networks."
    )
    with pytest.raises(ModelError) as error:
        quantize(detector("fcos"), images, config, device="abacus")
    assert "device must be one that torch can use here, like cpu, not 'abacus':" in str(error.value)
    state = tmp_path / "state.json"
    state.write_text("{")
    with pytest.raises(DataError) as refused:
        quantize(detector("fcos"), images, config, state=state)
    assert str(refused.value).startswith(f"{state} must be the state of an interrupted search, but")
    assert str(refused.value).endswith("; remove it to start anew.")
    blind = QuantConfig(method="detptq", odol=OdolTerms(foreground=0.999))
    with pytest.raises(DataError) as refused:
        quantize(detector("retinanet"), images // 8, blind)
    assert str(refused.value) == (
        "Calibration images must show what the model detects, not nothing with a score of 0.999 or"
        " more; give pictures like those it was trained on."
    )
    with pytest.raises(ModelError) as error:
        OdolTerms(foreground=0.0)
    assert str(error.value) == "foreground must be between 0 and 1, not 0.0."
    with pytest.raises(ModelError) as error:
        OdolTerms(by_class=0, by_box=0, by_centre=0)
    assert "ODOL's weights must be" in str(error.value)
