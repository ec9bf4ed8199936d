"""Capture: what a graph computes is what torch computes, however the model is written."""

from __future__ import annotations

import logging
import math
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from models import Functional, Mixed, Modules, Pyramid, networks, pixels, trained
from torch import nn
from torch.nn import functional
from torch.utils import _pytree as pytree

from intaglio.errors import ModelError
from intaglio.ops import Shape
from intaglio.quant.capture.execute import run
from intaglio.quant.capture.export import capture
from intaglio.quant.capture.graph import (
    Affine,
    Choose,
    Conv,
    FloatGraph,
    Image,
    Interpolate,
    Lookup,
    SumPool,
)
from intaglio.quant.capture.passes import simplify

torch.set_num_threads(1)


def expected(model: nn.Module, images: np.ndarray) -> list[torch.Tensor]:
    """The torch model's own maps in float64, on normalised pixels."""
    mean, std = (
        torch.tensor(getattr(model, name, default), dtype=torch.float64).reshape(-1, 1, 1)
        for name, default in (("image_mean", 0.0), ("image_std", 1.0))
    )
    x = (torch.from_numpy(images).double() / 255 - mean) / std
    with torch.no_grad():
        maps: list[torch.Tensor] = pytree.tree_leaves(model.double()(x))
    model.float()
    return maps


def computed(graph: FloatGraph, images: np.ndarray) -> list[torch.Tensor]:
    """The graph's maps in float64."""
    return list(run(graph, torch.from_numpy(images).double()).values())


def assert_same(model: nn.Module, shape: Shape, graph: FloatGraph, border: int = 0) -> None:
    images = pixels(shape, 2)
    for want, got in zip(expected(model, images), computed(graph, images), strict=True):
        got = got.reshape(want.shape)
        if border:
            want, got = (m[..., border:-border, border:-border] for m in (want, got))
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (Modules(), (3, 21, 33)),
        (Functional(Modules()), (3, 21, 33)),
        (Pyramid(), (3, 24, 30)),
        (Mixed(), (3, 17, 20)),
        (Mixed(nn.Hardswish()), (3, 16, 16)),
        (Mixed(nn.GELU()), (3, 9, 30)),
    ],
    ids=["modules", "functional", "pyramid", "silu", "hardswish", "gelu"],
)
def test_a_graph_computes_what_torch_computes(model: nn.Module, shape: Shape) -> None:
    trained(model)
    assert_same(model, shape, capture(model, shape))


@settings(max_examples=25, deadline=None)
@given(networks())
def test_random_networks_are_captured_and_simplified(drawn: tuple[nn.Module, Shape]) -> None:
    model, shape = drawn
    graph = capture(model, shape)
    assert_same(model, shape, graph)
    assert_same(model, shape, simplify(graph))  # no normalisation: padding pixels are exact


def test_module_and_functional_form_give_one_graph() -> None:
    source = trained(Modules())
    assert isinstance(source, Modules)
    graphs = [simplify(capture(m, (3, 21, 33))) for m in (source, Functional(source))]
    kinds = [[type(node) for node in g.nodes] for g in graphs]
    assert kinds[0] == kinds[1]
    for a, b in zip(*(g.nodes for g in graphs), strict=True):
        if isinstance(a, Conv) and isinstance(b, Conv):
            left, right = graphs[0].weights[a.weight], graphs[1].weights[b.weight]
            np.testing.assert_array_equal(left, right)


def test_origins_and_results_speak_the_users_names() -> None:
    graph = simplify(capture(trained(Pyramid()), (3, 24, 30)))
    assert graph.outputs == {"cls.0": "logits", "cls.1": "logits@1"}
    origins = {n.origin for n in graph.nodes if isinstance(n, Conv)}
    assert origins == {"stem.0", "body.0", "down.0", "lateral", "head", "logits"}
    single = capture(trained(Modules()), (3, 21, 33))
    assert list(single.outputs) == ["out0"]
    pair = capture(trained(Mixed()), (3, 16, 16))
    assert list(pair.outputs) == ["out0", "out1"]


def test_two_modules_that_hold_one_parameter_share_it() -> None:
    model = nn.Sequential(*(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3)))
    model[2].weight = model[0].weight
    graph = capture(model, (4, 8, 8))
    assert len(graph.weights) == 2
    first, _, last = (n for n in graph.nodes if isinstance(n, Conv))
    assert first.weight == last.weight


