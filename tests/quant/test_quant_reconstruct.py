"""Reconstruction: its blocks, its variables, what it keeps, and what comes out of it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import log2

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from models import Mixed, Pyramid, conv_norm, networks, pixels, trained
from test_quant_detptq import FAINT, KINDS, SHAPE, SPECS, detector, maps
from test_quant_lower import assert_nearest
from torch import nn

from intaglio.detect.decode import to_boxes
from intaglio.errors import ModelError
from intaglio.fixed import preset
from intaglio.quant import FakeQuant, QuantConfig, Quantized, Reconstruction, quantize
from intaglio.quant.capture.execute import run
from intaglio.quant.capture.export import capture
from intaglio.quant.capture.graph import Conv, FloatGraph, Image
from intaglio.quant.capture.passes import simplify
from intaglio.quant.learn.augment import variants
from intaglio.quant.learn.blocks import LARGEST, blocks
from intaglio.quant.learn.reconstruct import Training
from intaglio.quant.search.odol import OdolTerms, OutputLoss
from intaglio.sim.engine import Simulator

torch.set_num_threads(1)
QUICK = Reconstruction(iterations=120, block_iterations=8, batch=8, reach=1, rate=1e-2)
# From plain rounding to two bits there is much to gain, so that it falls on any machine.
CONFIG = QuantConfig(
    wbits=2, abits=4, compensate=False, correct_bias=False, reconstruct=QUICK, odol=FAINT
)


@cache
def reconstructed(kind: str) -> Quantized:
    return quantize(detector(kind), pixels(SHAPE, 12), CONFIG)


def untrained(kind: str) -> Quantized:
    return quantize(detector(kind), pixels(SHAPE, 12), replace(CONFIG, reconstruct=None))


# --- the loss -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_odol_leads_back_to_the_real_outputs(kind: str) -> None:
    """Descending its gradient from disturbed maps finds the foreground again."""
    real = maps(kind, 3)
    loss = OutputLoss(SPECS[kind], real, OdolTerms())
    noise = [0.3 * other for other in maps(kind, 4)]
    found = [(m + n).requires_grad_() for m, n in zip(real, noise, strict=True)]
    adam = torch.optim.Adam(found, lr=0.02)
    first = float(loss(found).sum().detach())
    for _ in range(100):
        adam.zero_grad()
        value = loss(found).sum()
        value.backward()
        adam.step()
    assert float(value.detach()) < first / 5


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_are_the_same_in_numpy_and_in_torch(kind: str) -> None:
    rng = np.random.default_rng(0)
    anchors, regression = rng.normal(0, 9, (50, 4)), rng.normal(0, 3, (50, 4))
    found = to_boxes(SPECS[kind], 0, torch.from_numpy(anchors), torch.from_numpy(regression), torch)
    np.testing.assert_allclose(found.numpy(), to_boxes(SPECS[kind], 0, anchors, regression))


# --- blocks -------------------------------------------------------------------------------------


def check_blocks(graph: FloatGraph) -> None:
    """Every node in one block; blocks read images and earlier blocks only, and outputs are what
    others read."""
    made = {node.output for node in graph.nodes if isinstance(node, Image)}
    seen: list[str] = []
    for block in blocks(graph):
        assert set(block.inputs) <= made
        inside = set(block.inputs)
        for node in block.nodes:
            assert set(node.inputs) <= inside
            inside.add(node.output)
        own = [node.output for node in block.nodes]
        seen += own
        made |= set(block.outputs)
        outside = {n for node in graph.nodes if node.output not in own for n in node.inputs}
        assert set(block.outputs) == set(own) & (outside | set(graph.outputs.values()))
    assert sorted([*seen, *(n.output for n in graph.nodes if isinstance(n, Image))]) == sorted(
        node.output for node in graph.nodes
    )
    for sites in graph.call_sites.values():
        holding = [
            b for b in blocks(graph) if {s.output for s in sites} & {n.output for n in b.nodes}
        ]
        assert len(holding) == 1


@given(networks())
@settings(max_examples=40)
def test_blocks_of_random_networks_follow_one_another(
    network: tuple[nn.Module, tuple[int, int, int]],
) -> None:
    model, shape = network
    check_blocks(simplify(capture(model, shape)))


def test_blocks_of_a_detector_are_its_stem_body_levels_and_towers() -> None:
    graph = simplify(capture(detector("fcos"), SHAPE))
    check_blocks(graph)
    weights = [sorted(w.removesuffix(".weight") for w in b.weights) for b in blocks(graph)]
    assert all(len(names) <= LARGEST for names in weights)
    assert ["stem.0"] in weights
    tower = [f"head.classification_head.{name}" for name in ("cls_logits", "conv.0", "conv.3")]
    assert tower in weights


class Twice(nn.Module):
    """a, b, a, b again: two shared weights that read each other."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)
        self.tails = nn.ModuleList(nn.Conv2d(3, 2, 1) for _ in range(6))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for _ in range(2):
            x = torch.relu(self.a(x))
            found.append(x)
            x = torch.relu(self.b(x))
            found.append(x)
        return [tail(x) for tail, x in zip(self.tails, [*found, x, x], strict=True)]


