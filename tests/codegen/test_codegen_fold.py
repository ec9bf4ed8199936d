"""Folding: as few multipliers as the rate needs, as fast as the multipliers allow."""

import re
from dataclasses import replace
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Layers, branches, pyramid, skip
from strategies import programs

from intaglio import ops
from intaglio.codegen.area.devices import device
from intaglio.codegen.bundle import build
from intaglio.codegen.folding.design import queued, scheduled
from intaglio.codegen.folding.estimate import check_fit, total_need
from intaglio.codegen.schedule.timing import best_interval
from intaglio.codegen.structure.fold import (
    Plan,
    options,
    plan_for_cycles,
    plan_for_multipliers,
)
from intaglio.codegen.structure.graph import HardwareGraph, hardware_graph
from intaglio.errors import BuildError, FitError
from intaglio.program import Program


def reachable(graph: HardwareGraph) -> int:
    """Cycles a frame of the slowest block at its fastest."""
    return max(min(f.cycles for f in options(graph, block)) for block in graph.blocks)


def test_every_block_keeps_the_asked_cycles() -> None:
    graph = hardware_graph(pyramid())
    for cycles in (1_512, 2_000, 5_000, 50_000):
        plan = plan_for_cycles(graph, cycles)
        assert plan.foldings[plan.slowest].cycles <= cycles


@given(programs(), st.integers(1, 20_000), st.integers(1, 20_000))
@settings(max_examples=60)
def test_more_time_never_takes_more_multipliers(program: Program, a: int, b: int) -> None:
    graph = hardware_graph(program)
    few, many = plan_for_cycles(graph, max(a, b)), plan_for_cycles(graph, min(a, b))
    slower = [x.multipliers > y.multipliers for x, y in zip(few.foldings, many.foldings,
                                                             strict=True)]  # fmt: skip
    assert min(a, b) < reachable(graph) or not any(slower)


@given(programs(), st.integers(0, 60))
@settings(max_examples=60)
def test_a_limit_of_multipliers_is_kept_and_used(program: Program, more: int) -> None:
    graph = hardware_graph(program)
    least = plan_for_cycles(graph, 1 << 62).multipliers
    plan = plan_for_multipliers(graph, least + more)
    assert plan.multipliers <= least + more
    slowest = plan.foldings[plan.slowest].cycles
    faster = plan_for_cycles(graph, slowest - 1)
    assert faster.multipliers > least + more or faster.foldings[faster.slowest].cycles >= slowest


@given(programs())
@settings(max_examples=60)
def test_lanes_suit_the_blocks(program: Program) -> None:
    graph = hardware_graph(program)
    plan: Plan = plan_for_cycles(graph, 40)
    for block, folding in zip(graph.blocks, plan.foldings, strict=True):
        if block.kind == "conv":
            results = folding.simd if folding.depthwise else folding.pe
            assert results % folding.out_lanes == 0
            op = block.ops[0]
            weight = program.constants[op.weight].array
            if op.groups > 1 and not folding.depthwise:
                assert weight.shape[1] % folding.simd == 0
                assert weight.shape[0] // op.groups % folding.pe == 0


def test_channel_counts_without_divisors_are_folded_unevenly() -> None:
    net = Layers((3, 8, 8))
    x = net.conv("a", "image", net.weights("w0", 7, 3, 3))
    graph = hardware_graph(net.finish([net.conv("b", x, net.weights("w1", 5, 7, 3))]))
    chosen = [plan_for_cycles(graph, c).foldings[2] for c in range(600, 20_000, 200)]
    assert any(7 % f.simd or 5 % f.pe for f in chosen)


def test_an_unreachable_rate_names_the_layer_and_a_rate_that_is_reached() -> None:
    with pytest.raises(BuildError) as error:
        build(skip(), fps=1e6)
    assert str(error.value) == (
        "fps must be at most 757500 at 75 MHz, not 1e+06: layer 'image_source' takes 99 cycles a"
        " frame however many multipliers it gets, and a smaller input or a faster clock would be"
        " needed; build with --fps 757500."
    )
    assert build(skip(), fps=757_500).manifest["cycles_per_frame"] == 99


def test_too_few_multipliers_are_refused() -> None:
    with pytest.raises(BuildError) as error:
        plan_for_multipliers(hardware_graph(skip()), 3)
    assert str(error.value) == (
        "The design must have at least 6 multipliers, not 3; build with --multipliers 6."
    )


