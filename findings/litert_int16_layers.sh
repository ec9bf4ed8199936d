#!/bin/sh
# One would have guessed: LiteRT's layers of int16 activations and int8 weights (16x8) requantise their
# 64-bit sums alike, so that a dense layer is a 1x1 convolution of the same weights once sums have 64 bits;
# and that a convolution may leave its bias out, as a dense layer may, and as it may with int8.
#
# Seen with ai-edge-litert 2.3.0, reference kernels, one scale a channel, bias int64:
#  - CONV_2D 1x1 and FULLY_CONNECTED with the same weights, bias and scales: 813 of 10,000 outputs
#    differ by one. The convolution cuts the multiplier of 31 bits to 15 (the fraction rounded) and rounds
#    halves up; the dense layer multiplies by all 31 bits. Both are computed here in whole numbers, and none
#    differs from that.
#  - CONV_2D without a bias is refused by the runtime where FULLY_CONNECTED runs.
# So a reader of 16x8 files needs a multiplier for each operator, not one for the file.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ai-edge-litert==2.3.0 flatbuffers==25.12.19 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
from math import floor, frexp

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

I8, I16, I64 = schema.TensorType.INT8, schema.TensorType.INT16, schema.TensorType.INT64


def run(name, options, kind, tensors, codes):
    """One operator: tensors are (shape, type, scales, data), the first fed, the last its result."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    code, operator = schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
    model.version, model.operatorCodes, model.buffers = 3, [code], [schema.BufferT()]
    graph.tensors = []
    for n, (shape, type_, scales, data) in enumerate(tensors):
        tensor, q = schema.TensorT(), schema.QuantizationParametersT()
        tensor.shape, tensor.type, tensor.name = list(shape), type_, f"t{n}"
        q.scale, q.zeroPoint = [float(s) for s in scales], [0] * len(scales)
        tensor.quantization = q
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            tensor.buffer = len(model.buffers)
            model.buffers.append(buffer)
        graph.tensors.append(tensor)
    last = len(tensors) - 1
    operator.inputs, operator.outputs = list(range(last)), [last]
    operator.builtinOptionsType, operator.builtinOptions = getattr(schema.BuiltinOptions, kind), options
    graph.inputs, graph.outputs, graph.operators = [0], [last], [operator]
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    interpreter = Interpreter(model_content=bytes(builder.Output()),
                              experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], codes)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).astype(int)


rng = np.random.default_rng(0)
rows, inputs, outputs = 400, 20, 25
codes = rng.integers(-32768, 32768, (rows, inputs)).astype(np.int16)
weight = rng.integers(-127, 128, (outputs, inputs)).astype(np.int8)
bias = rng.integers(-10**6, 10**6, outputs).astype(np.int64)
sx, sy = np.float32(0.0004), np.float32(0.0007)
sw = rng.uniform(0.001, 0.02, outputs).astype(np.float32)
ends = (I64, sx * sw, bias)
dense_options, conv_options = schema.FullyConnectedOptionsT(), schema.Conv2DOptionsT()
conv_options.strideH = conv_options.strideW = 1
conv_options.dilationHFactor = conv_options.dilationWFactor = 1


def dense(*more):
    return run("FULLY_CONNECTED", dense_options, "FullyConnectedOptions",
               [(codes.shape, I16, [sx], None), (weight.shape, I8, sw, weight), *more,
                ((rows, outputs), I16, [sy], None)], codes)


def conv(*more):
    pixels, kernel = codes.reshape(1, rows, 1, inputs), weight.reshape(outputs, 1, 1, inputs)
    return run("CONV_2D", conv_options, "Conv2DOptions",
               [(pixels.shape, I16, [sx], None), (kernel.shape, I8, sw, kernel), *more,
                ((1, rows, 1, outputs), I16, [sy], None)], pixels).reshape(rows, outputs)


def whole(cut):
    """The same in whole numbers."""
    sums = codes.astype(object) @ weight.T.astype(object) + bias.astype(object)
    made = np.empty(sums.shape, int)
    for c in range(outputs):
        mantissa, exponent = frexp(float(sx) * float(sw[c]) / float(sy))
        m, shift = floor(mantissa * 2**31 + 0.5), 31 - exponent
        if cut:
            m, shift = (m + (1 << 15)) >> 16, shift - 16
        for r in range(rows):
            made[r, c] = max(-32768, min(32767, (sums[r, c] * m + (1 << (shift - 1))) >> shift))
    return made


a, b = dense((bias.shape, *ends)), conv((bias.shape, *ends))
wrong = [int(np.count_nonzero(x != whole(cut))) for x, cut in ((a, False), (b, True))]
apart = np.abs(a - b)
dense()
try:
    conv()
    words = ""
except RuntimeError as error:
    words = str(error).split("\n")[0]
print("ai-edge-litert", version("ai-edge-litert"))
print(f"dense and 1x1 convolution: {np.count_nonzero(apart)} of {apart.size} differ, by {apart.max()}")
print(f"beside whole numbers: dense {wrong[0]}, convolution {wrong[1]} of {a.size} differ")
print(f"a convolution without bias: {words or 'runs'}")
sys.exit(not (apart.any() and wrong == [0, 0] and "bias" in words))
PYTHON
