"""Requantisation in high words: whatever `table` takes is `fixed.requantise`, bit for bit."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import types

from intaglio.fixed import ROUNDINGS, requantise
from intaglio.sim.compiled import Pointer, named, written
from intaglio.sim.dots import at, sums_of
from intaglio.sim.isa import Isa, supported, unit_of
from intaglio.sim.vector import high
from intaglio.sim.vector.high import ROWS, Way, table

UNITS = tuple(isa for isa in supported() if isa != "generic")
SPARE = 77  # what lies behind the codes


@functools.cache
def one_register(isa: Isa, way: Way, size: int) -> Any:
    """The instructions for one register, as a function of addresses."""
    unit = unit_of(isa)
    assert unit is not None

    @written
    def register_of(context, x, head, rows, out, left):  # type: ignore[no-untyped-def]  # Numba's typing context has no public types
        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]  # as above
            x, head, rows, out, left = values
            total = builder.load(at(builder, x, sums_of(unit)), align=4)
            codes = high.write_codes(builder, unit, way, total, head, rows)
            high.store_codes(builder, codes, size, out, left)
            return context.get_dummy_value()

        return types.void(*(types.int64,) * 5), generate

    def register(x: int, head: int, rows: int, out: int, left: int) -> None:
        register_of(x, head, rows, out, left)

    pointer = Pointer(named(register, f"register_{isa}_{way}_{size}"), 5)
    return ctypes.CFUNCTYPE(None, *(ctypes.c_int64,) * 5)(pointer.address)


def around(bits: int) -> st.SearchStrategy[int]:
    """Integers of so many bits and a sign, the ends among them."""
    most = (1 << bits) - 1
    return st.one_of(st.integers(-most, most), st.sampled_from((-most, most, 0, 1, -1)))


@pytest.mark.parametrize("isa", UNITS)
@pytest.mark.parametrize("rounding", sorted(ROUNDINGS))
def test_it_is_the_requantisation(isa: Isa, rounding: str) -> None:
    """M, B and S of every size, sums at the ends of 32 bits, ties of every kind; both ways and all
    three answers are met."""
    unit = unit_of(isa)
    assert unit is not None
    met = set()

    @given(st.data())
    @settings(max_examples=150)
    def law(data: st.DataObject) -> None:
        count = data.draw(st.integers(1, unit.lanes))
        fitting = st.tuples(st.just(8), st.just(31), st.integers(10, 20))  # not M, but the sum
        wide, bits, near = data.draw(
            fitting
            | st.tuples(
                st.sampled_from((8, 15, 20, 24, 31)),
                st.sampled_from((1, 2, 17, 24, 31)),
                st.integers(0, 50),
            )
        )
        ends = (-(1 << wide), (1 << wide) - 1)
        columns = [
            data.draw(st.lists(part, min_size=count, max_size=count))
            for part in (
                around(bits),
                around(data.draw(st.sampled_from((3, 20, 40)))),
                st.integers(near, near + 2),
            )
        ]
        size = data.draw(st.sampled_from((1, 2)))
        low = data.draw(st.sampled_from((0, -128, -100)))
        high_end = data.draw(st.integers(0, 127 if low or size == 1 else 30000))
        offset = data.draw(st.integers(-9, 9))
        made = table(*columns, ends, (offset, low, high_end), rounding, unit.lanes)
        met.add(made.way.left if made else None)
        if made is None:
            return
        ties = [  # the sum nearest to a tie, where there is one
            (-b + (1 << s >> 1)) // m if m else 0 for m, b, s in zip(*columns, strict=True)
        ]
        choices = [
            data.draw(st.sampled_from((*ends, 0, 1, -1, min(max(tie, ends[0]), ends[1]))))
            for tie in ties
        ]
        x = np.zeros(unit.lanes, np.int32)
        x[:count] = choices
        out = np.full(unit.lanes + 8, SPARE, (np.int8, np.int16)[size - 1])
        address, row = made.rows.ctypes.data, made.rows.strides[0]
        run = one_register(isa, made.way, size)
        run(x.ctypes.data, address, address + row, out.ctypes.data, count)
        expected = [
            requantise(t * m + b, s, offset, low, high_end, rounding)  # type: ignore[arg-type]  # one of ROUNDINGS
            for t, m, b, s in zip(choices, *columns, strict=True)
        ]
        assert out.tolist() == expected + [SPARE] * (out.size - count)

    law()
    assert met >= {False, True, None}


def test_what_does_not_fit_is_refused() -> None:
    """The last M, sums and results that are held, and the first that are not."""
    full = (1 << 31) - 1
    ends, codes = (-(1 << 31), full), (0, 0, 255)
    for m, left in ((full, False), (full + 1, None)):
        made = table([m], [0], [40], ends, codes, "TRN", 16)
        assert (made.way.left if made else None) == left
    assert table([1], [0], [0], ends, codes, "TRN", 16) is None  # a result of 32 bits
    made = table([1], [0], [2], ends, codes, "TRN", 16)
    assert made is not None
    assert table([1], [0], [2], (ends[0] - 1, full), codes, "TRN", 16) is None
    assert table([1 << 20], [0], [30], ends, (1 << 31, 0, 255), "TRN", 16) is None
    assert set(ROWS) | {"RND"} == set(ROUNDINGS)
