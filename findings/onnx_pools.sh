#!/bin/sh
# One would have guessed: for a valid pooling node, ONNX's shape inference, the onnx package's own
# ReferenceEvaluator and onnxruntime agree on the size of the result, and the "reference" is right.
#
# Seen with onnx 1.22.0 and onnxruntime 1.32.0, opset 21, a map of 8 x 7:
#  - MaxPool 3x3, pads (0, 2, 1, 2): inference and runtime say 7 x 9, the reference makes 8 x 8.
#  - AveragePool 1x3, dilations (2, 2), auto_pad VALID: they say 4 x 3, the reference 4 x 5.
#  - MaxPool 3x3, dilations (2, 2), auto_pad SAME_UPPER: inference and reference say 8 x 7, as the
#    standard's ceil(in / stride); the runtime pads for an undilated window, makes 6 x 5, and warns.
# So a converter tested against the reference alone is wrong where people run the model.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.22.0 onnxruntime==1.32.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

print("onnx", onnx.__version__, "onnxruntime", onnxruntime.__version__)
x = np.arange(56, dtype=np.float32).reshape(1, 1, 8, 7)
SEEN = {
    ("MaxPool", (("kernel_shape", (3, 3)), ("pads", (0, 2, 1, 2)))): ((7, 9), (8, 8), (7, 9)),
    ("AveragePool", (("kernel_shape", (1, 3)), ("strides", (2, 1)), ("dilations", (2, 2)),
                     ("auto_pad", "VALID"))): ((4, 3), (4, 5), (4, 3)),
    ("MaxPool", (("kernel_shape", (3, 3)), ("dilations", (2, 2)),
                 ("auto_pad", "SAME_UPPER"))): ((8, 7), (8, 7), (6, 5)),
}
other = False
for (kind, fields), seen in SEEN.items():
    node = helper.make_node(kind, ["x"], ["y"], **{k: v if isinstance(v, str) else list(v) for k, v in fields})
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", "h", "w"])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    inferred = onnx.shape_inference.infer_shapes(model).graph.output[0].type.tensor_type.shape.dim
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = (
        tuple(d.dim_value for d in inferred)[2:],
        ReferenceEvaluator(model).run(None, {"x": x})[0].shape[2:],
        session.run(None, {"x": x})[0].shape[2:],
    )
    print(kind, dict(fields), "inference, reference, runtime:", *found)
    other |= found != seen
sys.exit(other)
PYTHON
