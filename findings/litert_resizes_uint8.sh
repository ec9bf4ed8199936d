#!/bin/sh
# One would have guessed: a picture of uint8 codes and the same of int8, 128 less, are enlarged by RESIZE_BILINEAR
# to the same picture, as every other quantised operator of LiteRT has it, whose zero points take the 128 up.
#
# Seen with ai-edge-litert 2.3.0, reference kernels: int8 is summed by weights in 1024ths and rounded halves away
# from zero, uint8 in float32 and rounded halves up. On random pictures, half pixel centres: from 10 to 20 pixels
# 4.8 % of the pixels differ, by one, all of them exact halves below the zero of int8. From 10 to 30 half of them do,
# by up to 4 codes: a step of 1/3 pixel is 341/1024, and the error grows from the left to the right. A constant picture
# stays what it is in both.
# So a converter that turns uint8 into int8 by the zero point alone moves pixels here.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ai-edge-litert==2.3.0 flatbuffers==25.12.19 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType


def enlarged(picture, new):
    """By one RESIZE_BILINEAR of the picture's type."""
    signed = picture.dtype == np.int8
    model, graph = schema.ModelT(), schema.SubGraphT()
    code, operator, options = schema.OperatorCodeT(), schema.OperatorT(), schema.ResizeBilinearOptionsT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RESIZE_BILINEAR
    code.version, options.halfPixelCenters = 3, True
    size = schema.BufferT()
    size.data = np.frombuffer(np.array([new, new], np.int32).tobytes(), np.uint8)
    model.version, model.operatorCodes, model.buffers = 3, [code], [schema.BufferT(), size]
    kind = schema.TensorType.INT8 if signed else schema.TensorType.UINT8
    graph.tensors = []
    for n, (shape, type_) in enumerate((([1, *picture.shape, 1], kind), ([2], schema.TensorType.INT32),
                                        ([1, new, new, 1], kind))):
        tensor, q = schema.TensorT(), schema.QuantizationParametersT()
        tensor.shape, tensor.type, tensor.name, tensor.buffer = shape, type_, f"t{n}", int(n == 1)
        if n != 1:
            q.scale, q.zeroPoint = [0.5], [0 if signed else 128]
            tensor.quantization = q
        graph.tensors.append(tensor)
    operator.inputs, operator.outputs = [0, 1], [2]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.ResizeBilinearOptions, options
    graph.inputs, graph.outputs, graph.operators = [0], [2], [operator]
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    interpreter = Interpreter(model_content=bytes(builder.Output()),
                              experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture[None, :, :, None])
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0, :, :, 0].astype(int)


print("ai-edge-litert", version("ai-edge-litert"))
rng, found = np.random.default_rng(0), {}
for new in (20, 30):
    differ = halves = total = far = 0
    for _ in range(100):
        codes = rng.integers(-128, 128, (10, 10))
        less, more = enlarged(codes.astype(np.int8), new), enlarged((codes + 128).astype(np.uint8), new) - 128
        at = (np.arange(new) + 0.5) * 10 / new - 0.5
        first = np.floor(at).astype(int)
        w = np.zeros((new, 10))
        for i, (p, r) in enumerate(zip(at, first)):
            w[i, max(r, 0)] += r + 1 - p
            w[i, min(r + 1, 9)] += p - r
        exact = w @ codes @ w.T
        wrong = less != more
        far = max(far, int(np.abs(less - more).max()))
        differ, total = differ + int(wrong.sum()), total + wrong.size
        halves += int((wrong & (np.abs(exact - np.floor(exact) - 0.5) < 1e-9) & (exact < 0)).sum())
    found[new] = differ, halves, far
    print(f"10 to {new}: {differ} of {total} pixels differ, by up to {far}; {halves} are exact halves below zero")
flat = [np.full((10, 10), code, kind) for code, kind in ((-77, np.int8), (51, np.uint8))]
print("constants stay:", all((enlarged(p, 30) == p[0, 0]).all() for p in flat))
sys.exit(not (0 < found[20][0] == found[20][1] and found[20][2] == 1 and found[30][2] > 1))
PYTHON
