"""Capture means what torch means, or says where it does not: writes through aliases, casts, and
the comparison with the module itself."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Mixed, Modules, Pyramid, conv_norm, trained
from torch import nn
from torch.nn import functional

from intaglio.errors import ModelError
from intaglio.quant.capture import agree, aten, aten_layers, export
from intaglio.quant.capture.execute import run
from intaglio.quant.capture.export import capture
from intaglio.quant.capture.graph import Affine

torch.set_num_threads(1)

SHAPE = (3, 6, 5)
Maps = list[torch.Tensor]

# --- memory that several names hold -------------------------------------------------------------

ALIASES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "itself": lambda x: x,
    "dropout": lambda x: functional.dropout(x, 0.5, training=False),
    "dropout2d": lambda x: functional.dropout2d(x, 0.5, training=False),
    "detach": lambda x: x.detach(),
    "view": lambda x: x.view(x.shape[0], 4, *x.shape[2:]),
    "reshape": lambda x: x.reshape(x.shape),
    "expand": lambda x: x.expand(x.shape),
    "expand_as": lambda x: x.expand_as(x),
    "view_as": lambda x: x.view_as(x),
    "contiguous": lambda x: x.contiguous(),
    "same type": lambda x: x.to(torch.float32),
    "type_as": lambda x: x.type_as(x),
    "plus": lambda x: +x,
    "whole slice": lambda x: x[:],
    "clone": lambda x: x.clone(),  # no aliases: these copy
    "copy": lambda x: x.to(torch.float32, copy=True),
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "half": lambda x: x.double().float(),
}

WRITES: dict[str, Callable[[torch.Tensor, torch.Tensor], Any]] = {
    "relu_": lambda x, _: functional.relu_(x),
    "add_": lambda x, y: x.add_(y),
    "iadd": lambda x, _: x.__iadd__(0.5),
    "mul_": lambda x, _: x.mul_(-0.75),
    "clamp_": lambda x, _: x.clamp_(-0.5, 0.4),
    "silu": lambda x, _: functional.silu(x, inplace=True),
    "set": lambda x, y: x.__setitem__(..., y),
    "set all": lambda x, y: x.__setitem__(slice(None), y),
    "copy_": lambda x, y: x.copy_(y),
    "out": lambda x, y: torch.sigmoid(y, out=x),
    "out of itself": lambda x, _: torch.mul(x, 0.5, out=x),
}


def in_part(x: torch.Tensor, write: Callable[[torch.Tensor], Any]) -> torch.Tensor:
    """Memory of which a part is written to."""
    whole = torch.zeros(4, *x.shape[1:])
    write(whole)
    return whole


PARTS: dict[str, Callable[[torch.Tensor], Any]] = {
    "slice": lambda x: x[:, :2].mul_(2),
    "rows": lambda x: x[:, :, 1:].mul_(2),
    "set": lambda x: x.__setitem__((slice(None), 0), 0.0),
    "select": lambda x: x.select(1, 0).add_(1),
    "one image": lambda x: x[:1].mul_(2),
    "narrow": lambda x: x.narrow(1, 0, 2).add_(1),
    "chunk": lambda x: x.chunk(2, 1)[0].add_(1),
    "split": lambda x: x.split(2, 1)[1].relu_(),
    "unbind": lambda x: x.unbind(1)[1].relu_(),
    "diagonal": lambda x: x.diagonal(0, 2, 3).zero_(),
    "mask": lambda x: x.__setitem__(x > 0, 1.0),
    "masked_fill_": lambda x: x.masked_fill_(x > 0, 1.0),
    "index_put_": lambda x: x.index_put_((torch.tensor([0]),), torch.tensor(1.0)),
    "fill_": lambda x: x.fill_(1.0),
    "zero_": lambda x: x.zero_(),
    "several": lambda x: torch._foreach_add_([x], 1.0),
    "other memory": lambda x: x.set_(x * 2),
    "a part of out": lambda x: in_part(x, lambda whole: torch.sigmoid(x, out=whole[:2])),
    "copied to a part": lambda x: in_part(x, lambda whole: whole[:2].copy_(x)),
}  # fmt: skip

steps = st.lists(
    st.one_of(
        st.tuples(st.just("alias"), st.sampled_from(sorted(ALIASES)), st.integers(0, 5)),
        st.tuples(st.sampled_from(sorted(WRITES)), st.integers(0, 5), st.integers(0, 5)),
        st.tuples(st.just("sum"), st.integers(0, 5), st.integers(0, 5)),
    ),
    min_size=2,
    max_size=7,
)


class Names(nn.Module):
    """Steps on a growing list of maps, some of which share memory; the results are all of them."""

    def __init__(self, steps: list[Any], image: bool = False) -> None:
        super().__init__()
        self.conv, self.steps, self.image = nn.Conv2d(3, 4, 1), steps, image

    def forward(self, x: torch.Tensor) -> Maps:
        if self.image:
            functional.hardtanh_(x, 0.2, 0.7)
        x = self.conv(x)
        names = [x, torch.relu(x), torch.zeros(x.shape[0], 4, 6, 5).copy_(x)]
        for kind, a, b in self.steps:
            if kind == "alias":
                names.append(ALIASES[a](names[b % len(names)]))
            elif kind == "sum":
                names.append(names[a % len(names)] + names[b % len(names)])
            else:
                WRITES[kind](names[a % len(names)], names[b % len(names)])
        return [name.clone() for name in names]


def agrees(model: nn.Module, shape: tuple[int, int, int] = SHAPE) -> bool:
    """Whether the captured graph and the module give the same for other images than capture's."""
    pixels = torch.randint(0, 256, (2, *shape), generator=torch.Generator().manual_seed(7)).float()
    found = run(capture(model, shape), pixels).values()
    with torch.no_grad():
        wanted = model(pixels / 255)
    wanted = wanted if isinstance(wanted, list) else [wanted]
    return all(
        torch.allclose(a.reshape(b.shape), b.float(), rtol=1e-3, atol=1e-4)
        for a, b in zip(found, wanted, strict=True)
    )


