"""Ranges and codes: each method does what its name says."""

from __future__ import annotations

from dataclasses import replace
from math import log2

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from intaglio.errors import DataError, ModelError
from intaglio.quant.capture.export import capture
from intaglio.quant.capture.graph import Lookup
from intaglio.quant.capture.passes import simplify
from intaglio.quant.ranges.grids import (
    Grid,
    activation_grid,
    candidates,
    coarse,
    divergence,
    lp_error,
    spanning,
    weight_codes,
)
from intaglio.quant.ranges.observe import BINS, Histogram, check_images
from intaglio.quant.ranges.scales import calibrate
from intaglio.quant.settings.config import QuantConfig

torch.set_num_threads(1)
METHODS = ("lp", "mse", "minmax", "percentile", "kl")


def histogram(values: torch.Tensor) -> Histogram:
    """As `observe` would have seen the values."""
    lo, hi = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    return Histogram(lo, hi, torch.histc(values[values != 0], BINS, lo, hi).double())


def values(seed: int, kind: str) -> torch.Tensor:
    """Samples of a distribution."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4000, generator=generator, dtype=torch.float64)
    match kind:
        case "relu":
            return x.relu() * 3
        case "tails":
            return x**3
        case "shifted":
            return x * 0.1 + 2
    return x


KINDS = st.sampled_from(("normal", "relu", "tails", "shifted"))
SEEDS = st.integers(0, 2**31)


@given(SEEDS, KINDS, st.integers(2, 8), st.sampled_from(METHODS), st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_grid_holds_zero_and_codes_are_nearest(
    seed: int, kind: str, bits: int, method: str, symmetric: bool, pot: bool
) -> None:
    x = values(seed, kind)
    config = QuantConfig(method=method, symmetric=symmetric, pot_scales=pot)  # type: ignore[arg-type]  # drawn names
    grid = activation_grid(histogram(x), bits, kind == "relu", config)
    assert grid.type.bits == bits
    assert grid.type.signed == (symmetric and kind != "relu")
    zero = grid.codes(torch.zeros(1, dtype=torch.float64))
    assert grid.real(zero).item() == 0
    assert symmetric <= (grid.zero_point == 0)
    if pot:
        assert log2(grid.scale).is_integer()
    lo, hi = grid.range
    error = (grid.real(grid.codes(x)) - x.clamp(lo, hi)).abs()
    assert float(error.max()) <= grid.scale / 2 * (1 + 1e-9)


@given(SEEDS, KINDS, st.integers(2, 6), st.floats(1, 5), st.booleans())
@settings(max_examples=30, deadline=None)
def test_lp_takes_the_candidate_of_least_error(
    seed: int, kind: str, bits: int, p: float, symmetric: bool
) -> None:
    seen, config = histogram(values(seed, kind)), QuantConfig(p=p, symmetric=symmetric)
    unsigned = kind == "relu"
    chosen = activation_grid(seen, bits, unsigned, config)
    least = lp_error(seen.centres, seen.counts, chosen, p)
    if unsigned or symmetric:
        grids = candidates(seen, bits, unsigned, config)
    else:
        grids = coarse(seen, bits, config)
    for grid in grids.values():
        assert least <= lp_error(seen.centres, seen.counts, grid, p)


def test_a_larger_p_clips_less() -> None:
    seen = histogram(values(0, "tails"))
    tops = [activation_grid(seen, 4, False, QuantConfig(p=p)).range[1] for p in (1, 2, 3, 6)]
    assert tops == sorted(tops)
    assert tops[0] < tops[-1]
    mse = activation_grid(seen, 4, False, QuantConfig(method="mse"))
    assert mse == activation_grid(seen, 4, False, QuantConfig(p=2))


@given(SEEDS, st.integers(4, 8), st.booleans())
@settings(max_examples=20, deadline=None)
def test_what_one_function_alone_reads_is_as_exact_as_its_results(
    seed: int, bits: int, symmetric: bool
) -> None:
    """A SiLU is next to 0 far below 0: the grid may clip there, and the results are never worse."""
    seen = histogram(values(seed, "normal") * 10 - 10)
    config = QuantConfig(p=2, symmetric=symmetric)
    silu = torch.nn.functional.silu
    plain, through = (
        activation_grid(s, bits, False, config) for s in (seen, replace(seen, through=silu))
    )

    def error(grid: Grid) -> float:
        found = silu(grid.real(grid.codes(seen.centres))) - silu(seen.centres)
        return float((seen.counts * found.pow(2)).sum())

    assert error(through) <= error(plain) * (1 + 1e-9)
    if not symmetric:
        assert through.range[0] > plain.range[0] / 2
        assert error(through) < error(plain) / 2


def test_calibration_knows_what_one_function_alone_reads() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(3, 3, 1) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.b(nn.functional.silu(self.a(x)))
            return self.c(nn.functional.silu(y) + y)  # type: ignore[no-any-return]  # of a module

    graph = simplify(capture(Two().eval(), (3, 8, 8)))
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), dtype=np.uint8)
    seen = calibrate(graph, images, QuantConfig()).seen
    tables = [node for node in graph.nodes if isinstance(node, Lookup)]
    named = {name for name, histogram in seen.items() if histogram.through is not None}
    assert named == {tables[0].input}


@given(SEEDS, KINDS, st.integers(2, 8), st.booleans())
@settings(max_examples=30, deadline=None)
def test_minmax_clips_nothing(seed: int, kind: str, bits: int, symmetric: bool) -> None:
    x = values(seed, kind)
    config = QuantConfig(method="minmax", symmetric=symmetric)
    grid = activation_grid(histogram(x), bits, kind == "relu", config)
    lo, hi = grid.range
    slack = grid.scale * 0.5000001  # the zero point is rounded
    assert lo - slack <= float(x.min())
    assert float(x.max()) <= hi + slack


def test_percentile_leaves_its_share_outside() -> None:
    x = values(1, "tails")
    for percent in (90.0, 99.0):
        config = QuantConfig(method="percentile", percentile=percent)
        lo, hi = histogram(x).percentiles(percent)
        width = float(x.max() - x.min()) / BINS
        assert abs(float(x.quantile(percent / 100)) - hi) <= 2 * width
        assert abs(float(x.quantile(1 - percent / 100)) - lo) <= 2 * width
        grid = activation_grid(histogram(x), 4, False, config)
        assert grid == spanning(lo, hi, 4, False, config)


def test_kl_takes_the_least_divergence() -> None:
    seen, config = histogram(values(2, "tails")), QuantConfig(method="kl")
    chosen = activation_grid(seen, 4, False, config)
    grids = candidates(seen, 4, False, config).values()
    assert divergence(seen, chosen) == min(divergence(seen, grid) for grid in grids)
    assert chosen.range[1] < seen.hi / 2


@given(SEEDS, st.integers(2, 6))
@settings(max_examples=20, deadline=None)
def test_zero_points_help_where_values_lean(seed: int, bits: int) -> None:
    x = torch.nn.functional.silu(2 * values(seed, "normal"))
    seen = histogram(x)
    free, signed = (
        lp_error(seen.centres, seen.counts, activation_grid(seen, bits, False, config), config.p)
        for config in (QuantConfig(symmetric=False), QuantConfig())
    )
    assert free < signed


def test_a_tensor_that_is_always_zero() -> None:
    for method in METHODS:
        config = QuantConfig(method=method)  # type: ignore[arg-type]  # a name of the tuple above
        seen = Histogram(0.0, 0.0, torch.zeros(BINS, dtype=torch.float64))
        assert activation_grid(seen, 4, True, config).scale == 1.0
    assert weight_codes(np.zeros((2, 1, 1, 1)), 4, QuantConfig()).scale.tolist() == [1.0, 1.0]


@given(SEEDS, st.integers(2, 8), st.sampled_from(METHODS), st.booleans(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_weights_are_nearest_codes_of_their_channel(
    seed: int, bits: int, method: str, per_channel: bool, pot: bool
) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(5, 3, 3, 3)) * rng.uniform(0.01, 10, (5, 1, 1, 1))
    config = QuantConfig(method=method, per_channel=per_channel, pot_scales=pot)  # type: ignore[arg-type]  # drawn names
    found = weight_codes(weight, bits, config)
    scaled = weight / found.scale[:, None, None, None]
    np.testing.assert_array_equal(
        found.codes, np.floor(scaled + 0.5).clip(found.type.lo, found.type.hi)
    )
    assert (len(set(found.scale)) == 1) == (not per_channel) or pot
    if pot:
        assert all(log2(s).is_integer() for s in found.scale)
    if method == "minmax":
        assert np.abs(scaled).max() <= found.type.hi + 1e-9
    full = (
        np.abs(weight).max(axis=(1, 2, 3), keepdims=True) if per_channel else np.abs(weight).max()
    )
    if method == "mse" and not pot:
        plain = full / found.type.hi
        codes = np.floor(weight / plain + 0.5)
        assert np.square(found.real - weight).sum() <= np.square(codes * plain - weight).sum()


def test_two_bit_weights_use_all_four_codes() -> None:
    weight = np.linspace(-1, 0.6, 400).reshape(1, 100, 2, 2)
    assert set(weight_codes(weight, 2, QuantConfig()).codes.ravel()) == {-2, -1, 0, 1}


@given(st.floats(1e-3, 1e3), st.integers(0, 15), st.floats(-1e4, 1e4))
def test_one_number_and_a_tensor_get_the_same_code(scale: float, zero: int, x: float) -> None:
    grid = Grid(scale, zero, spanning(0.0, 1.0, 4, True, QuantConfig()).type)
    assert grid.code(x) == int(grid.codes(torch.tensor([x], dtype=torch.float64)))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"wbits": 1}, "wbits must be 2 to 8 bits, not 1."),
        ({"abits": 17}, "abits must be 2 to 16 bits, not 17."),
        ({"first_wbits": 9}, "first_wbits must be 2 to 8 bits, not 9."),
        ({"last_wbits": 0}, "last_wbits must be 2 to 8 bits, not 0."),
        ({"output_bits": 4}, "output_bits must be 8 to 16 bits, not 4."),
        ({"overrides": {"a.*": (4, 1)}}, "abits of override 'a.*' must be 2 to 16 bits, not 1."),
        (
            {"method": "guess"},
            "method must be one of detptq, lp, mse, minmax, percentile, kl, not 'guess'",
        ),
        ({"p": 0.0}, "p must be 0.5 to 16, not 0.0."),
        ({"percentile": 10.0}, "percentile must be above 50 and at most 100, not 10.0."),
        ({"wbits": True}, "wbits must be 2 to 8 bits, not True."),
    ],
)
def test_impossible_settings(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ModelError) as refused:
        QuantConfig(**settings)  # type: ignore[arg-type]  # the mistakes under test
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((2, 3, 8, 8), np.float32), "Images must be uint8 pixels, not float32."),
        (np.zeros((3, 8, 8), np.uint8), "Images must have shape (N, C, H, W), not (3, 8, 8)."),
        (np.zeros((0, 3, 8, 8), np.uint8), "Calibration must have at least one image, not 0."),
    ],
)
def test_images_that_cannot_calibrate(images: np.ndarray, words: str) -> None:
    with pytest.raises(DataError) as refused:
        check_images(images)
    assert str(refused.value) == words
