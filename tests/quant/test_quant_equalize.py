"""Equalisation keeps the function, moves factors only where it may, and undoes bad channels."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Branches, Mixed, Modules, Pyramid, conv_norm, networks, pixels, trained
from torch import nn

from intaglio import ops
from intaglio.errors import ModelError
from intaglio.fixed import preset
from intaglio.quant import QuantConfig, quantize
from intaglio.quant.adjust.equalize import LIMIT, Balance, channel_ranges, equalized, relative
from intaglio.quant.adjust.links import links, rescaled
from intaglio.quant.capture.execute import run
from intaglio.quant.capture.export import capture
from intaglio.quant.capture.graph import Conv, FloatGraph, Lookup, Scaled
from intaglio.quant.capture.passes import simplify
from intaglio.quant.settings.config import Reconstruction
from intaglio.sim.engine import Simulator

torch.set_num_threads(1)
SHAPE = (3, 24, 30)
CONFIGS = {
    "per channel": QuantConfig(equalize=True),
    "per tensor": QuantConfig(equalize=True, per_channel=False),
    "powers": QuantConfig(equalize=True, pot_scales=True),
    "powers per tensor": QuantConfig(equalize=True, pot_scales=True, per_channel=False),
    "noise": QuantConfig(equalize=True, equalize_noise=True),
    "noise per tensor": QuantConfig(equalize=True, equalize_noise=True, per_channel=False),
    "noise, tables": QuantConfig(
        equalize=True, equalize_noise=True, equalize_tables=True, symmetric=False
    ),
}
RANGES = [kind for kind in CONFIGS if "noise" not in kind]
KINDS = pytest.mark.parametrize("kind", RANGES)


def results(graph: FloatGraph, images: np.ndarray) -> list[np.ndarray]:
    return [m.numpy() for m in run(graph, torch.from_numpy(images).double()).values()]


def assert_same_function(a: FloatGraph, b: FloatGraph, images: np.ndarray) -> None:
    for want, got in zip(results(a, images), results(b, images), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-11 * (np.abs(want).max() + 1))


class Chain(nn.Module):
    """Everything that a factor goes through: ReLU, MaxPool, Upsample, a border, a depthwise layer,
    an average pool, and a head shared by two levels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 6)
        self.depthwise = conv_norm(6, 6, groups=6)
        self.point = conv_norm(6, 8)
        self.coarse = conv_norm(8, 8, stride=2)
        self.head = nn.Conv2d(8, 5, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(5), nn.BatchNorm2d(5)])
        self.last = nn.Conv2d(5, 2, 1)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = nn.functional.max_pool2d(self.stem(x), 2)
        x = nn.functional.pad(self.depthwise(x), (0, 1, 2, 0))
        fine = self.point(nn.functional.interpolate(x, scale_factor=2))
        levels = (fine, self.coarse(nn.functional.avg_pool2d(fine, 2)))
        return [
            self.last(torch.relu(norm(self.head(level))))
            for norm, level in zip(self.norms, levels, strict=True)
        ]


@cache
def chain() -> FloatGraph:
    torch.manual_seed(3)
    return simplify(capture(trained(Chain()), SHAPE))


# --- the function stays -------------------------------------------------------------------------


@given(networks(), st.sampled_from(sorted(CONFIGS)))
@settings(max_examples=15)
def test_the_function_of_a_random_network_stays(
    drawn: tuple[nn.Module, tuple[int, int, int]], kind: str
) -> None:
    model, shape = drawn
    graph = simplify(capture(model, shape))
    images = pixels(shape, 2)
    assert_same_function(graph, equalized(graph, images, CONFIGS[kind]), images)


@given(st.integers(0, 2**31))
@settings(max_examples=8)
def test_any_factors_of_the_links_keep_the_function(seed: int) -> None:
    graph, rng = chain(), np.random.default_rng(seed)
    found = links(graph, joins=bool(seed % 2))
    factors = {link: np.exp(rng.normal(0, 2, link.size)) for link in found}
    changed = rescaled(graph, factors)
    assert_same_function(graph, changed, pixels(SHAPE, 2))
    before, after = (channel_ranges(g, pixels(SHAPE, 2)) for g in (graph, changed))
    for link, f in factors.items():
        for name in link.makers:
            np.testing.assert_allclose(after[name], before[name] * link.of(name, f), rtol=1e-4)


