"""The simulator's integers and those of independent programs, on a small share of the cases of
`make conformance`; and that a wrong rounding would be noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conformance_cases import Case, add_cases, conv_cases, pool_cases
from conformance_second import dpu_conv, nvdla_conv, nvdla_pool

from intaglio.diverge import rebuilt
from intaglio.errors import ProgramError
from intaglio.fixed import PRESETS, IntType
from intaglio.forms import quantized_multiplier, tflite_average, tosa_average
from intaglio.ops import Input, Output, SumPool2d
from intaglio.program import Builder
from intaglio.sim.engine import Simulator
from intaglio.sim.reference import run

Oracle = Callable[[Case], np.ndarray]


def check(cases: Iterator[Case], oracle: Oracle) -> None:
    """No mismatch, in the reference simulator neither."""
    for case in cases:
        np.testing.assert_array_equal(case.ours(), oracle(case))
        corner = case.images[:, :, :24, :24]
        small = resized(case, corner.shape[1:])
        expected = run(small, corner.astype(np.int64)).tensors["y"]
        np.testing.assert_array_equal(Simulator(small)(corner)["y"], expected)
        h, w = expected.shape[2:]
        np.testing.assert_array_equal(expected, oracle(case)[:, :, :h, :w])


def resized(case: Case, shape: tuple[int, ...]) -> Any:
    """The same operations on an input of another size."""
    b = Builder(case.program.arithmetic)
    b.constants = dict(case.program.constants)
    for op in case.program.ops:
        op = replace(op, shape=shape) if isinstance(op, Input) else op
        b.add(op, None if isinstance(op, Output) else case.program.tensors[op.output].type)
    return b.build()


def test_onnxruntime_convolution_and_sum() -> None:
    oracles = pytest.importorskip("conformance_onnx")
    check(conv_cases("onnxruntime", 4, 1), oracles.conv)
    check(add_cases("onnxruntime", 6, 1), oracles.add)


def test_litert_reference_kernels_and_xnnpack() -> None:
    litert = pytest.importorskip("conformance_litert")
    check(conv_cases("tflite", 4, 1), litert.reference_conv)
    check(add_cases("tflite", 3, 1), litert.reference_add)
    check(pool_cases("tflite", 4, 1), litert.reference_pool)
    check(conv_cases("xnnpack", 4, 1), litert.fast_conv)
    check(add_cases("xnnpack", 4, 1), litert.fast_add)


def test_nvdla_and_dpu_from_their_formulas() -> None:
    check(conv_cases("nvdla", 4, 1), nvdla_conv)
    check(pool_cases("nvdla", 4, 1), nvdla_pool)
    check(conv_cases("dpu", 4, 1), dpu_conv)


@pytest.mark.parametrize(
    ("profile", "oracle", "rounding"),
    [("nvdla", nvdla_conv, "RND"), ("dpu", dpu_conv, "RND_INF"), ("dpu", dpu_conv, "RND_CONV")],
)
def test_these_cases_notice_another_rounding(profile: str, oracle: Oracle, rounding: str) -> None:
    differing = 0
    for case in conv_cases(profile, 4, 1):
        arithmetic = replace(case.program.arithmetic, rounding=rounding)  # type: ignore[arg-type]  # a name of the tuple
        wrong = replace(case, program=rebuilt(case.program, arithmetic))
        differing += int((wrong.ours() != oracle(case)).sum())
    assert differing > 0


# --- forms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [(1, 1), (2, 2), (3, 3), (1, 5), (7, 7), (4, 4)])
@pytest.mark.parametrize("form", ["tflite", "tosa"])
def test_averages_of_raw_codes_take_halves_away_from_zero(n: tuple[int, int], form: str) -> None:
    """Both forms, on every sum that a window can have, against division."""
    size, type = n[0] * n[1], IntType(8, True)
    totals = np.arange(size * -128, size * 127 + 1)
    base, more = np.divmod(totals, size)
    windows = base[:, None] + (np.arange(size) < more[:, None])
    images = windows.reshape(-1, *n).transpose(1, 0, 2).reshape(1, 1, n[0], -1)
    b = Builder(PRESETS[form])
    b.add(Input(output="x", shape=images.shape[1:], type=type))
    pool = SumPool2d(output="s", input="x", kernel=n, stride=n)
    tflite_average(b, "q", pool) if form == "tflite" else tosa_average(b, "q", pool, 0, 0)
    b.add(Output(output="y", input="q"))
    expected = np.sign(totals) * ((2 * np.abs(totals) + size) // (2 * size))
    np.testing.assert_array_equal(Simulator(b.build())(images)["y"].ravel(), expected)


def test_what_the_forms_refuse() -> None:
    b = Builder(PRESETS["tflite"])
    b.add(Input(output="x", shape=(1, 9, 9), type=IntType(8, True)))
    padded = SumPool2d(output="s", input="x", kernel=(3, 3), padding=(1, 1, 1, 1))
    with pytest.raises(
        ProgramError, match=r"windows must lie within the image in TFLite's form\.$"
    ):
        tflite_average(b, "q", padded)
    with pytest.raises(ProgramError, match=r"windows must lie within the image in TOSA's form\.$"):
        tosa_average(b, "q", padded, 0, 0)
    with pytest.raises(ProgramError, match=r"^A factor must be above 0, not 0\.0\.$"):
        quantized_multiplier(0.0)
    assert quantized_multiplier(0.5) == (1 << 30, 31)
    assert quantized_multiplier(1 - 2.0**-40) == (1 << 30, 30)
    assert quantized_multiplier(2.0**-40) == (0, 31)
