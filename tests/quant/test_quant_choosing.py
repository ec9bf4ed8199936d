"""Slices, splits, shuffles and their like: what a graph chooses is what torch does, in real numbers
and in codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import pixels
from torch import nn
from torch.nn import functional

from intaglio.ops import Conv2d, Crop, DepthToSpace, Interpolate, Select, SpaceToDepth
from intaglio.quant import QuantConfig, quantize
from intaglio.quant.capture.execute import run
from intaglio.quant.capture.export import capture
from intaglio.quant.capture.graph import Choose
from intaglio.quant.capture.passes import simplify
from intaglio.sim.reference import run as reference

torch.set_num_threads(1)
SHAPE = (3, 8, 12)
Function = Callable[[torch.Tensor], torch.Tensor]


class Between(nn.Module):
    """Any function between two convolutions; the second is made for what comes out of it."""

    def __init__(self, function: Function, channels: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.before, self.function = nn.Conv2d(3, channels, 3, padding=1), function
        with torch.no_grad():
            made = function(self.before(torch.zeros(2, *SHAPE)))
        self.after = nn.Conv2d(made.shape[1], 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.function(torch.relu(self.before(x))))


def shuffled(x: torch.Tensor) -> torch.Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def shuffled_with_images(x: torch.Tensor) -> torch.Tensor:
    """As ShuffleNetV2's authors wrote it, the images among the channels; two branches come out."""
    n, c, h, w = x.shape
    y = x.reshape(n * c // 2, 2, h * w).permute(1, 0, 2).reshape(2, -1, c // 2, h, w)
    return torch.cat((y[1], y[0] * 2), 1)


def focus(x: torch.Tensor) -> torch.Tensor:
    parts = (x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2])
    return torch.cat(parts, 1)