# --- where factors may go -----------------------------------------------------------------------


def test_links_of_everything_that_passes_a_factor() -> None:
    graph = chain()
    assert [(link.makers, link.weights) for link in links(graph)] == [
        (("stem.0",), ("stem.0.weight",)),
        (("depthwise.0",), ("depthwise.0.weight",)),
        (("point.0", "coarse.0"), ("coarse.0.weight", "point.0.weight")),
        (("avg_pool2d",), ()),
        (("head", "head@1"), ("head.weight",)),
    ]
    assert [link.readers for link in links(graph)] == [
        ("depthwise.0",), ("point.0",), ("avg_pool2d", "head", "head@1"), ("coarse.0",),
        ("last", "last@1"),
    ]  # fmt: skip


def test_a_level_takes_its_factor_into_its_table_where_the_weight_cannot() -> None:
    """Level 1 of the head is a result, so its rows must stay; level 0 is read by another layer."""

    class Uneven(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = conv_norm(3, 4)
            self.head = nn.Conv2d(4, 4, 3, padding=1)
            self.last = nn.Conv2d(4, 2, 1)

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            fine = self.stem(x)
            coarse = nn.functional.max_pool2d(fine, 2)
            return [self.last(torch.relu(self.head(fine))), self.head(coarse)]

    torch.manual_seed(0)
    graph = simplify(capture(trained(Uneven()), SHAPE))
    images = pixels(SHAPE, 2)
    assert [(link.makers, link.weights) for link in links(graph)] == [
        (("stem.0",), ("stem.0.weight",)),
        (("head",), ()),
    ]
    changed = equalized(graph, images, CONFIGS["per channel"])
    node, other = changed.producer["head"], changed.producer["head@1"]
    assert isinstance(node, Conv)
    assert isinstance(other, Conv)
    assert node.weight == other.weight
    assert len(set(node.scale)) == 4
    assert (other.scale == 1).all()
    assert_same_function(graph, changed, images)


@pytest.mark.parametrize(
    "middle",
    [nn.ReLU6(), nn.SiLU(), nn.Hardtanh(-1, 1), nn.ConstantPad2d(1, 0.5), nn.LeakyReLU()],
    ids=lambda m: type(m).__name__,
)
def test_what_stops_a_factor(middle: nn.Module) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), middle, nn.Conv2d(4, 4, 3))
    assert links(simplify(capture(model, (3, 9, 9)))) == ()
    model[1] = nn.ReLU()
    assert len(links(simplify(capture(model, (3, 9, 9))))) == 1


def test_sums_results_and_joined_channels_stop_a_factor() -> None:
    joins = simplify(capture(trained(Mixed(nn.ReLU())), (3, 12, 12)))
    assert [link.tensors for link in links(joins)] == [("c",), ("pool",)]
    sums = simplify(capture(trained(Pyramid()), SHAPE))
    assert [link.tensors for link in links(sums)] == [("head", "head@1")]


def test_factors_go_through_joined_channels_and_sums_where_asked_for() -> None:
    joins = simplify(capture(trained(Mixed(nn.ReLU())), (3, 12, 12)))
    first, c, pool = links(joins, joins=True)
    assert (first.makers, first.readers, first.size) == (("a", "b"), ("c",), 12)
    assert [places.tolist() for places in first.places.values()] == [
        [*range(5)], [*range(5, 12)], [*range(12)],
    ]  # fmt: skip
    assert [c.tensors, pool.tensors] == [("c",), ("pool",)]
    sums = simplify(capture(trained(Pyramid()), SHAPE))
    body, level, head = links(sums, joins=True)
    assert (body.makers, body.size) == (("stem.0", "body.0", "add"), 6)
    assert (level.makers, level.weights) == (
        ("down.0", "lateral", "add@1"), ("down.0.weight", "lateral.weight"),
    )  # fmt: skip
    assert head.tensors == ("head", "head@1")


