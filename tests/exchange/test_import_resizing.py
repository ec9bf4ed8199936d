"""Which pixel Resize reads: the same float32 as onnxruntime's, in every mode."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from intaglio.exchange.from_onnx.operators import RESIZED
from intaglio.exchange.from_onnx.resizing import pixels, target

MODES = RESIZED["coordinate_transformation_mode"].values
OTHERS = ("tf_half_pixel_for_nn", "half_pixel_symmetric")  # not in operator set 19; half_pixel
NEAREST = RESIZED["nearest_mode"].values


@cache
def session(mode: str, nearest: str, by: str) -> Any:
    """Resize of a row whose factors or sizes are an input."""
    kind = TensorProto.FLOAT if by == "scales" else TensorProto.INT64
    inputs = ["x", "", "by"] if by == "scales" else ["x", "", "", "by"]
    node = helper.make_node(
        "Resize", inputs, ["y"], coordinate_transformation_mode=mode, nearest_mode=nearest
    )
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 2, "w"]),
            helper.make_tensor_value_info("by", kind, [4]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["a", "b", "c", "d"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def theirs(mode: str, nearest: str, by: str, old: int, value: Any) -> Any:
    """What the runtime reads for a row of `old` pixels; its other side becomes 4, as else it may
    leave a map whose size does not change as it is."""
    x = np.broadcast_to(np.arange(old, dtype=np.float32), (1, 1, 2, old))
    whole = np.array([1, 1, 2 if by == "scales" else 4, value])
    given = whole.astype(np.float32 if by == "scales" else np.int64)
    (y,) = session(mode, nearest, by).run(None, {"x": x, "by": given})
    return y[0, 0, 0].astype(int)


@pytest.mark.parametrize("nearest", NEAREST)
@pytest.mark.parametrize("mode", [m for m in MODES if m not in OTHERS])
@settings(max_examples=60)
@example(9, 1.0, 42, True)  # 35 of 42 lies at 7.5000005: a half, for the runtime
@given(st.integers(1, 90), st.floats(0.25, 6, width=32), st.integers(1, 300), st.booleans())
def test_pixels_are_the_runtimes(
    mode: str, nearest: str, old: int, scale: float, new: int, sizes: bool
) -> None:
    if sizes:
        factor = np.float32(new) / np.float32(old)
        found = theirs(mode, nearest, "sizes", old, new)
    else:
        factor, new = np.float32(scale), target(old, scale)
        if new < 1:
            return
        found = theirs(mode, nearest, "scales", old, factor)
    np.testing.assert_array_equal(pixels(old, new, factor, mode, nearest), found)
