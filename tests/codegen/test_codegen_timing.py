# amaranth: UnusedElaboratable=no
"""The cycle model and the queue depths that follow from it. That the RTL takes the very same
cycles is shown in test_rtl_*."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import fork_join, pyramid, skip
from strategies import programs

from intaglio.codegen.area.devices import device
from intaglio.codegen.folding.design import scheduled
from intaglio.codegen.schedule.activity import activity
from intaglio.codegen.schedule.sizing import enough, line_ends, size_queues
from intaglio.codegen.schedule.timing import UNBOUNDED, Model, best_interval, random_pauses
from intaglio.codegen.structure.assemble import Top
from intaglio.codegen.structure.fold import plan_for_cycles, plan_for_multipliers
from intaglio.codegen.structure.graph import hardware_graph
from intaglio.codegen.structure.netlist import joining, netlist
from intaglio.fixed import IntType
from intaglio.hdl.stream import ceil_div
from intaglio.ops import Input, Multiply, Output, Requant, SumPool2d
from intaglio.program import Builder, Program


def model_of(program: Program, multipliers: int) -> Model:
    graph = hardware_graph(program)
    top = Top(netlist(graph, plan_for_multipliers(graph, multipliers)))
    return Model(top.netlist, top.components)


@pytest.fixture(scope="module")
def detector() -> Model:
    return model_of(pyramid(), 80)


def test_the_interval_is_that_of_the_slowest_block(detector: Model) -> None:
    _, schedule = size_queues(detector)
    assert schedule.interval == max(f.cycles for f in detector.netlist.foldings)


def test_streams_that_meet_get_a_queue_where_they_hold_each_other_up() -> None:
    """Two engines before a sum, both busy all the time, each with its beats at other times."""
    graph = hardware_graph(fork_join(55))
    least = plan_for_cycles(graph, 1 << 62).multipliers
    plan = plan_for_multipliers(graph, least + 90)
    floor = max(f.cycles for f in plan.foldings)
    top = Top(netlist(graph, plan))
    assert best_interval(Model(top.netlist, top.components)) > floor
    _, better, schedule = scheduled(graph, plan, device("generic"))
    assert schedule.interval == floor
    assert len(better.netlist.fifos) > len(top.netlist.fifos)
    for link in joining(graph):
        assert graph.blocks[link.reader].kind in ("add", "concat")


def test_one_place_less_in_any_queue_costs_cycles_or_deadlocks(detector: Model) -> None:
    depths, schedule = size_queues(detector)
    deep = [i for i, depth in depths.items() if depth > 1]
    assert len(deep) >= 5
    for i in deep:
        tried = detector.run({**depths, i: depths[i] - 1})
        assert not tried.keeps(schedule.interval), detector.netlist.cells[i].name


def test_what_queues_hold_before_they_are_sized_is_the_most_they_need(detector: Model) -> None:
    depths, schedule = size_queues(detector)
    most = enough(detector)
    assert detector.run(most).keeps(schedule.interval)
    assert most.keys() == depths.keys()
    assert all(most[i] >= depth for i, depth in depths.items())
    assert most != depths


def test_a_queue_far_too_shallow_deadlocks_a_fork_and_join() -> None:
    model = model_of(skip(), 40)
    depths, _ = size_queues(model)
    shallow = {i: min(depth, 2) for i, depth in depths.items()}
    assert shallow != depths
    assert model.run(shallow).finished == ()


def test_the_fewest_places_that_do_not_deadlock_are_found_in_one_run() -> None:
    model = model_of(skip(), 40)
    depths, _ = size_queues(model)
    for i in depths:
        least = model.least_alive(depths, i, 2)
        assert model.run({**depths, i: least}).finished
        assert least == 1 or not model.run({**depths, i: least - 1}).finished


@given(st.integers(0, 50), st.integers(1, 50), st.integers(1, 9), st.integers(1, 99))
def test_a_line_through_two_losses_ends_where_nothing_is_lost(
    x: int, width: int, slope: int, y: int
) -> None:
    points = [(x, slope * width + y), (x + width, y)]
    root = line_ends(points)
    assert root >= x + width
    assert y - slope * (root - x - width) <= 0 < y - slope * (root - 1 - x - width)
    assert line_ends(points[:1]) == line_ends([(x, y), (x + width, y)]) == 0


def test_later_frames_do_not_delay_earlier_ones(detector: Model) -> None:
    depths, schedule = size_queues(detector)
    assert detector.run(depths, frames=2).finished == schedule.finished[:2]
    assert detector.run(depths, frames=9).finished[:4] == schedule.finished


def test_deeper_queues_are_never_slower(detector: Model) -> None:
    depths, schedule = size_queues(detector)
    for extra in (1, 7):
        deeper = detector.run({i: depth + extra for i, depth in depths.items()})
        assert deeper.keeps(schedule.interval)


@given(programs(max_blocks=4, max_size=7))
@settings(max_examples=25)
def test_sized_designs_are_as_fast_as_unbounded_ones(program: Program) -> None:
    model = model_of(program, 400)
    free = model.run(dict.fromkeys(model.netlist.fifos, UNBOUNDED))
    depths, schedule = size_queues(model)
    assert schedule.interval <= free.interval
    assert all(schedule.peaks[i] <= depth for i, depth in depths.items())


def check_minimal_and_alive(model: Model, stalls: int) -> int:
    """A place less anywhere costs cycles or deadlocks; pauses at the ports never deadlock, and
    lose no more than they last. Returns the number of queues deeper than 1."""
    depths, schedule = size_queues(model)
    for i, depth in depths.items():
        if depth > 1:
            tried = model.run({**depths, i: depth - 1})
            assert not tried.keeps(schedule.interval), model.netlist.cells[i].name
    for seed in range(stalls):
        paused = model.run(depths, seed=seed)
        assert paused.finished, f"deadlock with pauses of seed {seed}"
        lost = sum(random_pauses(seed, model.beats.sum() * model.frames))
        ends = zip(schedule.finished, paused.finished, strict=True)
        assert all(plain <= late <= plain + lost for plain, late in ends)
    return sum(depth > 1 for depth in depths.values())


FORKS_AND_JOINS = ("conv", "add", "fpn", "concat", "shared", "maxpool", "scale", "gate")


def fork_join_networks(examples: int) -> int:
    """Check that many random fork/join networks; the number of queues shown to be minimal."""
    found = []

    @given(programs(blocks=FORKS_AND_JOINS, max_blocks=4, max_size=7, max_channels=4),
           st.integers(0, 60))  # fmt: skip
    @settings(max_examples=examples, deadline=None)
    def check(program: Program, extra: int) -> None:
        least = plan_for_cycles(hardware_graph(program), 1 << 62).multipliers
        found.append(check_minimal_and_alive(model_of(program, max(1, least + extra)), 3))

    check()
    return sum(found)


def test_queues_of_random_forks_and_joins_are_minimal_and_never_deadlock() -> None:
    assert fork_join_networks(25) > 0


@pytest.mark.slow
def test_queues_of_hundreds_of_forks_and_joins_are_minimal_and_never_deadlock() -> None:
    assert fork_join_networks(250) > 200


def test_in_the_steady_state_every_beat_follows_an_interval_behind(detector: Model) -> None:
    depths, schedule = size_queues(detector)
    taken = detector.run(depths, frames=12).taken
    for times, beats in zip(taken, detector.beats, strict=True):
        assert (times[-beats:] - times[-2 * beats : -beats] == schedule.interval).all()


def test_activity_tells_outputs_use_and_filling(detector: Model) -> None:
    graph = hardware_graph(pyramid())
    top = Top(netlist(graph, plan_for_multipliers(graph, 80)))
    depths, schedule = size_queues(detector)
    top.set_depths(depths)
    shown = activity(top, schedule)
    ends = zip(*(times["last"] for times in shown["outputs"].values()), strict=True)
    assert tuple(map(max, ends)) == schedule.finished
    assert all(t["first"][0] <= t["last"][0] for t in shown["outputs"].values())
    for queue in shown["queues"]:
        assert max(queue["held"]) == queue["peak"] <= queue["depth"]
    assert max(e["utilisation"] for e in shown["engines"]) >= 0.95
    assert all(0 < e["utilisation"] <= 1 for e in shown["engines"])
    assert shown["memory"]["queues"] == sum(q["depth"] * q["width"] for q in shown["queues"])


def test_the_queue_before_a_gate_holds_a_frame() -> None:
    """What is squeezed to one pixel and multiplied by that must wait for it as a whole."""
    b = Builder()
    x = b.add(Input(output="x", shape=(4, 6, 8), type=IntType(8, False)))
    table = {"multiplier": b.constant("m", [1]), "bias": b.constant("b", [0]), "shift": (6,)}
    b.add(SumPool2d(output="sum", input=x, kernel=(6, 8)))
    b.add(Requant(output="gate", input="sum", **table, lo=0, hi=255))
    b.add(Multiply(output="made", a=x, b="gate"))
    b.add(Requant(output="y", input="made", **table, lo=0, hi=255))
    b.add(Output(output="out", input="y"))
    program = b.build()
    model = model_of(program, 6)
    depths, schedule = size_queues(model)
    before = [k for k, block in enumerate(model.netlist.graph.blocks) if block.kind == "source"]
    held = {i: model.netlist.cells[i] for i in depths if model.netlist.cells[i].block in before}
    wires = {i: model.netlist.wires[cell.ins[0]] for i, cell in held.items()}
    frame = {i: 6 * 8 * ceil_div(4, wire.lanes) for i, wire in wires.items()}
    (deep,) = (i for i in held if depths[i] > 2)
    assert frame[deep] <= depths[deep] <= 2 * frame[deep]
    assert schedule.interval == max(f.cycles for f in model.netlist.foldings)
    assert model.run({**depths, deep: frame[deep] // 2}).finished == ()
