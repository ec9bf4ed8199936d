"""The frames of a build: how they are found, and that they meet no less than random ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import branches, pyramid, skip, tiny
from strategies import (
    exact_arithmetics,
    int_types,
    narrow_arithmetics,
    programs,
    single_arithmetics,
)

from intaglio.codegen.structure.ports import random_frames
from intaglio.program import Program
from intaglio.sim.reference import run
from intaglio.stimulus.choose import CHOSEN, chosen
from intaglio.stimulus.coverage import covered
from intaglio.stimulus.frames import drawn
from intaglio.stimulus.points import Points
from intaglio.stimulus.slopes import image_slope
from intaglio.stimulus.tracing import traced

ARITHMETICS = st.one_of(exact_arithmetics(), narrow_arithmetics(), single_arithmetics())


def drawn_program(data: st.DataObject, **limits: int) -> Program:
    types = int_types(8) if data.draw(st.booleans()) else None
    return data.draw(programs(arithmetic=ARITHMETICS, input_types=types, **limits))


@given(st.data())
@settings(max_examples=150)
def test_tensors_are_those_of_the_reference(data: st.DataObject) -> None:
    program = drawn_program(data, max_size=7)
    x = program.inputs[0]
    images = random_frames(x.type, x.shape, 2)
    found = traced(program, images)
    for name, tensor in run(program, images).tensors.items():
        assert found[name].dtype == np.int64
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)


@given(st.data())
@settings(max_examples=40)
def test_they_meet_no_less_than_random_frames(data: st.DataObject) -> None:
    program = drawn_program(data, max_size=6, max_channels=4)
    x = program.inputs[0]
    random = random_frames(x.type, x.shape, 3)
    found = chosen(program, random)
    assert 1 <= len(found.frames) <= CHOSEN
    assert x.type.holds(int(found.frames.min()), int(found.frames.max()))
    points = Points(program)
    met = points.met(run(program, found.frames).tensors).any(axis=0)
    np.testing.assert_array_equal(met, found.met)  # what is said of them is so
    assert met.sum() >= points.met(run(program, random).tensors).any(axis=0).sum()


@pytest.mark.parametrize(
    ("network", "least"), [(tiny, 0.98), (skip, 0.99), (pyramid, 0.96), (branches, 0.94)]
)
def test_of_networks_made_by_hand_they_meet_nearly_all(network: object, least: float) -> None:
    assert callable(network)
    program = network()
    x = program.inputs[0]
    random = random_frames(x.type, x.shape, 3)
    first, again = chosen(program, random), chosen(program, random)
    np.testing.assert_array_equal(first.frames, again.frames)
    found, before = covered(program, first.frames), covered(program, random)
    assert found.met >= max(before.met, least * found.points)
    assert len(found.missed) == found.points - found.met
    assert sum(layer.met for layer in found.layers) == found.met
    assert f"{found.met:,} of {found.points:,} points" in found.sentence()
    assert not found.missed or found.missed[0] in found.sentence()


@given(st.data())
@settings(max_examples=60)
def test_slopes_of_what_only_moves_or_sums_are_exact(data: st.DataObject) -> None:
    """Where nothing rounds, a change of one pixel changes the tensors by its slope."""
    blocks = ("pad", "upsample", "select", "crop", "space_to_depth", "depth_to_space", "concat")
    program = data.draw(programs(blocks=blocks, max_size=5, max_blocks=3))
    x = program.inputs[0]
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    image = rng.integers(x.lo, x.hi, (1, *x.shape))
    wanted = {
        t.name: rng.integers(-3, 4, (1, *t.shape)).astype(np.float32) for t in program.outputs
    }
    before = traced(program, image)
    slope = image_slope(program, before, wanted)
    place = tuple(int(rng.integers(n)) for n in image.shape)
    other = image.copy()
    other[place] += 1
    after = traced(program, other)
    change = sum(float((wanted[n] * (after[n] - before[n])).sum()) for n in wanted)
    assert slope[place] == pytest.approx(change)


def test_slopes_lead_up_through_convolutions() -> None:
    """Along them the sums that are asked for rise, and against them they fall."""
    program = pyramid()
    x, name = program.inputs[0], "c4.acc"
    frames = drawn(x, 7)
    tensors = traced(program, frames)
    wanted = {name: np.ones(tensors[name].shape, np.float32)}
    way = np.sign(image_slope(program, tensors, wanted)).astype(np.int64)
    down, up = (traced(program, np.clip(frames + k * way, x.lo, x.hi))[name] for k in (-8, 8))
    assert down.sum() < tensors[name].sum() < up.sum()
