"""Passes keep the function; norms fold where a weight is used once, and stay where it is shared."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Levels, Pyramid, conv_norm, pixels, trained
from torch import nn

from intaglio.quant.capture.execute import run
from intaglio.quant.capture.export import capture
from intaglio.quant.capture.graph import Affine, Conv, FloatGraph, Image, MaxPool, Pad
from intaglio.quant.capture.passes import simplify

torch.set_num_threads(1)


def maps(graph: FloatGraph, images: np.ndarray) -> list[torch.Tensor]:
    return list(run(graph, torch.from_numpy(images).double()).values())


def test_norms_of_a_shared_head_are_never_folded() -> None:
    model = trained(Pyramid())
    assert isinstance(model, Pyramid)
    graph = simplify(capture(model, (3, 24, 30)))
    shared = graph.call_sites["head.weight"]
    assert len(shared) == 2
    np.testing.assert_array_equal(graph.weights["head.weight"], model.head.weight.detach().double())
    for conv, norm in zip(shared, model.norms, strict=True):
        spread = torch.sqrt(norm.running_var.double() + norm.eps)
        np.testing.assert_allclose(conv.scale, (norm.weight / spread).detach(), rtol=1e-12)
        assert conv.lo == 0
    for name, sites in graph.call_sites.items():
        if len(sites) == 1:
            assert (sites[0].scale == 1).all(), name
    assert not any(isinstance(node, Affine) for node in graph.nodes)


def test_one_norm_for_all_levels_still_has_one_weight() -> None:
    graph = simplify(capture(trained(Pyramid(shared_norm=True)), (3, 24, 30)))
    assert len(graph.call_sites["head.weight"]) == 2


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(0, 255), min_size=3, max_size=3),
    st.lists(st.floats(0.05, 2), min_size=3, max_size=3),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from((1, 3)),
)
def test_normalisation_folds_exactly_where_the_mean_is_a_whole_pixel(
    mean: list[int], std: list[float], stride: int, explicit: bool, groups: int
) -> None:
    """Borders included; as attributes, and written out in the model's forward."""

    class Stem(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 6, 3, stride, 2, groups=groups)
            if not explicit:
                self.image_mean, self.image_std = [m / 255 for m in mean], std

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if explicit:
                scale = torch.tensor(std).reshape(3, 1, 1)
                x = (x - torch.tensor(mean).reshape(3, 1, 1) / 255) / scale
            return self.conv(x)

    graph = capture(Stem(), (3, 9, 7))
    folded = simplify(graph)
    assert [type(node) for node in folded.nodes] == [Image, Conv]
    conv = folded.nodes[1]
    assert isinstance(conv, Conv)
    assert conv.pad_value is not None
    assert conv.pad_value.tolist() == mean
    images = pixels((3, 9, 7), 2)
    for want, got in zip(maps(graph, images), maps(folded, images), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_a_fractional_mean_moves_only_the_border() -> None:
    model = nn.Conv2d(3, 4, 3, padding=1)
    model.image_mean, model.image_std = (0.485, 0.456, 0.406), 0.25
    graph = capture(model, (3, 9, 7))
    folded = simplify(graph)
    assert isinstance(folded.nodes[1], Conv)
    assert folded.nodes[1].pad_value is not None
    assert folded.nodes[1].pad_value.tolist() == [124, 116, 104]
    (want,), (got,) = (maps(g, pixels((3, 9, 7), 2)) for g in (graph, folded))
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    torch.testing.assert_close(got[inner], want[inner], rtol=1e-12, atol=1e-12)
    half_a_level = 0.5 / (255 * 0.25) * model.weight.detach().abs().sum(dim=(1, 2, 3)).double()
    assert ((got - want).abs().amax(dim=(0, 2, 3)) <= half_a_level).all()
    assert not torch.equal(got, want)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 4, 3)),
        nn.Sequential(Levels(3), nn.Conv2d(3, 4, 3)),
    ],
    ids=["pool first", "shared weight first"],
)
def test_what_cannot_be_folded_is_left_to_a_requantisation(model: nn.Module) -> None:
    trained(model)
    folded = simplify(capture(model, (3, 8, 8)))
    assert isinstance(folded.producer["normalised"], Affine)


def test_a_mean_outside_the_pixels_is_not_folded_into_padding() -> None:
    model = nn.Conv2d(3, 4, 3, padding=1)
    model.image_mean = -0.5
    graph = capture(model, (3, 8, 8))
    folded = simplify(graph)
    assert isinstance(folded.producer["normalised"], Affine)
    images = pixels((3, 8, 8), 1)
    torch.testing.assert_close(maps(folded, images), maps(graph, images))
    model.padding = (0, 0)
    assert "normalised" not in simplify(capture(model, (3, 8, 8))).producer


def test_a_relu_after_a_pool_joins_the_convolution() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.ReLU())
    graph = capture(trained(model), (3, 9, 9))
    folded = simplify(graph)
    assert [type(n) for n in folded.nodes] == [Image, Conv, MaxPool]
    assert folded.nodes[1].output == "0"
    images = pixels((3, 9, 9), 1)
    torch.testing.assert_close(maps(folded, images), maps(graph, images), rtol=1e-12, atol=1e-12)


def test_a_border_of_zeros_becomes_padding_and_another_does_not() -> None:
    zero = nn.Sequential(nn.ZeroPad2d((1, 2, 0, 3)), nn.Conv2d(3, 4, 3, padding=1))
    graph = simplify(capture(zero, (3, 8, 8)))
    assert [type(n) for n in graph.nodes] == [Image, Conv]
    assert isinstance(graph.nodes[1], Conv)
    assert graph.nodes[1].padding == (1, 4, 2, 3)
    other = nn.Sequential(nn.ConstantPad2d(1, 0.5), nn.Conv2d(3, 4, 3))
    assert any(isinstance(n, Pad) for n in simplify(capture(other, (3, 8, 8))).nodes)


def test_a_clamp_that_others_do_not_want_stays_apart() -> None:
    class PreActivation(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = conv_norm(3, 4)
            self.norm = nn.BatchNorm2d(4)
            self.b = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.a(x)
            return x + self.b(torch.relu(self.norm(x)))

    graph = capture(trained(PreActivation()), (3, 8, 8))
    folded = simplify(graph)
    assert isinstance(folded.producer["norm"], Affine)
    assert folded.producer["norm"].lo == 0  # type: ignore[attr-defined]  # an Affine has `lo`
    images = pixels((3, 8, 8), 1)
    torch.testing.assert_close(maps(folded, images), maps(graph, images), rtol=1e-12, atol=1e-12)


def test_what_no_result_needs_is_dropped() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used = nn.Conv2d(3, 4, 3)
            self.unused = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.unused(x)
            return self.used(x)

    graph = simplify(capture(Idle(), (3, 8, 8)))
    assert list(graph.weights) == ["used.weight"]
    assert [n.output for n in graph.nodes] == ["image", "used"]
