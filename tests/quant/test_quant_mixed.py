"""Mixed precision: the integer program against brute force, sensitivities against whole runs, and
budgets against what the Program's constants and tensors come to."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Pyramid, pixels, trained
from PIL import Image
from test_quant_detptq import SHAPE, SPECS, detector
from tools import Cli, refused

from intaglio.errors import DataError, ModelError
from intaglio.file import load
from intaglio.ops import Conv2d
from intaglio.quant import Budget, QuantConfig, Quantized, quantize
from intaglio.quant.capture import execute
from intaglio.quant.capture.export import capture
from intaglio.quant.capture.graph import Node
from intaglio.quant.capture.passes import simplify
from intaglio.quant.ranges.fake import rounded
from intaglio.quant.ranges.scales import calibrate
from intaglio.quant.search.candidates import plan
from intaglio.quant.search.odol import OutputLoss
from intaglio.quant.search.partial import Partial
from intaglio.quant.settings.budget import Widths, spent
from intaglio.quant.settings.config import Reconstruction
from intaglio.quant.widths.allocate import Limit, Load, allocate
from intaglio.quant.widths.mixed import WIDTHS, Sensitivity, bundles, items_of, key, mix
from intaglio.sim.engine import Simulator

torch.set_num_threads(1)
BOTH = (Budget.parse("weight-bits=4"), Budget.parse("bops=12.5"))


# --- the integer program --------------------------------------------------------------------------


@st.composite
def problems(draw: st.DrawFn) -> tuple[dict[str, dict[int, float]], list[Limit]]:
    """Up to five items, and up to three limits between the least and the most they can take."""
    names = [f"item{n}" for n in range(draw(st.integers(1, 5)))]
    cost = st.one_of(st.just(0.0), st.floats(1e-6, 2.0), st.integers(1, 4).map(float))
    items = {
        name: {b: draw(cost) for b in draw(st.sets(st.sampled_from(WIDTHS), min_size=1))}
        for name in names
    }
    factor = st.one_of(st.sampled_from(names), st.integers(1, 16))
    limits = []
    for _ in range(draw(st.integers(0, 3))):
        loads = []
        for _ in range(draw(st.integers(1, 6))):
            factors = draw(st.lists(factor, min_size=1, max_size=2, unique=True))
            loads.append(Load(draw(st.integers(1, 10**7)), tuple(factors)))
        least, most = (
            Limit(tuple(loads), 0).at({n: pick(costs) for n, costs in items.items()})
            for pick in (min, max)
        )
        limits.append(Limit(tuple(loads), draw(st.integers(least, most))))
    return items, limits


@given(problems())
@settings(max_examples=80)
def test_the_widths_are_those_of_brute_force(
    problem: tuple[dict[str, dict[int, float]], list[Limit]],
) -> None:
    items, limits = problem
    best = min(
        sum(items[name][bits] for name, bits in zip(items, choice, strict=True))
        for choice in product(*items.values())
        if all(limit.at(dict(zip(items, choice, strict=True))) <= limit.most for limit in limits)
    )
    found = allocate(items, limits)
    for limit in limits:
        assert limit.at(found.widths) <= limit.most
    assert found.total == sum(items[name][bits] for name, bits in found.widths.items())
    assert found.total == pytest.approx(best, rel=1e-6, abs=1e-8)
    assert found.gap <= 1e-6


def test_least_widths_that_exceed_a_limit_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="must meet every limit"):
        allocate({"a": {2: 1.0, 4: 0.0}}, [Limit((Load(3, ("a",)),), 5)])
    assert allocate({}, []).widths == {}


# --- budgets in words -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["4", "weight-bits", "weight-bits=", "weight-bits=-1", "bops=0", "bytes=3", "bops=4x4",
             "bops=1/0", "bops=nan", ""]
)  # fmt: skip
def test_a_budget_that_makes_no_sense(text: str) -> None:
    with pytest.raises(ModelError) as refused:
        Budget.parse(text)
    assert str(refused.value).startswith(
        "A budget must be weight-bits=AVERAGE or bops=AVERAGE with a number above 0, like"
        " weight-bits=4, not '"
    )


def test_budgets_are_exact_and_one_of_a_kind() -> None:
    assert Budget.parse("weight-bits=4.1") == Budget("weight-bits", Fraction(41, 10))
    assert str(Budget.parse("bops=12.5")) == "bops=12.5"
    with pytest.raises(ModelError) as refused:
        QuantConfig(budgets=(Budget.parse("bops=4"), Budget.parse("bops=5")))
    assert str(refused.value) == "A budget of bops must be given once, not 2."
    with pytest.raises(ModelError, match="width of weight 'w' must be 2 to 8 bits, not 9"):
        QuantConfig(widths=Widths({"w": 9}))


# --- a detector -----------------------------------------------------------------------------------


def mixed(kind: str, *budgets: str, **changes: object) -> Quantized:
    config = QuantConfig(budgets=tuple(Budget.parse(b) for b in budgets))
    return quantize(detector(kind), pixels(SHAPE, 8), replace(config, **changes))  # type: ignore[arg-type]  # fields of QuantConfig


def test_every_weight_and_every_free_group_is_an_item_once() -> None:
    graph = simplify(capture(detector("fcos"), SHAPE))
    config = QuantConfig(budgets=BOTH)
    items = items_of(graph, config)
    assert len({key(item) for item in items}) == len(items)
    assert {i.name for i in items if i.kind == "weights"} == set(graph.weights)
    seen = [t for i in items for g in i.groups for t in g.tensors]
    assert len(seen) == len(set(seen))
    only_a_sum_reads = {"body.0"}
    fixed = {*graph.outputs.values(), "image"}
    assert set(seen) == {n.output for n in graph.nodes} - fixed - only_a_sum_reads
    assert not any(i.groups for i in items_of(graph, replace(config, budgets=BOTH[:1])))
    kept = replace(config, overrides={"head.*": (8, 8)})
    assert not any("head" in item.name for item in items_of(graph, kept))


def test_what_call_sites_of_a_weight_read_is_one_item() -> None:
    graph = simplify(capture(detector("fcos"), SHAPE))
    bound = [{t for g in groups for t in g.tensors} for groups in bundles(graph, QuantConfig())]
    shared = [sites for sites in graph.call_sites.values() if len(sites) > 1]
    assert shared
    for sites in shared:
        for names in ({s.input for s in sites}, {s.output for s in sites}):
            assert any(names <= bundle for bundle in bound)


@pytest.mark.parametrize("kind", ["fcos", "retinanet"])
def test_sensitivities_are_those_of_whole_runs(kind: str) -> None:
    graph, images = simplify(capture(detector(kind), SHAPE)), pixels(SHAPE, 4)
    config = QuantConfig(budgets=BOTH, correct_bias=False, compensate=False)
    calibration = calibrate(graph, images, config)
    items = items_of(graph, config)
    real = execute.tensors(graph, torch.float32)
    pixel = torch.from_numpy(images).float()
    with torch.no_grad():
        loss = OutputLoss(
            SPECS[kind], list(execute.run(graph, pixel).values()), config.odol
        )  # fmt: skip
        network = Partial(
            graph, images, lambda maps: OutputLoss(SPECS[kind], maps, config.odol),
            correct_bias=False, device=torch.device("cpu"),
        )  # fmt: skip
        sensitivity = Sensitivity(graph, calibration, images, config, network)
        costs = sensitivity.of(items, None)
        for item in items[:: max(1, len(items) // 12)]:
            for bits in WIDTHS:
                change = sensitivity.change(item, bits)

                def visit(node: Node, value: torch.Tensor, change=change) -> torch.Tensor:  # type: ignore[no-untyped-def]  # bound early
                    known = node.output in change.grids
                    return rounded(node, value, change.grids) if known else value

                codes = {n: torch.from_numpy(c.real).float() for n, c in change.weights.items()}
                maps = execute.run(graph, pixel, weights=real | codes, visit=visit)
                whole = float(loss(list(maps.values())).mean())
                assert costs[key(item)][bits] == pytest.approx(whole, rel=1e-4, abs=1e-7)
                for codes_of in change.weights.values():
                    assert codes_of.type.bits == bits
                for grid in change.grids.values():
                    assert grid.type.bits == bits


@pytest.mark.parametrize(
    ("budgets", "changes"),
    [
        (("weight-bits=3.3",), {}),
        (("bops=12.5",), {}),
        (("weight-bits=4", "bops=12.5"), {"per_channel": False, "equalize": True}),
        (("weight-bits=5.25",), {"overrides": {"stem.*": (8, 8), "*cls_logits": (6, 4)}}),
        (("bops=20",), {"method": "detptq"}),
        (
            ("weight-bits=3.5",),
            {"reconstruct": Reconstruction(iterations=2, block_iterations=2, batch=4)},
        ),
    ],
    ids=["weights", "products", "both", "overrides", "detptq", "reconstructed"],
)
def test_the_program_meets_its_budget(budgets: tuple[str, ...], changes: dict[str, object]) -> None:
    done = mixed("fcos", *budgets, **changes)
    program, found = done.program, done.mixed
    assert found is not None
    assert [s.budget for s in found.spending] == [Budget.parse(b) for b in budgets]
    for spending in found.spending:
        assert spending.used == spent(program, spending.budget.kind)
        assert spending.used <= spending.budget.average
    assert any(s.used > s.budget.average * Fraction(9, 10) for s in found.spending)
    for chosen in found.chosen:
        if chosen.item.kind == "weights":
            assert program.constants[chosen.item.name].type.bits == chosen.bits
        for group in chosen.item.groups:
            assert {program.tensors[t].type.bits for t in group.tensors} == {chosen.bits}
    assert len({c.bits for c in found.chosen}) > 1
    for weight in {op.weight for op in program.of_kind(Conv2d)}:
        sites = [op for op in program.of_kind(Conv2d) if op.weight == weight]
        assert len({program.tensors[op.input].type for op in sites}) == 1
    images = pixels(SHAPE, 2)
    exact = done.differences(Simulator(program, threads=1, trace=True)(images), images)
    assert all(row.largest_own <= 1 for row in exact.rows)


def test_the_choice_is_the_best_by_the_sensitivities() -> None:
    """No width of a single item can be changed for the better within the budget."""
    found = mixed("fcos", "weight-bits=3.3").mixed
    assert found is not None
    total = sum(c.item.count for c in found.chosen)
    used = sum(c.item.count * c.bits for c in found.chosen)
    for chosen in found.chosen:
        for bits, odol in chosen.sensitivity.items():
            if odol < chosen.sensitivity[chosen.bits] - 1e-9:
                assert used + chosen.item.count * (bits - chosen.bits) > 3.3 * total


def test_overrides_stand_and_wide_tensors_stay_wide() -> None:
    done = mixed("fcos", "bops=20", overrides={"stem.*": (7, 5)})
    program = done.program
    assert program.constants["stem.0.weight"].type.bits == 7
    assert program.tensors["stem.0"].type.bits == 5
    assert {t.type.bits for t in program.outputs} == {16}
    assert program.meta["quantisation"]["budgets"] == ["bops=20"]
    final = {
        name
        for name, (_, why) in program.meta["quantisation"]["wider"].items()
        if why == "final map"
    }
    assert final == set(done.graph.outputs.values())


def test_what_is_told_and_written() -> None:
    told: list[tuple[int, int]] = []
    config = QuantConfig(budgets=BOTH)
    done = quantize(
        detector("fcos"), pixels(SHAPE, 4), config, progress=lambda *step: told.append(step)
    )
    found = done.mixed
    assert found is not None
    count = len(found.chosen)
    assert told == [(n + 1, count) for n in range(count)]
    record = json.loads(json.dumps(found.to_json()))
    assert set(record) == {
        "budgets", "items", "total", "gap", "images", "forwards", "seconds"
    }  # fmt: skip
    assert [b["kind"] for b in record["budgets"]] == ["weight-bits", "bops"]
    for item, chosen in zip(record["items"], found.chosen, strict=True):
        assert set(item) == {"kind", "name", "tensors", "count", "bits", "sensitivity"}
        assert item["sensitivity"][str(item["bits"])] == chosen.sensitivity[chosen.bits]
    assert found.total == pytest.approx(sum(c.sensitivity[c.bits] for c in found.chosen))
    words = found.sentence()
    assert words.startswith("weight-bits ")
    for kind in ("weights", "codes"):
        least = min(c.bits for c in found.chosen if c.item.kind == kind)
        number = sum(c.bits == least for c in found.chosen if c.item.kind == kind)
        assert f"{kind}: {number} at {least} bits" in words


@pytest.mark.parametrize("kind", ["weight-bits", "bops"])
def test_a_budget_below_the_least_names_what_would_do(kind: str) -> None:
    with pytest.raises(ModelError) as refused:
        mixed("fcos", f"{kind}=1.5", overrides={"head.*": (8, 8)})
    words = str(refused.value)
    assert words.startswith(f"Budget {kind}=1.5 must be at least ")
    assert "\n" not in words
    least = words.removeprefix(f"Budget {kind}=1.5 must be at least ").split(",")[0]
    done = mixed("fcos", f"{kind}={least}", overrides={"head.*": (8, 8)})
    assert done.mixed is not None
    assert {c.bits for c in done.mixed.chosen} == {2}


def test_what_mixed_precision_refuses() -> None:
    with pytest.raises(ModelError) as refused:
        quantize(trained(Pyramid()), pixels((3, 24, 30), 2), QuantConfig(budgets=BOTH))
    assert str(refused.value) == (
        "A model for a budget must have an attribute `head_spec` that says what its outputs mean,"
        " and has none; set widths for other networks."
    )
    model = detector("fcos")
    graph = simplify(capture(model, SHAPE))
    images, config = pixels(SHAPE, 2), QuantConfig(budgets=BOTH)
    blind = replace(config, odol=replace(config.odol, foreground=0.999999))
    with pytest.raises(DataError, match="must show what the model detects, not nothing"):
        mix(graph, calibrate(graph, images, config), images, blind, SPECS["fcos"])


def test_exact_widths_without_a_budget() -> None:
    """What a budget leads to can be given by hand; groups keep it, shared weights too."""
    images = pixels(SHAPE, 2)
    graph = simplify(capture(detector("fcos"), SHAPE))
    config = QuantConfig()
    steps = plan(graph, calibrate(graph, images, config))
    weight = next(s.name for s in steps if s.kind == "weights")
    group = next(s.group for s in steps if s.group is not None)
    widths = Widths({weight: 3}, {group.tensors[0]: 7})
    done = quantize(detector("fcos"), images, replace(config, widths=widths))
    assert done.program.constants[weight].type.bits == 3
    assert {done.program.tensors[t].type.bits for t in group.tensors} == {7}
    np.testing.assert_array_equal(
        sorted({t.type.bits for t in done.program.outputs}), [config.output_bits]
    )


# --- the command ----------------------------------------------------------------------------------


def tiny() -> torch.nn.Module:
    """What the command line below names."""
    return detector("fcos")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight pictures for it."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    path = tmp_path / "pictures"
    path.mkdir()
    for n, image in enumerate(pixels(SHAPE, 8)):
        Image.fromarray(image.transpose(1, 2, 0)).save(path / f"{n}.png")
    return path


def test_the_command_writes_what_was_chosen(
    cli: Cli,
    folder: Path,
    tmp_path: Path,
) -> None:
    own = ("quantize", "test_quant_mixed:tiny", "--images", folder, "--size", "32x40")
    code, out, err = cli(
        *own, "--budget", "weight-bits=3.5", "--budget", "bops=30", "--equalize",
        "-o", "tiny.intaglio", "--json", "tiny.json",
    )  # fmt: skip
    assert code == 0, err
    assert "test_quant_mixed:tiny weight-bits=3.5, bops=30 lp" in out
    record = json.loads((tmp_path / "tiny.json").read_text())["mixed"]
    program = load(tmp_path / "tiny.intaglio")
    assert program.meta["quantisation"]["equalize"] is True
    for budget, kind in zip(record["budgets"], ("weight-bits", "bops"), strict=True):
        assert budget["kind"] == kind
        assert budget["used"] == float(spent(program, kind))  # type: ignore[arg-type]  # the two kinds
        assert f"{kind} {budget['used']:.3f} of {budget['asked']:g}" in out


def test_what_the_command_refuses(
    cli: Cli,
    folder: Path,
) -> None:
    own = ("quantize", "test_quant_mixed:tiny", "--images", folder, "-o", "x.intaglio")
    for text in ("4", "bytes=4", "weight-bits=some"):
        refused(cli(*own, "--budget", text), "A budget must be weight-bits=AVERAGE or", repr(text))
    twice = ("--budget", "bops=9", "--budget", "bops=10")
    refused(cli(*own, *twice), "A budget of bops must be given once, not 2.")
    refused(cli(*own, "--budget", "weight-bits=1"), "must be at least 2, which every layer at 2")
