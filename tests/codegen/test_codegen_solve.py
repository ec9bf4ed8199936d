# amaranth: UnusedElaboratable=no
"""The folding's integer program: as good as every combination tried, no worse than the greedy one;
what a folding is said to take is what its component is counted to be made of."""

from dataclasses import replace
from itertools import product
from math import inf

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import Layers, pyramid, skip
from strategies import programs

from intaglio.codegen.area.area import Area, Storage
from intaglio.codegen.area.blocks import area_of
from intaglio.codegen.area.devices import Family, device
from intaglio.codegen.area.limits import routable, usable
from intaglio.codegen.area.mapping import (
    RULES,
    Need,
    block_rams,
    circle,
    memory_need,
    multiplier_tiles,
    style_of,
)
from intaglio.codegen.folding.candidates import Candidate, Convolution, candidates
from intaglio.codegen.folding.estimate import RESOURCES
from intaglio.codegen.folding.solve import Problem, advice, taken
from intaglio.codegen.structure.assemble import Top
from intaglio.codegen.structure.fold import plan_for_cycles, plan_for_multipliers
from intaglio.codegen.structure.graph import hardware_graph
from intaglio.codegen.structure.netlist import netlist
from intaglio.errors import BuildError
from intaglio.program import Program

pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
ECP5 = device("ecp5-85k")


def chain() -> Program:
    """Two convolutions, few enough candidates to try them all."""
    net = Layers((3, 6, 5))
    x = net.conv("a", "image", net.weights("w0", 4, 3, 3))
    return net.finish([net.conv("b", x, net.weights("w1", 4, 4, 1))])


def price(chosen: tuple[Candidate, ...]) -> float:
    """What the solver makes least."""
    need = taken(chosen)
    return sum(float(getattr(need, n)) / float(getattr(ECP5, n)) for n, _ in RESOURCES)


def all_combinations(problem: Problem, cycles: float) -> float:
    """The least price of those that fit, infinite when none does."""
    layers = [c for c in problem.choices if c is not None]
    fitting = [[c for c in layer if c.folding.cycles <= cycles] for layer in layers]
    return min((price(p) for p in product(*fitting) if taken(p).within(problem.budget)),
               default=inf)  # fmt: skip


