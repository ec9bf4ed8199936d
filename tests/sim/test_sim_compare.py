"""Finding the first difference: between two runs, and between two Programs."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import U8, images_for, programs, random_images

from intaglio.errors import ProgramError
from intaglio.fixed import Arithmetic, IntType
from intaglio.ops import Conv2d, Input, Output, Requant
from intaglio.program import Builder, Program
from intaglio.sim.compare import Difference, compare_programs, first_difference
from intaglio.sim.reference import run


@given(st.data())
@settings(max_examples=50)
def test_one_changed_value_is_found_where_it_is(data: st.DataObject) -> None:
    program = data.draw(programs())
    expected = run(program, data.draw(images_for(program))).tensors
    op = data.draw(st.sampled_from(program.ops))
    place = tuple(data.draw(st.integers(0, n - 1)) for n in expected[op.output].shape)
    got = {name: array.copy() for name, array in expected.items()}
    got[op.output][place] += 1
    value = int(expected[op.output][place])
    assert first_difference(got, expected, program) == Difference(
        op.output, op.origin, *place, got=value + 1, expected=value
    )
    assert first_difference(expected, expected, program) is None


@given(st.data())
@settings(max_examples=30)
def test_the_earliest_of_several_differences_is_named(data: st.DataObject) -> None:
    program = data.draw(programs())
    expected = run(program, random_images(program, 1, 0)).tensors
    got = {name: array + 1 for name, array in expected.items()}
    names = [op.output for op in program.ops]
    first = data.draw(st.integers(0, len(names) - 1))
    for name in names[:first]:
        got[name] = expected[name]
    found = first_difference(got, expected, program)
    assert found is not None
    assert (found.tensor, found.image, found.channel, found.y, found.x) == (
        names[first],
        0,
        0,
        0,
        0,
    )


def test_maps_of_two_shapes_are_not_compared() -> None:
    program = network()
    with pytest.raises(ProgramError, match=r"^Input 'x': both arrays must have one shape, not "):
        first_difference({"x": np.zeros((1, 1))}, {"x": np.zeros((1, 2))}, program)


def network(weight: int = 1, size: int = 3, **changes: object) -> Program:
    """x -> conv -> requant -> y, from the torch module `stem`."""
    b = Builder()
    b.add(Input(output="x", shape=(2, size, size), type=U8))
    b.constant("w", [[[[1]], [[1]]], [[[1]], [[weight]]]])
    b.constant("m", [1])
    b.constant("b", [0])
    b.add(Conv2d(output="acc", input="x", weight="w", origin="stem"))
    op = Requant(output="q", input="acc", multiplier="m", bias="b", shift=(1,), lo=0, hi=255)
    b.add(replace(op, **changes), U8)
    b.add(Output(output="y", input="q"))
    return b.build()


def test_equal_programs() -> None:
    result = compare_programs(network(), network())
    assert result.equal
    assert result.sentence() == "The Programs are equal."
    assert result.to_json() == {"equal": True, "first_difference": None, "structure": None}


def test_a_changed_weight_is_named_with_the_first_pixel_it_reaches() -> None:
    images = np.zeros((2, 2, 3, 3), dtype=np.uint8)
    images[1, 1, 2, 0] = 7
    result = compare_programs(network(1), network(2), images)
    assert not result.equal
    assert result.sentence() == (
        "Constant w differs at (1, 1, 0, 0): 1 in A, 2 in B; the first value that differs"
        " is acc (from stem): image 1, channel 1, y 2, x 0: got 7, expected 14."
    )
    assert json.loads(json.dumps(result.to_json()))["first_difference"] == {
        "tensor": "acc",
        "origin": "stem",
        "image": 1,
        "channel": 1,
        "y": 2,
        "x": 0,
        "got": 7,
        "expected": 14,
    }


@pytest.mark.parametrize(
    ("b", "words"),
    [
        (network(hi=254), "hi of q is 255 in A, 254 in B; no value differs on these images."),
        (
            network(shift=(2,)),
            "shift of q is (1,) in A, (2,) in B; the first value that differs is",
        ),
        (
            replace(network(), arithmetic=Arithmetic(name="other")),
            "The arithmetic of A is intaglio, of B other; no value differs on these images.",
        ),
    ],
)
def test_a_difference_in_words(b: Program, words: str) -> None:
    images = np.full((1, 2, 3, 3), 3, dtype=np.uint8)
    result = compare_programs(network(), b, images)
    assert not result.equal
    assert result.sentence().startswith(words)


def test_programs_of_other_inputs_are_refused() -> None:
    with pytest.raises(ProgramError) as refused:
        compare_programs(network(), network(size=4))
    assert str(refused.value) == (
        "Both Programs must have one input shape and type, not (2, 3, 3) u8 and (2, 4, 4) u8."
    )


def test_operations_and_types_are_compared() -> None:
    a, b, c = Builder(), Builder(), Builder()
    for builder, type in ((a, U8), (b, IntType(9, True)), (c, U8)):
        builder.add(Input(output="x", shape=(1, 1, 1), type=U8), type)
        builder.add(Output(output="y", input="x"))
    c.add(Output(output="z", input="x"))
    assert compare_programs(a.build(), c.build()).structure == "A has 2 operations, B 3"
    with pytest.raises(ProgramError, match="one input shape and type"):
        compare_programs(a.build(), b.build())
    d = Builder()
    d.add(Input(output="x", shape=(1, 1, 1), type=U8))
    d.add(Output(output="t", input="x"))
    assert compare_programs(a.build(), d.build()).structure == "output of y is y in A, t in B"


@given(programs(), st.data())
@settings(max_examples=30)
def test_a_changed_constant_never_compares_equal(program: Program, data: st.DataObject) -> None:
    assume(program.of_kind(Conv2d))
    op = data.draw(st.sampled_from(program.of_kind(Conv2d)))
    constant = program.constants[op.weight]
    array = constant.array.copy()
    place = tuple(data.draw(st.integers(0, n - 1)) for n in array.shape)
    array[place] += 1 if array[place] < constant.type.hi else -1
    constants = {**program.constants, op.weight: replace(constant, array=array)}
    assert not compare_programs(program, replace(program, constants=constants)).equal


def test_the_default_images_are_the_same_every_time() -> None:
    first = compare_programs(network(1), network(2))
    assert first.difference is not None
    assert compare_programs(network(1), network(2)) == first