class Shuffled(nn.Module):
    """Channels that are halved, joined, shuffled, packed and unpacked; a sum that is a result."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.deep, self.last = nn.Conv2d(32, 8, 1), nn.Conv2d(2, 8, 1)
        self.end = nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        a, b = torch.relu(self.stem(x)).chunk(2, dim=1)
        x = torch.cat([torch.relu(self.left(a)), b], dim=1)
        n, _, h, w = x.shape
        x = x.reshape(n, 2, 4, h, w).transpose(1, 2).reshape(n, 8, h, w)
        x = torch.relu(self.deep(nn.functional.pixel_unshuffle(x, 2)))
        x = self.last(nn.functional.pixel_shuffle(x, 2))
        return [x + self.end(torch.relu(x))]


@given(st.integers(0, 2**31))
@settings(max_examples=3)
def test_factors_go_where_channels_go(seed: int) -> None:
    torch.manual_seed(seed)
    graph, rng = simplify(capture(trained(Shuffled()), (3, 6, 8))), np.random.default_rng(seed)
    found = links(graph, joins=True)
    # Halves, and what is made of one of them; of 8 in 2 x 2; behind the last ReLU.
    assert [link.size for link in found] == [12, 2, 8]
    images = pixels((3, 6, 8), 2)
    factors = {link: np.exp(rng.normal(0, 2, link.size)) for link in found}
    changed = rescaled(graph, factors)
    assert_same_function(graph, changed, images)
    assert_same_function(graph, equalized(graph, images, CONFIGS["noise"]), images)


def test_what_is_joined_to_values_that_stay_moves_alone() -> None:
    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(5, 1, 1)

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            a, b = self.a(x), torch.relu(self.b(x))
            return [a, self.c(torch.cat([a, b], dim=1))]

    torch.manual_seed(0)
    graph, images = simplify(capture(trained(Beside()), (3, 5, 5))), pixels((3, 5, 5), 2)
    (found,) = links(graph, joins=True)
    assert [places.tolist() for places in found.places.values()] == [
        [0, 1, 2], [-1, -1, 0, 1, 2],
    ]  # fmt: skip
    changed = equalized(graph, images, CONFIGS["noise"])
    assert_same_function(graph, changed, images)
    assert not np.array_equal(graph.weights["b.weight"], changed.weights["b.weight"])
    np.testing.assert_array_equal(graph.weights["a.weight"], changed.weights["a.weight"])


def test_parts_of_a_join_are_evened_out_by_the_range_of_all() -> None:
    """One of them has values so much larger that they leave the other no codes."""
    torch.manual_seed(0)
    model = nn.Sequential(Branches(nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)), nn.Conv2d(8, 4, 3))
    loud = 100.0
    model[0].branches[0].weight.data *= loud
    model[0].branches[0].bias.data *= loud
    model[1].weight.data[:, :4] /= loud
    plain, ranges, noise = (
        quantize(model.eval(), pixels(SHAPE, 8), QuantConfig(wbits=8, abits=8, **how))
        .layers[-1].sqnr
        for how in ({}, {"equalize": True}, {"equalize": True, "equalize_noise": True})
    )  # fmt: skip
    assert ranges == plain
    assert noise > plain + 10


def test_a_weight_with_other_groups_at_another_call_site_stays() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = conv_norm(3, 4)
            self.b = conv_norm(3, 8)
            self.weight = nn.Parameter(torch.randn(4, 4, 1, 1))

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [
                nn.functional.conv2d(self.a(x), self.weight),
                nn.functional.conv2d(self.b(x), self.weight, groups=2),
            ]

    assert links(simplify(capture(trained(Twice()), (3, 9, 9)))) == ()


# --- what is moved ------------------------------------------------------------------------------


@KINDS
def test_both_sides_are_equal_afterwards(kind: str) -> None:
    graph, images, config = chain(), pixels(SHAPE, 4), CONFIGS[kind]
    found = links(graph)
    before, after = (
        Balance(g, found, channel_ranges(g, images), config)
        for g in (graph, equalized(graph, images, config))
    )
    spreads = []
    for link in found:
        name = link.makers[0]
        moved = after.ranges[name] / np.maximum(before.ranges[name], 1e-12)
        free = (before.made(link) > 0) & (moved > 1.01 / LIMIT) & (moved < 0.99 * LIMIT)
        ratios = (np.log(b.made(link)[free] / b.read(link)[free]) for b in (before, after))
        spreads.append([np.ptp(ratio) for ratio in ratios])
    was, now = np.transpose(spreads)
    assert now.max() < (1.5 if config.power_of_two else 0.3)
    assert was.sum() > 3 * now.sum()


@cache
def pair_graph() -> FloatGraph:
    torch.manual_seed(4)
    return simplify(capture(trained(nn.Sequential(conv_norm(3, 6), nn.Conv2d(6, 4, 3))), SHAPE))


@given(st.integers(0, 2**31))
@settings(max_examples=20)
def test_a_pair_gets_the_square_root_of_its_ranges(seed: int) -> None:
    """Per tensor, as in the paper: both sides become sqrt(r1 r2), but for one factor of all
    channels; and whatever factors a network was spoilt by, the same one comes out."""
    graph, config, rng = pair_graph(), CONFIGS["per tensor"], np.random.default_rng(seed)
    (found,) = links(graph)
    spoilt = rescaled(graph, {found: rng.uniform(0.5, 2, found.size)})
    rows, columns = (np.abs(spoilt.weights[n]) for n in ("0.0.weight", "1.weight"))
    wanted = np.sqrt(rows.max(axis=(1, 2, 3)) * columns.max(axis=(0, 2, 3)))
    images = pixels(SHAPE, 1)
    first, second = (equalized(g, images, config) for g in (spoilt, graph))
    for axis, name in enumerate(("0.0.weight", "1.weight")):
        axes = tuple({0, 1, 2, 3} - {axis})
        found_ranges = np.abs(first.weights[name]).max(axis=axes)
        np.testing.assert_allclose(relative(found_ranges), relative(wanted), rtol=1e-9)
        np.testing.assert_allclose(
            relative(np.abs(second.weights[name]).max(axis=axes)), relative(wanted), rtol=1e-9
        )


@given(networks(), st.sampled_from(sorted(RANGES)))
@settings(max_examples=10)
def test_factors_are_bounded_and_even(
    drawn: tuple[nn.Module, tuple[int, int, int]], kind: str
) -> None:
    model, shape = drawn
    graph = simplify(capture(model, shape))
    found = links(graph)
    balance = Balance(graph, found, channel_ranges(graph, pixels(shape, 2)), CONFIGS[kind])
    for link in found:
        assert balance.step(link) >= 1
        f = balance.factors[link]
        assert ((f >= 1 / LIMIT) & (f <= LIMIT)).all()
        if ((f > 1 / LIMIT) & (f < LIMIT)).all():
            assert np.log(f).sum() == pytest.approx(0, abs=1e-9)


def test_a_dead_channel_keeps_its_factor() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    model[0].weight.data[2], model[0].bias.data[2] = 0, -1
    graph = simplify(capture(model, (3, 9, 9)))
    images = pixels((3, 9, 9), 2)
    for config in CONFIGS.values():
        changed = equalized(graph, images, config)
        assert_same_function(graph, changed, images)
        np.testing.assert_array_equal(
            changed.weights["2.weight"][:, 2], graph.weights["2.weight"][:, 2]
        )


# --- in the whole -------------------------------------------------------------------------------


def test_tables_of_shifts_get_powers_of_two() -> None:
    """A level's table must stay one of shifts; weights take any factor."""

    class Bare(Chain):
        def __init__(self) -> None:
            super().__init__()
            self.norms = nn.ModuleList([nn.Identity(), nn.Identity()])

    torch.manual_seed(2)
    model, images = trained(Bare()), pixels(SHAPE, 4)
    config = QuantConfig(equalize=True, arithmetic=preset("shift-only"))
    done = quantize(model, images, config)
    pool = done.graph.producer["avg_pool2d"]
    assert isinstance(pool, Scaled)
    assert len(set(pool.scale)) > 1
    assert (np.frexp(pool.scale)[0] == 0.5).all()
    assert not np.array_equal(
        done.graph.weights["point.0.weight"],
        quantize(model, images, replace(config, equalize=False)).graph.weights["point.0.weight"],
    )


