"""Compensated rounding: nearest where inputs are independent, better where they are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Modules, Pyramid, pixels, trained
from torch import nn

from intaglio.fixed import IntType
from intaglio.quant import QuantConfig, float_predictor, quantize
from intaglio.quant.adjust import compensate
from intaglio.quant.adjust.compensate import compensated, observe_inputs, round_rows
from intaglio.quant.capture.execute import compute, tensors
from intaglio.quant.capture.export import capture
from intaglio.quant.capture.passes import simplify
from intaglio.quant.ranges.scales import calibrate, choose

torch.set_num_threads(1)
Drawn = tuple[torch.Tensor, torch.Tensor, IntType]


@st.composite
def layers(draw: st.DrawFn) -> Drawn:
    """Rows of weights, their scales, and the type of their codes."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    type = IntType(draw(st.integers(2, 5)), signed=True)
    rows = torch.randn(24, draw(st.integers(4, 30)), generator=generator, dtype=torch.float64)
    return rows, rows.abs().amax(dim=1) / type.hi, type


@settings(deadline=None)
@given(layers(), st.floats(1e-3, 1e3))
def test_independent_inputs_give_nearest_codes(layer: Drawn, variance: float) -> None:
    rows, scale, type = layer
    covariance = variance * torch.eye(rows.shape[1], dtype=torch.float64)
    nearest = torch.floor(rows / scale[:, None] + 0.5).clamp(type.lo, type.hi)
    assert torch.equal(round_rows(rows, scale, covariance, type), nearest)


@settings(deadline=None, max_examples=50)
@given(layers(), st.integers(0, 2**31))
def test_correlated_inputs_lose_less_than_by_nearest_codes(layer: Drawn, seed: int) -> None:
    rows, scale, type = layer
    size = rows.shape[1]
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.ones(size, 1) + 0.3 * torch.randn(size, size, generator=generator)
    covariance = (mixing @ mixing.T).double()
    errors = []
    for codes in (
        round_rows(rows, scale, covariance, type),
        torch.floor(rows / scale[:, None] + 0.5).clamp(type.lo, type.hi),
    ):
        assert type.lo <= int(codes.min())
        assert int(codes.max()) <= type.hi
        assert torch.equal(codes, codes.round())
        error = codes * scale[:, None] - rows
        errors.append(float(torch.einsum("ri,ij,rj->", error, covariance, error)))
    assert errors[0] < errors[1]


def test_blocks_are_only_a_matter_of_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(20, 150, generator=generator, dtype=torch.float64)
    mixing = torch.randn(150, 150, generator=generator, dtype=torch.float64) + 0.5
    arguments = (rows, rows.abs().amax(dim=1) / 7, mixing @ mixing.T, IntType(4, signed=True))
    blocked = round_rows(*arguments)
    monkeypatch.setattr(compensate, "BLOCK", 150)
    assert torch.equal(round_rows(*arguments), blocked)


def test_inputs_that_never_vary_are_no_trouble() -> None:
    images = np.full((2, 3, 9, 9), 77, np.uint8)
    program = quantize(trained(Modules()), images).program
    assert program.verify() is program


def test_covariance_is_that_of_the_convolutions_windows() -> None:
    """e C e^T is the variance of what a weight error e adds to the output, groups included."""
    images = pixels((3, 12, 14), 2)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 3, 2, 2, dilation=2, groups=2))
    graph = simplify(capture(model, (3, 12, 14)))
    config = QuantConfig(abits=16)
    scales = choose(graph, calibrate(graph, images, config), config)
    moments = observe_inputs(graph, scales, images)["1.weight"]
    assert len(moments) == 2
    conv = graph.producer["1"]
    weight = graph.weights["1.weight"]
    batch = torch.from_numpy(images).double()
    stem = [compute(graph.producer["0"], [batch], tensors(graph, batch.dtype))]
    output = compute(conv, stem, {"1.weight": torch.from_numpy(weight)})
    for channel in range(6):
        row = torch.from_numpy(weight[channel].reshape(-1))
        expected = float(output[:, channel].var(correction=0))
        found = float(row @ moments[channel // 3].covariance @ row)
        assert abs(found - expected) < 1e-3 * expected


def test_grids_and_scales_are_kept_and_results_are_nearer() -> None:
    model, images = trained(Pyramid(channels=10)), pixels((3, 24, 30), 8)
    graph = simplify(capture(model, (3, 24, 30)))
    config = QuantConfig(wbits=3, abits=8)
    before = choose(graph, calibrate(graph, images, config), config)
    after = compensated(graph, before, images)
    assert after.grids == before.grids
    for name, codes in after.weights.items():
        assert codes.type == before.weights[name].type
        np.testing.assert_array_equal(codes.scale, before.weights[name].scale)
    wanted = float_predictor(model)(images)
    errors = []
    for better in (True, False):
        done = quantize(model, images, QuantConfig(wbits=3, abits=8, compensate=better))
        pairs = zip(done.fake(images), wanted, strict=True)
        errors.append(sum(float(np.square(a - b).sum()) for a, b in pairs))
    assert errors[0] < errors[1] * 0.8
