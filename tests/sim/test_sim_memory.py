"""The memory that `intaglio info` states is what the fast engine allocates."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import skip
from strategies import programs
from tools import Cli

from intaglio.file import save
from intaglio.ops import Conv2d
from intaglio.program import Program
from intaglio.sim.isa import Isa, supported
from intaglio.sim.memory import planned
from intaglio.sim.plan import make_plan
from intaglio.sim.workspace import Binder

OBJECTS = 400  # bytes that Python takes for an array's views and names, at most


def allocated(make: Callable[[], Any]) -> int:
    """Bytes that are held by what `make` returns."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = make()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    del kept
    return after - before


@given(programs(), st.sampled_from(supported()))
@settings(max_examples=20)
def test_buffers_and_scratch_are_what_is_allocated(program: Program, isa: Isa) -> None:
    plan = make_plan(program, isa=isa)
    Binder(plan, 1)  # what is computed once and kept is not the buffers'
    held = allocated(lambda: Binder(plan, 1))
    memory = planned(program, isa)
    rest = held - memory.buffers - memory.scratch
    assert 0 <= rest < 5000 + OBJECTS * len(program.tensors)


@pytest.mark.parametrize("isa", supported())
def test_weights_are_packed_once(isa: Isa) -> None:
    program = skip()
    plan = make_plan(program, isa=isa)
    memory = planned(program, isa)
    assert memory.weights == sum({s.weight.ctypes.data: s.weight.nbytes
                                  for s in plan.sums.values()}.values())  # fmt: skip
    names = {op.weight for op in program.of_kind(Conv2d)}
    assert memory.weights >= sum(program.constants[name].array.size for name in names)


def test_info_states_rom_and_memory(cli: Cli, tmp_path: Path) -> None:
    program = skip()
    save(program, tmp_path / "skip.intaglio")
    code, out, err = cli("info", "skip.intaglio", "--json", "info.json")
    assert code == 0, err
    found = json.loads((tmp_path / "info.json").read_text())
    memory = planned(program)
    assert found["simulator_bytes"] == {
        "weights": memory.weights,
        "buffers": memory.buffers,
        "scratch": memory.scratch,
    }
    assert f"{found['weight_bits'] + found['table_bits']:,} bits of ROM" in out
    assert f"packed weights {memory.weights / 1024:.1f} KiB; a thread's buffers" in out