@pytest.mark.parametrize(
    "config",
    [
        QuantConfig(equalize=True),
        QuantConfig(equalize=True, per_channel=False, symmetric=False),
        QuantConfig(equalize=True, method="minmax", compensate=False, correct_bias=False),
        QuantConfig(equalize=True, arithmetic=preset("tosa"), wbits=8, abits=8),
        CONFIGS["noise, tables"],
        QuantConfig(
            equalize=True,
            reconstruct=Reconstruction(iterations=2, block_iterations=2, batch=4, odol=False),
        ),
    ],
    ids=["default", "per tensor", "plain", "tosa", "noise", "reconstructed"],
)
@pytest.mark.parametrize("model", [Modules, Chain])
def test_the_program_agrees_with_the_fake_quantised_model(
    model: type[nn.Module], config: QuantConfig
) -> None:
    torch.manual_seed(0)
    images = pixels(SHAPE, 4)
    done = quantize(trained(model()), images, config)
    assert done.program.meta["quantisation"]["equalize"] is True
    found = done.differences(Simulator(done.program, threads=1, trace=True)(images), images)
    assert all(row.largest_own <= 1 for row in found.rows)
    convolutions = [r for r in found.rows if isinstance(done.graph.producer[r.tensor], Conv)]
    assert sum(r.own for r in convolutions) <= 0.01 * sum(r.values for r in convolutions)


