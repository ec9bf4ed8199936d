"""Smaller constants of a requantisation: the same code for every value that can come."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import pyramid, skip

from intaglio.codegen.structure.constants import ranges, requantised, scaling
from intaglio.codegen.structure.graph import hardware_graph
from intaglio.codegen.structure.smaller import Ranges, smaller, table_bits
from intaglio.fixed import ROUNDINGS, requantise
from intaglio.hdl.requant import Scaling, column_bits


@st.composite
def blocks(draw: st.DrawFn) -> tuple[tuple[Scaling, ...], tuple[Ranges, ...]]:
    """Levels of one to three channels, with any signs, zeros, and codes that are never reached."""
    channels, shift = draw(st.integers(1, 3)), draw(st.integers(0, 24))
    alike = draw(st.booleans())
    lo = draw(st.integers(-20, 20))
    hi, offset = lo + draw(st.integers(0, 40)), draw(st.integers(-30, 30))
    scalings, found = [], []
    for _ in range(draw(st.integers(1, 3))):
        count = 1 if alike else channels
        m = draw(st.lists(st.integers(-(1 << 17), 1 << 17), min_size=count, max_size=count))
        b = draw(st.lists(st.integers(-(1 << 26), 1 << 26), min_size=count, max_size=count))
        s = [draw(st.integers(max(0, shift - 1), shift)) for _ in range(count)]
        lows = draw(st.lists(st.integers(-900, 900), min_size=channels, max_size=channels))
        scalings.append(Scaling(tuple(m), tuple(b), tuple(s), lo, hi, offset))
        found.append((tuple(lows), tuple(low + draw(st.integers(0, 700)) for low in lows)))
    return tuple(scalings), tuple(found)


@given(blocks(), st.sampled_from(sorted(ROUNDINGS)))
@settings(max_examples=150, deadline=None)
def test_every_value_in_range_gives_the_same_code(
    block: tuple[tuple[Scaling, ...], tuple[Ranges, ...]], rounding: str
) -> None:
    scalings, found = block
    made, as_rounded = smaller(scalings, found, rounding)
    assert table_bits(made) <= table_bits(scalings)
    for before, after, span in zip(scalings, made, found, strict=True):
        for channel, (low, high) in enumerate(zip(*span, strict=True)):
            m, b, s, *rest = before.of(channel)
            new_m, new_b, new_s, *new_rest = after.of(channel)
            assert (rest, new_s <= s or made == scalings) == (new_rest, True)
            for x in range(low, high + 1):
                code = requantise(x * m + b, s, *rest, rounding)
                assert code == requantise(x * new_m + new_b, new_s, *rest, as_rounded), x


def test_constants_that_are_wired_stay_wired() -> None:
    one = Scaling((91_234,), (-5_000_000,), (22,), 0, 15)
    (made,), _ = smaller((one,), (((-900, -400, -700), (900, 2_000, 100)),), "RND")
    assert len({*made.multiplier}) == len({*made.bias}) == 1
    assert made.shift[0] < 16
    assert made.multiplier[0] < 1 << 11


def test_channels_of_one_code_cost_no_bits() -> None:
    spans = ((-100, -100, -100), (400, 400, 400))
    lively = Scaling((70, 90, 80), (0, 50, 10), (11,), 0, 15)
    dead = Scaling((70, 90, 1 << 17), (0, 50, -(1 << 26)), (11,), 0, 15)
    (one,), _ = smaller((lively,), (spans,), "RND")
    (made,), _ = smaller((dead,), (spans,), "RND")
    assert column_bits(made.multiplier) <= column_bits(one.multiplier)
    (alone,), _ = smaller((Scaling((1 << 17,), (-(1 << 26),), (11,), 0, 15),), (spans,), "RND")
    assert alone.shift == (0,)


def test_what_64_bits_do_not_hold_stays_as_it_is() -> None:
    wide = Scaling((1 << 40,), (1 << 50,), (30,), 0, 15)
    found = smaller((wide,), (((-(1 << 30),), (1 << 30,)),), "RND")
    assert found == ((wide,), "RND")


def test_tables_of_networks_are_narrower_and_say_the_same() -> None:
    """At both sides of every step of every channel, and at the ends of what is proved."""
    narrower = 0
    for program in (pyramid(), skip()):
        for block in hardware_graph(program).blocks:
            if not block.requants:
                continue
            given_ = tuple(scaling(program, op) for op in block.requants)
            made, rounding = requantised(program, block)
            narrower += table_bits(given_) - table_bits(made)
            rule = program.arithmetic.rounding
            for before, after, op in zip(given_, made, block.requants, strict=True):
                spans = ranges(program, block, op)
                for channel, (low, high) in enumerate(zip(*spans, strict=True)):
                    x = np.broadcast_to(np.arange(low, high + 1), (channel + 1, 1, high - low + 1))
                    want, got = before.model(x, rule)[channel], after.model(x, rounding)[channel]
                    assert np.array_equal(want, got)
    assert narrower > 30
