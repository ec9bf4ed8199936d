"""The simulator's integers and those of independent programs, on a small share of the cases of
`make conformance`; and that a wrong rounding would be noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import conformance_tosa as tosa
import numpy as np
import pytest
from conformance_cases import Case, add_cases, conv_cases, pool_cases
from conformance_maps import (
    leaky_cases,
    max_cases,
    mean_cases,
    requantize_cases,
    resize_cases,
    sigmoid_cases,
)
from conformance_once import once_adds, once_cases
from conformance_second import dpu_conv, litert_logistic, nvdla_conv, nvdla_pool
from conformance_tosa_cases import average_cases, enlarge_cases, rescale_cases, table_cases
from tools import tosa_python

from intaglio.diverge import rebuilt
from intaglio.errors import ProgramError
from intaglio.fixed import PRESETS, IntType
from intaglio.forms import (
    Real,
    onnxruntime_average,
    quantized_multiplier,
    tflite_average,
    tosa_average,
)
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
        h, w = (n - any(case.padding) for n in expected.shape[2:])  # its far border is nearer
        np.testing.assert_array_equal(expected[:, :, :h, :w], oracle(case)[:, :, :h, :w])


def resized(case: Case, shape: tuple[int, ...]) -> Any:
    """The same operations on an input of another size."""
    b = Builder(case.program.arithmetic)
    b.constants = dict(case.program.constants)
    for op in case.program.ops:
        op = replace(op, shape=shape) if isinstance(op, Input) else op
        b.add(op, None if isinstance(op, Output) else case.program.tensors[op.output].type)
    return b.build()


def equal(cases: Iterator[Case], oracle: Oracle) -> None:
    """No mismatch; for cases that the reference is compared with elsewhere, or of another size."""
    for case in cases:
        np.testing.assert_array_equal(case.ours(), oracle(case))


I8, I16 = IntType(8, True), IntType(16, True)


def test_onnxruntime() -> None:
    oracles = pytest.importorskip("conformance_onnx")
    check(conv_cases("onnxruntime", 4, 1), oracles.conv)
    check(conv_cases("onnxruntime", 7, 1, depthwise=True), oracles.conv)
    check(add_cases("onnxruntime", 6, 1), oracles.add)
    check(mean_cases(4, 1, whole=False), oracles.average)
    equal(mean_cases(20, 1, whole=True), oracles.global_average)
    check(max_cases("onnxruntime", 8, 1), oracles.max_pool)
    equal(resize_cases("onnxruntime", 8, 1), oracles.resize)
    equal(requantize_cases("onnxruntime", 30, 1), oracles.requantize)


def test_litert_reference_kernels_and_xnnpack() -> None:
    litert = pytest.importorskip("conformance_litert")
    check(conv_cases("tflite", 4, 1), litert.reference_conv)
    check(conv_cases("tflite", 7, 1, depthwise=True), litert.reference_conv)
    check(add_cases("tflite", 3, 1), litert.reference_add)
    check(pool_cases("tflite", 4, 1), litert.reference_pool)
    check(max_cases("tflite", 8, 1), litert.reference_max)
    equal(resize_cases("tflite", 8, 1), litert.reference_resize)
    equal(requantize_cases("tflite", 30, 1), litert.reference_quantize)
    equal(leaky_cases(10, 1), litert.reference_leaky)
    equal(sigmoid_cases(10, 1), litert.reference_logistic)
    for case in sigmoid_cases(10, 2):
        np.testing.assert_array_equal(litert_logistic(case), litert.reference_logistic(case))
    check(conv_cases("xnnpack", 4, 1), litert.fast_conv)
    check(conv_cases("xnnpack", 7, 1, depthwise=True), litert.fast_conv)
    check(add_cases("xnnpack", 4, 1), litert.fast_add)
    check(pool_cases("tflite", 4, 1), litert.fast_pool)
    check(max_cases("tflite", 8, 1), litert.fast_max)


@pytest.mark.parametrize("profile", ["intaglio", "shift-only", "tosa", "dpu"])
def test_profiles_that_round_once_halves_up(profile: str) -> None:
    litert = pytest.importorskip("conformance_litert")
    check(once_cases(profile, 4, 1, I16), litert.reference_conv)
    if profile != "tosa":
        check(once_adds(profile, 6, 1), litert.fast_add)


def test_nvdla_by_a_program_that_rounds_once_halves_away() -> None:
    litert = pytest.importorskip("conformance_litert")
    check(once_cases("nvdla", 4, 1, I8), litert.fully_connected)


@pytest.mark.slow
def test_cmsis_nn_as_executorch_has_it() -> None:
    """Where `make conformance` has put its packages."""
    cortex = pytest.importorskip("conformance_cortex")
    check(conv_cases("cmsis-nn", 4, 1), cortex.conv)
    check(conv_cases("cmsis-nn", 7, 1, depthwise=True), cortex.conv)
    check(add_cases("cmsis-nn", 3, 1), cortex.add)
    check(max_cases("cmsis-nn", 8, 1), cortex.max_pool)


def test_tosa_reference_model() -> None:
    tosa_python()
    for profile in ("tosa", "tflite", "intaglio", "dpu"):
        equal(small(rescale_cases(profile, 4, 1)), tosa.requantise)
    for profile in ("tosa", "tflite", "dpu"):
        equal(small(conv_cases(profile, 4, 1)), tosa.conv)
        equal(small(conv_cases(profile, 7, 1, depthwise=True)), tosa.conv)
    equal(small(once_cases("intaglio", 4, 1, I8)), tosa.conv)
    equal(add_cases("xnnpack", 2, 1), tosa.add)
    equal(add_cases("tflite", 2, 1), tosa.gemmlowp_add)
    equal(small(average_cases(6, 1)), tosa.average)
    equal(small(pool_cases("tflite", 6, 1)), tosa.raw_average)
    equal(small(max_cases("tosa", 8, 1)), tosa.max_pool)
    equal(table_cases(4, 1), tosa.table)
    equal(enlarge_cases(12, 1), tosa.resize)


def small(cases: Iterator[Case]) -> Iterator[Case]:
    """The same operations on a corner of the images; an odd side, so that strides leave a rest."""
    for case in cases:
        corner = np.ascontiguousarray(case.images[:, :, :23, :24])
        yield replace(case, images=corner, program=resized(case, corner.shape[1:]))


def test_tosa_notices_another_rounding() -> None:
    tosa_python()
    differing = 0
    for case in small(conv_cases("tosa", 4, 1)):
        arithmetic = replace(case.program.arithmetic, rounding="RND_INF")
        wrong = replace(case, program=rebuilt(case.program, arithmetic))
        differing += int((wrong.ours() != tosa.conv(case)).sum())
    assert differing > 0


def test_networks_and_node_cases() -> None:
    networks = pytest.importorskip("conformance_networks")
    nodes = pytest.importorskip("conformance_nodes")
    for profile, arithmetic in PRESETS.items():
        if arithmetic.product == "exact":
            equal(networks.network_cases(profile, 2, 1), networks.integer_onnx)
    for pattern, profile, count in (
        (nodes.LINEAR, "onnxruntime", 8), (nodes.SUMS, "intaglio", 3),
        (nodes.QUANTIZE, "onnxruntime", 1), (nodes.MOVES, "intaglio", 20),
    ):  # fmt: skip
        cases = list(nodes.node_cases(pattern, profile))
        assert len(cases) >= count  # newer packages may bring more
        equal(iter(cases), nodes.expected)


def test_nvdla_and_dpu_from_their_formulas() -> None:
    check(conv_cases("nvdla", 4, 1), nvdla_conv)
    check(conv_cases("nvdla", 7, 1, depthwise=True), nvdla_conv)
    check(pool_cases("nvdla", 4, 1), nvdla_pool)
    check(conv_cases("dpu", 4, 1), dpu_conv)


def swapped(cases: Iterator[Case], oracle: Oracle, rounding: str) -> int:
    """Integers that differ once the Programs round otherwise."""
    differing = 0
    for case in cases:
        arithmetic = replace(case.program.arithmetic, rounding=rounding)  # type: ignore[arg-type]  # a name of the tuple
        wrong = replace(case, program=rebuilt(case.program, arithmetic))
        differing += int((wrong.ours() != oracle(case)).sum())
    return differing


@pytest.mark.parametrize(
    ("profile", "rounding"),
    [("intaglio", "RND_INF"), ("shift-only", "RND_CONV"), ("dpu", "RND_INF"), ("tosa", "DOUBLE")],
)
def test_programs_told_scales_notice_another_rounding(profile: str, rounding: str) -> None:
    litert = pytest.importorskip("conformance_litert")
    assert swapped(once_cases(profile, 4, 1, I16), litert.reference_conv, rounding) > 0


def test_the_fully_connected_kernel_notices_halves_up() -> None:
    litert = pytest.importorskip("conformance_litert")
    assert swapped(once_cases("nvdla", 4, 1, I8), litert.fully_connected, "RND") > 0


@pytest.mark.parametrize(
    ("profile", "oracle", "rounding"),
    [("nvdla", nvdla_conv, "RND"), ("dpu", dpu_conv, "RND_INF"), ("dpu", dpu_conv, "RND_CONV")],
)
def test_these_cases_notice_another_rounding(profile: str, oracle: Oracle, rounding: str) -> None:
    assert swapped(conv_cases(profile, 4, 1), oracle, rounding) > 0


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
    large = SumPool2d(output="s", input="y", kernel=(16, 17))
    b.add(Input(output="y", shape=(1, 17, 17), type=IntType(8, True)))
    with pytest.raises(
        ProgramError, match=r"must be smaller in onnxruntime's form, not of 272 pixels\.$"
    ):
        onnxruntime_average(b, "q", large, (Real(1.0, 0), Real(1.0, 0)), IntType(8, True))
    with pytest.raises(ProgramError, match=r"^A factor must be above 0, not 0\.0\.$"):
        quantized_multiplier(0.0)
    assert quantized_multiplier(0.5) == (1 << 30, 31)
    assert quantized_multiplier(1 - 2.0**-40) == (1 << 30, 30)
    assert quantized_multiplier(2.0**-40) == (0, 31)