@settings(max_examples=25, deadline=None)
@given(steps, st.booleans(), st.integers(0, 2**16))
def test_a_write_is_seen_by_every_name_of_its_memory(
    steps: list[Any], image: bool, seed: int
) -> None:
    """Not by the comparison's grace: it would refuse, and here nothing may be refused."""
    torch.manual_seed(seed)
    assert agrees(Names(steps, image).eval())


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(steps, st.booleans(), st.integers(0, 2**16))
def test_many_writes_are_seen_by_every_name(steps: list[Any], image: bool, seed: int) -> None:
    torch.manual_seed(seed)
    assert agrees(Names(steps, image).eval())


@pytest.mark.parametrize("alias", sorted(ALIASES))
@pytest.mark.parametrize("write", ["relu_", "out of itself", "copy_"])
def test_each_alias(alias: str, write: str) -> None:
    torch.manual_seed(0)
    assert agrees(Names([("alias", alias, 0), (write, 3, 1), ("sum", 0, 3), (write, 0, 1)]))


class Calls(nn.Module):
    """Any function of one convolution's map."""

    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, 4, 1), function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self.conv(x))


@pytest.mark.parametrize("part", sorted(PARTS))
def test_a_write_to_a_part_is_refused_with_its_line(part: str) -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        made = PARTS[part](x)
        return x * 1.5 if made is None else (x * 1.5, made)

    with pytest.raises(ModelError, match=r"\(test_quant_agree\.py:\d+\): .* must not|no integer"):
        capture(Calls(function), SHAPE)


def test_the_words_for_a_part() -> None:
    with pytest.raises(ModelError) as refused:
        capture(Calls(lambda x: (x[:, :2].mul_(2), x)[1]), SHAPE)
    assert str(refused.value).endswith(
        "a map must not be written to in part; compute the parts apart and join them by torch.cat,"
        " or multiply and add constants per channel."
    )


def test_flattened_names_see_a_write_and_show_it() -> None:
    def function(x: torch.Tensor) -> Maps:
        pooled = x.mean((2, 3), keepdim=True)
        flat = pooled.flatten(1)
        flat.add_(1)
        pooled.mul_(2)
        return [pooled.clone(), flat.clone(), x]

    assert agrees(Calls(function))


# --- casts --------------------------------------------------------------------------------------

INTEGERS = {
    "int32": lambda x: (x * 8).to(torch.int32).to(torch.float32),
    "int64": lambda x: (x * 8 + 64).long().float() - 64,
    "bool": lambda x: functional.relu(x).bool().float(),
    "uint8": lambda x: (functional.relu(x) * 8).to(torch.uint8).float(),
    "int16": lambda x: x.type(torch.int16) * 1.0,
    "int8": lambda x: torch.zeros(2, 4, 6, 5, dtype=torch.int8).copy_(x) * 0.5,
    "float8_e4m3fn": lambda x: x.to(torch.float8_e4m3fn).float(),
    "complex64": lambda x: x.to(torch.complex64).abs(),
}


