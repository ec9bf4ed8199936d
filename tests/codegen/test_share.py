# amaranth: UnusedElaboratable=no
"""Engine sharing between convolutions of different weights: which, in what order, how fast, and the
same integers."""

import json
from collections.abc import Iterator
from dataclasses import replace
from graphlib import TopologicalSorter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Layers, fork_join, parallel, pyramid, skip, towers
from shallow import Design
from strategies import programs
from test_codegen_solve import in_order
from test_codegen_timing import check_minimal_and_alive
from tools import Cli, needs, refused

from intaglio.codegen.area.blocks import area_of
from intaglio.codegen.area.devices import DEVICES, Device
from intaglio.codegen.bundle import Bundle, build
from intaglio.codegen.folding.candidates import Convolution
from intaglio.codegen.folding.estimate import weight_bits
from intaglio.codegen.folding.share import MOST, arrivals, in_turn, likeness
from intaglio.codegen.folding.share import parallel as groups_of
from intaglio.codegen.running.verify import verify
from intaglio.codegen.schedule.timing import Model
from intaglio.codegen.structure.assemble import Top
from intaglio.codegen.structure.fold import plan_for_cycles, plan_for_multipliers
from intaglio.codegen.structure.graph import HardwareGraph, Key, hardware_graph
from intaglio.codegen.structure.netlist import netlist
from intaglio.errors import BuildError
from intaglio.file import save
from intaglio.program import Program
from intaglio.report.layers import layers_of
from intaglio.report.page import page, subject

pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")


def all_shared(graph: HardwareGraph) -> list[Key]:
    """Every engine of several convolutions that there can be."""
    groups = groups_of(graph)
    come = arrivals(graph, groups)
    return [in_turn(graph, [graph.blocks[k] for k in group], come) for group in groups]


def shared_engines(graph: HardwareGraph) -> int:
    return sum(len(block.weights) > 1 for block in graph.blocks)


def test_towers_share_layer_by_layer_and_pass_each_other_whole_tuples() -> None:
    graph = hardware_graph(towers())
    (first, second) = all_shared(graph)
    assert first == ("class.0.p0", "box.0.p0", "class.0.p1", "box.0.p1")
    both = hardware_graph(towers(), [first, second])
    assert [b.writes[0] for b in both.blocks if len(b.weights) > 1] == [first, second]
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
        (k,) = [
            k
            for k, b in enumerate(shared.blocks)
            if b.kind == "conv" and "class.0.p0" in b.writes[0]
        ]
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
    design = check(towers(size=(4, 5), channels=2), extra)
    assert shared_engines(design.top.netlist.graph) == 2
    assert design.schedule.interval == max(f.cycles for f in design.top.netlist.foldings)


@pytest.mark.rtl
@pytest.mark.xdist_group("icarus")
@pytest.mark.parametrize("seed", range(1, 6))
def test_random_parallel_convolutions_in_rtl(seed: int) -> None:
    needs("icarus")
    check(parallel(seed), 5 * seed, seeds=(1,))


@pytest.mark.slow
@pytest.mark.rtl
@pytest.mark.xdist_group("icarus")
def test_many_random_networks_in_rtl() -> None:
    needs("icarus")
    nets = [(parallel(seed), seed) for seed in range(6, 46)]
    nets += [(fork_join(seed), 20) for seed in (10, 13, 20)]
    nets += [(pyramid(size=(12, 14), widths=(4, 4, 4, 4)), 20), (towers(odd=(2,)), 30)]
    shared = [shared_engines(check(p, extra).top.netlist.graph) for p, extra in nets]
    assert sum(shared) > 40


@pytest.mark.slow
@pytest.mark.rtl
@pytest.mark.xdist_group("icarus")
@pytest.mark.parametrize("program", [towers(size=(4, 5), channels=2), parallel(24)])
def test_a_place_less_shows_behind_shared_engines(program: Program, tmp_path: Path) -> None:
    needs("icarus")
    queues = list(Design(program, 12, tmp_path, all_shared(hardware_graph(program))).shallow())
    assert len(queues) >= 2
    assert all(queue.shows in ("loss", "deadlock") for queue in queues), queues


@given(st.integers(0, 999), st.integers(0, 40))
@settings(max_examples=10, deadline=None)
def test_queues_of_shared_engines_are_minimal_and_never_deadlock(seed: int, extra: int) -> None:
    program = parallel(seed)
    graph = hardware_graph(program, all_shared(hardware_graph(program)))
    least = plan_for_cycles(graph, 1 << 62).multipliers
    top = Top(netlist(graph, plan_for_multipliers(graph, least + extra)))
    check_minimal_and_alive(Model(top.netlist, top.components), 2)


@given(st.integers(0, 999), st.integers(1, 3_000))
@settings(max_examples=20, deadline=None)
def test_what_a_shared_engine_takes_is_what_its_component_is_made_of(seed: int, aim: int) -> None:
    program = parallel(seed)
    graph = hardware_graph(program, all_shared(hardware_graph(program)))
    plan = plan_for_cycles(graph, aim)
    styled = tuple(replace(folding, weights="block") for folding in plan.foldings)
    plan = replace(plan, foldings=styled)
    top = Top(netlist(graph, plan))
    for index, block in enumerate(graph.blocks):
        if len(block.weights) > 1:
            c, folding = Convolution(graph, block, top.family), plan.foldings[index]
            said, built = c.edges(folding) + c.core(folding), area_of(top.components[index])
            assert in_order(said) == in_order(built)