def test_weights_that_read_each_other_are_one_block() -> None:
    graph = simplify(capture(Twice(), (3, 8, 8)))
    check_blocks(graph)
    assert {"a.weight", "b.weight"} in [set(b.weights) for b in blocks(graph)]


# --- variants of images -------------------------------------------------------------------------


def test_variants_are_images_that_differ_and_follow_from_the_seed() -> None:
    images = torch.from_numpy(pixels((3, 20, 28), 6))
    one, same, other = (variants(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert one.dtype == torch.uint8
    assert one.shape == images.shape
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert all(not torch.equal(a, b) for a, b in zip(one, images, strict=True))
    spread = [x.float().std(dim=(1, 2, 3)).mean() for x in (one, images)]
    assert 0.5 < float(spread[0] / spread[1]) < 1.5  # neither blank nor noise
    grey = variants(images[:, :1], torch.Generator().manual_seed(1))
    assert grey.shape == (6, 1, 20, 28)


# --- the whole ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_objective_falls_and_is_that_of_the_program(kind: str) -> None:
    done, before, images = reconstructed(kind), untrained(kind), pixels(SHAPE, 12)
    assert done.trained is not None
    assert done.trained.end < done.trained.start
    real = list(run(done.graph, torch.from_numpy(images).double()).values())
    odol = OutputLoss(SPECS[kind], real, FAINT)

    def loss(quantized: Quantized) -> float:
        found = Simulator(quantized.program).run_dequantised(images)
        return float(odol([torch.from_numpy(m) for m in found]).mean())

    assert loss(done) == pytest.approx(done.trained.end, rel=0.02)
    assert loss(before) == pytest.approx(done.trained.start, rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_codes_move_by_one_at_most_and_stay_in_their_type(kind: str) -> None:
    done, before = reconstructed(kind), untrained(kind)
    moved = 0
    for name, start in before.scales.weights.items():
        codes = done.scales.weights[name]
        assert codes.type == start.type
        assert np.abs(codes.codes - start.codes).max() <= QUICK.reach
        assert codes.type.lo <= codes.codes.min() <= codes.codes.max() <= codes.type.hi
        np.testing.assert_array_equal(codes.scale, start.scale)
        moved += int((codes.codes != start.codes).sum())
    assert moved > 0
    steps = {t: grid.scale for t, grid in done.scales.grids.items()}
    assert any(steps[t] != grid.scale for t, grid in before.scales.grids.items())
    for tensor, start in before.scales.grids.items():
        grid = done.scales.grids[tensor]
        assert (grid.type, grid.zero_point) == (start.type, start.zero_point)
        if start.type.bits >= 12:
            assert grid == start
    for group in done.calibration.groups:
        assert len({done.scales.grids[t] for t in group.tensors}) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_shared_weight_is_one_constant_and_its_levels_have_their_own_tables(kind: str) -> None:
    done = reconstructed(kind)
    name = "head.classification_head.conv.0.weight"
    name = name if name in done.graph.weights else name.replace("0.weight", "0.0.weight")
    sites = done.graph.call_sites[name]
    assert len(sites) == 2
    convs = [done.program.producer[f"{site.output}.acc"] for site in sites]
    assert [conv.weight for conv in convs] == [name, name]
    fine, coarse = (done.fake.graph.producer[site.output] for site in sites)
    for trained_node, site in zip((fine, coarse), sites, strict=True):
        assert isinstance(trained_node, Conv)
        assert not np.array_equal(trained_node.shift, site.shift)
        assert not np.array_equal(trained_node.scale, site.scale)


def test_the_whole_trains_the_stem_too() -> None:
    """What reads the image has 8-bit weights, but its map is as narrow as any."""
    settings = replace(QUICK, block_iterations=0)
    done = quantize(detector("fcos"), pixels(SHAPE, 12), replace(CONFIG, reconstruct=settings))
    before = untrained("fcos")
    stem = next(node for node in done.graph.nodes if isinstance(node, Conv))
    assert done.scales.weights[stem.weight].type.bits == 8
    ours, start = (q.fake.graph.producer[stem.output] for q in (done, before))
    assert isinstance(ours, Conv)
    assert isinstance(start, Conv)
    assert not np.array_equal(ours.scale, start.scale)
    assert done.scales.grids[stem.output] != before.scales.grids[stem.output]


@pytest.mark.parametrize("kind", KINDS)
def test_program_and_fake_agree(kind: str) -> None:
    done, images = reconstructed(kind), pixels(SHAPE, 4, seed=9)
    assert_nearest(done, images)
    record = done.program.meta["quantisation"]
    assert record["reconstruct"]["iterations"] == 120


def test_equal_calls_are_equal_and_seeds_are_not() -> None:
    again = quantize(detector("fcos"), pixels(SHAPE, 12), CONFIG)
    assert again.program.digest() == reconstructed("fcos").program.digest()
    other = replace(CONFIG, reconstruct=replace(QUICK, seed=1))
    different = quantize(detector("fcos"), pixels(SHAPE, 12), other)
    assert different.program.digest() != again.program.digest()


def test_what_gets_worse_is_not_taken() -> None:
    """A rate at which everything is torn apart leaves the start as it was."""
    wild = replace(QUICK, rate=1.0, iterations=3, block_iterations=3)
    done = quantize(detector("fcos"), pixels(SHAPE, 4), replace(CONFIG, reconstruct=wild))
    before = quantize(detector("fcos"), pixels(SHAPE, 4), replace(CONFIG, reconstruct=None))
    assert done.trained is not None
    assert done.trained.end == done.trained.start
    assert done.program.digest() == before.program.digest()


def test_powers_of_two_stay_powers_of_two() -> None:
    config = replace(
        CONFIG, arithmetic=preset("shift-only"), reconstruct=replace(QUICK, odol=False)
    )
    model = nn.Sequential(conv_norm(3, 5, 2), conv_norm(5, 6), nn.Conv2d(6, 7, 3))
    done = quantize(trained(model), pixels(SHAPE, 8), config)
    assert done.trained is not None
    assert done.trained.end <= done.trained.start
    for grid in done.scales.grids.values():
        assert log2(grid.scale) == round(log2(grid.scale))


@pytest.mark.parametrize(
    "change",
    [
        {"compensate": True},
        {"correct_bias": True},
        {"compensate": True, "correct_bias": True},
        {"symmetric": False},
        {"method": "detptq"},
        {"reconstruct": replace(QUICK, block_iterations=0)},
        {"reconstruct": replace(QUICK, iterations=0)},
        {"reconstruct": replace(QUICK, drop=0.0)},
        {"reconstruct": replace(QUICK, odol=False, reach=None)},
    ],
    ids=str,
)
def test_each_companion_alone_and_combined(change: dict[str, object]) -> None:
    images = pixels(SHAPE, 8)
    done = quantize(detector("fcos"), images, replace(CONFIG, **change))
    assert done.trained is not None
    assert done.trained.end <= done.trained.start
    assert_nearest(done, images)


def test_networks_of_every_operation_are_trained_without_odol() -> None:
    images = pixels((3, 13, 16), 6)
    config = replace(CONFIG, reconstruct=replace(QUICK, odol=False))
    done = quantize(trained(Mixed()), images, config)
    assert done.trained is not None
    assert done.trained.end <= done.trained.start
    assert_nearest(done, images)


def test_without_training_the_learner_is_the_fake_network() -> None:
    images = pixels(SHAPE, 5)
    start = untrained("fcos")
    training = Training(
        start.graph, start.fake.graph, start.scales, start.calibration.groups, images,
        CONFIG, SPECS["fcos"],
    )  # fmt: skip
    values = {training.image: torch.from_numpy(images).float()}
    with torch.no_grad():
        training.learner.run([n for b in training.blocks for n in b.nodes], values)
    found = [values[tensor].numpy() for tensor in start.graph.outputs.values()]
    for ours, theirs in zip(found, FakeQuant(start.fake.graph, start.scales)(images), strict=True):
        assert np.abs(ours - theirs).max() <= 1e-3 * np.abs(theirs).max()


def test_progress_counts_every_step() -> None:
    told: list[tuple[int, int]] = []
    quantize(
        detector("fcos"), pixels(SHAPE, 4),
        replace(CONFIG, reconstruct=replace(QUICK, iterations=5, block_iterations=2)),
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert [done for done, _ in told] == list(range(1, told[0][1] + 1))


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("iterations", -1, "iterations must be a whole number from 0 on, not -1."),
        ("batch", 0, "batch must be a whole number from 1 on, not 0."),
        ("reach", 1.5, "reach must be a whole number from 1 on, not 1.5."),
        ("drop", 1.0, "drop must be from 0 to below 1, not 1.0."),
        ("rate", 0.0, "rate must be above 0 and at most 1, not 0.0."),
        ("features", -1.0, "features must be at least 0, not -1.0."),
    ],
)
def test_impossible_settings_are_refused(field: str, value: float, words: str) -> None:
    with pytest.raises(ModelError) as error:
        Reconstruction(**{field: value})
    assert str(error.value) == words


def test_odol_needs_a_detector() -> None:
    with pytest.raises(ModelError) as error:
        quantize(trained(Pyramid()), pixels(SHAPE, 2), CONFIG)
    assert str(error.value) == (
        "A model reconstructed by ODOL must have an attribute `head_spec` that says what its"
        " outputs mean, and has none; use Reconstruction(odol=False), on the command line"
        " --no-odol."
    )