def reorganised(x: torch.Tensor) -> torch.Tensor:
    """Darknet's reorg, as written in torch."""
    n, c, h, w = x.shape
    y = x.view(n, c, h // 2, 2, w // 2, 2).transpose(3, 4).contiguous()
    y = y.view(n, c, h // 2 * (w // 2), 4).transpose(2, 3).contiguous()
    y = y.view(n, c, 4, h // 2, w // 2).transpose(1, 2).contiguous()
    return y.view(n, 4 * c, h // 2, w // 2)


def split_and_joined(x: torch.Tensor) -> torch.Tensor:
    a, b, c = x.split((1, 4, 3), 1)
    d, e = x.chunk(2, 1)
    return torch.cat((c, a, b + d, e), 1)


CASES: dict[str, tuple[Function, list[type]]] = {
    "slice": (lambda x: x[:, 2:7:2], [Select]),
    "narrow": (lambda x: x.narrow(1, 4, 3), [Select]),
    "rows and columns": (lambda x: x[:, :, 1:7:3, -4:], [Crop, Crop]),
    "chunk": (lambda x: x.chunk(3, 1)[1], [Select] * 3),
    "split": (split_and_joined, [Select] * 5),
    "unbind": (lambda x: torch.cat([y[:, None] for y in x.unbind(1)[::3]], 1), [Select] * 8),
    "select": (lambda x: x.select(1, 3).unsqueeze(1), [Select]),
    "index": (lambda x: x[:, [2, 1, 0, 7]], [Select]),
    "index_select": (lambda x: x.index_select(1, torch.tensor([5, 5, 0])), [Select]),
    "rows by their numbers": (lambda x: x[:, :, [0, 0, 3, 7]], [Interpolate]),
    "a smaller map": (lambda x: functional.interpolate(x, size=(5, 7)), [Interpolate]),
    "flip": (lambda x: x.flip(1), [Select]),
    "pad of channels": (lambda x: functional.pad(x, (0, 0, 0, 0, 1, 4)), [Select]),
    "pad of everything": (lambda x: functional.pad(x, (1, 0, 2, 0, 0, 1), value=0.5), [Select]),
    "shuffle": (shuffled, [Select]),
    "shuffle with images": (shuffled_with_images, [Select, Select]),
    "channel_shuffle": (lambda x: functional.channel_shuffle(x, 4), [Select]),
    "pixel_shuffle": (lambda x: functional.pixel_shuffle(x, 2), [Select, DepthToSpace]),
    "pixel_unshuffle": (lambda x: functional.pixel_unshuffle(x, 2), [SpaceToDepth, Select]),
    "focus": (focus, [Crop] * 8),
    "reorg": (reorganised, [SpaceToDepth]),
    "there and back": (lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), []),
    "movedim": (lambda x: x.movedim(1, 3).flatten(1, 2).unflatten(1, (8, 12)).movedim(3, 1), []),
}


@pytest.mark.parametrize("name", CASES)
def test_the_graph_chooses_what_torch_does(name: str) -> None:
    function, kinds = CASES[name]
    model = Between(function).eval()
    graph = capture(model, SHAPE)
    assert [type(node.op) for node in graph.nodes if isinstance(node, Choose)] == kinds
    images = torch.from_numpy(pixels(SHAPE, 2)).double()
    (got,) = run(graph, images).values()
    want = model.double()(images / 255)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["split", "pad of everything", "shuffle with images", "focus"])
def test_codes_pass_unchanged(name: str) -> None:
    """The codes before the last layer are those that the real function picks."""
    function, _ = CASES[name]
    if name == "split":
        function = lambda x: torch.cat(x.split((1, 4, 3), 1)[::-1], 1)  # noqa: E731  # without the sum
    elif name == "shuffle with images":
        function = shuffled
    images = pixels(SHAPE, 2)
    config = QuantConfig(method="minmax")
    program = quantize(Between(function).eval(), images, config=config).program
    tensors = reference(program, images.astype(np.int64)).tensors
    first, last = program.of_kind(Conv2d)
    (codes,) = (op for op in program.consumers[first.output])
    x, y = tensors[codes.output], tensors[last.input]
    t = program.tensors[last.input]
    real = torch.from_numpy((x - t.zero_point[0]) * t.scale)
    want = function(real)
    np.testing.assert_allclose((y - t.zero_point[0]) * t.scale, want, atol=t.scale / 2)
    assert program.tensors[codes.output].scale == t.scale


def test_a_flattened_map_in_any_order_goes_into_linear() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.dense = nn.Conv2d(3, 4, 3, 2), nn.Linear(4 * 3 * 5, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.dense(self.conv(x).permute(0, 3, 2, 1).flatten(1))

    model = Flat().eval()
    images = torch.from_numpy(pixels(SHAPE, 2)).double()
    (got,) = run(capture(model, SHAPE), images).values()
    want = model.double()(images / 255)
    torch.testing.assert_close(got.reshape(want.shape), want, rtol=1e-5, atol=1e-5)


def test_what_is_rearranged_at_the_end_is_cut_off() -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, padding=1)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            y = self.conv(x)
            return y.permute(0, 2, 3, 1).reshape(len(y), -1, 4), shuffled(y)

    graph = capture(Head(), SHAPE)
    assert list(graph.outputs) == ["out0", "out1"]
    assert graph.outputs["out0"] == "conv"
    assert any("aten.reshape" in said or "aten.view" in said for said in graph.cut)
    made = next(n for n in graph.nodes if n.output == graph.outputs["out1"])
    assert isinstance(made, Choose)


TRANSPOSED = [
    nn.ConvTranspose2d(8, 5, 2, 2),
    nn.ConvTranspose2d(8, 6, 3, 2, 1, output_padding=1, groups=2),
    nn.ConvTranspose2d(8, 8, 4, 2, 1, groups=8, bias=False),
    nn.ConvTranspose2d(8, 3, (5, 2), (3, 1), (2, 0), dilation=(1, 2)),
    nn.ConvTranspose2d(8, 4, 3, 1, 1),
    nn.ConvTranspose2d(8, 4, 1, 3, output_padding=2),
]


@pytest.mark.parametrize("layer", TRANSPOSED, ids=str)
def test_transposed_convolutions(layer: nn.Module) -> None:
    model = Between(layer).eval()
    images = torch.from_numpy(pixels(SHAPE, 2)).double()
    (got,) = run(capture(model, SHAPE), images).values()
    want = model.double()(images / 255)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_norm_and_clamp_join_a_transposed_convolution() -> None:
    torch.manual_seed(0)
    layer = nn.Sequential(nn.ConvTranspose2d(8, 5, 4, 2, 1), nn.BatchNorm2d(5), nn.ReLU())
    layer[1].weight.data, layer[1].running_mean.data = torch.rand(5) - 0.5, torch.rand(5)
    model = Between(layer.eval()).eval()
    graph = simplify(capture(model, SHAPE))
    kinds = [type(node).__name__ for node in graph.nodes]
    assert kinds == ["Image", "Conv", "Conv", "Choose", "Choose", "Conv"]
    images = torch.from_numpy(pixels(SHAPE, 2)).double()
    (got,) = run(graph, images).values()
    torch.testing.assert_close(got, model.double()(images / 255), rtol=1e-5, atol=1e-5)


def test_a_quantised_transposed_convolution_is_near_the_real_one() -> None:
    torch.manual_seed(0)
    model = Between(nn.Sequential(nn.ConvTranspose2d(8, 6, 3, 2, 1, 1), nn.ReLU())).eval()
    images = pixels(SHAPE, 3)
    done = quantize(model, images, config=QuantConfig(method="minmax", wbits=8, abits=8))
    (out,) = done.program.outputs
    codes = reference(done.program, images.astype(np.int64)).tensors[out.name]
    got = (codes - out.zero_point[0]) * out.scale
    want = model(torch.from_numpy(images).float() / 255).detach().numpy()
    assert np.corrcoef(got.reshape(-1), want.reshape(-1))[0, 1] > 0.995


@st.composite
def functions(draw: st.DrawFn) -> Function:
    """Up to three of the steps, each fit for the map that it gets."""
    x, steps = torch.zeros(2, 8, *SHAPE[1:]), list[Function]()
    for name in draw(st.lists(st.sampled_from(sorted(CASES)), min_size=1, max_size=3)):
        if x.shape[1] % 2 and name == "shuffle with images":
            continue  # it would mix them
        try:
            x = CASES[name][0](x)
        except (RuntimeError, IndexError):  # of another size than the map has
            continue
        steps.append(CASES[name][0])

    def several(x: torch.Tensor) -> torch.Tensor:
        for step in steps:
            x = step(x)
        return x

    return several


@given(functions())
@settings(max_examples=12, deadline=None)
def test_steps_one_behind_the_other(function: Any) -> None:
    model = Between(function).eval()
    images = torch.from_numpy(pixels(SHAPE, 2)).double()
    (got,) = run(capture(model, SHAPE), images).values()
    want = model.double()(images / 255)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
