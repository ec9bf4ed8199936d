"""Laws of a product of two tensors, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import images_for, programs, single_arithmetics

from intaglio.channels.spans import Spans
from intaglio.errors import ProgramError
from intaglio.fixed import PRESETS, IntType
from intaglio.forms import Real, onnxruntime_gate
from intaglio.ops import (
    Concat,
    Crop,
    Input,
    Ints,
    Multiply,
    Output,
    Requant,
    Select,
    Shape,
    Upsample,
)
from intaglio.program import Builder, Program
from intaglio.sim import reference
from intaglio.sim.engine import Simulator

GATES = ("gate", "gate", "conv", "add")
I8 = IntType(8, True)


def product_of(
    shape: Shape, gate: Shape, zeros: tuple[int, int] = (0, 0), types: tuple[int, int] = (8, 8)
) -> Program:
    """Channels of one input: a map, then what it is multiplied by, from its first pixel."""
    b = Builder()

    x = b.add(Input(output="x", shape=shape, type=IntType(types[0], True)))
    y = x
    if gate != shape:
        rows, columns = (0, gate[1], 1), (0, gate[2], 1)
        y = b.add(Crop(output="corner", input=y, rows=rows, columns=columns))
        y = b.add(Select(output="gate", input=y, channels=tuple(range(gate[0]))))
    b.add(Multiply(output="made", a=x, b=y, zero_a=zeros[0], zero_b=zeros[1]))
    b.add(Output(output="out", input="made"))
    return b.build()


def maps(shape: Shape) -> Ints:
    return np.random.default_rng(7).integers(-128, 128, (2, *shape))


shapes = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4))


@given(shapes, st.booleans(), st.booleans(), st.tuples(*[st.integers(-128, 127)] * 2))
@settings(max_examples=10)
def test_what_is_repeated_may_as_well_be_there(
    shape: Shape, one_channel: bool, one_pixel: bool, zeros: tuple[int, int]
) -> None:
    """The product by a gate is that by the gate enlarged and repeated."""
    gate = (1 if one_channel else shape[0], *((1, 1) if one_pixel else shape[1:]))
    program, x = product_of(shape, gate, zeros), maps(shape)
    made = Simulator(program, threads=1)(x)["out"]
    b = Builder()
    b.add(Input(output="x", shape=shape, type=I8))
    source = "x"
    if gate != shape:
        for op in program.ops[1:3]:
            source = b.add(op)
        source = b.add(Upsample(output="large", input=source, size=shape[1:]))
        repeated = (source,) * (shape[0] if gate[0] < shape[0] else 1)
        source = b.add(Concat(output="all", parts=repeated))
    b.add(Multiply(output="made", a="x", b=source, zero_a=zeros[0], zero_b=zeros[1]))
    b.add(Output(output="out", input="made"))
    np.testing.assert_array_equal(made, Simulator(b.build(), threads=1)(x)["out"])
    gate_codes = x[:, : gate[0], : gate[1], : gate[2]]
    np.testing.assert_array_equal(made, (x - zeros[0]) * (gate_codes - zeros[1]))


@given(st.data())
@settings(max_examples=6)
def test_any_program_of_them(data: st.DataObject) -> None:
    """Fused with its Requant, and traced."""
    kind = {"arithmetic": single_arithmetics()} if data.draw(st.booleans()) else {}
    program = data.draw(programs(blocks=GATES, max_blocks=4, raw_accumulators=True, **kind))
    images = data.draw(images_for(program))
    expected = reference.run(program, images).tensors
    for traced in (False, True):
        for name, codes in Simulator(program, threads=1, trace=traced)(images).items():
            np.testing.assert_array_equal(codes, expected[name], err_msg=name)


@given(st.data())
@settings(max_examples=10)
def test_spans_hold_every_channel(data: st.DataObject) -> None:
    program = data.draw(programs(blocks=GATES, max_blocks=3))
    images = data.draw(images_for(program))
    b = Builder(program.arithmetic)
    b.constants = dict(program.constants)
    b.ops, b.tensors = list(program.ops), dict(program.tensors)
    spans, run = Spans(b), reference.run(program, images)
    for op in program.of_kind(Multiply):
        found, codes = spans[op.output], run.tensors[op.output]
        assert (codes.min(axis=(0, 2, 3)) >= found.lo).all()
        assert (codes.max(axis=(0, 2, 3)) <= found.hi).all()


def test_ranges_are_those_of_the_products() -> None:
    made = product_of((1, 2, 2), (1, 2, 2), (-128, 127)).tensors["made"]
    assert (made.lo, made.hi) == (-255 * 255, 0)
    assert str(made.type) == "i17"


def test_the_widest_products_are_exact() -> None:
    program = product_of((2, 2, 2), (2, 1, 1), types=(30, 30))
    x = np.full((1, 2, 2, 2), -(1 << 29))
    np.testing.assert_array_equal(Simulator(program, threads=1)(x)["out"], x * x)
    with pytest.raises(ProgramError, match="its products must stay below 2\\^62"):
        product_of((2, 2, 2), (2, 1, 1), types=(33, 33))


@pytest.mark.parametrize(
    ("gate", "zeros", "words"),
    [
        (
            (2, 4, 5),
            (0, 0),
            "its second operand must be of shape (4, 4, 5), or have 1 channel, or 1 row and"
            " column, not (2, 4, 5).",
        ),
        (
            (4, 1, 5),
            (0, 0),
            "its second operand must be of shape (4, 4, 5), or have 1 channel, or 1 row and"
            " column, not (4, 1, 5).",
        ),
        ((4, 1, 1), (0, 128), "its zero points must be of type i8, not 128."),
        ((4, 1, 1), (-129, 0), "its zero points must be of type i8, not -129."),
    ],
)
def test_what_cannot_be_multiplied_is_refused(
    gate: Shape, zeros: tuple[int, int], words: str
) -> None:
    with pytest.raises(ProgramError) as error:
        product_of((4, 4, 5), gate, zeros)
    assert str(error.value) == f"Multiply 'made': {words}"


def test_a_zero_point_is_that_of_a_factor_only() -> None:
    """A gate of its zero point is 0, whatever the map."""
    b = Builder()
    b.add(Input(output="x", shape=(3, 2, 2), type=I8))
    b.add(Multiply(output="made", a="x", b="x", zero_a=5, zero_b=5))
    two = b.constant("m", [1]), b.constant("b", [0])
    b.add(Requant(output="q", input="made", multiplier=two[0], bias=two[1], shift=(0,),
                  lo=0, hi=1 << 16))  # fmt: skip
    b.add(Output(output="out", input="q"))
    x = np.full((1, 3, 2, 2), 5)
    x[0, 1] = 3
    made = Simulator(b.build(), threads=1)(x)["out"]
    np.testing.assert_array_equal(made[0, :, 0, 0], [0, 4, 0])


@pytest.mark.parametrize("seed", range(3))
def test_onnxruntime_s_product_of_every_two_codes(seed: int) -> None:
    """It rounds to float32 twice before it rounds to a code."""
    rng = np.random.default_rng(seed)
    za, zb, zero = (int(v) for v in rng.integers(0, 256, 3))
    ratio = np.float32(rng.uniform(0.001, 0.02))
    b = Builder(PRESETS["onnxruntime"])
    b.add(Input(output="x", shape=(2, 256, 256), type=IntType(8, False)))
    sides = [b.add(Select(output=f"s{k}", input="x", channels=(k,))) for k in (0, 1)]
    b.add(Multiply(output="made", a=sides[0], b=sides[1], zero_a=za, zero_b=zb))
    onnxruntime_gate(b, "y", "made", ratio, Real(1.0, zero), 0, 255, type=IntType(8, False))
    b.add(Output(output="out", input="y"))
    codes = np.stack(np.meshgrid(np.arange(256), np.arange(256), indexing="ij"))
    products = (codes[0] - za) * (codes[1] - zb)
    exact = (products * np.float64(ratio)).astype(np.float32).astype(np.float64) + zero
    wanted = np.clip(np.rint(exact.astype(np.float32)), 0, 255)
    for run in (Simulator(b.build(), threads=1), lambda x: reference.run(b.build(), x).tensors):
        np.testing.assert_array_equal(run(codes[None])["out"][0, 0], wanted)
