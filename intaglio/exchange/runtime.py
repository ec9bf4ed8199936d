"""Running an ONNX model in onnxruntime."""

from __future__ import annotations

import os
from typing import Any

import onnx
from numpy.typing import NDArray

# Importing it (1.32) writes an identifier of the machine and a data base of events into the home;
# its own function that turns this off comes too late. A value that is set already stays.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime  # after the line above

Array = NDArray[Any]


def run_onnx(model: onnx.ModelProto, images: Array, threads: int = 1) -> dict[str, Array]:
    """Outputs by name of images (N, C, H, W), cast to the type that the model's input has."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    kind = onnx.helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    results = session.run(None, {session.get_inputs()[0].name: images.astype(kind)})
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, results, strict=True))
