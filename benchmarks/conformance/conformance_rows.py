"""Which cases are put to which program: the rows of `make conformance`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import conformance_litert as litert
import conformance_onnx as onnxrun
import conformance_second as second
import conformance_tosa as tosa
import numpy as np
from conformance_cases import I8, Array, Case, add_cases, conv_cases, pool_cases
from conformance_maps import (
    leaky_cases,
    max_cases,
    mean_cases,
    requantize_cases,
    resize_cases,
    sigmoid_cases,
)
from conformance_networks import integer_onnx, network_cases
from conformance_nodes import LINEAR, MOVES, QUANTIZE, SUMS, expected, node_cases
from conformance_once import once_adds, once_cases
from conformance_tosa_cases import (
    average_cases,
    detector_cases,
    enlarge_cases,
    rescale_cases,
    table_cases,
)

from intaglio.fixed import PRESETS, IntType


@dataclass
class Row:
    """One line of the table."""

    profile: str
    op: str
    oracle: str
    compared: int = 0
    mismatches: int = 0
    note: str = ""

    def add(self, ours: Array, theirs: Array) -> None:
        """Compare two arrays of one shape."""
        if ours.shape != theirs.shape:
            raise ValueError(f"{self}: shapes {ours.shape} and {theirs.shape} differ")
        self.compared += ours.size
        self.mismatches += int((ours.astype(np.int64) != theirs.astype(np.int64)).sum())


Judge = Callable[[Case], Array]
Plan = list[tuple[Row, Iterator[Case], Judge]]
Many = Callable[[int], int]
I16 = IntType(16, True)
SECOND = "formulas in a second implementation"


def plan(many: Many, seed: int) -> Plan:
    """Every comparison; `many` scales the full number of cases. Cases are made when asked for."""
    return [
        *onnxruntime_rows(many, seed),
        *litert_rows(many, seed),
        *cortex_rows(many, seed),
        *second_rows(many, seed),
        *tosa_rows(many, seed),
        *network_rows(many, seed),
        *node_rows(),
    ]


def onnxruntime_rows(many: Many, seed: int) -> Plan:
    """Quantised operators of onnxruntime."""
    x86 = "scale, bias before the multiply, clamp, ties to even"
    form = "form of intaglio.forms; each mismatch where its float32 sum is at a half (explained)"
    return [
        (Row("onnxruntime", "conv2d", "onnxruntime QLinearConv", note=x86),
         conv_cases("onnxruntime", many(120), seed), onnxrun.conv),
        (Row("onnxruntime", "depthwise", "onnxruntime QLinearConv", note="a group a channel"),
         conv_cases("onnxruntime", many(60), seed, depthwise=True), onnxrun.conv),
        (Row("onnxruntime", "add", "onnxruntime QLinearAdd", note="x86 with AVX2 and FMA"),
         add_cases("onnxruntime", many(500), seed), onnxrun.add),
        (Row("onnxruntime", "average pool", "onnxruntime QLinearAveragePool", note=form),
         mean_cases(many(100), seed, whole=False), explained_average),
        (Row("onnxruntime", "average of a map", "onnxruntime QLinearGlobalAveragePool"),
         mean_cases(many(1000), seed, whole=True), onnxrun.global_average),
        (Row("onnxruntime", "max pool", "onnxruntime MaxPool", note="int8"),
         max_cases("onnxruntime", many(40), seed), onnxrun.max_pool),
        (Row("onnxruntime", "resize nearest", "onnxruntime Resize", note=DIVIDES),
         resize_cases("onnxruntime", many(120), seed), onnxrun.resize),
        (Row("onnxruntime", "requantise", "onnxruntime DequantizeLinear, QuantizeLinear",
             note="every code"),
         requantize_cases("onnxruntime", many(2000), seed), onnxrun.requantize),
    ]  # fmt: skip


DIVIDES = "sizes whose quotient float32 rounds to another pixel left out"


def explained_average(case: Case) -> Array:
    """QLinearAveragePool, and that a second implementation in its order gives the same."""
    theirs = onnxrun.average(case)
    if not np.array_equal(second.onnxruntime_average(case), theirs):
        raise ValueError("onnxruntime's average must be the one of conformance_second.py.")
    return theirs


def explained_logistic(case: Case) -> Array:
    """LOGISTIC, and that its float32 table written a second time gives the same."""
    theirs = litert.reference_logistic(case)
    if not np.array_equal(second.litert_logistic(case), theirs):
        raise ValueError("LiteRT's LOGISTIC must be the one of conformance_second.py.")
    return theirs


def litert_rows(many: Many, seed: int) -> Plan:
    """LiteRT's reference kernels and XNNPACK."""
    ref, fast = "LiteRT BUILTIN_REF", "LiteRT XNNPACK"
    once = "16-bit activations: one rounding, halves up; told M / 2^S as a float32"
    ratio = "told M / 2^S as float32 scales"
    near = "our table from float64; each mismatch where its float32 is at a half (explained)"
    return [
        (Row("tflite", "conv2d", ref, note="two roundings"),
         conv_cases("tflite", many(60), seed), litert.reference_conv),
        (Row("tflite", "depthwise", ref, note="two roundings"),
         conv_cases("tflite", many(60), seed, depthwise=True), litert.reference_conv),
        (Row("tflite", "add", ref, note="gemmlowp form of intaglio.forms"),
         add_cases("tflite", many(150), seed), litert.reference_add),
        (Row("tflite", "average pool", ref, note="windows within the image"),
         pool_cases("tflite", many(60), seed), litert.reference_pool),
        (Row("tflite", "max pool", ref), max_cases("tflite", many(40), seed), litert.reference_max),
        (Row("tflite", "resize nearest", ref, note=DIVIDES),
         resize_cases("tflite", many(120), seed), litert.reference_resize),
        (Row("tflite", "requantise", ref, note="every code; two roundings"),
         requantize_cases("tflite", many(2000), seed), litert.reference_quantize),
        (Row("tflite", "table", f"{ref} LEAKY_RELU", note="every code; two roundings"),
         leaky_cases(many(1000), seed), litert.reference_leaky),
        (Row("tflite", "table", f"{ref} LOGISTIC", note=near),
         sigmoid_cases(many(1000), seed), explained_logistic),
        (Row("intaglio", "conv2d", ref, note=once),
         once_cases("intaglio", many(40), seed, I16), litert.reference_conv),
        (Row("shift-only", "conv2d", ref, note=once),
         once_cases("shift-only", many(40), seed, I16), litert.reference_conv),
        (Row("tosa", "conv2d", ref, note=f"{once}; multipliers of 15 bits in 31"),
         once_cases("tosa", many(40), seed, I16), litert.reference_conv),
        (Row("dpu", "conv2d", ref, note=once),
         once_cases("dpu", many(40), seed, I16), litert.reference_conv),
        (Row("nvdla", "conv2d", f"{ref} FULLY_CONNECTED", note="one rounding, halves away from 0"),
         once_cases("nvdla", many(40), seed, I8), litert.fully_connected),
        (Row("onnxruntime", "conv2d", fast, note="XNNPACK's float32 requantisation"),
         conv_cases("xnnpack", many(60), seed), litert.fast_conv),
        (Row("onnxruntime", "depthwise", fast, note="XNNPACK's float32 requantisation"),
         conv_cases("xnnpack", many(60), seed, depthwise=True), litert.fast_conv),
        (Row("tosa", "add", fast, note="21-bit form of intaglio.forms"),
         add_cases("xnnpack", many(300), seed), litert.fast_add),
        (Row("intaglio", "add", fast, note=ratio),
         once_adds("intaglio", many(100), seed), litert.fast_add),
        (Row("shift-only", "add", fast, note=ratio),
         once_adds("shift-only", many(100), seed), litert.fast_add),
        (Row("dpu", "add", fast, note=ratio),
         once_adds("dpu", many(100), seed), litert.fast_add),
        (Row("tflite", "average pool", fast, note="windows within the image"),
         pool_cases("tflite", many(40), seed), litert.fast_pool),
        (Row("tflite", "max pool", fast), max_cases("tflite", many(40), seed), litert.fast_max),
    ]  # fmt: skip


