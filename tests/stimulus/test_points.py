"""What the points of a Program are: counted value by value, and never excluded though met."""

from itertools import product

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from slow_points import Point, slow_points
from strategies import (
    exact_arithmetics,
    int_types,
    narrow_arithmetics,
    programs,
    single_arithmetics,
)

from intaglio.fixed import IntType
from intaglio.ops import Input, Ints, MaxPool2d, Output, Requant
from intaglio.program import Builder, Program
from intaglio.sim.reference import run
from intaglio.stimulus.points import Points

ARITHMETICS = st.one_of(exact_arithmetics(), narrow_arithmetics(), single_arithmetics())


def rows(points: Points) -> dict[Point, int]:
    """The row's place of every point."""
    found = {}
    for group, start in zip(points.groups, points.starts, strict=False):
        for number, index in enumerate(np.ndindex(group.able.shape)):
            kind, channel, *place = index
            found[group.op.output, group.kinds[kind], channel, *(place or [0])] = start + number
    return found


def random_images(program: Program, count: int, seed: int) -> Ints:
    """Uniform, with many of the two extremes."""
    rng, x = np.random.default_rng(seed), program.inputs[0]
    images = rng.integers(x.lo, x.hi, (count, *x.shape), endpoint=True)
    return np.where(rng.random(images.shape) < 0.3, rng.choice([x.lo, x.hi], images.shape), images)


@given(st.data())
@settings(max_examples=150)
def test_they_are_counted_value_by_value(data: st.DataObject) -> None:
    program = data.draw(programs(arithmetic=ARITHMETICS, max_size=5, max_channels=4))
    tensors = run(program, random_images(program, 2, data.draw(st.integers(0, 99)))).tensors
    points = Points(program)
    met, place = points.met(tensors), rows(points)
    for n in range(2):
        slow = slow_points(program, {name: x[n] for name, x in tensors.items()})
        here = {place[point] for point in slow if point in place}
        want = here & set(np.flatnonzero(points.able))
        got = set(np.flatnonzero(met[n]))
        assert not [points.name(k) for k in want ^ got]


def all_images(program: Program) -> Ints:
    """Every image that there is."""
    x = program.inputs[0]
    codes = range(x.lo, x.hi + 1)
    count = int(np.prod(x.shape))
    return np.array(list(product(codes, repeat=count)), np.int64).reshape(-1, *x.shape)


def test_a_tap_wins_in_a_channel_of_one_code_where_it_is_alone() -> None:
    b = Builder()
    b.add(Input(output="x", shape=(1, 1, 2), type=IntType(1, False)))
    b.constant("m", np.zeros(1, np.int64))
    b.constant("b", np.ones(1, np.int64))
    b.add(Requant(output="one", input="x", multiplier="m", bias="b", shift=(0,), lo=0, hi=1))
    b.add(MaxPool2d(output="pool", input="one", kernel=(1, 3), padding=(0, 0, 2, 2)))
    b.add(Output(output="y", input="pool"))
    points = Points(b.build())
    tensors = run(points.program, np.zeros((1, 1, 1, 2), np.uint8)).tensors
    wins = [n for n, p in enumerate(points.able) if p and "greatest of" in points.name(n)]
    assert [points.met(tensors)[0][n] for n in wins] == [True, True]  # its first tap and its last


@given(st.data())
@settings(max_examples=100)
def test_what_is_excluded_is_met_by_no_image_at_all(data: st.DataObject) -> None:
    types = int_types(2)
    program = data.draw(
        programs(arithmetic=ARITHMETICS, input_types=types, max_size=3, max_channels=3)
    )
    x = program.inputs[0]
    assume(x.type.bits * np.prod(x.shape) <= 10)
    points = Points(program)
    place, seen = rows(points), set[Point]()
    images = all_images(program)
    tensors = run(program, images).tensors
    for group, start in zip(points.groups, points.starts, strict=False):
        read = [tensors[name] for name in group.op.inputs]
        met = group.count(read, tensors[group.op.output]).any(axis=0)
        assert not (met & ~group.able).any(), points.name(start + int((met & ~group.able).argmax()))
    # Groups that are all excluded have no place; a few images say that they are met by none.
    for n in np.random.default_rng(0).permutation(len(images))[:8]:
        seen |= slow_points(program, {name: x[n] for name, x in tensors.items()})
    assert seen <= set(place)
