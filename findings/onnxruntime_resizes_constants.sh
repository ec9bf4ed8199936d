#!/bin/sh
# One would have guessed: a bilinear Resize of an image whose pixels are all equal is that image, of uint8 codes as of
# floats, since the weights of a pixel sum to one.
#
# Seen with onnxruntime 1.32.0 on x86: codes are resized in float32 and the fraction is cut off, not rounded. Where
# weights are no parts of a pixel by powers of two their float32 sum may fall short of one, and the code is one less:
# from 20 to 80 pixels with aligned corners every constant from 1 to 255 changes, in 2 to 14 of 100 pixels; from 8
# to 24 with half pixels 221 of 255. At twice the size (8 to 16, half pixels) none does. int8 is cut toward zero.
# So a resize of codes should be by powers of two, or of floats that are quantised behind it, which are rounded.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.22.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


def session(kind, old, new, mode):
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="linear",
                            coordinate_transformation_mode=mode)
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", kind, [1, 1, old, old])],
        [helper.make_tensor_value_info("y", kind, [1, 1, new, new])],
        [numpy_helper.from_array(np.array([1, 1, new, new], np.int64), "sizes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


print("onnxruntime", onnxruntime.__version__)
changed = {}
for old, new, mode in ((8, 16, "half_pixel"), (8, 24, "half_pixel"), (20, 80, "align_corners")):
    run, codes, shares = session(TensorProto.UINT8, old, new, mode), [], []
    for code in range(1, 256):
        made = run.run(None, {"x": np.full((1, 1, old, old), code, np.uint8)})[0].astype(int)
        if (made != code).any():
            codes.append(code)
            shares.append((made != code).mean())
            assert set(np.unique(made)) == {code - 1, code}
    changed[new] = len(codes)
    share = f", in {100 * min(shares):.1f} to {100 * max(shares):.1f} % of the pixels" if shares else ""
    print(f"{old} to {new}, {mode}: {len(codes)} of 255 constants change, all by -1{share}")
run = session(TensorProto.INT8, 2, 4, "half_pixel")
pair = np.array([[[[-3, 0], [-3, 0]]]], np.int8)
print("int8 between -3 and 0:", run.run(None, {"x": pair})[0][0, 0, 0].tolist())
sys.exit(not (changed == {16: 0, 24: 221, 80: 255}))
PYTHON
