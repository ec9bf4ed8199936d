"""A Program's network as onnxruntime's own int8 operators, for timing beside the simulator.

Shapes, weights, zero points and the order of work are the Program's; scales are the floats M / 2^S.
onnxruntime rounds in float, so that its integers are near ours and not equal: a peer in speed, not
an oracle. The network must be W8A8 and unsigned between layers; outputs have 8 bits here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from peer_scale import ratio_and_bias

from intaglio.ops import Add, Conv2d, Input, MaxPool2d, Op, Output, Requant, Upsample
from intaglio.program import Program


class Peer:
    """Collects the nodes of the ONNX graph."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.nodes: list[Any] = []
        self.arrays: dict[str, Any] = {}
        self.constant("one", np.float32(1))

    def constant(self, name: str, array: Any) -> str:
        self.arrays.setdefault(name, numpy_helper.from_array(np.asarray(array), name))
        return name

    def zero(self, name: str) -> str:
        """The zero point of a tensor."""
        point = self.program.tensors[name].zero_point[0]
        return self.constant(f"{name}.zero", np.uint8(min(max(point, 0), 255)))

    def node(self, kind: str, inputs: list[str], op: Op, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [op.output], **attributes))

    def conv(self, op: Conv2d, requant: Requant) -> None:
        """QLinearConv: the float scale of a channel is M / 2^S."""
        weight = self.program.constants[op.weight].array
        scale, bias = ratio_and_bias(self.program, op, requant)
        names = [
            op.input,
            "one",
            self.zero(op.input),
            self.constant(op.weight, weight.astype(np.int8)),
            self.constant(f"{requant.output}.scale", scale.astype(np.float32)),
            self.constant(f"{op.weight}.zero", np.zeros(weight.shape[0], np.int8)),
            "one",
            self.zero(requant.output),
            self.constant(f"{requant.output}.bias", bias.astype(np.int32)),
        ]
        top, bottom, left, right = op.padding
        pads = [top, left, bottom, right]
        shape = {"strides": op.stride, "dilations": op.dilation, "group": op.groups}
        self.node("QLinearConv", names, requant, pads=pads, **shape)

    def add(self, op: Add) -> None:
        scales = [m / 2.0**op.shift for m in (op.multiplier_a, op.multiplier_b)]
        names = []
        for side, operand, scale in zip("ab", (op.a, op.b), scales, strict=True):
            name = self.constant(f"{op.output}.{side}", np.float32(scale))
            names += [operand, name, self.zero(operand)]
        names += ["one", self.zero(op.output)]
        self.node("QLinearAdd", names, op, domain="com.microsoft")

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
                self.add(op)
            case MaxPool2d():
                top, bottom, left, right = op.padding
                pads = [top, left, bottom, right]
                shape = {"kernel_shape": op.kernel, "strides": op.stride, "pads": pads}
                self.node("MaxPool", [op.input], op, **shape)
            case Upsample():
                shape = self.program.tensors[op.output].shape
                sizes = self.constant(f"{op.output}.size", np.array([1, *shape], np.int64))
                how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
                self.node("Resize", [op.input, "", "", sizes], op, mode="nearest", **how)
            case Output():
                self.node("Identity", [op.input], op)
            case _:
                raise TypeError(f"The peer has no operator for {type(op).__name__}.")


class FloatPeer(Peer):
    """The same network in float32."""

    def conv(self, op: Conv2d, requant: Requant) -> None:
        """Conv, and Relu where the codes begin at zero."""
        weight = self.program.constants[op.weight].array
        m = np.resize(self.program.constants[requant.multiplier].array, weight.shape[0])
        scale = m / 2.0 ** np.resize(requant.shift, weight.shape[0])
        values = (weight * scale[:, None, None, None]).astype(np.float32)
        names = [op.input, self.constant(f"{requant.output}.weight", values)]
        top, bottom, left, right = op.padding
        pads = [top, left, bottom, right]
        shape = {"strides": op.stride, "dilations": op.dilation, "group": op.groups}
        relu = self.program.tensors[requant.output].zero_point[0] <= requant.lo
        made = f"{requant.output}.sum" if relu else requant.output
        self.nodes.append(helper.make_node("Conv", names, [made], pads=pads, **shape))
        if relu:
            self.node("Relu", [made], requant)

    def add(self, op: Add) -> None:
        self.node("Add", [op.a, op.b], op)

    def put(self, op: Op) -> None:
        if isinstance(op, Input):
            name = f"{op.output}.pixels"
            self.nodes.append(helper.make_node("Cast", [name], [op.output], to=TensorProto.FLOAT))
        super().put(op)


def model(program: Program) -> bytes:
    """The serialised ONNX model: uint8 (1, C, H, W) in, uint8 maps out, by the Program's names."""
    inputs = [edge(t.name, t.shape) for t in program.inputs]
    outputs = [edge(t.name, t.shape) for t in program.outputs]
    return serialised(Peer(program), inputs, outputs)


def float_model(program: Program) -> bytes:
    """The same in float32: the input is named NAME.pixels."""
    inputs = [edge(f"{t.name}.pixels", t.shape) for t in program.inputs]
    outputs = [edge(t.name, t.shape, TensorProto.FLOAT) for t in program.outputs]
    return serialised(FloatPeer(program), inputs, outputs)


def serialised(peer: Peer, inputs: list[Any], outputs: list[Any]) -> bytes:
    """The model of all of the Program's operations."""
    for op in peer.program.ops:
        peer.put(op)
    used = {name for node in peer.nodes for name in node.input}
    arrays = [array for name, array in peer.arrays.items() if name in used]
    graph = helper.make_graph(peer.nodes, "peer", inputs, outputs, arrays)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    made: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return made


def edge(name: str, shape: tuple[int, ...], type: int = TensorProto.UINT8) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, type, [1, *shape])
