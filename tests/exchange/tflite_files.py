"""TFLite files made here: networks of integer operators, one image wide, with random weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

Array = NDArray[Any]
Type, Kind, Options = schema.TensorType, schema.BuiltinOperator, schema.BuiltinOptions


@dataclass
class Net:
    """Grows a file; every method returns the number of the tensor that it makes."""

    rng: np.random.Generator
    kind: int = Type.INT8
    four: bool = False  # weights of 4 bits, two in a byte
    tensors: list[Any] = field(default_factory=list)
    buffers: list[Any] = field(default_factory=lambda: [schema.BufferT()])
    codes: list[Any] = field(default_factory=list)
    operators: list[Any] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)

    # --- tensors ---

    def tensor(
        self, shape: tuple[int, ...], kind: int, scales: Any = (), zeros: Any = (), axis: int = 0,
        data: Array | None = None,
    ) -> int:  # fmt: skip
        made = schema.TensorT()
        made.shape, made.type, made.name = list(shape), kind, f"t{len(self.tensors)}"
        q = schema.QuantizationParametersT()
        q.scale, q.zeroPoint = [float(s) for s in scales], [int(z) for z in zeros]
        q.quantizedDimension = axis
        made.quantization = q
        if data is not None:
            buffer = schema.BufferT()
            values = np.ascontiguousarray(data)
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)
            made.buffer = len(self.buffers)
            self.buffers.append(buffer)
        self.tensors.append(made)
        return len(self.tensors) - 1

    def activation(self, shape: tuple[int, ...], like: int | None = None) -> int:
        """Codes with a random scale and zero point, or those of another."""
        if like is not None:
            q = self.tensors[like].quantization
            return self.tensor(shape, self.tensors[like].type, q.scale, q.zeroPoint)
        low = 0 if self.kind == Type.UINT8 else -128
        scale = float(np.float32(self.rng.uniform(0.004, 0.2)))
        if self.kind == Type.INT16:
            return self.tensor(shape, self.kind, [float(np.float32(scale / 256))], [0])
        return self.tensor(shape, self.kind, [scale], [self.rng.integers(low, low + 256)])

    def ints(self, values: Any) -> int:
        array = np.array(values, np.int32)
        return self.tensor(array.shape, Type.INT32, data=array)

    def input(self, *shape: int) -> int:
        self.inputs.append(self.activation(shape))
        return self.inputs[-1]

    def shape(self, number: int) -> tuple[int, ...]:
        return tuple(self.tensors[number].shape)

    # --- operators ---

    def add(
        self, name: str, inputs: list[int], output: int, options: Any = None, kind: str = "NONE"
    ) -> int:
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(Kind, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = 1
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.codes)
        operator.inputs, operator.outputs = inputs, [output]
        operator.builtinOptionsType, operator.builtinOptions = getattr(Options, kind), options
        self.codes.append(code)
        self.operators.append(operator)
        return output

    def weights(self, shape: tuple[int, ...], axis: int) -> int:
        """Signed, with a scale a channel; in uint8 with one scale and a zero point."""
        if self.four:
            data = self.rng.integers(-7, 8, shape)
            pairs = np.resize(data.reshape(-1) & 15, data.size + data.size % 2).reshape(-1, 2)
            scales = self.rng.uniform(0.01, 0.1, shape[axis])
            packed = (pairs[:, 0] | pairs[:, 1] << 4).astype(np.uint8)
            return self.tensor(shape, Type.INT4, scales, [0] * shape[axis], axis, packed)
        if self.kind == Type.UINT8:
            data = self.rng.integers(0, 256, shape).astype(np.uint8)
            return self.tensor(
                shape, self.kind, [self.rng.uniform(0.001, 0.02)], [self.rng.integers(100, 156)],
                data=data,
            )  # fmt: skip
        data = self.rng.integers(-127, 128, shape).astype(np.int8)
        if shape[axis] > 2:
            np.moveaxis(data, axis, 0)[0] = 0  # a pruned channel
        scales = self.rng.uniform(0.001, 0.02, shape[axis])
        return self.tensor(shape, Type.INT8, scales, [0] * shape[axis], axis, data)

    def bias(self, x: int, w: int, count: int) -> int:
        """Of the product's scale."""
        scales = [
            float(np.float32(self.tensors[x].quantization.scale[0] * s))
            for s in self.tensors[w].quantization.scale
        ]
        wide = self.kind == Type.INT16
        most = 5_000_000 if wide else 20_000
        data = self.rng.integers(-most, most, count).astype(np.int64 if wide else np.int32)
        kind = Type.INT64 if wide else Type.INT32
        return self.tensor((count,), kind, scales, [0] * len(scales), 0, data)

    def conv(self, x: int, channels: int, size: int, deep: bool = False, **how: int) -> int:
        """CONV_2D, or DEPTHWISE_CONV_2D with `channels` a channel."""
        _, h, w, c = self.shape(x)
        options = schema.DepthwiseConv2DOptionsT() if deep else schema.Conv2DOptionsT()
        stride, dilation = how.get("stride", 1), how.get("dilation", 1)
        options.padding = how.get("padding", schema.Padding.SAME)
        options.strideH = options.strideW = stride
        options.dilationHFactor = options.dilationWFactor = dilation
        options.fusedActivationFunction = how.get("activation", 0)
        count = c * channels if deep else channels
        if deep:
            options.depthMultiplier = channels
            weight = self.weights((1, size, size, count), 3)
        else:
            weight = self.weights((count, size, size, c), 0)
        sides = [self.window(side, size, stride, dilation, options.padding) for side in (h, w)]
        y = self.activation((1, *sides, count))
        name = "DEPTHWISE_CONV_2D" if deep else "CONV_2D"
        kind = "DepthwiseConv2DOptions" if deep else "Conv2DOptions"
        return self.add(name, [x, weight, self.bias(x, weight, count)], y, options, kind)

    def back(
        self, x: int, channels: int, size: tuple[int, int], stride: int, same: bool, more: int = 0,
        biased: bool = True,
    ) -> int:  # fmt: skip
        """TRANSPOSE_CONV."""
        _, h, w, c = self.shape(x)
        options = schema.TransposeConvOptionsT()
        options.strideH = options.strideW = stride
        options.padding = schema.Padding.SAME if same else schema.Padding.VALID
        sides = [n * stride if same else (n - 1) * stride + k
                 for n, k in zip((h, w), size, strict=True)]  # fmt: skip
        sides = [n + more for n in sides]
        weight = self.weights((channels, *size, c), 0)
        y = self.activation((1, *sides, channels))
        inputs = [self.ints([1, *sides, channels]), weight, x]
        if biased:
            inputs.append(self.bias(x, weight, channels))
        self.add("TRANSPOSE_CONV", inputs, y, options, "TransposeConvOptions")
        self.codes[-1].version = 3 if biased else 1
        return y

    @staticmethod
    def window(side: int, size: int, stride: int, dilation: int, padding: int) -> int:
        """Pixels of a result."""
        reach = (size - 1) * dilation + 1
        whole = side if padding == schema.Padding.SAME else side - reach + 1
        return -(-whole // stride)

    def dense(self, x: int, channels: int, activation: int = 0) -> int:
        rows = int(np.prod(self.shape(x)))
        weight = self.weights((channels, rows), 0)
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = activation
        y = self.activation((1, channels))
        inputs = [x, weight, self.bias(x, weight, channels)]
        return self.add("FULLY_CONNECTED", inputs, y, options, "FullyConnectedOptions")

    def sum(self, a: int, b: int, name: str = "ADD", activation: int = 0) -> int:
        words = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul"}[name]
        options = getattr(schema, f"{words}OptionsT")()
        options.fusedActivationFunction = activation
        return self.add(name, [a, b], self.activation(self.shape(a)), options, f"{words}Options")

    def gate(self, a: int, b: int, activation: int = 0) -> int:
        """MUL, of which one operand may be repeated."""
        options = schema.MulOptionsT()
        options.fusedActivationFunction = activation
        y = self.activation(np.broadcast_shapes(self.shape(a), self.shape(b)))
        return self.add("MUL", [a, b], y, options, "MulOptions")

    def pool(self, x: int, name: str, size: int, stride: int, padding: int) -> int:
        _, h, w, c = self.shape(x)
        options = schema.Pool2DOptionsT()
        options.filterHeight = options.filterWidth = size
        options.strideH = options.strideW = stride
        options.padding = padding
        sides = [self.window(side, size, stride, 1, padding) for side in (h, w)]
        return self.add(name, [x], self.activation((1, *sides, c), x), options, "Pool2DOptions")

    def mean(self, x: int, keep: bool = False) -> int:
        options = schema.ReducerOptionsT()
        options.keepDims = keep
        c = self.shape(x)[3]
        y = self.activation((1, 1, 1, c) if keep else (1, c))
        return self.add("MEAN", [x, self.ints([1, 2])], y, options, "ReducerOptions")

    def pad(self, x: int, *pads: int) -> int:
        top, bottom, left, right = pads
        _, h, w, c = self.shape(x)
        y = self.activation((1, h + top + bottom, w + left + right, c), x)
        table = self.ints([[0, 0], [top, bottom], [left, right], [0, 0]])
        return self.add("PAD", [x, table], y, schema.PadOptionsT(), "PadOptions")

    def concat(self, *parts: int) -> int:
        """Of parts that have one grid."""
        return self.concat_along(3, *parts)

    def concat_along(self, axis: int, *parts: int) -> int:
        options = schema.ConcatenationOptionsT()
        options.axis = axis
        sides = list(self.shape(parts[0]))
        sides[axis] = sum(self.shape(p)[axis] for p in parts)
        y = self.activation(tuple(sides), parts[0])
        return self.add("CONCATENATION", list(parts), y, options, "ConcatenationOptions")

    def pad_channels(self, x: int, before: int, after: int) -> int:
        *sides, c = self.shape(x)
        y = self.activation((*sides, c + before + after), x)
        table = self.ints([[0, 0], [0, 0], [0, 0], [before, after]])
        return self.add("PAD", [x, table], y, schema.PadOptionsT(), "PadOptions")

    def slice(self, x: int, starts: list[int], sizes: list[int]) -> int:
        ends = zip(self.shape(x), starts, sizes, strict=True)
        sides = [n - a if k < 0 else k for n, a, k in ends]
        y = self.activation(tuple(sides), x)
        inputs = [x, self.ints(starts), self.ints(sizes)]
        return self.add("SLICE", inputs, y, schema.SliceOptionsT(), "SliceOptions")

    def strided(
        self, x: int, first: list[int], last: list[int], step: list[int], begins: int = 0,
        ends: int = 0, shrinks: int = 0,
    ) -> int:  # fmt: skip
        options, sides = schema.StridedSliceOptionsT(), []
        options.beginMask, options.endMask, options.shrinkAxisMask = begins, ends, shrinks
        for k, side in enumerate(self.shape(x)):
            if shrinks >> k & 1:
                continue
            pick = slice(*(None if mask >> k & 1 else ends_[k] for mask, ends_ in
                           ((begins, first), (ends, last), (0, step))))  # fmt: skip
            sides.append(len(range(*pick.indices(side))))
        y = self.activation(tuple(sides), x)
        inputs = [x, *(self.ints(v) for v in (first, last, step))]
        return self.add("STRIDED_SLICE", inputs, y, options, "StridedSliceOptions")

    def split(self, x: int, axis: int, sizes: list[int], even: bool = False) -> list[int]:
        """SPLIT_V, or SPLIT where the parts are even."""
        found = []
        for size in sizes:
            sides = list(self.shape(x))
            sides[axis] = size
            found.append(self.activation(tuple(sides), x))
        options = schema.SplitOptionsT() if even else schema.SplitVOptionsT()
        options.numSplits = len(sizes)
        inputs = [self.ints(axis), x] if even else [x, self.ints(sizes), self.ints(axis)]
        kind = "SplitOptions" if even else "SplitVOptions"
        self.add("SPLIT" if even else "SPLIT_V", inputs, found[0], options, kind)
        self.operators[-1].outputs = found
        return found

    def unpack(self, x: int, axis: int) -> list[int]:
        sides = list(self.shape(x))
        count = sides.pop(axis)
        options = schema.UnpackOptionsT()
        options.axis, options.num = axis, count
        found = [self.activation(tuple(sides), x) for _ in range(count)]
        self.add("UNPACK", [x], found[0], options, "UnpackOptions")
        self.operators[-1].outputs = found
        return found

    def blocks(self, x: int, size: int, deepen: bool) -> int:
        _, h, w, c = self.shape(x)
        name, words = ("DEPTH_TO_SPACE", "DepthToSpace")
        sides = (h * size, w * size, c // size**2)
        if deepen:
            name, words = ("SPACE_TO_DEPTH", "SpaceToDepth")
            sides = (h // size, w // size, c * size**2)
        options = getattr(schema, f"{words}OptionsT")()
        options.blockSize = size
        return self.add(name, [x], self.activation((1, *sides), x), options, f"{words}Options")

    def transpose(self, x: int, *order: int) -> int:
        sides = tuple(self.shape(x)[k] for k in order)
        inputs = [x, self.ints(order)]
        options = schema.TransposeOptionsT()
        return self.add("TRANSPOSE", inputs, self.activation(sides, x), options, "TransposeOptions")

    def shuffle(self, x: int, groups: int) -> int:
        """Channels last: reshape, transpose, reshape."""
        _, h, w, c = self.shape(x)
        parts = self.reshape(x, 1, h, w, groups, c // groups)
        return self.reshape(self.transpose(parts, 0, 1, 2, 4, 3), 1, h, w, c)

    def nearest(self, x: int, factor: int, half: bool = False) -> int:
        options = schema.ResizeNearestNeighborOptionsT()
        options.halfPixelCenters = half
        _, h, w, c = self.shape(x)
        y = self.activation((1, h * factor, w * factor, c), x)
        table = self.ints([h * factor, w * factor])
        kind = "ResizeNearestNeighborOptions"
        return self.add("RESIZE_NEAREST_NEIGHBOR", [x, table], y, options, kind)

    def resize(
        self, x: int, size: tuple[int, int], bilinear: bool = True, aligned: bool = False,
        half: bool = False,
    ) -> int:  # fmt: skip
        name = "ResizeBilinear" if bilinear else "ResizeNearestNeighbor"
        options = getattr(schema, f"{name}OptionsT")()
        options.alignCorners, options.halfPixelCenters = aligned, half
        *_, c = self.shape(x)
        y = self.activation((1, *size, c), x)
        kind = "RESIZE_BILINEAR" if bilinear else "RESIZE_NEAREST_NEIGHBOR"
        return self.add(kind, [x, self.ints(size)], y, options, f"{name}Options")

    def reshape(self, x: int, *shape: int) -> int:
        return self.add("RESHAPE", [x, self.ints(shape)], self.activation(shape, x))

    def function(self, x: int, name: str) -> int:
        """A function of one code, whose result has the grid that its kernel wants."""
        shape, options, kind = self.shape(x), None, "NONE"
        if name in ("LOGISTIC", "TANH"):
            low = 0 if self.kind == Type.UINT8 else -128
            scale, zero = (1 / 256, low) if name == "LOGISTIC" else (1 / 128, low + 128)
            if self.kind == Type.INT16:
                scale, zero = 1 / 32768, 0
            y = self.tensor(shape, self.kind, [scale], [zero])
        else:
            y = self.activation(shape)
        if name == "LEAKY_RELU":
            options, kind = schema.LeakyReluOptionsT(), "LeakyReluOptions"
            options.alpha = 0.1
        if name == "QUANTIZE":
            options, kind = schema.QuantizeOptionsT(), "QuantizeOptions"
        return self.add(name, [x], y, options, kind)

    def each(self, x: int, name: str) -> int:
        """PRELU, or a sum or product, of a map and a constant for each channel."""
        *_, channels = self.shape(x)
        low = 0 if self.kind == Type.UINT8 else -128
        codes = self.rng.integers(low, low + 256, (1, 1, channels)[-self.rng.integers(1, 4) :])
        data = codes.astype(np.uint8 if low == 0 else np.int8)
        scale, zero = self.rng.uniform(0.002, 0.02), self.rng.integers(low, low + 256)
        constant = self.tensor(data.shape, self.kind, [scale], [zero], data=data)
        if name != "PRELU":
            return self.sum(x, constant, name)
        return self.add(name, [x, constant], self.activation(self.shape(x)))

    def content(self, *outputs: int) -> bytes:
        """The .tflite file."""
        model, graph = schema.ModelT(), schema.SubGraphT()
        model.version, model.buffers, model.operatorCodes = 3, self.buffers, self.codes
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs, graph.outputs = self.inputs, list(outputs)
        model.subgraphs = [graph]
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
