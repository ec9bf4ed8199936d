"""Views of maps against NumPy's own reshape and transpose."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.fixed import IntType
from intaglio.ops import Input, Ints, Output
from intaglio.program import Builder
from intaglio.sim.reference import run
from intaglio.views import Moves, View, moves, view_of

SHAPE = (4, 4, 6)
MAPS = np.arange(2 * prod(SHAPE)).reshape(2, *SHAPE)


def done(found: Moves, shape: tuple[int, int, int], maps: Ints) -> Ints:
    """The operations on maps."""
    b = Builder()
    x = b.add(Input(output="x", shape=shape, type=IntType(16, False)))
    for op in found.ops(shape, x, "y"):
        x = b.add(op)
    b.add(Output(output="out", input=x))
    return run(b.build(), maps).tensors["out"]


def splits(side: int) -> st.SearchStrategy[tuple[int, ...]]:
    """A side as one, two or three factors."""
    known = {4: [(4,), (2, 2), (1, 4)], 6: [(6,), (2, 3), (3, 2)], 1: [(1,)]}
    return st.sampled_from(known.get(side, [(side,)]))


@st.composite
def walks(draw: st.DrawFn) -> tuple[View, Ints]:
    """A view that reshapes and transposes made, and what NumPy makes of the maps meanwhile."""
    layout = draw(st.sampled_from(("nchw", "nhwc")))
    order = (0, 1, 2, 3) if layout == "nchw" else (0, 2, 3, 1)
    view, array = view_of(SHAPE, layout), MAPS.transpose(order)
    for _ in range(draw(st.integers(0, 3))):
        sides = [part for side in view.sides for part in draw(splits(side))]
        view_ = view.reshaped(sides)
        assert view_ is not None
        array = array.reshape(len(MAPS), *sides[1:])
        turn = [0, *(1 + k for k in draw(st.permutations(range(len(sides) - 1))))]
        view, array = view_.transposed(turn), array.transpose(turn)
    return view, array


@given(walks())
@settings(max_examples=60)
def test_a_view_has_the_values_of_numpy(case: tuple[View, Ints]) -> None:
    view, array = case
    np.testing.assert_array_equal(view.lines(MAPS), array.reshape(len(MAPS), -1))


@given(walks(), st.data())
@settings(max_examples=60)
def test_any_view_becomes_a_map_by_choosing(case: tuple[View, Ints], data: st.DataObject) -> None:
    view, array = case
    sides = data.draw(st.sampled_from([(4, 4, 6), (2, 8, 6), (16, 2, 3), (1, 24, 4), (96, 1, 1)]))
    laid = view.reshaped((1, *sides))
    if laid is None:
        return
    wanted = array.reshape(len(MAPS), *sides)
    np.testing.assert_array_equal(done(moves(laid, "nchw"), SHAPE, MAPS), wanted)
    last = wanted.transpose(0, 3, 1, 2)  # the same seen with channels last
    np.testing.assert_array_equal(done(moves(laid, "nhwc"), SHAPE, MAPS), last)


def kinds(view: View | None, layout: str) -> list[str]:
    assert view is not None
    found = moves(view, layout).ops(SHAPE, "x", "y")
    return [type(op).__name__ for op in found]


def test_what_frameworks_write_is_one_operation() -> None:
    x = view_of(SHAPE, "nchw")
    assert kinds(x, "nchw") == []
    assert kinds(x.transposed((0, 2, 3, 1)), "nhwc") == []
    split = x.reshaped((1, 2, 2, 4, 6))
    assert split is not None
    shuffle = split.transposed((0, 2, 1, 3, 4)).reshaped((1, 4, 4, 6))
    assert kinds(shuffle, "nchw") == ["Select"]
    columns = x.reshaped((1, 2, 2, 1, 4, 6))  # (bh, bw, c)
    assert columns is not None
    assert kinds(columns.transposed((0, 3, 4, 1, 5, 2)).reshaped((1, 1, 8, 12)), "nchw") == [
        "DepthToSpace"
    ]
    rows = x.reshaped((1, 4, 2, 2, 3, 2))  # blocks to (dy, dx, c)
    assert rows is not None
    assert kinds(rows.transposed((0, 3, 5, 1, 2, 4)).reshaped((1, 16, 2, 3)), "nchw") == [
        "SpaceToDepth"
    ]


def test_a_shape_that_cuts_factors_is_no_view() -> None:
    x = view_of((4, 3, 5), "nchw").transposed((0, 2, 1, 3))
    assert x.reshaped((1, 3, 10, 2)) is None
    assert view_of((4, 3, 5), "nhwc").laid("nchw", "nhwc") == "nhwc"
    assert x.laid("nchw", "nhwc") is None