def cortex_rows(many: Many, seed: int) -> Plan:
    """What ExecuTorch says, in torch, that CMSIS-NN computes."""
    from importlib import import_module

    def judge(name: str) -> Judge:
        def result(case: Case) -> Array:
            found: Array = getattr(import_module("conformance_cortex"), name)(case)
            return found

        return result

    name, arm = "ExecuTorch cortex_m", "Arm's operators in torch, of CMSIS-NN's default build"
    return [
        (Row("cmsis-nn", "conv2d", name, note=arm),
         conv_cases("cmsis-nn", many(60), seed), judge("conv")),
        (Row("cmsis-nn", "depthwise", name, note=arm),
         conv_cases("cmsis-nn", many(60), seed, depthwise=True), judge("conv")),
        (Row("cmsis-nn", "add", name, note="gemmlowp form of intaglio.forms"),
         add_cases("cmsis-nn", many(60), seed), judge("add")),
        (Row("cmsis-nn", "max pool", name),
         max_cases("cmsis-nn", many(40), seed), judge("max_pool")),
        (Row("cmsis-nn", "average pool", "LiteRT BUILTIN_REF",
             note="the same published formula; ExecuTorch's own is in float"),
         pool_cases("cmsis-nn", many(20), seed), litert.reference_pool),
    ]  # fmt: skip


