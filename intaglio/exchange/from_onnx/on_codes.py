"""Which nodes of a QDQ file onnxruntime runs on codes, and which it leaves in float32.

Its optimiser (default level, x86, core/optimizer/qdq_transformer, versions 1.20 to 1.32) makes one
operator of codes from a float operator between DequantizeLinear and QuantizeLinear where all of its
inputs and its only output are codes of one type of at most 8 bits. Convolutions and matrix products
know uint8 alone there: int8 is turned into uint8 first, but only between a QuantizeLinear and its
single reader. So a tensor of int8 with two readers, or one that is an input or output of the graph,
keeps the operators beside it in float32, where uint8 does not. MaxPool and operators that move
values pass codes on; a Relu or Clip is dropped where the QuantizeLinear behind it clamps as much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import numpy_helper

from intaglio.exchange.from_onnx.onnx_file import Node, OnnxFile
from intaglio.fixed import IntType

I8, U8 = IntType(8, True), IntType(8, False)
MOVES = ("MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice")
SUMS = ("Conv", "Gemm", "MatMul")
FUSED = (*SUMS, "Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "Sigmoid", "LeakyRelu")
BIAS_SLACK = 0.015  # of a bias's scale, relative; between 0.0101, which it takes, and 0.0199
MAXPOOL_OF_CODES = 12  # first operator set whose MaxPool takes them


@dataclass(frozen=True)
class Quantiser:
    """Type and ends of the codes that a QuantizeLinear or DequantizeLinear has; `alone` where one
    node alone reads what the pair makes."""

    type: IntType
    scale: float
    zero: int
    alone: bool

    @property
    def runs_as(self) -> IntType:
        """The type after int8 between a pair with one reader has become uint8."""
        return U8 if self.type == I8 and self.alone else self.type


class OnCodes:
    """The file's nodes by what they read and who reads them."""

    def __init__(self, file: OnnxFile) -> None:
        self.file = file
        self.maker = {name: node for node in file.nodes for name in node.outputs}
        self.readers: dict[str, list[Node]] = {}
        for node in file.nodes:
            for name in node.inputs:
                self.readers.setdefault(name, []).append(node)
        self.opset = file.opsets.get("", 0)

    def __call__(self, node: Node) -> bool:
        """Whether the runtime has one operator of codes for a float node."""
        return self.type_of(node) is not None

    def moved(self, node: Node) -> bool:
        """Whether one of its operands or its result is int8 and is run as uint8, 128 higher."""
        made, type = self.written(node), self.type_of(node)
        read = [self.read(name, node) for name in node.inputs if name]
        return type == U8 and any(v is not None and v.type == I8 for v in (*read, made))

    def type_of(self, node: Node) -> IntType | None:
        """The type of all codes that the runtime's operator for a float node reads and writes; None
        where that is left in float32."""
        if node.kind not in FUSED or node.domain:
            return None
        given = [name for name in node.inputs if name]
        codes = given[:2] if node.kind in ("Conv", "Gemm") else given
        if node.kind in ("AveragePool", "GlobalAveragePool", "Sigmoid", "LeakyRelu"):
            codes = given[:1]
        read = [r for name in codes if (r := self.read(name, node)) is not None]
        made = self.written(node)
        if made is None or len(read) < len(codes):
            return None
        types = [r.runs_as for r in read]
        if max(t.bits for t in types) > 8 or types[0].bits < 8 or types[0] != made.runs_as:
            return None
        if node.kind in SUMS:
            fits = types[1].bits == 8 and self.sum_of_codes(node, read, given[2:])
        else:
            fits = len(set(types)) == 1
        return types[0] if fits else None

    def sum_of_codes(self, node: Node, read: list[Quantiser], bias: list[str]) -> bool:
        """Whether its weights and bias are such that QLinearConv and its kin take them."""
        types = [r.runs_as for r in read]
        if types[0] == I8 and (node.kind != "Gemm" or types[1] != I8):
            return False
        for name in bias:
            maker = self.maker.get(name)
            if maker is None or maker.kind != "DequantizeLinear":
                if self.array(name) is None:
                    return False
                continue  # floats are made integers
            scales, weights = (self.array(n.inputs[1]) for n in (maker, self.maker[node.inputs[1]]))
            if scales is None or weights is None or self.array(maker.inputs[0]) is None:
                return False
            unit = read[0].scale * weights
            if scales.size not in (1, unit.size) or (abs(scales - unit) > BIAS_SLACK * unit).any():
                return False
        return True

    def rounds_bias(self, node: Node) -> bool:
        """Whether a float bias becomes a whole number of the sum's units: behind a DequantizeLinear
        and before a QuantizeLinear, with nothing but clamps between."""
        reads = self.maker.get(node.inputs[0])
        if node.kind not in ("Conv", "Gemm") or reads is None or reads.kind != "DequantizeLinear":
            return False
        if self.opset < 13:  # it writes operators that are younger, and may refuse the file
            return False
        name = node.outputs[0]
        while self.uses(name) == 1 and name not in self.file.outputs:
            (reader,) = self.readers[name]
            if reader.kind not in ("Relu", "Clip"):
                return reader.kind == "QuantizeLinear"
            name = reader.outputs[0]
        return False

    def reason(self, node: Node) -> str:
        """Why a convolution or a product of matrices is no operator of codes, in a few words."""
        if all(n.kind != "QuantizeLinear" for n in self.file.nodes):
            return "everything is, in qonnx"
        read = [self.read(name, node) for name in node.inputs[:2] if name]
        made = self.written(node)
        if any(r is None for r in read):
            return "its input is no code there"
        if made is None:
            return "its result is no code there"
        types = [r.type for r in (*read, made) if r is not None]
        if max(t.bits for t in types) > 8:
            return f"codes of {max(t.bits for t in types)} bits"
        if I8 in (types[0], types[-1]):
            return "int8 with several readers, or at the graph's ends"
        return "types or scales that differ"

    # --- one tensor ---

    def quantiser(self, node: Node, alone: bool) -> Quantiser | None:
        """What a QuantizeLinear or DequantizeLinear says of its codes; None where not constant."""
        scale = self.array(node.inputs[1]) if len(node.inputs) > 1 else None
        if scale is None or scale.size < 1:
            return None
        zero: np.ndarray | None = np.zeros(1)
        type: IntType | None = U8
        if len(node.inputs) > 2 and node.inputs[2]:
            zero = self.array(node.inputs[2])
            type = self.type(node.inputs[2])
        elif node.kind == "DequantizeLinear":
            type = self.type(node.inputs[0])
        if zero is None or type is None:
            return None
        return Quantiser(type, float(scale.flat[0]), int(zero.flat[0]), alone)

    def array(self, name: str) -> np.ndarray | None:
        """A constant of the file."""
        if name in self.file.constants:
            return self.file.constants[name]
        maker = self.maker.get(name)
        if maker is not None and maker.kind == "Constant" and "value" in maker.attributes:
            return np.asarray(numpy_helper.to_array(maker.attributes["value"]))
        return None

    def type(self, name: str) -> IntType | None:
        """The integer type of a constant or of what a QuantizeLinear makes."""
        if name in self.file.types:
            return self.file.types[name]
        array = self.array(name)
        if array is not None and array.dtype.kind in "iu":
            return IntType(8 * array.dtype.itemsize, array.dtype.kind == "i")
        maker = self.maker.get(name)
        if maker is not None and maker.kind == "QuantizeLinear":
            found = self.quantiser(maker, False)
            return found.type if found else None
        return None

    def uses(self, name: str) -> int:
        """Readers of a tensor, the graph's output among them."""
        return len(self.readers.get(name, ())) + (name in self.file.outputs)

    def reads(self, codes: str) -> int:
        """Readers of what codes stand for, and of the codes themselves."""
        pairs = [n for n in self.readers.get(codes, ()) if n.kind == "DequantizeLinear"]
        other = self.uses(codes) - len(pairs)
        return other * 2 + sum(max(1, self.uses(n.outputs[0])) for n in pairs)

    def read(self, name: str, reader: Node) -> Quantiser | None:
        """The codes behind a float operand; None where it is none's value."""
        maker = self.maker.get(name)
        if maker is None:
            return None
        if maker.kind == "DequantizeLinear":
            source = self.maker.get(maker.inputs[0])
            pair = source is not None and source.kind == "QuantizeLinear"
            return self.quantiser(maker, pair and self.reads(maker.inputs[0]) == 1)
        if self.moves(maker):
            behind = self.read(maker.inputs[0], maker)
            if behind is None:
                return None
            return Quantiser(behind.type, behind.scale, behind.zero, self.uses(name) == 1)
        padded = maker.kind == "Pad" and reader.kind == "Conv" and self.uses(name) == 1
        return self.read(maker.inputs[0], maker) if padded else None

    def moves(self, node: Node) -> bool:
        """Whether codes pass through a float node."""
        return node.kind in MOVES and (node.kind != "MaxPool" or self.opset >= MAXPOOL_OF_CODES)

    def written(self, node: Node) -> Quantiser | None:
        """The codes that alone are made of a node's result."""
        name = node.outputs[0]
        if self.uses(name) != 1 or name in self.file.outputs:
            return None
        (reader,) = self.readers[name]
        if reader.kind in ("Relu", "Clip"):
            behind = self.written(reader)
            return behind if behind is not None and self.redundant(reader, behind) else None
        if reader.kind == "QuantizeLinear":
            return self.quantiser(reader, self.reads(reader.outputs[0]) == 1)
        if self.moves(reader):
            behind = self.written(reader)
            return behind and Quantiser(behind.type, behind.scale, behind.zero, True)
        return None

    def redundant(self, node: Node, codes: Quantiser) -> bool:
        """Whether a Relu or Clip limits no more than the codes behind it."""
        low = codes.scale * (codes.type.lo - codes.zero)
        high = codes.scale * (codes.type.hi - codes.zero)
        if node.kind == "Relu":
            return low >= 0
        bounds: list[float] = []
        for n, word, otherwise in ((1, "min", -np.inf), (2, "max", np.inf)):
            named = n < len(node.inputs) and node.inputs[n]
            found = self.array(node.inputs[n]) if named else node.attributes.get(word, otherwise)
            if found is None:
                return False
            bounds.append(float(np.asarray(found).item()))
        slack = 1e-6 * abs(high - low)
        return bounds[0] <= low + slack and high - slack <= bounds[1]
