"""No channel takes another's bits: constants, an S of their own for the thin, and named losses."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import images_for, programs

from intaglio.channels.losses import FELT, LEAST_BITS
from intaglio.channels.spans import Spans
from intaglio.channels.tables import Tables, tables
from intaglio.errors import ModelError
from intaglio.fixed import PRESETS, Arithmetic, clamp, nearest, requantise, scaled_single
from intaglio.multiplier import Term
from intaglio.program import Builder, Program
from intaglio.sim.reference import run

REACH = 1 << 18
ENDS = (0, 255)


@st.composite
def channel(draw: st.DrawFn, powers: bool) -> Term:
    """Ratios of any size, and sums that may all lie beyond the clamp, or be a single one."""
    exponent = draw(st.integers(-30, 12))
    fraction = 1.0 if powers else draw(st.floats(0.5, 1.0))
    ratio = Fraction(fraction) * Fraction(2) ** exponent * draw(st.sampled_from((1, -1)))
    lo, hi = sorted(draw(st.tuples(*[st.integers(-REACH, REACH)] * 2)))
    hi = draw(st.sampled_from((hi, lo)))
    zero = draw(st.integers(-255, 255))
    inside = draw(st.integers(lo, hi)) - zero
    addend = draw(st.floats(-300.0, 300.0)) - ratio * inside
    return Term((ratio,), (zero,), (REACH,), Fraction(float(addend)), (lo, hi))


def layer(arithmetic: Arithmetic) -> st.SearchStrategy[list[Term]]:
    """Channels of one layer."""
    found = st.lists(channel(arithmetic.power_of_two), min_size=1, max_size=6)
    if not arithmetic.per_layer:
        return found
    return found.map(lambda terms: [replace(t, ratios=terms[0].ratios) for t in terms])


def sums(term: Term) -> list[int]:
    """Some that the channel can reach: its ends, its middle, and about where the codes turn."""
    assert term.span is not None
    lo, hi = term.span
    turn = term.zeros[0] + nearest((128 - term.addend) / term.ratios[0]) if term.ratios[0] else lo
    return [clamp(x, lo, hi) for x in (lo, hi, (lo + hi) // 2, turn - 1, turn, turn + 1)]


def codes(found: Tables, c: int, term: Term, arithmetic: Arithmetic) -> list[int]:
    """By the tables."""
    m, b, s = found.multipliers[c], found.bias[c], found.shifts[c]
    single = arithmetic.product == "single"
    totals = [int(scaled_single(x, m, b)) if single else x * m + b for x in sums(term)]
    return [requantise(t, s, found.offset, *ENDS, arithmetic.rounding) for t in totals]


def off(got: int, term: Term, x: int, zero_point: int) -> Fraction:
    """How far a code is from the real value within the clamp, beyond the half of rounding."""
    real = min(max(term.at(x) + zero_point, Fraction(ENDS[0])), Fraction(ENDS[1]))
    return abs(got - real) - Fraction(1, 2)


@pytest.mark.parametrize("arithmetic", PRESETS.values(), ids=lambda a: a.name)
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_what_is_not_named_as_lost_is_bounded(arithmetic: Arithmetic, data: st.DataObject) -> None:
    terms, zero_point = data.draw(layer(arithmetic)), data.draw(st.sampled_from((0, 0, 7)))
    try:
        found = tables(terms, zero_point, ENDS, arithmetic, "layer")
    except ModelError:  # power-of-two profiles refuse factors below theirs
        assume(False)
    lost = {c for loss in found.losses for c in loss.channels}
    assert not (lost and (arithmetic.per_channel_shift or arithmetic.split_shift))
    for c, term in enumerate(terms):
        if c in lost:
            continue
        m, s = abs(found.multipliers[c]), found.shifts[c]
        bound = FELT + Fraction(ENDS[1] + 1, 1 << LEAST_BITS)
        bound += Fraction(REACH + 256, 2 << s) if m.bit_length() >= LEAST_BITS else 0
        if arithmetic.forms != "own" or arithmetic.product == "single":
            bound += abs(term.ratios[0]) / 2  # a bias of whole sums
            bound += Fraction(REACH + abs(found.bias[c]), 1 << 22) * Fraction(m, 1 << s)
        for x, got in zip(sums(term), codes(found, c, term, arithmetic), strict=True):
            assert off(got, term, x, zero_point) <= bound, (c, x, got)
        ends = {clamp(nearest(term.at(x)) + zero_point, *ENDS) for x in term.codes}
        if len(ends) == 1 and arithmetic.product != "single":
            assert {off(g, term, x, zero_point) <= 0 for x, g in zip(
                sums(term), codes(found, c, term, arithmetic), strict=True)} == {True}  # fmt: skip


@pytest.mark.parametrize("name", sorted(PRESETS))
@settings(max_examples=30)
@given(st.data())
def test_a_channel_that_does_nothing_changes_no_other(name: str, data: st.DataObject) -> None:
    arithmetic = PRESETS[name]
    step = Fraction(1, 1 << 10)
    live = [
        Term((step * data.draw(st.sampled_from((1, 2, 4))) if not arithmetic.per_layer else step,),
             (0,), (REACH,), Fraction(data.draw(st.integers(-50, 50))), (-REACH, REACH))
        for _ in range(data.draw(st.integers(1, 4)))
    ]  # fmt: skip
    factor = Fraction(2) ** data.draw(st.integers(-40, 20)) if not arithmetic.per_layer else step
    idle = Term((Fraction(0),), (5,), (REACH,), Fraction(31), (-REACH, REACH))  # no factor
    dead = data.draw(
        st.sampled_from(
            (
                Term((factor,), (0,), (REACH,), Fraction(9), (0, 0)),  # a filter of zeros
                Term(
                    (factor,), (0,), (REACH,), -(REACH + 1) * factor - 9, (-REACH, REACH)
                ),  # far below
                Term((factor,), (0,), (REACH,), Fraction(-(10**12)), (-200, 200)),
                Term((factor,), (0,), (REACH,), (REACH + 1) * factor + 999, (-REACH, REACH)),
                *(() if arithmetic.per_layer else (idle,)),
            )
        )
    )
    alone = tables(live, 3, ENDS, arithmetic, "layer")
    place = data.draw(st.integers(0, len(live)))
    beside = tables([*live[:place], dead, *live[place:]], 3, ENDS, arithmetic, "layer")
    for with_it, without in (
        (beside.multipliers, alone.multipliers),
        (beside.bias, alone.bias),
        (beside.shifts, alone.shifts),
    ):
        assert (*with_it[:place], *with_it[place + 1 :]) == without
    assert not beside.losses
    got = set(codes(beside, place, dead, arithmetic))
    assert got == {clamp(nearest(dead.at(dead.codes[0])) + 3, *ENDS)}


def wide() -> list[Term]:
    """Factors 1 / 2999 and 7.4 in one layer, both of which are seen in the codes."""
    return [
        Term((Fraction(1, 2999),), (0,), (REACH,), Fraction(0), (0, REACH)),
        Term((Fraction(37, 5),), (0,), (REACH,), Fraction(-100), (0, REACH)),
    ]


def test_the_default_gives_thin_channels_a_shift_of_their_own() -> None:
    found = tables(wide(), 0, ENDS, Arithmetic(), "layer")
    assert found.shifts[0] > found.shifts[1]
    assert all(m.bit_length() >= LEAST_BITS for m in found.multipliers)
    assert found.losses == ()
    one = tables(wide()[:1] * 3, 0, ENDS, Arithmetic(), "layer")
    assert len(set(one.shifts)) == 1


def test_a_profile_of_one_shift_names_what_it_loses() -> None:
    (loss,) = tables([*wide(), wide()[0]], 0, ENDS, PRESETS["nvdla"], "stem").losses
    assert (loss.layer, loss.channels, loss.beside) == ("stem", (0, 2), 1)
    assert loss.sentence() == (
        "Layer 'stem', channels 0, 2: M must have 10 significant bits, not 1, or codes move by up"
        " to 23; arithmetic 'nvdla' has one S for a layer, and channel 1 chooses it: use arithmetic"
        " 'intaglio' or 'tosa'."
    )
    many = replace(loss, channels=tuple(range(20)))
    assert "channels 0, 1, 2, 3, 4, 5, 6, 7 and 12 more: M" in many.sentence()


def test_a_factor_beyond_the_clamp_is_a_step() -> None:
    term = Term((Fraction(10**9) / 3,), (0,), (REACH,), Fraction(-(10**10)), (-99, REACH))
    for arithmetic in (Arithmetic(), PRESETS["nvdla"], PRESETS["onnxruntime"], PRESETS["tosa"]):
        found = tables([term], 0, ENDS, arithmetic, "layer")
        assert found.losses == ()
        for x in range(20, 40):
            want = clamp(nearest(term.at(x)), *ENDS)
            single = arithmetic.product == "single"
            m, b = found.multipliers[0], found.bias[0]
            t = int(scaled_single(x, m, b)) if single else x * m + b
            got = requantise(t, found.shifts[0], found.offset, *ENDS, arithmetic.rounding)
            assert got == want
    (loss,) = tables([term], 0, (0, 65535), PRESETS["nvdla"], "layer").losses
    assert "channel 0: M must be up to 65535, not 16384" in loss.sentence()


def program_spans(program: Program) -> Spans:
    """Of a Program built anew."""
    builder = Builder(program.arithmetic)
    builder.constants = dict(program.constants)
    for op in program.ops:
        tensor = program.tensors[op.output]
        builder.add(op, tensor.type, tensor.scale, tensor.zero_point)
    return Spans(builder)


@given(st.data())
def test_every_channel_stays_within_its_span(data: st.DataObject) -> None:
    program = data.draw(programs())
    images = data.draw(images_for(program))
    spans, seen = program_spans(program), run(program, images).tensors
    for name, tensor in program.tensors.items():
        span = spans[name]
        assert tensor.lo <= span.lo.min() <= span.hi.max() <= tensor.hi
        values = np.asarray(seen[name])
        assert (values >= span.lo[:, None, None]).all(), name
        assert (values <= span.hi[:, None, None]).all(), name
