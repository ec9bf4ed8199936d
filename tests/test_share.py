# amaranth: UnusedElaboratable=no
"""Engine sharing between convolutions of different weights: which, in what order, how fast, and the
same integers."""

from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Layers, fork_join, parallel, pyramid, skip, towers
from shallow import Design
from strategies import programs
from tools import needs

from intaglio.codegen.assemble import Top
from intaglio.codegen.bundle import Bundle, build
from intaglio.codegen.design import scheduled
from intaglio.codegen.devices import device
from intaglio.codegen.estimate import weight_bits
from intaglio.codegen.fold import plan_for_cycles, plan_for_multipliers
from intaglio.codegen.graph import HardwareGraph, Key, hardware_graph
from intaglio.codegen.layers import layers_of
from intaglio.codegen.netlist import netlist
from intaglio.codegen.share import MOST, in_turn, likeness, sharings
from intaglio.codegen.share import parallel as groups_of
from intaglio.codegen.verify import verify
from intaglio.errors import BuildError
from intaglio.program import Program

pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
ECP5 = device("ecp5-85k")


def all_shared(graph: HardwareGraph) -> list[Key]:
    """Every engine of several convolutions that there can be."""
    return [in_turn(graph, [graph.blocks[k] for k in group]) for group in groups_of(graph)]


def origins(graph: HardwareGraph) -> list[tuple[str, ...]]:
    return [block.sharers for block in graph.blocks if block.sharers]


def test_towers_share_layer_by_layer_and_pass_each_other_whole_tuples() -> None:
    graph = hardware_graph(towers())
    (first, second) = all_shared(graph)
    assert first == ("class.0.p0", "box.0.p0", "class.0.p1", "box.0.p1")
    both = hardware_graph(towers(), [first, second])
    assert [b.writes[0] for b in both.blocks if b.sharers] == [first, second]
    assert next(b for b in both.blocks if b.writes == (second,)).reads == (first,)
    assert [b.kind for b in both.blocks].count("mux") == 1
    assert [b.kind for b in both.blocks].count("demux") == 1


@given(st.one_of(programs(), st.builds(parallel, st.integers(0, 999))))
@settings(max_examples=60)
def test_only_equal_convolutions_without_a_path_between_them_share(program: Program) -> None:
    graph = hardware_graph(program)
    groups = groups_of(graph)
    feeds = sources(graph)
    for group in groups:
        blocks = [graph.blocks[k] for k in group]
        assert 2 <= len(group) <= MOST
        assert len({likeness(graph, block) for block in blocks}) == 1
        for k in group:
            assert before(feeds, k).isdisjoint(group)
    shared = hardware_graph(program, all_shared(graph))
    assert not groups or list(TopologicalSorter(sources(shared)).static_order())
    engines = [b for b in graph.blocks if b.kind == "conv"]
    left = [b for b in shared.blocks if b.kind == "conv"]
    assert len(left) == len(engines) - sum(len(g) - 1 for g in groups)
    assert sorted(t for b in left for t in b.writes[0]) == sorted(
        t for b in engines for t in b.writes[0]
    )


def sources(graph: HardwareGraph) -> dict[int, set[int]]:
    """The blocks that each block reads."""
    found: dict[int, set[int]] = {k: set() for k in range(len(graph.blocks))}
    for link in graph.links:
        found[link.reader].add(link.source)
    return found


def before(feeds: dict[int, set[int]], block: int) -> set[int]:
    """Every block on a path to this one."""
    found, new = set[int](), {block}
    while new:
        new = {f for k in new for f in feeds[k]} - found
        found |= new
    return found


def test_a_chain_shares_nothing_and_neither_does_a_crossing() -> None:
    assert groups_of(hardware_graph(skip())) == []
    net = Layers((2, 6, 6))
    x, y = (net.conv(n, "image", net.weights(f"{n}.w", 2, 2, 1)) for n in "ab")
    x, y = (net.conv(f"{n}1", m, net.weights(f"{n}1.w", 2, 2, 3)) for n, m in (("a", x), ("b", y)))
    x = net.conv("a2", x, net.weights("a2.w", 2, 2, 1))
    graph = hardware_graph(net.finish([x, y]))
    names = [{graph.blocks[k].origin for k in group} for group in groups_of(graph)]
    assert names == [{"a", "b"}, {"a1", "b1"}], "a2 is behind both engines"


def test_a_rom_holds_every_set_and_its_cycles_are_the_sum_of_all() -> None:
    graph = hardware_graph(towers(odd=(2,)))
    shared = hardware_graph(towers(odd=(2,)), all_shared(graph))
    for plan in (plan_for_cycles(graph, 1 << 62), plan_for_cycles(graph, 1)):
        kept = [k for k, b in enumerate(graph.blocks) if b.origin.startswith("class.0")]
        (k,) = [k for k, b in enumerate(shared.blocks) if "class.0.p0" in b.sharers]
        cheap = plan.cycles > 1
        same = plan_for_cycles(shared, 1 << 62 if cheap else 1)
        assert weight_bits(shared, same, k) == 2 * weight_bits(graph, plan, kept[0])
        assert same.foldings[k].cycles == 2 * plan.foldings[kept[0]].cycles


def check(program: Program, extra: int, *, seeds: tuple[int, ...] = (1, 2)) -> Design:
    """As RTL in Icarus with all that can be shared: beats with and without pauses are the
    simulator's, and every output's first beat and every frame's end come when predicted."""
    sharing = all_shared(hardware_graph(program))
    with TemporaryDirectory() as folder:
        design = Design(program, extra, Path(folder), sharing)
        plain = design.play()
        n = design.top.netlist
        sinks = {n.graph.blocks[c.block].ops[0].output: c for c in n.cells if c.kind == "sink"}
        first = [int(design.schedule.taken[sinks[s.tensor].ins[0]][0]) for s in design.top.sinks]
        assert (plain.finished, plain.mismatches) == (True, 0)
        assert list(plain.first) == first
        assert plain.ends == design.schedule.finished
        for seed in seeds:
            paused = design.play(stalls=seed)
            assert (paused.finished, paused.mismatches) == (True, 0)
    return design


@pytest.mark.rtl
@pytest.mark.xdist_group("icarus")
@pytest.mark.parametrize("extra", [0, 30])
def test_shared_towers_in_rtl(extra: int) -> None:
    needs("icarus")
    design = check(towers(), extra)
    assert len(origins(design.top.netlist.graph)) == 2
    slowest = max(f.cycles for f in design.top.netlist.foldings)
    assert design.schedule.interval == slowest


@pytest.mark.rtl
@pytest.mark.xdist_group("icarus")
@pytest.mark.parametrize("seed", range(6))
def test_random_parallel_convolutions_in_rtl(seed: int) -> None:
    needs("icarus")
    check(parallel(seed), 5 * seed, seeds=(1,))


@pytest.mark.slow
@pytest.mark.rtl
@pytest.mark.xdist_group("icarus")
def test_many_random_networks_in_rtl() -> None:
    needs("icarus")
    shared = 0
    for seed in range(6, 46):
        shared += len(origins(check(parallel(seed), seed).top.netlist.graph))
    for seed in range(8):
        shared += len(origins(check(fork_join(seed), 20).top.netlist.graph))
    shared += len(origins(check(pyramid(size=(12, 14), widths=(4, 4, 4, 4)), 20)
                          .top.netlist.graph))  # fmt: skip
    assert shared > 30