def test_a_spoilt_network_is_saved() -> None:
    """Factors that one scale for all channels cannot stand, and a layer that undoes them."""
    torch.manual_seed(0)
    model = nn.Sequential(conv_norm(3, 8), nn.Conv2d(8, 4, 3))
    trained(model)
    rng = torch.Generator().manual_seed(0)
    f = torch.exp(1.5 * torch.randn(8, generator=rng))
    model[0][1].weight.data *= f
    model[0][1].bias.data *= f
    model[1].weight.data /= f[None, :, None, None]
    for per_channel in (False, True):
        plain, evened = (
            quantize(
                model, pixels(SHAPE, 8), QuantConfig(equalize=on, per_channel=per_channel)
            ).layers[-1].sqnr
            for on in (False, True)
        )  # fmt: skip
        assert evened > plain + 3


def test_tables_become_one_for_each_channel_where_asked_for() -> None:
    torch.manual_seed(7)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.SiLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.PReLU(6), nn.Conv2d(6, 2, 1),
    )  # fmt: skip
    graph, images = simplify(capture(model.eval(), SHAPE)), pixels(SHAPE, 2)
    plain = equalized(graph, images, QuantConfig(equalize=True))
    assert [node.by_channel for node in plain.nodes if isinstance(node, Lookup)] == [False, True]
    changed = equalized(graph, images, QuantConfig(equalize=True, equalize_tables=True))
    assert all(node.by_channel for node in changed.nodes if isinstance(node, Lookup))
    assert_same_function(graph, changed, images)
    config = QuantConfig(wbits=8, abits=8, equalize=True, equalize_tables=True)
    program = quantize(model, images, config).program
    assert [program.constants[op.table].array.ndim for op in program.of_kind(ops.Lookup)] == [2, 2]
    made = program.meta["quantisation"]
    assert (made["equalize_tables"], made["table_bits"]) == (True, 8)
    for name in ("equalize_tables", "equalize_noise"):
        with pytest.raises(ModelError, match=f"^{name} must come with equalize=True, which"):
            QuantConfig(**{name: True})
