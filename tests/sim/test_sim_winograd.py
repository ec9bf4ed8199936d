"""3x3 convolutions by Winograd's transform, and threads that share an image: not a bit changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import images_for, narrow_arithmetics, programs

from intaglio.fixed import IntType
from intaglio.ops import Conv2d, Input, Ints, Output, Requant
from intaglio.program import Builder, Program
from intaglio.sim import engine
from intaglio.sim.engine import Simulator
from intaglio.sim.isa import supported
from intaglio.sim.plan import make_plan
from intaglio.sim.reference import run
from intaglio.sim.vector.forms import BYTES, FORMS, OBLONG, WORDS, Form
from intaglio.sim.vector.transforms import both_ways, inverse

UNITS = tuple(isa for isa in supported() if isa != "generic")


def conv3x3(
    weight: Ints, size: tuple[int, int], type: IntType, padding: tuple[int, int, int, int]
) -> Program:
    """One convolution, its sums and its requantised codes as Outputs of their own."""
    b = Builder()
    b.add(Input(output="x", shape=(weight.shape[1], *size), type=type))
    b.constant("w", weight)
    b.constant("m", np.full(weight.shape[0], 21))
    b.constant("b", np.full(weight.shape[0], 1000))
    for name in ("sums", "more"):
        pad = (type.hi if name == "sums" else type.lo,)
        b.add(Conv2d(output=name, input="x", weight="w", padding=padding, pad_value=pad))
    codes = Requant(output="q", input="more", multiplier="m", bias="b", shift=(16,), lo=0, hi=255)
    b.add(codes)
    b.add(Output(output="exact", input="sums"))
    b.add(Output(output="y", input="q"))
    return b.build()


@given(st.data())
@settings(max_examples=25)
def test_winograd_is_the_convolution(data: st.DataObject) -> None:
    """Extremes of codes and weights; channels around the registers' sizes, sides around tiles'."""
    cin = data.draw(st.sampled_from([16, 24, 31, 33, 64]))
    cout = data.draw(st.sampled_from([15, 16, 33, 64, 65, 80]))
    size = data.draw(st.tuples(st.integers(13, 21), st.integers(13, 21)))
    type = IntType(data.draw(st.integers(2, 8)), data.draw(st.booleans()))
    padding = data.draw(st.tuples(*[st.integers(0, 2)] * 4))
    seed = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    weight = seed.choice([-128, 127, 3], (cout, cin, 3, 3))
    program = conv3x3(weight, size, type, padding)
    images = seed.choice([type.lo, type.hi], (1, cin, *size))
    expected = run(program, images).tensors
    for isa in UNITS:
        got = Simulator(program, threads=1, isa=isa)(images)
        for name, array in got.items():
            np.testing.assert_array_equal(array, expected[name], err_msg=f"{isa} {name}")


@pytest.mark.parametrize("isa", UNITS)
def test_winograd_is_taken_just_as_long_as_its_sums_fit(isa: str) -> None:
    """The largest sums that 26 bits hold are made exactly; one weight more is another kernel's."""
    taps = WORDS.sum.hi // 255 // 127  # full weights that still fit
    cin = taps // 9 + 1
    for extra in (0, 1):
        weight = np.zeros((16, cin * 9), dtype=np.int64)
        weight[:, : taps + extra] = 127
        program = conv3x3(weight.reshape(16, cin, 3, 3), (16, 16), IntType(8, False), (1, 1, 1, 1))
        kind = make_plan(program, isa=isa).sums["more"].kind  # type: ignore[arg-type]  # one of UNITS
        assert (kind == "winograd") == (extra == 0)
        images = np.full((1, cin, 16, 16), 255)
        got = Simulator(program, threads=1, isa=isa)(images)  # type: ignore[arg-type]  # one of UNITS
        np.testing.assert_array_equal(got["exact"], run(program, images).tensors["exact"])


class Numbers:
    """`Lanes` of arrays."""

    add, sub = staticmethod(np.add), staticmethod(np.subtract)

    def times(self, x: Ints, *shifts: int) -> Ints:
        return x * sum(1 << shift for shift in shifts)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_transforms_make_a_multiple_of_the_convolution(form: Form) -> None:
    """In whole numbers: B^T x B is what its rows say, and the result the sums, so many times."""
    v: Any = Numbers()
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (form.down.edge, form.across.edge))
    weight = random.integers(-128, 128, (1, 1, 3, 3))
    made = np.array(both_ways(form.down.times_b, form.across.times_b, v, x))  # type: ignore[arg-type]  # rows of numbers
    np.testing.assert_array_equal(made, form.down.b @ x @ form.across.b.T)
    products = made * form.of_weights(weight).reshape(made.shape)
    sums = np.array(both_ways(form.down.times_a, form.across.times_a, v, products))  # type: ignore[arg-type]  # as above
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3))
    right = (windows * weight[0, 0]).sum(axis=(2, 3))
    np.testing.assert_array_equal(sums, right * form.factor << form.shift)
    assert (inverse(form.factor) * form.factor) % (1 << 32) == 1


