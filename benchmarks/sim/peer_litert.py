"""A Program's network as a LiteRT model, run by XNNPACK, for timing beside the simulator.

Shapes, weights and scales are the Program's; codes are shifted by 128 to int8, and paddings are
those that LiteRT calls SAME. XNNPACK rounds in float, so that its integers are near ours and not
equal: a peer in speed, not an oracle. The network must be W8A8 and unsigned between layers; outputs
have 8 bits here.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from peer_scale import ratio_and_bias

from intaglio.ops import Add, Conv2d, Input, MaxPool2d, Op, Output, Requant, Upsample
from intaglio.program import Program

Kind = schema.BuiltinOperator
Options = schema.BuiltinOptions


class Graph:
    """Collects tensors and operators of the model."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers, self.model.operatorCodes = [schema.BufferT()], []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.places: dict[str, int] = {}
        self.codes: dict[int, int] = {}
        for op in program.ops:
            self.put(op)
        self.graph.inputs = [self.map(t.name) for t in program.inputs]
        self.graph.outputs = [self.map(t.name) for t in program.outputs]
        self.model.subgraphs = [self.graph]

    def content(self) -> bytes:
        """The .tflite file."""
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def tensor(self, name: str, shape: Any, type: int, scales: Any, zero: int) -> Any:
        """A new tensor."""
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.name = [int(n) for n in shape], type, name
        q = schema.QuantizationParametersT()
        q.scale, q.zeroPoint = [float(s) for s in scales], [zero] * len(scales)
        tensor.quantization = q
        self.places[name] = len(self.graph.tensors)
        self.graph.tensors.append(tensor)
        return tensor

    def constant(self, name: str, array: Any, type: int, scales: Any = ()) -> int:
        if name not in self.places:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
            self.tensor(name, array.shape, type, scales, 0).buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        return self.places[name]

    def map(self, name: str) -> int:
        """An int8 map (1, H, W, C)."""
        if name not in self.places:
            tensor = self.program.tensors[name]
            c, h, w = tensor.shape
            zero = min(max(int(tensor.zero_point[0]), 0), 255) - 128
            self.tensor(name, (1, h, w, c), schema.TensorType.INT8, [tensor.scale], zero)
        return self.places[name]

    def node(self, kind: int, options_kind: int, options: Any, inputs: list[int], y: str) -> None:
        if kind not in self.codes:
            code = schema.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode = kind, min(kind, 127)
            code.version = 3 if kind == Kind.CONV_2D else 2
            self.codes[kind] = len(self.model.operatorCodes)
            self.model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = self.codes[kind]
        operator.inputs, operator.outputs = inputs, [self.map(y)]
        operator.builtinOptionsType, operator.builtinOptions = options_kind, options
        self.graph.operators.append(operator)

    def conv(self, op: Conv2d, requant: Requant) -> None:
        """The float scale of a channel's weights is M / 2^S times that of the result."""
        weight = self.program.constants[op.weight].array
        ratio, bias = ratio_and_bias(self.program, op, requant)
        x, y = self.program.tensors[op.input], self.program.tensors[requant.output]
        scales = (ratio * y.scale / x.scale).astype(np.float32)
        rows, name = weight.transpose(0, 2, 3, 1).astype(np.int8), requant.output
        int32 = schema.TensorType.INT32
        inputs = [
            self.map(op.input),
            self.constant(f"{name}.weight", rows, schema.TensorType.INT8, scales),
            self.constant(f"{name}.bias", bias.astype(np.int32), int32, scales * x.scale),
        ]
        options = schema.Conv2DOptionsT()
        options.padding = schema.Padding.SAME if any(op.padding) else schema.Padding.VALID
        options.strideH, options.strideW = op.stride
        options.dilationHFactor, options.dilationWFactor = op.dilation
        self.node(Kind.CONV_2D, Options.Conv2DOptions, options, inputs, name)

    def put(self, op: Op) -> None:
        """Append one operation; a Requant goes in with its convolution."""
        match op:
            case Conv2d():
                (requant,) = self.program.consumers[op.output]
                assert isinstance(requant, Requant)
                self.conv(op, requant)
            case Requant() | Input():
                pass
            case Add():
                inputs = [self.map(op.a), self.map(op.b)]
                self.node(Kind.ADD, Options.AddOptions, schema.AddOptionsT(), inputs, op.output)
            case MaxPool2d():
                pool = schema.Pool2DOptionsT()
                pool.padding = schema.Padding.SAME if any(op.padding) else schema.Padding.VALID
                (pool.filterHeight, pool.filterWidth), (pool.strideH, pool.strideW) = (
                    op.kernel,
                    op.stride,
                )
                inputs = [self.map(op.input)]
                self.node(Kind.MAX_POOL_2D, Options.Pool2DOptions, pool, inputs, op.output)
            case Upsample():
                size = np.array(op.size, np.int32)
                inputs = [
                    self.map(op.input),
                    self.constant(f"{op.output}.size", size, schema.TensorType.INT32),
                ]
                self.node(
                    Kind.RESIZE_NEAREST_NEIGHBOR, Options.ResizeNearestNeighborOptions,
                    schema.ResizeNearestNeighborOptionsT(), inputs, op.output,
                )  # fmt: skip
            case Output():
                self.places[op.output] = self.map(op.input)
            case _:
                raise TypeError(f"The peer has no operator for {type(op).__name__}.")


class Peer:
    """Images (1, C, H, W) uint8 to uint8 maps, on so many threads a call."""

    def __init__(self, program: Program, threads: int) -> None:
        graph = Graph(program)
        self.interpreter = Interpreter(model_content=graph.content(), num_threads=threads)
        self.interpreter.allocate_tensors()
        (self.input,) = (d["index"] for d in self.interpreter.get_input_details())
        self.outputs = [d["index"] for d in self.interpreter.get_output_details()]

    def __call__(self, images: Any) -> list[Any]:
        codes = np.ascontiguousarray(images.transpose(0, 2, 3, 1)) ^ np.uint8(128)
        self.interpreter.set_tensor(self.input, codes.view(np.int8))
        self.interpreter.invoke()
        found = (self.interpreter.get_tensor(n).view(np.uint8) for n in self.outputs)
        return [np.ascontiguousarray(m.transpose(0, 3, 1, 2)) ^ np.uint8(128) for m in found]
