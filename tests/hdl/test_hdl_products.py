"""Products without a multiplier, and two to one: every input there is, at the widths in use."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Const, Module, Signal, Value
from amaranth.sim import Simulator
from hdl_bench import run_frames
from hdl_cases import proved_bits, scalings

from intaglio.errors import BuildError
from intaglio.fixed import IntType
from intaglio.hdl.accumulator import Accumulator
from intaglio.hdl.conv import ConvEngine
from intaglio.hdl.depthwise import DepthwiseEngine
from intaglio.hdl.products import (
    add_with_carry,
    grouped_sum,
    packed_operand,
    packed_shift,
    packs,
    product_of_adders,
    product_of_tables,
    unpack_sums,
)
from intaglio.hdl.stream import Frame, shape_of

pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")


def codes(type: IntType) -> range:
    return range(type.lo, type.hi + 1)


def check(
    m: Module,
    inputs: Sequence[tuple[Signal, Any]],
    outputs: Sequence[tuple[Value, Any]],
) -> None:
    """Drive a row of values at a time and compare."""
    taps = [Signal(value.shape()) for value, _ in outputs]
    m.d.comb += [tap.eq(value) for tap, (value, _) in zip(taps, outputs, strict=True)]
    signals = [signal for signal, _ in inputs]
    given = np.stack([values for _, values in inputs], axis=1).tolist()
    wanted = np.stack([values for _, values in outputs], axis=1).tolist()

    async def bench(ctx: Any) -> None:
        for values, want in zip(given, wanted, strict=True):
            for signal, value in zip(signals, values, strict=True):
                ctx.set(signal, value)
            await ctx.delay(1e-9)
            assert [ctx.get(tap) for tap in taps] == want, values

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize(("a_signed", "b_signed"), list(product([False, True], repeat=2)))
def test_a_product_of_adders(a_signed: bool, b_signed: bool) -> None:
    """Every pair of codes, 1 to 5 bits wide."""
    for a_bits, b_bits in product(range(1, 6), repeat=2):
        a_type, b_type = IntType(a_bits, a_signed), IntType(b_bits, b_signed)
        pairs = np.array(list(product(codes(a_type), codes(b_type))))
        m = Module()
        a, b = Signal(shape_of(a_type)), Signal(shape_of(b_type))
        got = product_of_adders(m, a, b, "p")
        check(m, [(a, pairs[:, 0]), (b, pairs[:, 1])], [(got, pairs.prod(axis=1))])


@pytest.mark.parametrize("type", [IntType(n, s) for n in (1, 3, 4, 5, 8) for s in (False, True)])
def test_a_product_of_tables(type: IntType) -> None:
    x = np.array(codes(type))
    for factor in (0, 1, -1, 7, -128, 93_211, -131_072):
        m = Module()
        value = Signal(shape_of(type))
        got = product_of_tables(m, value, factor, "t")
        check(m, [(value, x)], [(got, x * factor)])


@pytest.mark.parametrize("x", [IntType(4, False), IntType(4, True), IntType(2, False)])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_two_products_in_one_multiplier(x: IntType, bits: int) -> None:
    """Every pair of weights with every code, beside a partial sum of any sign."""
    w = IntType(bits, True)
    shift = packed_shift(1, x, w)
    low, high, data = np.array(list(product(codes(w), codes(w), codes(x)))).T
    for before in (-5, 0, 3):
        m = Module()
        signals = [Signal(shape_of(t)) for t in (w, IntType(bits + 1, True), x)]
        operand = packed_operand(signals[0], signals[1], shift)
        assert len(operand) == shift + bits + 1
        first, second, carry = unpack_sums(operand * signals[2], shift)
        total = add_with_carry(Const(before, 4), second, carry)
        inputs = list(zip(signals, (low, high - (low < 0), data), strict=True))
        check(m, inputs, [(first, low * data), (total, high * data + before)])


@pytest.mark.parametrize("terms", [2, 3, 4])
def test_packed_sums_at_their_limits(terms: int) -> None:
    """The extremes of weights and codes in every place: no sum reaches the one above."""
    x, w = IntType(4, False), IntType(4, True)
    shift = packed_shift(terms, x, w)
    assert shift == {2: 9, 3: 10, 4: 10}[terms]
    ends = np.array(list(product((w.lo, w.hi), (w.lo, w.hi), (x.lo, x.hi))))
    rows = np.array(list(product(ends.tolist(), repeat=terms)))  # cases, terms, (low, high, x)
    m = Module()
    inputs: list[tuple[Signal, Any]] = []
    packed = []
    for k in range(terms):
        low, upper, data = (Signal(shape_of(t)) for t in (w, IntType(5, True), x))
        packed.append(packed_operand(low, upper, shift) * data)
        less = rows[:, k, 1] - (rows[:, k, 0] < 0)
        inputs += [(low, rows[:, k, 0]), (upper, less), (data, rows[:, k, 2])]
    first, second, carry = unpack_sums(grouped_sum(m, packed, "sum"), shift)
    low_sum, high_sum = ((rows[:, :, n] * rows[:, :, 2]).sum(axis=1) for n in (0, 1))
    check(m, inputs, [(first, low_sum), (second + carry, high_sum)])


def test_what_fits_into_an_operand() -> None:
    u4, i4 = IntType(4, False), IntType(4, True)
    assert packs(34, u4, i4, 18)
    assert not packs(35, u4, i4, 18)
    assert not packs(1, IntType(8, False), IntType(8, True), 18)
    assert packs(1, IntType(8, False), IntType(8, True), 25)
    assert not packs(1, u4, u4, 18), "an unsigned weight has no sign to correct by"


@pytest.mark.parametrize("form", ["dsp", "packed", "lut"])
@pytest.mark.parametrize("odd", [False, True])
def test_engines_of_every_form_agree(form: str, odd: bool) -> None:
    """W4A4, extremes of every weight and code among them; an odd number of results."""
    rng = np.random.default_rng(0)
    x, w = IntType(4, False), IntType(4, True)
    frame = Frame(5, 3, 4)
    choices = np.arange(-7, 8, 2) if odd else np.array([-8, -8, 7, 7, -1, 0, 3])
    weights = rng.choice(choices, (7, 5, 3, 3))
    weights[0], weights[1] = choices[0], choices[-1]
    bits = proved_bits(weights, x)
    y = IntType(5, True)
    block = ConvEngine(
        frames=[frame], weights=weights, x=x, w=w, odd=odd, form=form, y=y,
        accumulator=Accumulator(bits), scalings=scalings(rng, 1, 7, bits), simd=3, pe=3,
        out_lanes=1, padding=(1, 1, 1, 1),
    )  # fmt: skip
    images = [np.full((5, 3, 4), 15), rng.choice([0, 15, 15, 8], (5, 3, 4))]
    run_frames(block, images, block.model(images), x=x, y=y, lanes=(3, 1), eager=True)


def test_depthwise_products_are_not_packed() -> None:
    with pytest.raises(BuildError) as error:
        DepthwiseEngine(
            frames=[Frame(2, 3, 3)], weights=np.ones((2, 1, 3, 3), np.int64), x=IntType(4, False),
            w=IntType(4, True), form="packed", y=IntType(4, False), accumulator=Accumulator(10),
            scalings=[], lanes=2, out_lanes=1,
        )  # fmt: skip
    assert str(error.value) == "Depthwise products must not be packed: no two share a channel."
