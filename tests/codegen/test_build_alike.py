# amaranth: UnusedElaboratable=no
"""What makes a build fast changes none of its bytes: work that is shared out, begun before it is
asked for, or made once for several designs."""

from dataclasses import replace

import numpy as np
import pytest
from amaranth.back import rtlil
from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.hdl._nir import CombinationalCycle
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import pyramid, skip
from strategies import programs

from intaglio.codegen.area.devices import device
from intaglio.codegen.area.limits import routable
from intaglio.codegen.area.mapping import Need
from intaglio.codegen.bundle import build
from intaglio.codegen.folding import solve
from intaglio.codegen.folding.solve import Problem
from intaglio.codegen.schedule.sizing import size_queues
from intaglio.codegen.schedule.timing import Model
from intaglio.codegen.structure import rtlil as split
from intaglio.codegen.structure.assemble import Parts, Top
from intaglio.codegen.structure.comments import about
from intaglio.codegen.structure.fold import plan_for_cycles, plan_for_multipliers
from intaglio.codegen.structure.graph import hardware_graph
from intaglio.codegen.structure.netlist import joining, netlist
from intaglio.program import Program


def test_any_number_of_threads_builds_the_same_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    monkeypatch.setattr(solve, "MANY", 0)
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        found.append(build(pyramid(), target="ecp5-25k", fps=2_000).files)
    assert found[0] == found[1]


@given(programs(max_blocks=4, max_size=7), st.integers(0, 80), st.booleans())
@settings(max_examples=12, deadline=None)
def test_queues_are_as_deep_whatever_is_run_before_it_is_asked_for(
    program: Program, extra: int, joins: bool
) -> None:
    graph = hardware_graph(program)
    least = plan_for_cycles(graph, 1 << 62).multipliers
    plan = plan_for_multipliers(graph, least + extra)
    top = Top(netlist(graph, plan, joining(graph) if joins else ()))
    found = [size_queues(Model(top.netlist, top.components), threads=n) for n in (1, 2)]
    (depths, alone), (again, schedule) = found
    assert depths == again
    assert alone.finished == schedule.finished
    assert alone.peaks == schedule.peaks
    assert all(np.array_equal(a, b) for a, b in zip(alone.taken, schedule.taken, strict=True))


def rtlil_of(top: Top) -> str:
    return str(rtlil.convert(top, ports=list(top.pins.values()), emit_src=False))


def test_text_of_modules_by_two_processes_is_that_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split, "most", lambda: 2)
    n = netlist(hardware_graph(pyramid()), plan_for_multipliers(hardware_graph(pyramid()), 60))
    found = []
    for alone in (0, 1 << 30):
        monkeypatch.setattr(split, "ALONE", alone)
        top = Top(n)
        found.append(split.design_text(top, "top", list(top.pins.values()), about(top)))
    assert found[0] == found[1]


class Circle(Elaboratable):  # type: ignore[misc]  # Amaranth is untyped
    """A value that depends on itself."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        a, b = Signal(4), Signal(4)
        m.d.comb += [a.eq(b + 1), b.eq(a ^ 3)]
        m.d.sync += Signal(4, name="held").eq(a)
        return m


@pytest.mark.parametrize("alone", [0, 1 << 30])
def test_a_combinational_cycle_is_found_beside_the_text(
    monkeypatch: pytest.MonkeyPatch, alone: int
) -> None:
    monkeypatch.setattr(split, "ALONE", alone)
    monkeypatch.setattr(split, "most", lambda: 2)
    with pytest.raises(CombinationalCycle):
        split.design_text(Circle(), "top", [])


def test_components_shared_by_designs_are_those_made_alone() -> None:
    """Designs that differ in folding, in queues or in what engines are made of: none takes a
    component of another that differs in anything."""
    graph, parts = hardware_graph(skip()), Parts()
    slow = plan_for_cycles(graph, 1 << 62)
    fast = plan_for_multipliers(graph, slow.multipliers + 20)
    tables = tuple(replace(f, form="lut", weights="tables") for f in fast.foldings)
    shared = 0
    for plan in (slow, fast, replace(fast, foldings=tables)):
        for links in ((), joining(graph)):
            n, before = netlist(graph, plan, links), len(parts)
            together, alone = Top(n, "ecp5", parts), Top(n, "ecp5")
            assert rtlil_of(together) == rtlil_of(alone)
            shared += len(n.cells) - (len(parts) - before)
    assert shared > 20  # else this shows nothing
    top = Top(n, "ecp5", parts)
    depths = {i: 3 + i for i in n.fifos}
    top.set_depths(depths)
    anew = Top(n.with_depths(depths), "ecp5")
    assert rtlil_of(top) == rtlil_of(anew) != rtlil_of(Top(n, "ecp5"))


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.integers(0, 4000))
@settings(max_examples=25, deadline=None)
def test_what_fits_is_found_as_what_is_cheapest(
    luts: float, rams: float, multipliers: float, cycles: int
) -> None:
    chip = device("ecp5-25k")
    problem = PROBLEM.within(routable(chip), Need(
        luts * chip.luts, 0, rams * chip.rams, int(multipliers * chip.multipliers), 0
    ))  # fmt: skip
    assert problem.possible(cycles) == (problem.cheapest(cycles) is not None)


PROBLEM = Problem.of(hardware_graph(pyramid()), device("ecp5-25k"))
