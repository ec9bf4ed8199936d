#!/bin/sh
# One would have guessed: LiteRT's reference kernels (BUILTIN_REF) share one requantisation, so that a
# dense layer is a 1x1 convolution of the same weights, and MEAN over height and width is the average
# pool of the whole map.
#
# Seen with ai-edge-litert 2.3.0, int8, one scale and zero point on both sides:
#  - CONV_2D 1x1 and FULLY_CONNECTED with the same weights, bias and scales: 142 of 100,000 outputs
#    differ by one. The convolution rounds twice, the dense layer once, halves away from zero.
#  - MEAN and AVERAGE_POOL_2D of the same 5 x 5 maps: 157 of 2,000 differ by one. The pool divides the
#    sum of codes, halves away from zero; the mean scales the sum less its zero points by a multiplier
#    that was divided by 25 and cut off, and rounds that twice.
# So a reader of .tflite files needs a rounding for each operator, not one for the file.
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

I8, I32 = schema.TensorType.INT8, schema.TensorType.INT32


def run(name, options, kind, tensors, image):
    """One operator: tensors are (shape, type, scale, zero, data), the first fed, the last its result."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    code, operator = schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = 1
    model.version, model.operatorCodes, model.buffers = 3, [code], [schema.BufferT()]
    graph.tensors = []
    for n, (shape, type_, scale, zero, data) in enumerate(tensors):
        tensor, q = schema.TensorT(), schema.QuantizationParametersT()
        tensor.shape, tensor.type, tensor.name = list(shape), type_, f"t{n}"
        q.scale, q.zeroPoint = ([scale], [zero]) if scale else ([], [])
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
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).astype(int)


rng = np.random.default_rng(0)
rows, inputs, outputs = 1000, 64, 100
codes = rng.integers(-128, 128, (rows, inputs)).astype(np.int8)
weight = rng.integers(-127, 128, (outputs, inputs)).astype(np.int8)
bias = rng.integers(-5000, 5000, outputs).astype(np.int32)
sx, sw, sy = 0.05, 0.01, 0.4
common = [(bias.shape, I32, sx * sw, 0, bias)]
dense = run("FULLY_CONNECTED", schema.FullyConnectedOptionsT(), "FullyConnectedOptions",
            [(codes.shape, I8, sx, 3, None), (weight.shape, I8, sw, 0, weight), *common,
             ((rows, outputs), I8, sy, -5, None)], codes)
options = schema.Conv2DOptionsT()
options.strideH = options.strideW = options.dilationHFactor = options.dilationWFactor = 1
pixels, kernel = codes.reshape(1, rows, 1, inputs), weight.reshape(outputs, 1, 1, inputs)
conv = run("CONV_2D", options, "Conv2DOptions",
           [(pixels.shape, I8, sx, 3, None), (kernel.shape, I8, sw, 0, kernel), *common,
            ((1, rows, 1, outputs), I8, sy, -5, None)], pixels).reshape(dense.shape)
maps = rng.integers(-128, 128, (1, 5, 5, 2000)).astype(np.int8)
ends = ((1, 5, 5, 2000), I8, 0.1, -100, None), ((1, 1, 1, 2000), I8, 0.1, -100, None)
pool = schema.Pool2DOptionsT()
pool.filterHeight = pool.filterWidth = pool.strideH = pool.strideW = 5
pool.padding = schema.Padding.VALID
average = run("AVERAGE_POOL_2D", pool, "Pool2DOptions", list(ends), maps)
reduce = schema.ReducerOptionsT()
reduce.keepDims = True
mean = run("MEAN", reduce, "ReducerOptions",
           [ends[0], ((2,), I32, 0, 0, np.array([1, 2], np.int32)), ends[1]], maps)

print("ai-edge-litert", version("ai-edge-litert"))
layers, pools = np.abs(dense - conv), np.abs(average - mean)
print(f"dense and 1x1 convolution: {np.count_nonzero(layers)} of {layers.size} differ, by {layers.max()}")
print(f"mean and average pool: {np.count_nonzero(pools)} of {pools.size} differ, by {pools.max()}")
sys.exit(not (layers.any() and pools.any() and layers.max() == pools.max() == 1))
PYTHON
