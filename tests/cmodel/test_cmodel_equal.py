"""The C model under the sanitizers: bit for bit the reference and the fast simulator."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from c_programs import Sanitized
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import (
    exact_arithmetics,
    images_for,
    int_types,
    narrow_arithmetics,
    overflowing,
    programs,
    random_images,
    single_arithmetics,
)

from intaglio.exchange.compared import random_codes
from intaglio.fixed import PRESETS
from intaglio.ops import OPS, Ints
from intaglio.program import Program
from intaglio.sim import reference
from intaglio.sim.engine import Simulator

FEW, MANY = 6, 120  # Programs of a kind


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Sanitized:
    return Sanitized(tmp_path_factory.mktemp("sanitized"))


def check(sanitized: Sanitized, program: Program, images: Ints) -> int:
    """Every tensor and every count of overflows; the number of overflows."""
    expected, got = reference.run(program, images), sanitized(program, images)
    fast = Simulator(program, threads=1, trace=True)
    others = fast(images)
    for name, codes in expected.tensors.items():
        np.testing.assert_array_equal(got.tensors[name], codes, err_msg=name)
        np.testing.assert_array_equal(others[name], codes, err_msg=name)
    counted = {name: got.overflows[name] for name in expected.overflows}
    assert counted == expected.overflows == fast.overflows
    assert sum(got.overflows.values()) == sum(counted.values())
    return sum(counted.values())


def check_some(sanitized: Sanitized, examples: int) -> set[type]:
    """Any Program in any arithmetic; those whose codes are wide; those that overflow for certain.
    The operations met."""
    profiles = st.one_of(exact_arithmetics(), single_arithmetics(), narrow_arithmetics())
    any_kind = programs(arithmetic=profiles, raw_accumulators=True)
    wide = programs(max_bits=24, weight_bits=20, input_types=int_types(20), raw_accumulators=True)
    met: set[type] = set()

    @settings(max_examples=examples)
    @given(st.data())
    def every(data: st.DataObject) -> None:
        program = data.draw(st.one_of(any_kind, wide))
        met.update(type(op) for op in program.ops)
        check(sanitized, program, data.draw(images_for(program)))

    @settings(max_examples=max(2, examples // 4))
    @given(overflowing(narrow_arithmetics((8, 20))))
    def certain(case: tuple[Program, Ints]) -> None:
        assert check(sanitized, *case) > 0

    every()
    certain()
    return met


def test_equals_both_simulators(sanitized: Sanitized) -> None:
    check_some(sanitized, FEW)


@pytest.mark.slow
def test_equals_both_simulators_on_many_programs(sanitized: Sanitized) -> None:
    assert check_some(sanitized, MANY) == set(OPS)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_with_every_operation(sanitized: Sanitized, preset: str) -> None:
    @settings(max_examples=3)  # the first of which is the simplest
    @given(st.data())
    def every(data: st.DataObject) -> None:
        program = data.draw(programs(arithmetic=PRESETS[preset], max_blocks=8, max_size=8))
        check(sanitized, program, random_images(program, 1, data.draw(st.integers(0, 99))))

    every()


def detector(name: str, arithmetic: str, bits: int) -> Program:
    """A bundled detector, quantised on a few images."""
    from models import pixels

    from intaglio.detect import zoo
    from intaglio.quant import QuantConfig, quantize

    images = pixels((3, *zoo.find(name).size))
    config = QuantConfig(
        method="minmax", wbits=bits, abits=bits, arithmetic=PRESETS[arithmetic], compensate=False
    )
    return quantize(zoo.load(name), images, config).program


def test_a_bundled_detector_is_equal(sanitized: Sanitized) -> None:
    program = detector("fcos-nano", "intaglio", 4)
    check(sanitized, program, random_codes(program, 2))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arithmetic", "bits"),
    list(product(("fcos-nano", "retinanet-small"), sorted(PRESETS), (4, 8))),
)
def test_bundled_detectors_are_equal(
    sanitized: Sanitized, name: str, arithmetic: str, bits: int
) -> None:
    program = detector(name, arithmetic, bits)
    check(sanitized, program, random_codes(program, 2))
