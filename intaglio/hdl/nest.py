"""A nest of counters: the loops of a walk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from amaranth.hdl import Const, Module, Signal, Value

from intaglio.hdl.stream import advance, by_level, counter


@dataclass(frozen=True)
class Loop:
    """One counter of the nest.

    steps   all inner counters are at their last: this one advances, or wraps.
    last    it is at its own last.
    ends    both.
    single  it has one step only, and no register.
    """

    steps: Value
    last: Value
    ends: Value
    single: bool


def nest(
    m: Module, step: Signal, level: Signal, sizes: Mapping[str, Sequence[int]]
) -> dict[str, Loop]:
    """Counters of the given sizes per level, innermost first, that advance with `step`."""
    loops: dict[str, Loop] = {}
    steps: Value = Const(1)
    for name, size in sizes.items():
        if max(size) == 1:
            loops[name] = Loop(steps, Const(1), steps, single=True)
            continue
        at = counter(max(size), name)
        last, ends = Signal(name=f"{name}_last"), Signal(name=f"{name}_ends")
        m.d.comb += last.eq(at == by_level(m, level, size, f"{name}_size") - 1)
        m.d.comb += ends.eq(steps & last)
        with m.If(step & steps):
            advance(m, at, last)
        loops[name] = Loop(steps, last, ends, single=False)
        steps = ends
    return loops
