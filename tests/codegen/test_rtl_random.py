"""Random Programs as RTL in Icarus: every beat and every cycle count."""

import os
import random
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import pyramid, skip
from strategies import (
    OVERFLOWS,
    images_for,
    narrow_arithmetics,
    overflowing,
    programs,
    random_images,
)
from tools import needs

from intaglio.codegen.bundle import build
from intaglio.codegen.running.verify import verify
from intaglio.codegen.structure.fold import plan_for_cycles
from intaglio.codegen.structure.graph import hardware_graph
from intaglio.fixed import Overflow, SaturateAt
from intaglio.ops import Ints
from intaglio.program import Program
from intaglio.sim.reference import run

pytestmark = [pytest.mark.rtl, pytest.mark.xdist_group("icarus")]
EXAMPLES = int(os.environ.get("RTL_EXAMPLES", "6"))  # more for a long search


def check(program: Program, images: Ints, extra: int) -> None:
    """Equal with pauses and without, where the cycles are the predicted ones."""
    least = plan_for_cycles(hardware_graph(program), 1 << 62).multipliers
    with TemporaryDirectory() as folder:
        path = Path(folder) / "build"
        build(program, target="generic", lanes=max(1, least + extra), images=images).write(path)
        result = verify(path, frames=3 * (len(images) + 1), simulator="icarus")
        assert result.passed, result.sentence()
        assert result.cycles_per_frame == result.predicted_cycles_per_frame
        assert result.latency_cycles == result.predicted_latency_cycles


@given(st.data(), st.integers(0, 90))
@settings(max_examples=EXAMPLES)
def test_any_program(data: st.DataObject, extra: int) -> None:
    needs("icarus")
    program = data.draw(programs(max_blocks=3, max_size=6, max_channels=5))
    check(program, data.draw(images_for(program)), extra)


@given(st.data(), st.integers(0, 40))
@settings(max_examples=max(1, EXAMPLES // 2))
def test_shared_heads(data: st.DataObject, extra: int) -> None:
    needs("icarus")
    blocks = ("conv", "fpn", "add", "shared")
    program = data.draw(
        programs(blocks=blocks, max_blocks=2, max_size=6, max_channels=4, require_shared_head=True)
    )
    check(program, data.draw(images_for(program)), extra)


@given(st.data())
@settings(max_examples=max(1, EXAMPLES // 3))
def test_channels_and_pixels_that_are_chosen(data: st.DataObject) -> None:
    needs("icarus")
    blocks = ("select", "crop", "space_to_depth", "depth_to_space", "concat", "conv")
    program = data.draw(programs(blocks=blocks, max_blocks=4, max_size=6, max_channels=4))
    check(program, data.draw(images_for(program)), data.draw(st.integers(0, 40)))


@given(st.data())
@settings(max_examples=max(1, EXAMPLES // 3))
def test_pixels_between_others(data: st.DataObject) -> None:
    needs("icarus")
    blocks = ("interpolate", "conv", "lookup")
    program = data.draw(programs(blocks=blocks, max_blocks=3, max_size=6, max_channels=4))
    check(program, data.draw(images_for(program)), data.draw(st.integers(0, 40)))


@given(st.data(), st.integers(0, 40))
@settings(max_examples=max(1, EXAMPLES // 3))
def test_gates(data: st.DataObject, extra: int) -> None:
    needs("icarus")
    blocks = ("gate", "gate", "conv", "maxpool")
    program = data.draw(programs(blocks=blocks, max_blocks=3, max_size=6, max_channels=5))
    check(program, data.draw(images_for(program)), extra)


@given(st.data(), st.integers(0, 40))
@settings(max_examples=max(1, EXAMPLES // 2))
def test_accumulators_that_overflow(data: st.DataObject, extra: int) -> None:
    needs("icarus")
    blocks = ("conv", "depthwise", "grouped")
    program = data.draw(
        programs(
            arithmetic=narrow_arithmetics(), blocks=blocks, max_blocks=2, max_size=5,
            max_channels=4,
        )
    )  # fmt: skip
    check(program, data.draw(images_for(program)), extra)


@pytest.mark.parametrize("how", OVERFLOWS)
def test_accumulators_of_12_to_20_bits(how: tuple[Overflow, SaturateAt]) -> None:
    """In every example a sum overflows: the reference counts it."""
    needs("icarus")

    @given(overflowing(narrow_arithmetics((12, 20), [how]), max_size=5), st.integers(0, 40))
    @settings(max_examples=max(1, EXAMPLES // 3))
    def certainly(case: tuple[Program, Ints], extra: int) -> None:
        program, images = case
        assert run(program, images).overflows["acc0"] > 0
        check(program, images, extra)

    certainly()


@pytest.mark.parametrize("extra", [0, 9, 34])
def test_foldings_of_one_network_agree(extra: int) -> None:
    needs("icarus")
    check(skip(), random_images(skip(), 2, extra), extra)


@pytest.mark.parametrize("extra", [9, 34])  # with 34 the second layer takes 5 channels by threes
def test_odd_weights_of_any_folding_agree(extra: int) -> None:
    needs("icarus")
    program = skip(odd=(2, 3))
    check(program, random_images(program, 2, extra), extra)


@pytest.mark.parametrize("seed", range(3))
def test_random_detectors_with_skip_pyramid_and_shared_head(seed: int) -> None:
    needs("icarus")
    draw = random.Random(seed)
    size = (draw.randint(9, 14), draw.randint(9, 14))
    widths = tuple(draw.randint(1, 5) for _ in range(4))
    odd = ((), (2, 4), (1, 3, 8))[seed % 3]
    program = pyramid(seed, size, widths, odd)
    check(program, random_images(program, 2, seed), draw.randint(0, 40))
