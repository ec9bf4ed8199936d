"""Weights that are rounded few at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import pixels
from test_quant_detptq import FAINT, SHAPE, SPECS, detector

from intaglio.quant import QuantConfig, Reconstruction, quantize
from intaglio.quant.learn.learner import Learner
from intaglio.quant.learn.reconstruct import Training, rounded
from intaglio.quant.ranges.groups import PIXEL_BITS

CONFIG = QuantConfig(odol=FAINT)
IMAGES = pixels(SHAPE, 4)
START = quantize(detector("fcos"), IMAGES, CONFIG)
SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=4).map(sorted)


def learner(reach: int | None = None) -> Learner:
    """One whose weights are no longer rounded."""
    config = replace(CONFIG, reconstruct=Reconstruction(reach=reach))
    one = Training(
        START.graph, START.fake.graph, START.scales, START.calibration.groups, IMAGES,
        config, SPECS["fcos"],
    ).learner  # fmt: skip
    one.unround()
    return one


def to_code(codes: torch.Tensor) -> torch.Tensor:
    """How far codes are from the nearest whole ones."""
    return (codes - torch.floor(codes + 0.5)).abs()


def test_weights_are_the_real_ones_until_some_are_rounded() -> None:
    one = learner()
    one.tighten(0.0)
    for name in one.narrow():
        type = START.scales.weights[name].type
        scale = one.weight_scales[one.weight_index[name]]
        real = torch.from_numpy(START.graph.weights[name]).float() / scale
        found = one.weight(name).detach() / scale
        torch.testing.assert_close(found, real.clamp(type.lo - 0.45, type.hi + 0.45))
    wide = [n for n, codes in START.scales.weights.items() if codes.type.bits >= PIXEL_BITS]
    assert wide
    for name in wide:
        codes = START.scales.weights[name]
        found = one.weight(name).detach().numpy() / codes.scale[:, None, None, None]
        np.testing.assert_allclose(found, codes.codes, rtol=1e-5)


@given(SHARES, st.integers(0, 999))
def test_the_nearest_are_rounded_first_and_for_good(shares: list[float], seed: int) -> None:
    one = learner()
    make = torch.Generator().manual_seed(seed)
    one.tighten(0.0)
    for share in shares:
        before = [codes.detach().clone() for codes in one.codes]
        old = {n: tight.clone() for n, tight in one.tight.items()}
        one.tighten(share)
        for n, tight in one.tight.items():
            codes, new = one.codes[n].detach(), tight & ~old[n]
            assert tight.sum() >= round(share * tight.numel())
            assert torch.equal(codes[old[n]], before[n][old[n]])
            assert torch.equal(codes[tight], torch.floor(before[n][tight] + 0.5))
            if new.any() and not tight.all():
                assert to_code(before[n][new]).max() <= to_code(before[n][~tight]).min()
        with torch.no_grad():
            for n, tight in one.tight.items():
                moved = torch.randn(tight.shape, generator=make) * ~tight
                one.codes[n].copy_((one.codes[n] + moved).clamp(-7, 6))
        one.confine()


def test_only_those_not_rounded_are_trained() -> None:
    one = learner()
    one.tighten(0.5)
    for name in one.narrow():
        n = one.weight_index[name]
        one.weight(name).sum().backward()  # type: ignore[no-untyped-call]  # torch's
        gradient = one.codes[n].grad
        assert gradient is not None
        assert torch.equal(gradient == 0, one.tight[n])


@pytest.mark.parametrize("reach", [None, 1])
def test_in_the_end_all_are_codes_within_reach(reach: int | None) -> None:
    one = learner(reach)
    one.tighten(1.0)
    _, scales = one.learned()
    for name, codes in scales.weights.items():
        found = one.weight(name).detach().numpy()
        np.testing.assert_allclose(found, codes.codes * codes.scale[:, None, None, None], rtol=1e-5)
        if reach is not None:
            assert np.abs(codes.codes - START.scales.weights[name].codes).max() <= reach


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9).map(sorted))
def test_the_share_rises_from_none_to_all(parts: list[float]) -> None:
    shares = [rounded(part) for part in [0.0, *parts, 1.0]]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