@pytest.mark.parametrize("kind", sorted(INTEGERS))
def test_casts_that_lose_fractions_are_refused_with_their_line(kind: str) -> None:
    words = "a map must stay in floating point, not become {}; remove the cast, or return the map"
    with pytest.raises(ModelError) as refused:
        capture(Calls(INTEGERS[kind]), SHAPE)
    assert words.format(kind) in str(refused.value)
    assert "(test_quant_agree.py:" in str(refused.value)


def test_a_cast_of_the_image_or_a_result_is_refused() -> None:
    with pytest.raises(ModelError, match=r"aten\.to in .*: a map must stay in floating point, not"):
        capture(Calls(lambda x: (x * 8).int()), SHAPE)

    class Coarse(Calls):
        def forward(self, x: torch.Tensor) -> Any:
            return self.conv((x * 4).int().float() / 4)

    with pytest.raises(ModelError, match=r"aten\.to in .*: a map must stay in floating point, not"):
        capture(Coarse(torch.relu), SHAPE)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_casts_between_floating_types_are_left_out(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    model = Calls(lambda x: model.deep(x.to(kind).float()).type_as(x).to(kind))
    model.deep = trained(nn.Sequential(*(conv_norm(4, 4) for _ in range(4))))
    assert len(capture(model, SHAPE).nodes) == 3 + 4 * 3


# --- the module itself --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "name", "wrong", "words"),
    [
        (nn.ReLU6(), "hardtanh", aten_layers.relu, "aten.hardtanh in layer"),
        (nn.GELU("tanh"), "gelu", aten_layers.relu, "aten.gelu in layer"),
        (nn.BatchNorm2d(4), "batch_norm", aten_layers.relu, "aten.batch_norm in layer"),
        (nn.LeakyReLU(0.01), "leaky_relu", aten_layers.relu, "aten.leaky_relu in layer"),
    ],
)
def test_a_wrong_translation_is_found_and_named(
    model: nn.Module, name: str, wrong: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act = nn.Conv2d(4, 4, 3, padding=1), model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.act(self.conv(x) * 90)

    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), Block(), nn.Conv2d(4, 4, 3), nn.ReLU()).eval()
    capture(network, SHAPE)
    monkeypatch.setitem(aten.TRANSLATIONS, name, wrong)
    with pytest.raises(ModelError) as refused:
        capture(network, SHAPE)
    assert str(refused.value).startswith(f"{words} '1.act' (test_quant_agree.py:")
    assert "): the captured graph must compute what torch does, not values that" in str(
        refused.value
    )
    assert str(refused.value).endswith(
        "; replace the operation, and report this as a fault of intaglio."
    )


class Counting(Calls):
    """Its results change from call to call."""

    def __init__(self) -> None:
        super().__init__(torch.relu)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> Any:
        return self.conv(x) * self.calls.add_(1)


class Remembering(Calls):
    """It keeps a tensor that its next call reads."""

    last: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> Any:
        x = self.conv(x).mean((2, 3), keepdim=True)
        made = x * 2 if self.last is None or torch.compiler.is_exporting() else x * 3
        self.last = x.detach()
        return made


class Noisy(Calls):
    def forward(self, x: torch.Tensor) -> Any:
        return self.conv(x) * random.random()


class ByNumber(Calls):
    """A mean over the images of a batch, as it is written by hand."""

    def forward(self, x: torch.Tensor) -> Any:
        return self.conv(x) / x.shape[0]


class OtherThanExported(Calls):
    def forward(self, x: torch.Tensor) -> Any:
        return self.conv(x) * (2 if torch.compiler.is_exporting() else 1)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            Counting,
            "Counting must give the same results for the same images in every call",
        ),
        (Remembering, "Remembering must give the same results for the same images in every call"),
        (
            Noisy,
            "Noisy must give the same results for the same images in every call",
        ),
        (
            ByNumber,
            "ByNumber must treat each image by itself, not give for a single one value",
        ),
        (OtherThanExported, "must compute what torch.export writes down of it, not values that di"),
    ],
)
def test_modules_that_are_no_function_of_an_image(model: type[Calls], words: str) -> None:
    with pytest.raises(ModelError) as refused:
        capture(model(torch.relu), SHAPE) if model is not Counting else capture(Counting(), SHAPE)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * torch.rand(1),
        lambda x: x + torch.randn_like(x),
        lambda x: torch.bernoulli(x),
        lambda x: functional.rrelu(x, training=True),
    ],
)
def test_random_operations_are_refused_with_their_line(function: Any) -> None:
    with pytest.raises(ModelError, match=r"\(test_quant_agree\.py:\d+\): it must give the same "):
        capture(Calls(function), SHAPE)


