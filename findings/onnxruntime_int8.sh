#!/bin/sh
# One would have guessed: whether activations are int8 or uint8 is a shift by 128 and no more, so that
# onnxruntime runs both on codes, or neither.
#
# Seen with onnxruntime 1.32.0 on x86, default session: a residual block of QDQ nodes, x -> Conv -> Add
# with x, becomes QLinearConv and QLinearAdd in uint8. In int8 both stay float32 Conv and Add, with Q and
# DQ around: int8 is made uint8 only between a QuantizeLinear and a single reader, and x has two. The codes
# differ between the two: where the uint8 file's scales are .02 + .02 -> .04, QLinearAdd rounds about a
# tenth of all codes otherwise than float32 does. One reader less (no skip), and int8 is run on codes too.
# So the same network is faster, and other by a code here and there, as uint8.
set -e
case $(uname -m) in x86_64|amd64) ;; *) echo "on x86 alone"; exit 0 ;; esac
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.22.0 onnxruntime==1.32.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

print("onnxruntime", onnxruntime.__version__)
folder = sys.argv[1]


def block(kind, skip):
    zero = kind(0 if kind is np.int8 else 128)
    constants = {
        "s": np.float32(0.02), "o": np.float32(0.04), "z": zero, "t": np.float32(1 / 64), "v": np.int8(0),
        "w": np.eye(4, dtype=np.int8)[::-1].reshape(4, 4, 1, 1) * np.int8(64)}
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
             helper.make_node("DequantizeLinear", ["q", "s", "z"], ["f"]),
             helper.make_node("DequantizeLinear", ["w", "t", "v"], ["g"]),
             helper.make_node("Conv", ["f", "g"], ["c"]),
             helper.make_node("QuantizeLinear", ["c", "s", "z"], ["k"]),
             helper.make_node("DequantizeLinear", ["k", "s", "z"], ["d" if skip else "y"])]
    if skip:
        nodes += [helper.make_node("Add", ["f", "d"], ["a"]),
                  helper.make_node("QuantizeLinear", ["a", "o", "z"], ["b"]),
                  helper.make_node("DequantizeLinear", ["b", "o", "z"], ["y"])]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 64, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 64, 64])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def run(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = f"{folder}/optimised.onnx"
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    codes = np.random.default_rng(0).integers(-127, 128, (1, 4, 64, 64))
    y = session.run(None, {"x": codes.astype(np.float32) * np.float32(0.02)})[0]
    kinds = {n.op_type for n in onnx.load(f"{folder}/optimised.onnx").graph.node}
    return y, sorted(kinds & {"Conv", "Add", "QLinearConv", "QLinearAdd"})


(unsigned, ours), (signed, theirs) = run(block(np.uint8, True)), run(block(np.int8, True))
alone = run(block(np.int8, False))[1]
differ = int((np.rint(unsigned / 0.04) != np.rint(signed / 0.04)).sum())
print("uint8:", *ours, "  int8:", *theirs, "  int8 without the skip:", *alone)
print("codes that differ between the two:", differ, "of", signed.size)
sys.exit(not (ours == ["QLinearAdd", "QLinearConv"] and theirs == ["Add", "Conv"]
              and alone == ["QLinearConv"] and differ > 1000))
PYTHON