ROOMY = {"target": "roomy", "clock_mhz": 12.0}


@pytest.fixture(scope="module", autouse=True)
def roomy() -> Iterator[Device]:
    """An iCE40 with the multipliers of a UP5K and twice its logic."""
    made = replace(DEVICES["ice40-up5k"], name="roomy", luts=10_560, ffs=10_560)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DEVICES, made.name, made)
        yield made


@pytest.fixture(scope="module")
def fitting(roomy: Device) -> Bundle:
    """Nine engines, each with a product too wide for look-up tables, on eight multipliers."""
    return build(towers(size=(6, 6), channels=2, depth=4), fps=1000, **ROOMY)


def test_what_does_not_fit_is_shared_and_only_as_far_as_it_must(fitting: Bundle) -> None:
    program = fitting.program
    with pytest.raises(BuildError) as error:
        build(program, fps=1000, share=False, **ROOMY)
    assert str(error.value) == (
        "roomy must have at least 9 multipliers free for the convolutions, not 8: layer 'stem'"
        " takes 1; build without --no-share, or build with --target"
        " gowin-gw1nr-9c."
    )
    found = fitting.manifest
    assert found["resources"]["multipliers"] == 8
    (engine,) = found["sharing"]["engines"]
    names = ["class.3.p0", "box.3.p0", "class.3.p1", "box.3.p1"]
    assert engine == {"layers": names, "tensors": names}
    assert fitting.summary().endswith(
        " One engine each: class.3.p0, box.3.p0, class.3.p1, box.3.p1. No design without that fits"
        " roomy at 1000 frames/s."
    )
    assert fitting.report()["sharing"] == found["sharing"]
    assert found["fps"] >= 1000


def test_without_a_rate_the_fastest_that_fits_is_made() -> None:
    slow = build(towers(size=(6, 6), channels=2, depth=4), **ROOMY)
    assert slow.manifest["sharing"]["why"] == "No design without that fits roomy."
    assert len(slow.manifest["sharing"]["engines"]) == 1


def test_a_small_target_is_filled_as_fast_as_it_goes() -> None:
    """The fastest layers leave no room for what lies between them."""
    found = build(towers(size=(6, 6), channels=4, depth=3), share=False, **ROOMY).manifest
    assert found["resources"]["cells"] <= 10_560
    assert found["cycles_per_frame"] < 6480


@pytest.mark.rtl
@pytest.mark.xdist_group("icarus")
def test_a_shared_build_is_proved_like_any_other(fitting: Bundle, tmp_path: Path) -> None:
    needs("icarus")
    fitting.write(tmp_path / "build")
    done = verify(tmp_path / "build", frames=2, simulator="icarus")
    assert done.first_mismatch is None
    assert done.cycles_per_frame == done.predicted_cycles_per_frame
    assert done.latency_cycles == done.predicted_latency_cycles
    layers = layers_of(fitting.program, fitting.manifest)
    assert sum(layer.kind == "conv" and len(layer.tensors) == 4 for layer in layers) == 1
    text = page(subject(tmp_path / "build"))
    assert "One engine each: class.3.p0, box.3.p0" in text


def test_an_unshared_design_that_fits_is_left_alone() -> None:
    plain = build(towers(size=(6, 6)), fps=500, share=False)
    assert build(towers(size=(6, 6)), fps=500).files == plain.files
    assert plain.manifest["sharing"] == {"why": "", "engines": []}


def test_sharing_that_is_asked_for_makes_a_design_cheaper_at_its_rate() -> None:
    plain = build(towers(size=(6, 6)), fps=500, share=False).manifest
    asked = build(towers(size=(6, 6)), fps=500, share=True).manifest
    assert asked["fps"] >= 500
    assert asked["resources"]["luts"] < 0.8 * plain["resources"]["luts"]
    assert asked["resources"]["multipliers"] == plain["resources"]["multipliers"] - 2
    assert asked["sharing"]["why"] == "That makes the design cheaper at 500 frames/s."
    nothing = build(skip(), fps=500, share=True).manifest
    assert nothing["sharing"] == {
        "why": "No engine is shared: that would not make the design cheaper.", "engines": []
    }  # fmt: skip


def test_lanes_fix_the_folding_and_leave_no_choice() -> None:
    with pytest.raises(BuildError) as error:
        build(towers(), lanes=30, share=True)
    assert str(error.value) == (
        "--share must not be asked for together with --multipliers, which fix the folding; build"
        " without --multipliers, or build without --share."
    )


def test_an_engine_of_another_program_is_refused() -> None:
    with pytest.raises(BuildError) as error:
        hardware_graph(towers(), [("class.0.p0", "stem")])
    assert str(error.value) == (
        "The engine of class.0.p0, stem must share whole convolutions of its Program; build again."
    )


def test_the_command_line_shares_and_says_so(cli: Cli, tmp_path: Path) -> None:
    save(towers(size=(6, 6)), tmp_path / "t.intaglio")
    code, said, _ = cli("build", "t.intaglio", "-o", "b", "--fps", 500, "--share", "--json", "j")
    assert code == 0
    assert "One engine each: " in " ".join(said.split())
    assert json.loads((tmp_path / "j").read_text())["sharing"]["engines"]
    refused(cli("build", "t.intaglio", "-o", "c", "--lanes", 9, "--share"), "fix the folding")
    assert not (tmp_path / "c").exists()
