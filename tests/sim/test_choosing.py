"""Laws of the operations that choose: all they do is permute, repeat and leave out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import images_for, programs

from intaglio.errors import ProgramError
from intaglio.fixed import IntType
from intaglio.ops import (
    Concat,
    Crop,
    DepthToSpace,
    Input,
    Ints,
    Op,
    Output,
    Pad,
    Select,
    SpaceToDepth,
    Upsample,
)
from intaglio.program import Builder, Program
from intaglio.sim import reference
from intaglio.sim.engine import Simulator

SHAPE = (6, 4, 6)
CHOOSING = ("select", "crop", "space_to_depth", "depth_to_space", "concat", "pad", "conv")
ANY = {"output": "", "input": ""}


def chain(ops: Sequence[Op], shape: tuple[int, int, int] = SHAPE, bits: int = 9) -> Program:
    """One operation behind the other."""
    b = Builder()
    x = b.add(Input(output="x", shape=shape, type=IntType(bits, True)))
    for k, op in enumerate(ops):
        x = b.add(replace(op, output=f"t{k}", input=x))
    b.add(Output(output="out", input=x))
    return b.build()


def both(program: Program, images: Ints) -> Ints:
    """The result, which is the same in both simulators."""
    made = reference.run(program, images).tensors["out"]
    np.testing.assert_array_equal(Simulator(program, threads=1)(images)["out"], made)
    return made


def maps(shape: tuple[int, int, int] = SHAPE) -> Ints:
    """Two images of which no two values are the same."""
    size = int(np.prod(shape))
    return np.random.default_rng(size).permutation(2 * size).reshape(2, *shape) - 256


@pytest.mark.parametrize("block", [(1, 1), (2, 1), (1, 3), (2, 2), (4, 6)])
def test_blocks_come_back(block: tuple[int, int]) -> None:
    there, back = SpaceToDepth(**ANY, block=block), DepthToSpace(**ANY, block=block)
    np.testing.assert_array_equal(both(chain([there, back]), maps()), maps())
    deep = (4 * 6, 2, 3)
    if 24 % (block[0] * block[1]) == 0:
        np.testing.assert_array_equal(both(chain([back, there], deep, 10), maps(deep)), maps(deep))


@given(st.permutations(range(6)), st.permutations(range(6)))
@settings(max_examples=15)
def test_selections_compose(first: Sequence[int], second: Sequence[int]) -> None:
    a, b = (Select(**ANY, channels=tuple(p)) for p in (first, second))
    together = Select(**ANY, channels=tuple(first[c] for c in second))
    x = maps()
    np.testing.assert_array_equal(both(chain([a, b]), x), both(chain([together]), x))
    inverse = Select(**ANY, channels=tuple(np.argsort(first).tolist()))
    np.testing.assert_array_equal(both(chain([a, inverse]), x), x)


def test_a_crop_undoes_a_pad_and_what_is_repeated() -> None:
    x = maps()
    pad = Pad(**ANY, padding=(1, 2, 0, 3), value=5)
    crop = Crop(**ANY, rows=(1, 5, 1), columns=(0, 6, 1))
    np.testing.assert_array_equal(both(chain([pad, crop]), x), x)
    larger = Upsample(**ANY, size=(8, 18))
    every = Crop(**ANY, rows=(0, 8, 2), columns=(2, 18, 3))
    np.testing.assert_array_equal(both(chain([larger, every]), x), x)


def test_slices_side_by_side_are_a_block() -> None:
    """The four slices of a focus, joined as YOLOv5 does, and a SpaceToDepth."""
    b = Builder()
    x = b.add(Input(output="x", shape=SHAPE, type=IntType(9, True)))
    corners = [(dy, dx) for dx in (0, 1) for dy in (0, 1)]
    parts = [
        b.add(Crop(output=f"s{k}", input=x, rows=(dy, 4, 2), columns=(dx, 6, 2)))
        for k, (dy, dx) in enumerate(corners)
    ]
    b.add(Output(output="out", input=b.add(Concat(output="c", parts=tuple(parts)))))
    order = tuple((dy * 2 + dx) * 6 + c for dy, dx in corners for c in range(6))
    block = chain([SpaceToDepth(**ANY, block=(2, 2)), Select(**ANY, channels=order)])
    np.testing.assert_array_equal(both(b.build(), maps()), both(block, maps()))


def test_channels_that_are_added_have_the_value() -> None:
    program = chain([Select(**ANY, channels=(-1, 2, -1, 2), value=-9)])
    made = both(program, maps())
    assert (made[:, [0, 2]] == -9).all()
    np.testing.assert_array_equal(made[:, [1, 3]], maps()[:, [2, 2]])


def test_zero_points_of_channels_go_with_them() -> None:
    b = Builder()
    x = b.add(Input(output="x", shape=(2, 2, 2), type=IntType(8, False)), zero_point=(3, 4))
    y = b.add(Select(output="y", input=x, channels=(1, -1, 0), value=7))
    z = b.add(SpaceToDepth(output="z", input=y, block=(1, 2)))
    assert b.tensors[y].zero_point == (4, 7, 3)
    assert b.tensors[z].zero_point == (4, 7, 3) * 2
    assert b.tensors[b.add(DepthToSpace(output="w", input=z, block=(2, 1)))].zero_point == (4, 7, 3)
    with pytest.raises(ProgramError, match="channels that become one must have one zero point"):
        b.add(DepthToSpace(output="v", input=x, block=(2, 1)))


@given(st.data())
@settings(max_examples=30)
def test_any_program_of_them(data: st.DataObject) -> None:
    program = data.draw(programs(blocks=CHOOSING, max_blocks=6))
    images = data.draw(images_for(program))
    expected = reference.run(program, images).tensors
    for name, codes in Simulator(program, threads=1, trace=True)(images).items():
        np.testing.assert_array_equal(codes, expected[name], err_msg=name)


@pytest.mark.parametrize(
    ("op", "words"),
    [
        (Select(**ANY, channels=()), "channels must be 0 to 5, or -1 for the value."),
        (Select(**ANY, channels=(6,)), "channels must be 0 to 5, or -1 for the value."),
        (Select(**ANY, channels=(-2, 0)), "channels must be 0 to 5, or -1 for the value."),
        (Select(**ANY, channels=(-1,)), "at least one channel must be one of the input's."),
        (Select(**ANY, channels=(0, -1), value=256), "value must be of type i9, not 256."),
        (
            Crop(**ANY, rows=(0, 5, 1), columns=(0, 6, 1)),
            "rows must go from 0 or more to at most 4 in steps of 1 or more, not (0, 5, 1).",
        ),
        (
            Crop(**ANY, rows=(0, 4, 1), columns=(3, 3, 1)),
            "columns must go from 0 or more to at most 6 in steps of 1 or more, not (3, 3, 1).",
        ),
        (SpaceToDepth(**ANY, block=(3, 2)), "the block must divide 4 x 6 pixels, not be 3 x 2."),
        (SpaceToDepth(**ANY, block=(0, 2)), "the block must divide 4 x 6 pixels, not be 0 x 2."),
        (
            DepthToSpace(**ANY, block=(2, 2)),
            "the pixels of a block must divide 6 channels, not be 2 x 2.",
        ),
    ],
)
def test_what_cannot_be_chosen_is_refused(op: Op, words: str) -> None:
    with pytest.raises(ProgramError) as error:
        chain([op])
    assert str(error.value).endswith(f"'t0': {words}")
