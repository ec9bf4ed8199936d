"""Cases of one node that come with the `onnx` package, imported and run.

What a case feeds besides its first operand becomes constant. Where values only move (pools of the
largest, resizing, borders), floats become their ranks: an order-keeping map commutes with the node.
Vectors become maps of one row; rows of a matrix become images of one pixel. Cases that no Program
can express are refused by the importer and left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from conformance_cases import Array, Case
from onnx import helper, numpy_helper
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests

from intaglio.errors import ModelError
from intaglio.exchange.importer import import_onnx
from intaglio.fixed import preset
from intaglio.forms import Real

LINEAR = r"test_(qlinearconv|qlinearmatmul_2D_\w+|clip_default_int8_(min|max|inbounds))"
SUMS = r"test_(convinteger_\w+|matmulinteger)"
MOVES = r"test_(maxpool_2d_\w+|resize_\w+_nearest\w*|upsample_nearest|constant_pad)"
QUANTIZE = r"test_quantizelinear"


def loaded(case: TestCase) -> tuple[onnx.ModelProto, list[Array], Array]:
    """The model, its operands, its result: of releases with files, and of those that make them."""
    if case.data_sets:
        inputs, outputs = case.data_sets[0]
        return case.model, [np.asarray(v) for v in inputs], np.asarray(outputs[0])
    folder = Path(case.model_dir)
    values = {
        side: [
            numpy_helper.to_array(onnx.load_tensor(folder / f"test_data_set_0/{side}_{n}.pb"))
            for n in range(len(list(folder.glob(f"test_data_set_0/{side}_*.pb"))))
        ]
        for side in ("input", "output")
    }
    return onnx.load(folder / "model.onnx"), values["input"], values["output"][0]


def ranks(*arrays: Array) -> list[Array]:
    """Every value as its place among all values."""
    known = np.unique(np.concatenate([a.reshape(-1) for a in arrays]))
    return [np.searchsorted(known, a).astype(np.uint16) for a in arrays]


def node_cases(pattern: str, profile: str) -> Iterator[Case]:
    """The cases whose names match, in the order of their names."""
    for case in sorted(load_model_tests(kind="node"), key=lambda c: c.name):
        if not re.fullmatch(pattern, case.name):
            continue
        model, operands, expected = loaded(case)
        node = model.graph.node[0]
        names = [n for n in node.input if n]
        before, first = [], names[0]
        if pattern is MOVES and expected.dtype == np.float32:
            moved = [n for n, v in enumerate(operands) if n == 0 or names[n] == "value"]
            *values, expected = ranks(*(operands[n] for n in moved), expected)
            for n, v in zip(moved, values, strict=True):
                operands[n] = v
        if pattern is QUANTIZE:  # tenths, made floats by a DequantizeLinear before the node
            codes = np.rint(operands[0] * 10)
            if np.abs(codes).max() >= 1 << 15 or operands[1].size > 1:
                continue
            operands[0] = codes.astype(np.int16)
            before = [helper.make_node("DequantizeLinear", ["codes", "tenth"], [first])]
            first = "codes"
        x = operands[0]
        if x.ndim == 2:  # rows of a matrix
            before = [helper.make_node("Flatten", ["image"], [first])]
            first, x = "image", x[:, :, None, None]
            expected = expected[:, :, None, None]
        while x.ndim < 4:
            x, expected = x[None], expected[None]
        kind = helper.np_dtype_to_tensor_dtype(x.dtype)
        constants = dict(zip(names[1:], operands[1:], strict=True)) | {"tenth": np.float32(0.1)}
        graph = helper.make_graph(
            [*before, node], case.name,
            [helper.make_tensor_value_info(first, kind, [None, *x.shape[1:]])],
            [helper.make_empty_tensor_value_info(node.output[0])],
            [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
        )  # fmt: skip
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"{case.name}.onnx"
            onnx.save(helper.make_model(graph, opset_imports=model.opset_import), path)
            try:
                program = import_onnx(path, preset(profile))
            except ModelError as error:
                print(f"  {case.name} is refused: {error}")
                continue
        yield Case(program, x, (Real(1.0, 0),), expected=expected)


def expected(case: Case) -> Array:
    """What the package says."""
    assert case.expected is not None
    return case.expected