class Calls(nn.Module):
    """Any function of one 3x3 convolution's map."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.conv(x))


FACTORS = torch.arange(1.0, 7.0).reshape(1, 6, 1, 1)


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (lambda x: x * torch.sigmoid(x), Lookup),
        (lambda x: functional.relu_(x) + x, None),
        (lambda x: 1 - 2 * x / 3, Affine),
        (lambda x: (x - FACTORS) * 0.5, Affine),
        (lambda x: FACTORS - x, Affine),
        (lambda x: torch.clamp(x, min=-0.1, max=0.2), Affine),
        (lambda x: x.clamp_min(0.05), Affine),
        (lambda x: torch.clamp(x, 0.2, 0.1) + x, None),  # the upper bound everywhere
        (lambda x: functional.prelu(x, torch.full((1,), 0.2, dtype=x.dtype)), Lookup),
        (lambda x: functional.prelu(x, FACTORS.reshape(-1).to(x) / 9), Lookup),
        (lambda x: FACTORS.to(x) * functional.prelu(x, FACTORS.reshape(-1).to(x)) - 1, None),
        (lambda x: x.mean((2, 3), keepdim=True), SumPool),
        (lambda x: functional.adaptive_avg_pool2d(x, (4, 3)), SumPool),
        (lambda x: functional.avg_pool2d(x, 3, 2, 1, divisor_override=5), SumPool),
        (lambda x: functional.adaptive_max_pool2d(x, 2), None),
        (lambda x: functional.max_pool2d(x, 2, return_indices=True)[0], None),
        (lambda x: functional.interpolate(x, scale_factor=(2.0, 3.0)), None),
        (lambda x: functional.interpolate(x, scale_factor=2, mode="nearest-exact"), None),
        (lambda x: functional.interpolate(x, size=(4, 6)), Choose),
        (lambda x: functional.interpolate(x, scale_factor=1.7), Choose),
        (lambda x: functional.interpolate(x, size=(13, 5), mode="nearest-exact"), Choose),
        (lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear"), Interpolate),
        (lambda x: functional.interpolate(x, size=(5, 31), mode="bilinear"), Interpolate),
        (
            lambda x: functional.interpolate(x, size=(3, 30), mode="bilinear", align_corners=True),
            Interpolate,
        ),
        (lambda x: functional.interpolate(x, scale_factor=1.3, mode="bilinear"), Interpolate),
        (nn.UpsamplingBilinear2d(scale_factor=3), Interpolate),
        (lambda x: torch.sub(x, torch.relu(x), alpha=2), None),
        (lambda x: functional.pad(x, (1, 0, 2, 1), value=-1.5), None),
        (lambda x: torch.cat((x, x.exp()), dim=-3), None),
        (lambda x: functional.linear(x.flatten(1), torch.ones(2, 576, dtype=x.dtype) / 99), Conv),
    ],
)
def test_spellings(function: Callable[[torch.Tensor], torch.Tensor], kind: type | None) -> None:
    model, shape = Calls(function), (3, 8, 12)
    graph = capture(model, shape)
    assert_same(model, shape, graph)
    assert_same(model, shape, simplify(graph))
    if kind is not None:
        assert isinstance(graph.producer[graph.outputs["out0"]], kind)


def test_the_model_is_left_as_it_was() -> None:
    model = Modules().train()
    model.stem.eval()
    before = [p.clone() for p in model.parameters()]
    capture(model, (3, 16, 16))
    assert model.training
    assert model.wide.training
    assert not model.stem.training
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: torch.softmax(x, 1), "a softmax must be left to decoding; return the logits"),
        (lambda x: x / functional.max_pool2d(x, 3, 1, 1), "can only be added or multiplied"),
        (lambda x: torch.relu(x.permute(0, 2, 3, 1)), "return it and rearrange it in decoding"),
        (lambda x: x.reshape(2, 2, 3, 8, 12).relu(), "must not be rearranged to (2, 3, 8, 12)"),
        (lambda x: x.reshape(2, 2, 24, 12)[:, :, 1:5], "rearranged to (2, 24, 12) here"),
        (lambda x: x.flip(2), "and rows and columns in even steps"),
        (lambda x: x[:, torch.tensor([[0, 1]])], "must be indexed by one list of constants"),
        (lambda x: torch.fft.fft2(x).real, "it has no integer form; replace it, or return the map"),
        (lambda x: x + x.mean((2, 3), keepdim=True), "both maps must have one shape"),
        (lambda x: x + torch.ones(8, 12), "must be one number or one per channel"),
        (lambda x: x.mean(1), "a mean must be over dimensions (2, 3)"),
        (lambda x: functional.interpolate(x, scale_factor=2, mode="bicubic"), "or bilinear, not"),
        (
            lambda x: functional.interpolate(x, size=(8, 20011), mode="bilinear"),
            "must have weights of at most 32768 steps; give size instead of scale_factor",
        ),
        (lambda x: functional.pad(x, (1, 1, 1, 1), mode="reflect"), "mode must be 'constant'"),
        (lambda x: functional.pad(x, (-1, 0)), "a border must be of whole rows, columns or"),
        (
            lambda x: functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
            "count_include_pad=True or padding=0",
        ),
        (lambda x: functional.avg_pool2d(x, 3, 2, 0, True), "ceil_mode=False where windows over"),
        (lambda x: functional.adaptive_avg_pool2d(x, 5), "must divide the map 8x12"),
        (lambda x: functional.dropout(x), "dropout must be inactive"),
        (lambda x: x ** FACTORS, "one parameter must serve all channels, or as a PReLU"),
        (lambda x: functional.max_pool2d(x, 2, return_indices=True)[1], "only values can"),
        (lambda x: functional.conv2d(torch.ones(2, 6, 8, 12), x), "'input' must depend on the"),
        (lambda x: torch.relu(x.flatten(1)), "must go straight into Linear"),
        (lambda x: torch.ones(3), "Result 'out0' of the model must be a map that depends on"),
    ],
)  # fmt: skip
def test_operations_without_an_integer_form(
    function: Callable[[torch.Tensor], torch.Tensor], words: str
) -> None:
    with pytest.raises(ModelError) as refused:
        capture(Calls(lambda x: behind(function(x))), (3, 8, 12))
    assert words in str(refused.value)


def behind(x: torch.Tensor) -> torch.Tensor:
    """A layer that reads everything, so that what is before it is no decoding."""
    values = x.flatten(1) if x.ndim > 1 and x.is_floating_point() else None
    return x if values is None else functional.linear(values, torch.ones(5, values.shape[1]))


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.GroupNorm(3, 3), "aten.group_norm in layer '1': a norm must have constant statistics"),
        (nn.BatchNorm2d(3, track_running_stats=False), "must use running statistics"),
    ],
)
def test_refusals_name_the_operation_and_the_layer(layer: nn.Module, words: str) -> None:
    with pytest.raises(ModelError) as refused:
        capture(nn.Sequential(nn.Conv2d(3, 3, 1), layer), (3, 8, 8))
    assert words in str(refused.value)


def test_a_model_that_cannot_be_exported() -> None:
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ModelError, match=r"Branching must be exportable by torch\.export on 2 "):
        capture(Branching(), (3, 8, 8))
    with pytest.raises(ModelError, match="quantise the part that returns the raw maps"):
        capture(nn.Sequential(nn.Flatten(), nn.Linear(5, 2)), (4, 8, 8))


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_networks_without_channels_and_images_without_room() -> None:
    with pytest.raises(ModelError) as refused:
        capture(nn.Sequential(nn.Conv2d(3, 0, 1), nn.ReLU()), (3, 8, 8))
    assert str(refused.value) == (
        "Parameter '0.weight' must have values, not none; remove its layer, which has no channels."
    )
    with pytest.raises(ModelError) as refused:
        capture(nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)), (3, 2, 9))
    assert str(refused.value).startswith("Images must be larger than 2x9 for Sequential, not: ")
    assert str(refused.value).endswith("; give larger ones, or --size.")


def test_images_of_another_channel_count() -> None:
    with pytest.raises(ModelError) as refused:
        capture(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()), (3, 8, 9))
    assert str(refused.value) == (
        "Images must have 1 channel for Sequential, not 3: picture files are read as RGB, or as one"
        " channel where all are grey; write others as .npy of uint8 (1, H, W)."
    )


class Fixed(nn.Module):
    """A number of images in a shape of its forward."""

    def __init__(self, number: int, rest: tuple[int, ...]) -> None:
        super().__init__()
        self.conv, self.shape = nn.Conv2d(3, 6, 1), (number, *rest)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv(x).view(self.shape))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            Fixed(1, (6, 4, 5)),
            "Fixed must take any number of images at once, not 1 alone: shape",
        ),
        (Fixed(1, (6, 4, 5)), "; write x.shape[0] where forward gives 1 as the number of images."),
        (Fixed(1, (-1,)), "the first dimension must stay the number of images, not become 1;"),
        (Fixed(1, (-1,)), "; write x.shape[0] there, or flatten(1)."),
    ],
)
def test_a_number_of_images_written_into_a_shape(model: nn.Module, words: str) -> None:
    with pytest.raises(ModelError) as refused:
        capture(model, (3, 4, 5))
    assert words in str(refused.value)
    assert "decoding" not in str(refused.value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_models_that_cannot_be_followed() -> None:
    traced = torch.jit.script(nn.Conv2d(3, 3, 1))
    with pytest.raises(ModelError, match="not scripted or traced; give the one that it was made"):
        capture(traced, (3, 4, 4))
    with pytest.raises(ModelError, match=r"cannot follow \.data; use detach\(\) instead"):
        capture(Calls(lambda x: x.data * 2), (3, 8, 12))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x / 0.0,
        lambda x: x + torch.full((6, 1, 1), torch.inf),
        lambda x: functional.batch_norm(x, torch.zeros(6), torch.zeros(6), eps=0.0),
        lambda x: functional.conv2d(x, torch.zeros(2, 6, 1, 1) / torch.zeros(1)),
    ],
)
def test_factors_that_are_not_finite(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with pytest.raises(ModelError, match="its factors must be finite, not NaN or infinite; check"):
        capture(Calls(function), (3, 8, 12))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_parameters_that_are_not_finite(bad: float) -> None:
    model = Modules()
    model.wide[0].weight.data[0, 0, 0, 0] = bad
    with pytest.raises(ModelError, match=r"Parameter 'wide\.0\.weight' must be finite"):
        capture(model, (3, 16, 16))


def test_normalisation_attributes_are_checked() -> None:
    model = Pyramid()
    model.image_std = (0.2, 0.0, 0.2)
    with pytest.raises(ModelError, match="image_std of the model must be positive"):
        capture(model, (3, 24, 30))
    model.image_mean = (0.2, 0.2)  # type: ignore[assignment]  # the mistake under test
    with pytest.raises(ModelError, match="image_mean of the model must be 1 or 3 finite numbers"):
        capture(model, (3, 24, 30))


def test_the_first_node_is_the_image() -> None:
    graph = capture(Mixed(), (3, 16, 16))
    assert isinstance(graph.nodes[0], Image)
    assert graph.nodes[0].shape == (3, 16, 16)


class Lock:
    """Something that cannot be copied, and says so."""

    def __deepcopy__(self, memo: object) -> object:
        raise TypeError("cannot pickle this")


def uncopied() -> list[object]:
    """What users keep on their modules."""
    return [math, logging.getLogger("net"), threading.Lock(), Lock(), (i for i in ()), sys.stderr]


@pytest.mark.parametrize("kept", uncopied(), ids=lambda kept: type(kept).__name__)
def test_what_a_model_keeps_need_not_be_copied(kept: object) -> None:
    model = Modules()
    model.config = kept
    model.wide.more = {"config": [kept], "path": (kept, {"n": 1})}
    plain = capture(Modules(), (3, 16, 16))
    graph = capture(model, (3, 16, 16))
    assert [node.output for node in graph.nodes] == [node.output for node in plain.nodes]
    assert model.config is kept


def test_results_of_forward_need_not_be_copied() -> None:
    model = nn.Conv2d(3, 3, 1)
    model.last = model(torch.zeros(1, 3, 2, 2))
    assert_same(model, (3, 4, 4), capture(model, (3, 4, 4)))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm], ids=["old", "new"]
)
def test_weight_norm_is_followed(norm: Callable[[nn.Module], nn.Module]) -> None:
    model = nn.Sequential(norm(nn.Conv2d(3, 4, 3)), nn.ReLU(), nn.Conv2d(4, 2, 1))
    model[0](torch.zeros(1, 3, 5, 5))
    images = torch.from_numpy(pixels((3, 8, 8), 2)).float()
    (got,) = run(capture(model, (3, 8, 8)), images).values()
    torch.testing.assert_close(got, model.eval()(images / 255), rtol=1e-4, atol=1e-5)


class Busy(nn.Module):
    """Counts its calls, keeps results, and has a list of layers beside its registered ones."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)
        self.order, self.seen, self.lock = [self.conv, self.norm], [], threading.Lock()
        self.register_buffer("calls", torch.zeros(()))
        self.act = self.activated

    def activated(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.seen.append(x.shape)
        return self.drop(x).relu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.order:
            x = layer(x)
        return self.act(x)


def test_a_module_of_any_kind_is_left_as_it_was() -> None:
    model = Busy().train().half()
    hook = model.conv.register_forward_hook(lambda *_: None)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    held, flags = dict(vars(model)), [m.training for m in model.modules()]
    capture(model, (3, 8, 8))
    assert {k: v for k, v in vars(model).items() if k != "seen"}.keys() == (held.keys() - {"seen"})
    assert all(vars(model)[name] is value for name, value in held.items())
    assert model.seen == []
    assert [m.training for m in model.modules()] == flags
    assert list(model.conv._forward_hooks) == [hook.id]
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert {value.dtype for value in after.values()} == {torch.float16, torch.int64}
    assert model.order[0] is model.conv
    assert model.act.__self__ is model


def gelu_tanh(x: torch.Tensor) -> torch.Tensor:
    """GELU by tanh, as it was written before torch had it."""
    return 0.5 * x * (1 + torch.tanh(0.79788456 * (x + 0.044715 * x**3)))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * functional.relu6(x + 3) / 6,
        lambda x: x * (functional.relu6(x + 3) / 6),
        lambda x: functional.hardtanh(x + 3, 0, 6) * x * (1 / 6),
        lambda x: x * torch.clamp(0.2 * x + 0.5, 0, 1),
        lambda x: x * torch.tanh(functional.softplus(x)),
        lambda x: x / (1 + torch.exp(-x)),
        lambda x: x * 0.5 * (1 + torch.erf(x / 1.4142135)),
        gelu_tanh,
        lambda x: x * x,
        lambda x: x.sigmoid() * x.tanh(),
    ],
)
def test_functions_of_one_tensor_become_one_table(
    function: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    model, shape = Calls(function), (3, 8, 12)
    graph = simplify(capture(model, shape))
    assert_same(model, shape, graph)
    assert [type(node).__name__ for node in graph.nodes] == ["Image", "Conv", "Lookup"]


class Detector(nn.Module):
    """Two levels and three heads, decoded in forward as detectors are."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.down = nn.Conv2d(3, 8, 3, 1, 1), nn.MaxPool2d(2)
        self.box, self.score = nn.Conv2d(8, 16, 1), nn.Conv2d(8, 3, 1)
        self.bins = nn.Conv2d(4, 1, 1, bias=False)

    def level(self, x: torch.Tensor) -> torch.Tensor:
        both = torch.cat((self.box(x), self.score(x).sigmoid()), 1)
        return both.flatten(2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.relu(self.body(x))
        both = torch.cat((self.level(x), self.level(self.down(x))), 2)
        box, score = both.split((16, 3), 1)
        bins = box.view(len(x), 4, 4, -1).transpose(1, 2).softmax(1)
        box = self.bins(bins).squeeze(1)
        box[:, 2:] += box[:, :2]
        return score.max(1).indices, torch.cat((box, score), 1).permute(0, 2, 1)


def test_decoding_is_cut_off_behind_the_last_layers() -> None:
    torch.manual_seed(0)
    model = Detector()
    graph = capture(model, (3, 16, 16))
    assert list(graph.outputs) == ["out0.0", "out0.1", "out0.2", "out0.3"]
    assert list(graph.outputs.values()) == ["box", "score", "box@1", "score@1"]
    said = " ".join(graph.cut)
    assert all(f"aten.{op} in " in said for op in ("sigmoid", "cat", "flatten", "softmax", "max"))
    assert "aten.conv2d in layer 'bins' (test_quant_capture.py" in said
    images = torch.from_numpy(pixels((3, 16, 16), 2)).float()
    body = torch.relu(model.body(images / 255))
    want = [f(x) for x in (body, model.down(body)) for f in (model.box, model.score)]
    for a, b in zip(run(simplify(graph), images).values(), want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_outputs_that_are_asked_for() -> None:
    model = Detector()
    model.output_layers = ("down", "box@1")
    graph = capture(model, (3, 16, 16))
    assert dict(graph.outputs) == {"down.out": "down", "box@1.out": "box@1"}
    model.output_layers = ("bins",)
    with pytest.raises(ModelError, match=r"not 'bins'; what is behind"):
        capture(model, (3, 16, 16))


class Counting(Calls):
    """Gives something else in every call, behind its last layer."""

    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.conv(x).permute(0, 2, 3, 1) + self.calls


def test_a_cut_model_is_held_against_what_is_behind_it() -> None:
    with pytest.raises(ModelError, match="must give the same results for the same images in every"):
        capture(Counting(torch.relu), (3, 8, 12))