def second_rows(many: Many, seed: int) -> Plan:
    """Published formulas, written a second time."""
    return [
        (Row("nvdla", "conv2d", SECOND, note="output converter, its 17 bits included"),
         conv_cases("nvdla", many(60), seed), second.nvdla_conv),
        (Row("nvdla", "depthwise", SECOND),
         conv_cases("nvdla", many(60), seed, depthwise=True), second.nvdla_conv),
        (Row("nvdla", "average pool", SECOND, note="two stages"),
         pool_cases("nvdla", many(20), seed), second.nvdla_pool),
        (Row("dpu", "conv2d", SECOND), conv_cases("dpu", many(60), seed), second.dpu_conv),
        (Row("dpu", "depthwise", SECOND),
         conv_cases("dpu", many(60), seed, depthwise=True), second.dpu_conv),
    ]  # fmt: skip


def tosa_rows(many: Many, seed: int) -> Plan:
    """TOSA's reference model, in an environment of its own."""
    name = "TOSA reference model"
    double, once = "RESCALE in two steps", "RESCALE in one step"
    both = {"tosa": once, "intaglio": once, "shift-only": once, "dpu": once}
    two = {"tflite": double, "cmsis-nn": double}
    return [
        *((Row(p, "rescale", name, note=f"per layer and channel; {how}"),
           rescale_cases(p, many(12), seed), tosa.requantise) for p, how in (both | two).items()),
        *((Row(p, "conv2d", name, note=how), conv_cases(p, many(24), seed), tosa.conv)
          for p, how in (("tosa", once), *two.items(), ("dpu", once))),
        *((Row(p, "conv2d", name, note=how), once_cases(p, many(16), seed, I8), tosa.conv)
          for p, how in (("intaglio", once), ("shift-only", once))),
        *((Row(p, "depthwise", name, note=how),
           conv_cases(p, many(24), seed, depthwise=True), tosa.conv)
          for p, how in (("tosa", once), *two.items(), ("dpu", once))),
        (Row("tosa", "add", name, note="21-bit form of intaglio.forms, told its multipliers"),
         add_cases("xnnpack", many(30), seed), tosa.add),
        *((Row(p, "add", name, note="told its multipliers"),
           once_adds(p, many(20), seed), tosa.add) for p in ("intaglio", "shift-only", "dpu")),
        *((Row(p, "add", name, note="gemmlowp form as TFLite's compiler writes it"),
           add_cases(p, many(30), seed), tosa.gemmlowp_add) for p in two),
        (Row("tosa", "average pool", name, note="TOSA form of intaglio.forms"),
         average_cases(many(20), seed), tosa.average),
        (Row("tflite", "average pool", name, note="raw codes, as TFLite's"),
         pool_cases("tflite", many(20), seed), tosa.raw_average),
        (Row("tosa", "max pool", name), max_cases("tosa", many(16), seed), tosa.max_pool),
        (Row("tosa", "table", name, note="every code"),
         table_cases(many(400), seed), tosa.table),
        (Row("tosa", "resize nearest", name, note="any size"),
         enlarge_cases(many(60), seed), tosa.resize),
        *((Row(p, "whole networks", name, note="bundled detectors, quantised and exported"),
           detector_cases(p, many(4), seed), tosa.network) for p in ("tosa", *two)),
    ]  # fmt: skip


def network_rows(many: Many, seed: int) -> Plan:
    """Whole networks, exported."""
    note = "the file is `intaglio export`'s, its arithmetic the runtime's"
    return [
        (Row(profile, "whole networks", "onnxruntime, integer operators", note=note),
         network_cases(profile, many(20), seed), integer_onnx)
        for profile, a in PRESETS.items() if a.product == "exact"
    ]  # fmt: skip


def node_rows() -> Plan:
    """Cases that come with the onnx package; few, and always all."""
    oracle = "onnx node cases"
    return [
        (Row("onnxruntime", "integers", oracle, note="qlinearconv, qlinearmatmul, clip; imported"),
         node_cases(LINEAR, "onnxruntime"), expected),
        (Row("intaglio", "integers", oracle, note="convinteger, matmulinteger; imported"),
         node_cases(SUMS, "intaglio"), expected),
        (Row("onnxruntime", "requantise", oracle, note="quantizelinear; imported"),
         node_cases(QUANTIZE, "onnxruntime"), expected),
        (Row("intaglio", "moves", oracle,
             note="maxpool, resize, upsample, pad; imported, floats as their ranks"),
         node_cases(MOVES, "intaglio"), expected),
    ]  # fmt: skip