@pytest.mark.parametrize("luts", [10_000, 1_300, 1_150, 900])
@pytest.mark.parametrize("multipliers", [20, 3])
def test_the_optimum_is_that_of_all_combinations(luts: int, multipliers: int) -> None:
    graph = hardware_graph(chain())
    problem = Problem.of(graph, ECP5).within(Need(luts, 9_999, 9, multipliers), Need())
    times = sorted({c.folding.cycles for layer in problem.choices if layer for c in layer})
    best = {t: all_combinations(problem, t) for t in times}
    for cycles in times[:: max(1, len(times) // 6)]:
        chosen = problem.cheapest(cycles)
        found = inf if chosen is None else price(chosen)
        assert found == pytest.approx(best[cycles], rel=2e-4), cycles
    possible = [t for t in times if best[t] < inf]
    if possible:
        assert problem.fastest()[0] == possible[0]
    else:
        with pytest.raises(BuildError, match=r"^ecp5-85k must have at least [\d,]+ LUTs free"):
            problem.fastest()


@pytest.mark.parametrize("net", [skip(), pyramid(), pyramid(odd=(2, 3))], ids=["skip", "p", "odd"])
def test_no_plan_is_worse_than_the_greedy_one(net: Program) -> None:
    """At every rate the part of the target taken is no larger, with the best forms for both."""
    graph = hardware_graph(net)
    free = Problem.of(graph, ECP5)
    for cycles in (1_600, 5_000, 40_000):
        greedy = Problem.of(graph, ECP5, plan_for_cycles(graph, cycles)).cheapest(1 << 62)
        solved = free.cheapest(cycles)
        assert (greedy is None) == (solved is None) or greedy is None
        if greedy is not None and solved is not None:
            assert price(solved) <= price(greedy) * 1.0002
    old = plan_for_multipliers(graph, max(156, plan_for_cycles(graph, 1 << 62).multipliers))
    assert free.fastest()[0] <= old.foldings[old.slowest].cycles


def in_order(area: Area) -> Area:
    """With memories and products sorted."""
    return replace(
        area,
        memories=tuple(sorted(area.memories, key=str)),
        products=tuple(sorted(area.products, key=str)),
    )


@given(programs(), st.integers(1, 20_000))
@settings(max_examples=12, suppress_health_check=list(HealthCheck))
def test_what_a_folding_takes_is_what_its_component_is_made_of(p: Program, cycles: int) -> None:
    graph = hardware_graph(p)
    problem = Problem.of(graph, ECP5)
    chosen = problem.cheapest(cycles) or problem.cheapest(1 << 62)
    if chosen is None:
        return
    plan = problem.plan(cycles, chosen)
    top = Top(netlist(graph, plan), "ecp5")
    for index, block in enumerate(graph.blocks):
        if block.kind == "conv":
            c, folding = Convolution(graph, block, top.family), plan.foldings[index]
            said, built = c.edges(folding) + c.core(folding), area_of(top.components[index])
            assert in_order(said) == in_order(built)


def test_no_candidate_is_beaten_by_another() -> None:
    graph = hardware_graph(skip())
    found = candidates(graph, graph.blocks[1], ECP5)
    prices = np.array([c.price for c in found])
    for k, one in enumerate(prices):
        assert not any((other <= one).all() for n, other in enumerate(prices) if n != k)


def test_what_limits_a_design_is_said() -> None:
    graph = hardware_graph(skip())
    problem = Problem.of(graph, ECP5)
    plan, _ = problem.within(usable(ECP5), Need()).solve(None)
    assert advice(graph, plan, ECP5, Need()) == (
        "image_source takes 99 cycles however many multipliers it gets: a smaller input or a faster"
        " clock would help."
    )
    slow, _ = problem.within(routable(ECP5), Need()).solve(5_000)
    assert advice(graph, slow, ECP5, Need()) == (
        "There is room for more: a higher --fps, or --target alone, would use it."
    )
    full = Need(luts=0.59 * ECP5.luts)
    assert advice(graph, slow, ECP5, full).startswith("The LUTs are the limit (98% of what routes")


def test_memories_and_multipliers_by_rule() -> None:
    """As yosys mapped them when asked for block RAM: see docs/hardware.md."""
    sizes = {(144, 64): 2, (600, 20): 2, (1000, 19): 2, (1536, 4): 1, (5000, 12): 5}
    for (depth, width), blocks in sizes.items():
        assert block_rams(Storage("ram", depth, width), "ecp5") == blocks
    parts = {(5000, 3): 1, (9000, 2): 1, (9000, 3): 2, (1080, 20): 2, (144, 64): 2}
    for (depth, width), blocks in parts.items():
        assert block_rams(Storage("rom", depth, width), "ecp5") == blocks
    assert style_of(Storage("ram", 64, 16), "ecp5") == "tables"
    assert style_of(Storage("ram", 64, 16), "ice40") == "block"
    assert style_of(Storage("rom", 9, 9, "block"), "ecp5") == "block"
    assert memory_need(Storage("rom", 16, 39), "ecp5") == Need(luts=39, ffs=39)
    assert multiplier_tiles(18, 15, ECP5) == 1
    assert multiplier_tiles(19, 18, ECP5) == 1, "a single bit is left to tables"
    assert multiplier_tiles(20, 18, ECP5) == 2
    assert multiplier_tiles(4, 4, ECP5) == 0, "eight bits of result"


@given(st.integers(2, 20_000), st.integers(1, 80), st.sampled_from(sorted(RULES)))
def test_a_circle_of_rows_is_a_power_of_two_where_no_block_ram_is_lost(
    depth: int, width: int, family: Family
) -> None:
    def rams(words: int) -> float:
        return memory_need(Storage("ram", words, width), family).rams

    whole = 1 << (depth - 1).bit_length()
    made = circle(Storage("circle", depth, width), family)
    assert made.depth == (whole if rams(whole) == rams(depth) else depth)
    assert memory_need(Storage("circle", depth, width), family).rams == rams(depth)
    assert multiplier_tiles(21, 18, device("ice40-up5k")) == 3
    assert multiplier_tiles(18, 25, device("xc7z020")) == 1
