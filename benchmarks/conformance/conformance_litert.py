"""One operation in LiteRT: its reference kernels, and XNNPACK, on models built here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from conformance_cases import LEAK, Array, Case

from intaglio.forms import Real


@dataclass
class Edge:
    """A tensor of the model; `data` for constants; `scales` one for each entry of `axis`."""

    shape: tuple[int, ...]
    type: int
    scales: list[float]
    zero: int
    data: Array | None = None
    axis: int = 0


def model(code: int, options: Any, kind: int, edges: list[Edge], inputs: int) -> bytes:
    """A .tflite file of one operator: its operands, then its result; the first `inputs` are fed."""
    m = schema.ModelT()
    m.version = 3
    operator_code = schema.OperatorCodeT()
    operator_code.builtinCode = code
    operator_code.deprecatedBuiltinCode = min(code, 127)
    m.operatorCodes = [operator_code]
    m.buffers = [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.tensors = []
    for n, edge in enumerate(edges):
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.name = list(edge.shape), edge.type, f"t{n}"
        q = schema.QuantizationParametersT()
        q.scale, q.zeroPoint = edge.scales, [edge.zero] * len(edge.scales)
        q.quantizedDimension = edge.axis
        tensor.quantization = q
        if edge.data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(edge.data).tobytes(), np.uint8)
            m.buffers.append(buffer)
            tensor.buffer = len(m.buffers) - 1
        graph.tensors.append(tensor)
    last = len(edges) - 1
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = list(range(last)), [last]
    operator.builtinOptionsType, operator.builtinOptions = kind, options
    graph.inputs, graph.outputs, graph.operators = list(range(inputs)), [last], [operator]
    m.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(m.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def run(content: bytes, inputs: list[Array], resolver: OpResolverType) -> Array:
    """The result as the operator makes it."""
    interpreter = Interpreter(
        model_content=content, experimental_op_resolver_type=resolver, num_threads=1
    )
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    result: Array = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return result


def nhwc(images: Array) -> Array:
    """(N, C, H, W) to (N, H, W, C)."""
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


TYPES = {
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.int16): schema.TensorType.INT16,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int64): schema.TensorType.INT64,
}


def codes(shape: tuple[int, ...], real: Real, type: int = schema.TensorType.INT8) -> Edge:
    """A map of codes."""
    return Edge(shape, type, [real.scale], real.zero)


def nchw(result: Array) -> Array:
    """(N, H, W, C) to (N, C, H, W)."""
    return result.transpose(0, 3, 1, 2)


def conv(case: Case, resolver: OpResolverType) -> Array:
    """CONV_2D or DEPTHWISE_CONV_2D; padding as SAME has it."""
    assert case.weight is not None
    assert case.bias is not None
    assert case.scales is not None
    x, y = case.reals
    images, scales = nhwc(case.images), [float(s) for s in case.scales]
    weight = np.ascontiguousarray(case.weight.transpose(0, 2, 3, 1))
    products = [float(np.float32(x.scale * s)) for s in scales]
    deep = case.groups > 1
    options = schema.DepthwiseConv2DOptionsT() if deep else schema.Conv2DOptionsT()
    options.padding = schema.Padding.SAME if any(case.padding) else schema.Padding.VALID
    options.strideH, options.strideW = case.stride
    options.dilationHFactor = options.dilationWFactor = 1
    if deep:
        options.depthMultiplier = len(weight) // images.shape[3]
        weight = np.ascontiguousarray(weight.transpose(3, 1, 2, 0))
    type = TYPES[images.dtype]
    edges = [
        codes(images.shape, x, type),
        Edge(weight.shape, schema.TensorType.INT8, scales, 0, weight, 3 if deep else 0),
        Edge(case.bias.shape, TYPES[case.bias.dtype], products, 0, case.bias),
        codes((1, *case.size, len(scales)), y, type),
    ]
    name = "DepthwiseConv2DOptions" if deep else "Conv2DOptions"
    code = "DEPTHWISE_CONV_2D" if deep else "CONV_2D"
    content = model(
        getattr(schema.BuiltinOperator, code), options, getattr(schema.BuiltinOptions, name),
        edges, 1,
    )  # fmt: skip
    return nchw(run(content, [images], resolver))


def fully_connected(case: Case) -> Array:
    """Reference kernels: every pixel of a 1x1 convolution a row of FULLY_CONNECTED."""
    assert case.weight is not None
    assert case.bias is not None
    assert case.scales is not None
    x, y = case.reals
    _, channels, h, w = case.images.shape
    rows = nhwc(case.images).reshape(-1, channels)
    scales = [float(s) for s in case.scales]
    products = [float(np.float32(x.scale * s)) for s in scales]
    weight, bias = np.ascontiguousarray(case.weight[:, :, 0, 0]), case.bias.astype(np.int32)
    edges = [
        codes(rows.shape, x),
        Edge(weight.shape, schema.TensorType.INT8, scales, 0, weight),
        Edge(bias.shape, schema.TensorType.INT32, products, 0, bias),
        codes((len(rows), len(scales)), y),
    ]
    content = model(
        schema.BuiltinOperator.FULLY_CONNECTED, schema.FullyConnectedOptionsT(),
        schema.BuiltinOptions.FullyConnectedOptions, edges, 1,
    )  # fmt: skip
    return nchw(run(content, [rows], OpResolverType.BUILTIN_REF).reshape(1, h, w, -1))


def add(case: Case, resolver: OpResolverType) -> Array:
    """ADD of the two channels."""
    pair = [nhwc(case.images[:, i : i + 1]) for i in (0, 1)]
    edges = [codes(pair[0].shape, real) for real in case.reals]
    options = schema.AddOptionsT()
    content = model(schema.BuiltinOperator.ADD, options, schema.BuiltinOptions.AddOptions, edges, 2)
    return nchw(run(content, pair, resolver))


def pool(case: Case, code: int, resolver: OpResolverType) -> Array:
    """AVERAGE_POOL_2D or MAX_POOL_2D; padding as SAME has it."""
    images = nhwc(case.images)
    options = schema.Pool2DOptionsT()
    options.padding = schema.Padding.SAME if any(case.padding) else schema.Padding.VALID
    options.filterHeight, options.filterWidth = case.kernel
    options.strideH, options.strideW = case.stride
    edges = [
        codes(images.shape, case.reals[0]),
        codes((1, *case.size, images.shape[3]), case.reals[1]),
    ]
    content = model(code, options, schema.BuiltinOptions.Pool2DOptions, edges, 1)
    return nchw(run(content, [images], resolver))


def map_of(case: Case, code: int, options: Any, kind: int, resolver: OpResolverType) -> Array:
    """An operator that makes a map of one map, with a constant of (H, W) where it resizes."""
    images, sized = nhwc(case.images), case.program.outputs[0].shape
    edges = [codes(images.shape, case.reals[0])]
    if code == schema.BuiltinOperator.RESIZE_NEAREST_NEIGHBOR:
        edges.append(Edge((2,), schema.TensorType.INT32, [], 0, np.array(sized[1:], np.int32)))
    edges.append(codes((1, sized[1], sized[2], sized[0]), case.reals[-1]))
    return nchw(run(model(code, options, kind, edges, 1), [images], resolver))


REF, FAST = OpResolverType.BUILTIN_REF, OpResolverType.BUILTIN


def reference_conv(case: Case) -> Array:
    """Reference kernels."""
    return conv(case, REF)


def reference_add(case: Case) -> Array:
    """Reference kernels."""
    return add(case, REF)


def fast_conv(case: Case) -> Array:
    """XNNPACK, the default."""
    return conv(case, FAST)


def fast_add(case: Case) -> Array:
    """XNNPACK, the default."""
    return add(case, FAST)


def reference_pool(case: Case) -> Array:
    """Reference kernels."""
    return pool(case, schema.BuiltinOperator.AVERAGE_POOL_2D, REF)


def fast_pool(case: Case) -> Array:
    """XNNPACK, the default."""
    return pool(case, schema.BuiltinOperator.AVERAGE_POOL_2D, FAST)


def reference_max(case: Case) -> Array:
    """Reference kernels."""
    return pool(case, schema.BuiltinOperator.MAX_POOL_2D, REF)


def fast_max(case: Case) -> Array:
    """XNNPACK, the default."""
    return pool(case, schema.BuiltinOperator.MAX_POOL_2D, FAST)


def reference_resize(case: Case) -> Array:
    """RESIZE_NEAREST_NEIGHBOR, corners not aligned."""
    code = schema.BuiltinOperator.RESIZE_NEAREST_NEIGHBOR
    kind = schema.BuiltinOptions.ResizeNearestNeighborOptions
    return map_of(case, code, schema.ResizeNearestNeighborOptionsT(), kind, REF)


def reference_quantize(case: Case) -> Array:
    """QUANTIZE of codes to other codes."""
    kind = schema.BuiltinOptions.QuantizeOptions
    return map_of(case, schema.BuiltinOperator.QUANTIZE, schema.QuantizeOptionsT(), kind, REF)


def reference_leaky(case: Case) -> Array:
    """LEAKY_RELU with a factor of 0.1 below 0."""
    options = schema.LeakyReluOptionsT()
    options.alpha = LEAK
    kind = schema.BuiltinOptions.LeakyReluOptions
    return map_of(case, schema.BuiltinOperator.LEAKY_RELU, options, kind, REF)


def reference_logistic(case: Case) -> Array:
    """LOGISTIC in gemmlowp's fixed point."""
    return map_of(case, schema.BuiltinOperator.LOGISTIC, None, schema.BuiltinOptions.NONE, REF)