def test_points_of_weights_are_as_large_as_the_forms_say() -> None:
    for form, weight, most in ((WORDS, -128, 49 * 128), (BYTES, 14, 126), (OBLONG, 6, 126)):
        assert abs(form.of_weights(np.full((1, 1, 3, 3), weight))).max() == most


@pytest.mark.parametrize(("form", "span", "weight"), [(BYTES, 63, 14), (OBLONG, 21, 6)])
def test_points_of_bytes_are_bytes(form: Form, span: int, weight: int) -> None:
    """The ends of every point are met by codes at their own ends, since a point is a sum of codes
    with signs; one code, or one weight, more is too much."""
    signs = np.kron(form.down.b, form.across.b)
    lows, highs = (np.minimum(signs, 0).sum(axis=1), np.maximum(signs, 0).sum(axis=1))
    for codes in (1, span // 2, span):
        points = form.offsets(codes)
        assert (points + codes * lows == 0).all()
        assert (points + codes * highs).max() <= 255
    small = np.full((1, 1, 3, 3), weight)
    assert form.holds(span, small)
    assert not form.holds(span + 1, small)
    assert not form.holds(span, small + 1)


@given(st.data())
@settings(max_examples=25)
def test_bytes_of_few_bits_are_the_convolution(data: st.DataObject) -> None:
    """Extremes of codes to 6 bits and of weights to +-14, and wider weights whose points fit; of 4
    bits and +-6 both forms of bytes take them."""
    cin = data.draw(st.sampled_from([32, 61, 64, 65]))
    cout = data.draw(st.sampled_from([15, 16, 33, 64, 65, 80]))
    size = data.draw(st.tuples(st.integers(13, 17), st.integers(13, 17)))
    type = IntType(data.draw(st.integers(2, 6)), data.draw(st.booleans()))
    padding = data.draw(st.tuples(*[st.integers(0, 2)] * 4))
    seed = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    most = data.draw(st.sampled_from([6, 14]))
    weight = seed.choice([-most, most, 3], (cout, cin, 3, 3))
    if data.draw(st.booleans()):  # one wide weight in each kernel, and points of 127 in all
        weight[:] = 0
        weight[:, :, seed.integers(3), seed.integers(3)] = seed.choice([-127, 127], (cout, cin))
    program = conv3x3(weight, size, type, padding)
    images = seed.choice([type.lo, type.hi], (1, cin, *size))
    expected = run(program, images).tensors
    for isa in UNITS:
        simulator = Simulator(program, threads=1, isa=isa)
        for name, array in simulator(images).items():
            np.testing.assert_array_equal(array, expected[name], err_msg=f"{isa} {name}")


@pytest.mark.parametrize("isa", UNITS)
def test_bytes_are_taken_just_as_long_as_their_points_fit(isa: str) -> None:
    for codes, weight, kind in (
        (6, 14, "winograd bytes"), (7, 14, None), (6, 15, None), (4, 8, "winograd bytes"),
        (4, 7, "winograd bytes"), (5, 6, "winograd bytes"), (4, 6, "winograd oblong"),
    ):  # fmt: skip
        program = conv3x3(
            np.full((64, 64, 3, 3), weight), (18, 18), IntType(codes, False), (1, 1, 1, 1)
        )
        found = make_plan(program, isa=isa).sums["more"].kind  # type: ignore[arg-type]  # one of UNITS
        if isa == "avx2" or kind is None:
            assert found in ("winograd", "bytes", "pairs")
        else:
            assert found == kind


@given(st.data(), st.integers(2, 4))
@settings(max_examples=40)
def test_threads_that_share_an_image_change_nothing(data: st.DataObject, threads: int) -> None:
    arithmetic = data.draw(st.sampled_from([None, "narrow"]))
    how = {"arithmetic": narrow_arithmetics()} if arithmetic else {}
    program = data.draw(programs(**how))  # type: ignore[arg-type]  # one keyword or none
    images = data.draw(images_for(program))[:1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "WORTH", 0)
        together = Simulator(program, threads=threads)
        expected = run(program, images)
        for _ in range(3):
            for name, array in together(images).items():
                np.testing.assert_array_equal(array, expected.tensors[name])
            assert together.overflows == expected.overflows
