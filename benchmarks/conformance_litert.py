"""One operation in LiteRT: its reference kernels, and XNNPACK, on models built here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from conformance_cases import Array, Case

from intaglio.forms import Real


@dataclass
class Edge:
    """A tensor of the model; `data` for constants; `scales` one for each entry of axis 0."""

    shape: tuple[int, ...]
    type: int
    scales: list[float]
    zero: int
    data: Array | None = None


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
    """The result (H, W, C) as (1, C, H, W)."""
    interpreter = Interpreter(
        model_content=content, experimental_op_resolver_type=resolver, num_threads=1
    )
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    result: Array = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return result.transpose(0, 3, 1, 2)


def nhwc(images: Array) -> Array:
    """(N, C, H, W) to (N, H, W, C)."""
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def codes(shape: tuple[int, ...], real: Real) -> Edge:
    """An int8 map."""
    return Edge(shape, schema.TensorType.INT8, [real.scale], real.zero)


def conv(case: Case, resolver: OpResolverType) -> Array:
    """CONV_2D without padding."""
    assert case.weight is not None
    assert case.bias is not None
    assert case.scales is not None
    x, y = case.reals
    images = nhwc(case.images)
    weight = np.ascontiguousarray(case.weight.transpose(0, 2, 3, 1))
    size = [(n - k) // s + 1 for n, k, s in zip(images.shape[1:3], case.kernel, case.stride,
                                                strict=True)]  # fmt: skip
    scales = [float(s) for s in case.scales]
    products = [float(np.float32(x.scale * s)) for s in scales]
    options = schema.Conv2DOptionsT()
    options.padding = schema.Padding.VALID
    options.strideH, options.strideW = case.stride
    options.dilationHFactor = options.dilationWFactor = 1
    edges = [
        codes(images.shape, x),
        Edge(weight.shape, schema.TensorType.INT8, scales, 0, weight),
        Edge(case.bias.shape, schema.TensorType.INT32, products, 0, case.bias),
        codes((1, *size, len(scales)), y),
    ]
    content = model(
        schema.BuiltinOperator.CONV_2D, options, schema.BuiltinOptions.Conv2DOptions, edges, 1
    )
    return run(content, [images], resolver)


def add(case: Case, resolver: OpResolverType) -> Array:
    """ADD of the two channels."""
    pair = [nhwc(case.images[:, i : i + 1]) for i in (0, 1)]
    edges = [codes(pair[0].shape, real) for real in case.reals]
    options = schema.AddOptionsT()
    content = model(schema.BuiltinOperator.ADD, options, schema.BuiltinOptions.AddOptions, edges, 2)
    return run(content, pair, resolver)


def reference_conv(case: Case) -> Array:
    """Reference kernels."""
    return conv(case, OpResolverType.BUILTIN_REF)


def reference_add(case: Case) -> Array:
    """Reference kernels."""
    return add(case, OpResolverType.BUILTIN_REF)


def fast_conv(case: Case) -> Array:
    """XNNPACK, the default."""
    return conv(case, OpResolverType.BUILTIN)


def fast_add(case: Case) -> Array:
    """XNNPACK, the default."""
    return add(case, OpResolverType.BUILTIN)


def reference_pool(case: Case) -> Array:
    """AVERAGE_POOL_2D without padding."""
    images = nhwc(case.images)
    size = [(n - k) // s + 1 for n, k, s in zip(images.shape[1:3], case.kernel, case.stride,
                                                strict=True)]  # fmt: skip
    options = schema.Pool2DOptionsT()
    options.padding = schema.Padding.VALID
    options.filterHeight, options.filterWidth = case.kernel
    options.strideH, options.strideW = case.stride
    edges = [codes(images.shape, case.reals[0]), codes((1, *size, images.shape[3]), case.reals[1])]
    content = model(
        schema.BuiltinOperator.AVERAGE_POOL_2D, options, schema.BuiltinOptions.Pool2DOptions,
        edges, 1,
    )  # fmt: skip
    return run(content, [images], OpResolverType.BUILTIN_REF)
