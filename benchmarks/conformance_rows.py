"""Which cases are put to which program: the rows of `make conformance`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import conformance_litert as litert
import conformance_onnx as onnxrun
import conformance_second as second
import numpy as np
from conformance_cases import Array, Case, add_cases, conv_cases, pool_cases


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


Plan = list[tuple[Row, Iterator[Case], Callable[[Case], Array]]]


def plan(many: Callable[[int], int], seed: int) -> Plan:
    """Every comparison; `many` scales the full number of cases. Cases are made when asked for."""
    x86 = "scale, bias before the multiply, clamp, ties to even"
    return [
        (Row("onnxruntime", "conv2d", "onnxruntime QLinearConv", note=x86),
         conv_cases("onnxruntime", many(120), seed), onnxrun.conv),
        (Row("onnxruntime", "add", "onnxruntime QLinearAdd", note="x86 with AVX2 and FMA"),
         add_cases("onnxruntime", many(500), seed), onnxrun.add),
        (Row("tflite", "conv2d", "LiteRT BUILTIN_REF", note="two roundings"),
         conv_cases("tflite", many(60), seed), litert.reference_conv),
        (Row("tflite", "add", "LiteRT BUILTIN_REF", note="gemmlowp form of intaglio.forms"),
         add_cases("tflite", many(150), seed), litert.reference_add),
        (Row("tflite", "average pool", "LiteRT BUILTIN_REF", note="windows within the image"),
         pool_cases("tflite", many(60), seed), litert.reference_pool),
        (Row("onnxruntime", "conv2d", "LiteRT XNNPACK", note="XNNPACK's float32 requantisation"),
         conv_cases("xnnpack", many(60), seed), litert.fast_conv),
        (Row("tosa", "add", "LiteRT XNNPACK", note="21-bit form of intaglio.forms"),
         add_cases("xnnpack", many(300), seed), litert.fast_add),
        (Row("nvdla", "conv2d", "formulas in a second implementation"),
         conv_cases("nvdla", many(60), seed), second.nvdla_conv),
        (Row("nvdla", "average pool", "formulas in a second implementation", note="two stages"),
         pool_cases("nvdla", many(20), seed), second.nvdla_pool),
        (Row("dpu", "conv2d", "formulas in a second implementation"),
         conv_cases("dpu", many(60), seed), second.dpu_conv),
    ]  # fmt: skip
