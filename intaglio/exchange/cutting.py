"""Where an ONNX file's network ends: at its last layers, where what is behind them is decoding.

Nodes that no layer depends on are the network's tail. There an operator that `TAIL` does not name
(Transpose, Reshape, Softmax, Gather, ...) begins the decoding, and what depends on it is decoding
too. The tensors that it reads become the outputs. What joins or squashes maps for the decoding
alone (a Concat, a Sigmoid) is followed back from, so that each map keeps a range of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from intaglio.errors import ModelError
from intaglio.exchange.from_onnx.onnx_file import Node, OnnxFile

LAYERS = frozenset(
    {
        "Conv", "ConvTranspose", "Gemm", "MatMul", "ConvInteger", "MatMulInteger", "QLinearConv",
        "QLinearMatMul", "BatchNormalization", "InstanceNormalization", "LayerNormalization",
        "GroupNormalization", "Attention", "LSTM", "GRU", "RNN", "QGemm", "MultiHeadAttention",
    }
)  # fmt: skip
QUANTISERS = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "Quant", "IntQuant", "BipolarQuant", "Trunc"}
)
SQUASHING = frozenset({"Sigmoid", "HardSigmoid", "Exp", "Log", "Sqrt", "Tanh", "Softplus", "Pow"})
PASSED = QUANTISERS | {"Identity", "Cast", "Dropout", "Concat", "QLinearConcat", "QLinearSigmoid"}
TAIL = SQUASHING | PASSED | {
    "Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "HardSwish", "Mish", "Gelu",
    "Swish", "Softsign", "ThresholdedRelu", "Add", "Sub", "Mul", "Div", "Sum", "Neg", "Abs", "Erf",
    "Reciprocal", "Max", "Min", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool",
    "ReduceMean",
    "Resize", "Upsample", "Pad", "Flatten", "DepthToSpace", "SpaceToDepth", "QLinearAdd",
    "QLinearMul", "QLinearLeakyRelu", "QLinearAveragePool", "QLinearGlobalAveragePool",
}  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """A file that ends at its last layers, and the nodes that were cut off, in words."""

    file: OnnxFile
    cut: tuple[str, ...]


def ended(file: OnnxFile, wanted: Sequence[str] = ()) -> Ended:
    """The file up to the tensors `wanted`, or up to its last layers.

    The maps of an output come in its place, in the order in which the file computes them; a map
    that two outputs are made of is the first one's. Raises ModelError for unknown tensors.
    """
    tail = Tail(file)
    if wanted:
        for name in wanted:
            if name not in tail.maker or name not in tail.active:
                known = [name for node in file.nodes for name in node.outputs[:1]][-3:]
                raise ModelError(
                    f"Outputs must be tensors of {file.path} that depend on its image, as"
                    f" {', '.join(known)}, not {name!r}."
                )
        return pruned(file, list(dict.fromkeys(wanted)))
    if not any(map(tail.is_layer, file.nodes)):
        return Ended(file, ())
    found: list[str] = []
    for name in file.outputs:
        maps = tail.maps(name)
        found += [each for each in maps if each not in found]
    return pruned(file, found)


def pruned(file: OnnxFile, outputs: list[str]) -> Ended:
    """Only what these tensors are made of."""
    if tuple(outputs) == file.outputs:
        return Ended(file, ())
    needed, kept = set(outputs), []
    for node in reversed(file.nodes):
        if needed & set(node.outputs):
            needed.update(node.inputs)
            kept.append(node)
    alive = {id(node) for node in kept}
    gone = [node for node in file.nodes if id(node) not in alive and node.kind != "Constant"]
    words = tuple(f"{node.kind} {node.name or node.outputs[0]!r}" for node in gone)
    return Ended(replace(file, nodes=tuple(reversed(kept)), outputs=tuple(outputs)), words)


class Tail:
    """What is known of a file's nodes: which depend on the image, and which no layer depends on."""

    def __init__(self, file: OnnxFile) -> None:
        self.file = file
        self.maker = {name: node for node in file.nodes for name in node.outputs if name}
        self.number = {name: k for k, n in enumerate(file.nodes) for name in n.outputs if name}
        self.active = {value.name for value in file.inputs}
        self.softmax: set[str] = set()
        for node in file.nodes:
            if self.active & set(node.inputs):
                self.active.update(node.outputs)
            if node.kind in ("Softmax", "LogSoftmax") or self.softmax & set(node.inputs):
                self.softmax.update(node.outputs)
        self.before_layers: set[str] = set()
        for node in reversed(file.nodes):
            if self.is_layer(node) or self.before_layers & set(node.outputs):
                self.before_layers.update(node.inputs)
        self.quantised = any(node.kind in QUANTISERS for node in file.nodes)
        self.cut: set[str] = set()
        for node in file.nodes:
            if self.active & set(node.outputs) and self.decodes(node):
                self.cut.update(node.outputs)

    def is_layer(self, node: Node) -> bool:
        """Whether a node has weights and is part of the network: the mean over bins behind a
        softmax, as DFL has it, is not."""
        if node.kind not in LAYERS or not self.active & set(node.inputs):
            return False
        weights = [name for name in node.inputs[1:] if name and name not in self.active]
        if node.kind == "MatMul" and not weights:
            return False
        return not (self.softmax & set(node.inputs) and all(map(self.is_line, weights)))

    def is_line(self, name: str) -> bool:
        """Whether a constant, quantised or not, is one line of values."""
        while name not in self.file.constants:
            node = self.maker.get(name)
            if node is None or node.kind not in QUANTISERS | {"Constant"} or not node.inputs:
                return False
            name = node.inputs[0]
        array = self.file.constants[name]
        return bool(array.size == max(array.shape, default=1))

    def decodes(self, node: Node) -> bool:
        """Whether a node is decoding."""
        if self.is_layer(node) or self.before_layers & set(node.outputs):
            return False
        if self.cut & set(node.inputs):
            return True
        table = node.kind == "Gather" and node.inputs[0] not in self.active
        if node.kind not in TAIL and not table:
            return True
        float_end = set(node.outputs) & set(self.file.outputs) and node.kind in SQUASHING
        return bool(self.quantised and float_end)

    def maps(self, output: str) -> list[str]:
        """The tensors that an output of the file is made of, in the file's order; the output itself
        where nothing of it is decoding."""
        if output not in self.cut:
            return [output]
        found, todo, seen = set[str](), [output], set[str]()
        while todo:
            name = todo.pop()
            if name in seen or name not in self.active:
                continue
            seen.add(name)
            if name not in self.cut:
                found.update(self.followed(name))
            elif self.maker[name].kind not in ("Shape", "Size"):
                todo += self.maker[name].inputs
        return sorted(found, key=lambda name: self.number.get(name, -1)) or [output]

    def followed(self, name: str) -> Iterable[str]:
        """The tensor, or what it joins or squashes for the decoding alone."""
        if name in self.before_layers or not self.joins(name):
            return [name]
        sources = [each for each in self.maker[name].inputs if each in self.active]
        return [each for source in sources for each in self.followed(source)]

    def joins(self, name: str) -> bool:
        """Whether a tensor of the tail joins or squashes others, quantised again or not."""
        node = self.maker.get(name)
        while node is not None and node.kind in QUANTISERS | {"Identity", "Cast", "Dropout"}:
            if node.inputs[0] in self.before_layers:
                return False
            node = self.maker.get(node.inputs[0])
        return node is not None and node.kind in SQUASHING | {
            "Concat", "QLinearConcat", "QLinearSigmoid"
        }  # fmt: skip
