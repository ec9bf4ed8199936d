"""What noise costs is what noise costs, and factors lower it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from models import Pyramid, pixels, trained
from torch import nn

from intaglio.quant import QuantConfig, quantize
from intaglio.quant.adjust.correct import spread
from intaglio.quant.adjust.links import links
from intaglio.quant.adjust.noise import LIMIT, Noise, factors_by_noise
from intaglio.quant.adjust.sensitivity import sensitivity
from intaglio.quant.capture.execute import run
from intaglio.quant.capture.export import capture
from intaglio.quant.capture.graph import FloatGraph, Node
from intaglio.quant.capture.passes import simplify

torch.set_num_threads(1)
SHAPE = (3, 24, 30)
CONFIG = QuantConfig(wbits=8, abits=8, equalize=True, equalize_noise=True, equalize_tables=True)


def graph_of(model: nn.Module) -> FloatGraph:
    torch.manual_seed(0)
    return simplify(capture(trained(model), SHAPE))


def relative_error(graph: FloatGraph, images: np.ndarray, tensor: str, channel: int) -> float:
    """Of the results, summed over them, by a small noise in one channel; over its variance."""
    size, generator = 1e-3, torch.Generator().manual_seed(1)

    def visit(node: Node, value: torch.Tensor) -> torch.Tensor:
        if node.output == tensor:
            value = value.clone()
            noise = torch.randn(value[:, channel].shape, generator=generator, dtype=value.dtype)
            value[:, channel] += size * noise
        return value

    total = 0.0
    for image in images:
        x = torch.from_numpy(image[None]).double()
        exact, noisy = run(graph, x), run(graph, x, visit=visit)
        total += sum(
            float((noisy[n] - exact[n]).square().sum() / exact[n].square().sum()) for n in exact
        )
    return total / size**2 / len(images)


def test_costs_are_those_of_noise() -> None:
    """By channels of every kind of tensor: of the stem, of a sum, of a table, of a result."""

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 3, 3, stride=2), nn.Conv2d(3, 3, 1)
            self.c = nn.Conv2d(3, 2, 3)

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            x = torch.relu(self.a(x))
            x = x + torch.nn.functional.silu(self.b(x))
            return [self.c(x), nn.functional.max_pool2d(x, 2)]

    graph = graph_of(Small())
    images = pixels(SHAPE, 24, seed=3)
    measured = sensitivity(graph, images)
    for tensor in measured.costs:
        for channel, cost in enumerate(measured.costs[tensor]):
            wanted = relative_error(graph, images, tensor, channel)
            assert cost == pytest.approx(wanted, rel=0.35)


def test_ends_reach_as_far_as_values_do_or_less() -> None:
    """Far outliers are given up; what a table levels out is not reached for."""

    class Outliers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = nn.Conv2d(3, 2, 1, bias=False), nn.Conv2d(2, 1, 1)
            self.conv.weight.data = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]])[:, :, None, None]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(nn.functional.silu(self.conv(x)))

    graph = graph_of(Outliers())
    images = np.full((1, *SHAPE), 4, np.uint8)
    images[0, 0, 0, 0] = 200
    measured = sensitivity(graph, images)
    low, high = measured.ends[next(name for name in measured.ends if name.startswith("conv"))]
    assert (low[0], high[1]) == (0.0, 0.0)
    assert high[0] < 100
    assert low[1] <= 0.2 * 200  # SiLU is level there
    np.testing.assert_allclose(measured.powers[graph.nodes[0].output][1:], 0, atol=1e-9)


@pytest.mark.parametrize("per_channel", [True, False])
def test_factors_lower_what_rounding_costs_and_stay_bounded(per_channel: bool) -> None:
    graph = graph_of(Pyramid())
    config = replace(CONFIG, per_channel=per_channel)
    found = links(graph, tables=True, joins=True)
    measured = sensitivity(graph, pixels(SHAPE, 4))
    start = float(Noise(graph, found, measured, config).total().detach())
    factors = factors_by_noise(graph, found, measured, config)
    after = Noise(graph, found, measured, config)
    for values, link in zip(after.logs, found, strict=True):
        f = factors[link]
        assert ((f >= 1 / LIMIT / 1.0001) & (f <= LIMIT * 1.0001)).all()
        values.data.copy_(torch.from_numpy(np.log(f)))
    assert float(after.total().detach()) < 0.9 * start


def test_noise_is_foretold() -> None:
    """The error of 8-bit codes and weights, by the first order, is what the fake-quantised network
    has, within a factor of 2."""
    model, images = trained(Pyramid()), pixels(SHAPE, 8)
    config = QuantConfig(wbits=8, abits=8, method="minmax", symmetric=False, compensate=False)
    done = quantize(model, images, config)
    measured = sensitivity(done.graph, images)
    foretold = float(Noise(done.graph, (), measured, config).total())
    exact = run(done.graph, torch.from_numpy(images).float())
    found = sum(
        float(np.square(a - b.numpy()).sum() / np.square(b.numpy()).sum())
        for a, b in zip(done.fake(images), exact.values(), strict=True)
    )
    assert foretold / 2 < found < foretold * 2


def test_a_network_of_unlike_channels_is_saved_through_tables_and_joins() -> None:
    """Channels that a depthwise layer behind SiLU undoes: the first layers of small detectors."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 12, 3), nn.SiLU(), nn.Conv2d(12, 12, 3, groups=12), nn.SiLU(),
        nn.Conv2d(12, 6, 1),
    )  # fmt: skip
    f = torch.exp(torch.linspace(-2.5, 2.5, 12))
    model[0].weight.data *= f[:, None, None, None]
    model[2].weight.data /= f[:, None, None, None]
    images = pixels(SHAPE, 8)
    plain, evened = (
        quantize(model.eval(), images, config).layers[-1].sqnr
        for config in (QuantConfig(wbits=8, abits=8), CONFIG)
    )
    assert evened > plain + 6


def test_bias_correction_looks_at_images_from_the_whole_folder() -> None:
    """Where all are more than are held at once: of large ones a few, evenly."""
    assert spread(5, 3, 64, 64).tolist() == [0, 1, 2, 3, 4]
    assert spread(23, 3, 416, 416).tolist() == [0, 3, 7, 11, 15, 19]
    assert spread(4, 3, 2048, 2048).tolist() == [0]