def test_a_rate_must_be_positive() -> None:
    with pytest.raises(BuildError, match=r"^fps must be greater than 0, not -1\.$"):
        build(skip(), fps=-1)


def test_several_pixels_come_after_all_channels() -> None:
    graph = hardware_graph(skip())
    found = [f for block in graph.blocks for f in options(graph, block) if f.pixels > 1]
    assert found
    for block in graph.blocks:
        if block.kind == "conv":
            of_block = options(graph, block)
            whole = max(of_block, key=lambda f: f.pe * f.simd)
            for f in of_block:
                assert f.pixels == 1 or (f.pe, f.simd) == (whole.pe, whole.simd)
                assert f.pixels * f.pe // f.out_lanes <= 9
    stem = options(graph, graph.blocks[1])
    one = min(f.cycles for f in stem if f.pixels == 1)
    assert min(f.cycles for f in stem) < one / 2


def functions() -> Program:
    """A table, a border, a pool and a join of 24 channels between two convolutions."""
    net = Layers((3, 12, 12))
    x = net.conv("a", "image", net.weights("w0", 24, 3, 3))
    b = net.builder
    t = b.tensors[x]
    table = b.constant("table", list(range(t.type.hi, t.type.lo - 1, -1)), t.type)
    x = b.add(ops.Lookup(output="table_of", input=x, table=table), t.type)
    x = b.add(ops.Pad(output="framed", input=x, padding=(1, 1, 1, 1), value=t.type.lo))
    x = b.add(ops.MaxPool2d(output="pooled", input=x, kernel=(2, 2), stride=(2, 2)))
    x = b.add(ops.Concat(output="joined", parts=(x, x)))
    return net.finish([net.conv("z", x, net.weights("w1", 4, 48, 1))])


@pytest.mark.parametrize("cycles", [300, 4_000, 6_000, 100_000, 10**9])
def test_blocks_without_multipliers_are_as_narrow_as_the_cycles_allow(cycles: int) -> None:
    graph = hardware_graph(functions())
    plan = plan_for_cycles(graph, cycles)
    for block, folding in zip(graph.blocks, plan.foldings, strict=True):
        if block.kind in ("lookup", "pad", "max", "concat"):
            enough = [f.in_lanes for f in options(graph, block) if f.cycles <= cycles]
            fewest = min((f.cycles, f.in_lanes) for f in options(graph, block))[1]
            assert folding.in_lanes == min(enough, default=fewest)


def test_a_table_takes_a_memory_for_each_lane_and_at_a_low_rate_one() -> None:
    fast, slow = (build(functions(), fps=fps, target="ecp5-25k") for fps in (90_000, 10))
    lanes = [next(r["simd"] for r in b.report()["layers"] if r["op"] == "lookup")
             for b in (fast, slow)]  # fmt: skip
    assert lanes[1] == 1 < lanes[0]
    assert slow.manifest["resources"]["rams"] < fast.manifest["resources"]["rams"]


def test_no_rate_is_lost_to_blocks_without_multipliers() -> None:
    """Where a narrow one would hold the others up, it is wider."""
    graph = hardware_graph(branches())
    plan = plan_for_multipliers(graph, 39)
    found, _, schedule = scheduled(graph, plan, device("generic"))
    alone = best_interval(queued(graph, plan, device("generic"), {})[1])
    assert schedule.interval <= alone
    assert plan_for_cycles(graph, 1).foldings != found.foldings


def test_nothing_is_built_that_cannot_be_routed() -> None:
    """Beyond the part of the tables that place and route has filled there is no design."""
    chip, graph = device("ecp5-85k"), hardware_graph(skip())
    _, top, _ = scheduled(graph, plan_for_multipliers(graph, 20), chip)
    luts = total_need(top, chip).luts
    check_fit(top, replace(chip, luts=ceil(luts / 0.84)))
    with pytest.raises(FitError) as error:
        check_fit(top, replace(chip, luts=ceil(luts / 0.9)))
    assert re.fullmatch(
        r"ecp5-85k must have at least ([\d,]+) LUTs for this design, not the [\d,]+ of [\d,]+ that"
        r" route: layer '[\w.]+' takes [\d,]+ of them\.",
        str(error.value),
    )
