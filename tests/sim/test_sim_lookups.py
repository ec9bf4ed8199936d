"""Tables of every width of codes, for all channels and for each, on every vector unit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import int_types

from intaglio.fixed import IntType
from intaglio.ops import Input, Lookup, Output
from intaglio.program import Builder
from intaglio.sim.engine import Simulator
from intaglio.sim.isa import supported
from intaglio.sim.reference import run


def law(
    x: IntType, y: IntType, own: bool, shape: tuple[int, int, int], seed: int, isa: str
) -> None:
    """A Program of one table is the reference, at every pixel."""
    rng = np.random.default_rng(seed)
    b = Builder()
    b.add(Input(output="x", shape=shape, type=x))
    sides = (shape[0], 1 << x.bits) if own else (1 << x.bits,)
    table = b.constant("t", rng.integers(y.lo, y.hi, sides, endpoint=True), y)
    b.add(Lookup(output="y", input="x", table=table), y)
    b.add(Output(output="out", input="y"))
    program = b.build()
    codes = rng.integers(x.lo, x.hi, (1, *shape), endpoint=True)
    codes.reshape(-1)[:2] = x.lo, x.hi
    made = Simulator(program, threads=1, isa=isa)(codes)["out"]
    np.testing.assert_array_equal(made, run(program, codes).tensors["out"])


@pytest.mark.parametrize("isa", supported())
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [1, 7, 8, 9, 10, 11, 12, 16])
def test_tables_of_bytes(bits: int, signed: bool, isa: str) -> None:
    for shape in ((1, 1, 3), (5, 9, 7), (64, 3, 2)):
        law(IntType(bits, signed), IntType(8, signed), False, shape, bits, isa)


@given(int_types(12), int_types(20), st.booleans(), st.integers(1, 70), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_tables_of_any_type(x: IntType, y: IntType, own: bool, channels: int, seed: int) -> None:
    for isa in supported():
        law(x, y, own, (channels, 3, 5), seed, isa)
