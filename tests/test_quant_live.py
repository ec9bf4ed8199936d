"""Live norms: they begin as the constants they replace, and end as constants that do the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import pixels, trained
from test_quant_detptq import FAINT, SHAPE, SPECS, detector
from torch import nn

from intaglio.quant import QuantConfig, Reconstruction, quantize
from intaglio.quant.graph import Conv
from intaglio.quant.live import joined, moments, norm
from intaglio.quant.reconstruct import Training

SEEDS = st.integers(0, 2**31 - 1)


def products(seed: int, images: int = 6) -> torch.Tensor:
    """(N, 5, 3, 4) with means and deviations that differ by channel."""
    make = torch.Generator().manual_seed(seed)
    spread, mean = torch.rand(2, 5, 1, 1, generator=make) * 9
    return torch.randn(images, 5, 3, 4, generator=make) * spread + mean


@given(SEEDS, st.integers(1, 5))
def test_moments_of_parts_are_those_of_all(seed: int, first: int) -> None:
    x = products(seed)
    whole, parts = moments(x), joined([moments(x[:first]), moments(x[first:])])
    torch.testing.assert_close(parts.mean, whole.mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(parts.variance, whole.variance, rtol=1e-4, atol=1e-4)
    assert parts.count == whole.count == x[:, 0].numel()


@given(SEEDS)
def test_a_norm_is_the_constants_it_began_as_and_ends_as_what_it_became(seed: int) -> None:
    make = torch.Generator().manual_seed(seed)
    factor, summand, gain, shift = torch.randn(4, 5, generator=make)
    first, later = products(seed), products(seed + 1)
    live = norm(factor, summand, moments(first))
    found = live(first, torch.ones(5), torch.zeros(5))
    wanted = first * factor[:, None, None] + summand[:, None, None]
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
    fixed, added = live.fixed(torch.exp(gain), shift, moments(later))
    found = live(later, torch.exp(gain), shift)
    wanted = later * fixed[:, None, None] + added[:, None, None]
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


def test_products_that_are_all_alike_have_a_norm() -> None:
    x = torch.full((2, 5, 3, 4), 7.0)
    live = norm(torch.ones(5), torch.zeros(5), moments(x))
    torch.testing.assert_close(live(x, torch.ones(5), torch.zeros(5)), x)


def training(config: QuantConfig) -> Training:
    images = pixels(SHAPE, 8)
    start = quantize(detector("fcos"), images, config)
    return Training(
        start.graph, start.fake.graph, start.scales, start.calibration.groups, images, config,
        SPECS["fcos"],
    )  # fmt: skip


def test_a_network_is_the_same_before_and_after_norms_that_learned_nothing() -> None:
    one = training(QuantConfig(odol=FAINT))
    learner, nodes = one.learner, [node for block in one.blocks for node in block.nodes]
    before = one.loss_now()
    at = learner.moments(nodes, one.calibration())
    learner.begin_norms(at, 8)
    assert set(learner.norms) == set(learner.site_index) - set(one.results)
    learner.end_norms(at)
    assert not learner.norms
    assert abs(one.loss_now() - before) < 0.05 * before
    graph, _ = learner.learned()
    for node in one.learner.graph.nodes:
        learned = graph.producer[node.output]
        if isinstance(node, Conv) and isinstance(learned, Conv):
            np.testing.assert_allclose(learned.scale, node.scale, rtol=1e-3)


class Narrow(nn.Module):
    """A classifier whose last maps are single values."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3)
        self.tail = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.tail(nn.functional.adaptive_avg_pool2d(self.body(x).relu(), 1))
        return found


@pytest.mark.parametrize(("count", "batch"), [(9, 8), (1, 4), (3, 1)])
def test_few_values_have_no_norm(count: int, batch: int) -> None:
    settings = Reconstruction(iterations=3, batch=batch, odol=False)
    done = quantize(
        trained(Narrow()), pixels((3, 12, 12), count), QuantConfig(reconstruct=settings)
    )
    assert done.trained is not None
    assert done.trained.end <= done.trained.start


def test_scales_that_are_powers_of_two_have_no_norms() -> None:
    settings = Reconstruction(iterations=5, block_iterations=0, batch=4)
    assert training(QuantConfig(odol=FAINT, reconstruct=settings)).live
    assert not training(QuantConfig(odol=FAINT, reconstruct=settings, pot_scales=True)).live