@pytest.mark.parametrize("part", [lambda x: x[:1], lambda x: x[1:], lambda x: x[0]])
def test_a_part_of_the_batch_is_refused(part: Any) -> None:
    with pytest.raises(ModelError, match="a map must not be"):
        capture(Calls(part), SHAPE)


def test_autocast_is_refused() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu"):
            return functional.conv2d(x, torch.ones(2, 4, 1, 1))

    with pytest.raises(ModelError, match=r"leave torch\.autocast out when quantising"):
        capture(Calls(function), SHAPE)


def test_a_module_may_write_to_its_image_and_fix_two_images() -> None:
    assert agrees(Calls(lambda x: x.view(2, 4, 6, 5).relu()))
    assert agrees(Names([("relu_", 0, 0)], image=True))


class Scaled(nn.Module):
    """A deep network of badly scaled norms."""

    def __init__(self, depth: int, gamma: float, activation: nn.Module, skip: bool) -> None:
        super().__init__()
        sizes = [3] + [5] * depth
        self.convs = nn.ModuleList(nn.Conv2d(a, 5, 3, padding=1) for a in sizes[:-1])
        self.norms = nn.ModuleList(nn.BatchNorm2d(5) for _ in self.convs)
        self.activation, self.skip = activation, skip
        for norm in self.norms:
            norm.weight.data = gamma ** torch.randn(5) * torch.sign(torch.randn(5))
            norm.bias.data = torch.randn(5) * gamma ** torch.randn(1)
            norm.running_mean = torch.randn(5) * 10 ** torch.randn(1)
            norm.running_var = 10 ** torch.randn(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = self.activation(norm(conv(x)))
            x = x + y if self.skip and number else y
        return x


def passes(depth: int, gamma: float, activation: nn.Module, skip: bool, seed: int) -> None:
    torch.manual_seed(seed)
    capture(Scaled(depth, gamma, activation, skip).eval(), (3, 5, 4))


networks = st.tuples(
    st.sampled_from((1, 2, 5, 12)),
    st.sampled_from((1.5, 10.0, 1e3, 1e5)),
    st.sampled_from((nn.ReLU(), nn.ReLU6(), nn.Sigmoid(), nn.SiLU(), nn.Identity(), nn.Tanh())),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)


@settings(max_examples=12, deadline=None)
@given(networks)
def test_badly_scaled_networks_pass(drawn: Any) -> None:
    passes(*drawn)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(networks)
def test_many_badly_scaled_networks_pass(drawn: Any) -> None:
    passes(*drawn)


@pytest.mark.parametrize("model", [Modules(), Pyramid(), Mixed()], ids=["a", "b", "c"])
def test_common_networks_end_at_the_first_step(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("the second step must not be needed")

    monkeypatch.setattr(agree, "second", never)
    capture(trained(model), (3, 24, 30))


def test_a_factor_that_is_a_little_off_is_found_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: list[Any] = []
    monkeypatch.setattr(export, "check_agreement", lambda *given: kept.extend(given))
    capture(trained(Pyramid()), (3, 24, 30))
    graph, origin = kept
    norms = [n for n in graph.nodes if isinstance(n, Affine) and n.origin and (n.scale != 1).any()]
    assert len(norms) == 5
    for node in norms:
        scale = node.scale.copy()
        scale *= 1.001
        wrong = replace(node, scale=scale)
        nodes = tuple(wrong if n is node else n for n in graph.nodes)
        with pytest.raises(ModelError, match=rf"aten\.batch_norm in layer '{node.origin}'"):
            agree.check_agreement(replace(graph, nodes=nodes), origin)


class Shared(nn.Module):
    """One weight in several forms: as it is, scaled, turned, mirrored, and as a Linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.linear = nn.Linear(27, 3)
        self.linear.weight = nn.Parameter(self.conv.weight.data.view(3, 27))

    def forward(self, x: torch.Tensor) -> Maps:
        w = self.conv.weight
        whole = functional.adaptive_avg_pool2d(x, 3).flatten(1)
        return [
            self.norm(self.conv(x)),
            self.conv(torch.relu(x)),
            functional.conv2d(x, w * 0.5),
            functional.conv2d(x, w.transpose(0, 1)),
            functional.conv2d(x, w.flip(2, 3)),
            self.linear(whole),
        ]


def test_one_weight_in_several_forms() -> None:
    torch.manual_seed(0)
    assert agrees(trained(Shared()), (3, 6, 9))
