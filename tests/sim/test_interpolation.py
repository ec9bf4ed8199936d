"""Laws of Interpolate: means of neighbours, and what its fields must be."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import images_for, programs
from torch.nn import functional

from intaglio.errors import ProgramError
from intaglio.file import load, save
from intaglio.fixed import IntType
from intaglio.ops import Input, Interpolate, Ints, Output, Upsample
from intaglio.ops.interpolation import align_corners, asymmetric, between, half_pixel, nearest
from intaglio.program import Builder, Program
from intaglio.sim import reference
from intaglio.sim.engine import Simulator

SHAPE = (3, 5, 7)
sizes = st.tuples(st.integers(1, 12), st.integers(1, 12))


def resized(op: Interpolate | Upsample, type: IntType | None = None) -> Program:
    b = Builder()
    b.add(Input(output="x", shape=SHAPE, type=type or IntType(8, True)))
    b.add(Output(output="out", input=b.add(replace(op, output="y", input="x"))))
    return b.build()


def result(op: Interpolate | Upsample, x: Ints) -> Ints:
    """The same in both simulators."""
    program = resized(op)
    made = reference.run(program, x).tensors["out"]
    np.testing.assert_array_equal(Simulator(program, threads=1)(x)["out"], made)
    return made


def images() -> Ints:
    return np.random.default_rng(5).integers(-128, 128, (2, *SHAPE))


@given(sizes, st.booleans())
@settings(max_examples=40)
def test_it_is_torchs_bilinear_resize(size: tuple[int, int], aligned: bool) -> None:
    place = align_corners if aligned else half_pixel
    rows, columns = (between(place(o, n), o) for o, n in zip(SHAPE[1:], size, strict=True))
    op = Interpolate(output="", input="", rows=rows, columns=columns)
    x = images()
    expected = functional.interpolate(
        torch.from_numpy(x).double(), size=size, mode="bilinear", align_corners=aligned
    )
    np.testing.assert_allclose(result(op, x) / op.unit, expected.numpy(), atol=1e-9)


@given(sizes)
@settings(max_examples=20)
def test_weights_of_one_place_choose_pixels(size: tuple[int, int]) -> None:
    """The plain nearest neighbour, smaller sizes too; of larger ones it is an Upsample."""
    read = [np.arange(n) * o // n for o, n in zip(SHAPE[1:], size, strict=True)]
    op = Interpolate(output="", input="", rows=nearest(read[0]), columns=nearest(read[1]))
    x = images()
    made = result(op, x)
    np.testing.assert_array_equal(made, x[:, :, read[0]][..., read[1]])
    assert resized(op).tensors["y"].type == IntType(8, True)
    if size[0] >= SHAPE[1] and size[1] >= SHAPE[2]:
        np.testing.assert_array_equal(made, result(Upsample(output="", input="", size=size), x))


def test_a_constant_is_multiplied_by_the_unit_and_nothing_leaves_its_range() -> None:
    places = asymmetric(5, 11)
    rows, columns = between(places, 5), between(half_pixel(7, 4), 7)
    op = Interpolate(output="", input="", rows=rows, columns=columns)
    program = resized(op, IntType(4, False))
    assert op.units == (11, 8)
    constant = np.full((1, *SHAPE), 13)
    assert (reference.run(program, constant).tensors["out"] == 13 * op.unit).all()
    t = program.tensors["y"]
    assert (t.lo, t.hi, t.scale, t.zero_point) == (0, 15 * op.unit, 1 / op.unit, (0,))


def test_zero_points_are_of_the_sum() -> None:
    b = Builder()
    b.add(Input(output="x", shape=(2, 1, 2), type=IntType(8, False)), scale=0.5, zero_point=(3, 4))
    taps = between([Fraction(0), Fraction(1, 4)], 2)
    y = b.add(Interpolate(output="y", input="x", rows=((0, 1, 0),), columns=taps))
    assert (b.tensors[y].scale, b.tensors[y].zero_point) == (0.125, (12, 16))


@given(st.data())
@settings(max_examples=30)
def test_any_program_with_it(data: st.DataObject) -> None:
    blocks = ("interpolate", "conv", "select", "add")
    program = data.draw(programs(blocks=blocks, max_blocks=4))
    x = data.draw(images_for(program))
    expected = reference.run(program, x).tensors
    for name, codes in Simulator(program, threads=1, trace=True)(x).items():
        np.testing.assert_array_equal(codes, expected[name], err_msg=name)


def test_it_comes_back_from_a_file(tmp_path) -> None:  # type: ignore[no-untyped-def]  # a fixture
    rows, columns = between(half_pixel(5, 9), 5), nearest([0, 0, 6])
    program = resized(Interpolate(output="", input="", rows=rows, columns=columns))
    save(program, tmp_path / "p.intaglio")
    assert load(tmp_path / "p.intaglio").digest() == program.digest()


ONE = ((0, 1, 0),)


@pytest.mark.parametrize(
    ("rows", "columns", "words"),
    [
        ((), ONE, "rows must be 1 to 1048576, not 0."),
        (((5, 1, 0),), ONE, "rows must read 0 to 4 and never go back."),
        (ONE, ((1, 1, 0), (0, 1, 0)), "columns must read 0 to 6 and never go back."),
        (((-1, 1, 0),), ONE, "rows must read 0 to 4 and never go back."),
        (
            ((0, 2, -1),),
            ONE,
            "rows must have a first weight above 0 and a second of 0 or more, and one sum.",
        ),
        (
            ((0, 0, 0),),
            ONE,
            "rows must have a first weight above 0 and a second of 0 or more, and one sum.",
        ),
        (
            ONE,
            ((0, 1, 0), (1, 1, 1)),
            "columns must have a first weight above 0 and a second of 0 or more, and one sum.",
        ),
        (((0, 1 << 55, 0),), ONE, "its sums must stay below 2^62; use smaller weights."),
    ],
)
def test_what_is_no_resize_is_refused(rows: object, columns: object, words: str) -> None:
    with pytest.raises(ProgramError) as error:
        resized(Interpolate(output="", input="", rows=rows, columns=columns))  # type: ignore[arg-type]  # damaged
    assert str(error.value) == f"Interpolate 'y': {words}"
