"""What onnxruntime's `quantize_dynamic` made of a float network, made float again.

It gives weights integer codes and makes codes of activations in every run anew:
DynamicQuantizeLinear, ConvInteger or MatMulInteger, Cast, and a Mul by both scales. As floats that
is a Conv or MatMul of the activation with scale * (code - zero point).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from intaglio.exchange.from_onnx.onnx_file import Array, Node, OnnxFile

INTEGER = {"ConvInteger": "Conv", "MatMulInteger": "MatMul"}


def is_dynamic(file: OnnxFile) -> bool:
    """Whether a file quantises its activations in every run."""
    return any(node.kind == "DynamicQuantizeLinear" for node in file.nodes)


def undone(file: OnnxFile) -> OnnxFile:
    """The float network; the file itself where nothing is quantised so."""
    if not is_dynamic(file):
        return file
    undo = Undo(file)
    nodes = [made for node in file.nodes for made in undo.nodes(node)]
    return replace(file, nodes=tuple(nodes), constants=undo.constants)


class Undo:
    """Tensor by tensor: which are an activation's codes, scale and zero point."""

    def __init__(self, file: OnnxFile) -> None:
        self.file, self.constants = file, dict(file.constants)
        self.codes: dict[str, str] = {}  # the activation that codes are of
        self.scales: set[str] = set()  # of activations, 1 from here on

    def nodes(self, node: Node) -> list[Node]:
        """What a node becomes."""
        if node.kind == "DynamicQuantizeLinear":
            codes, scale, zero = (*node.outputs, "", "")[:3]
            self.codes[codes] = node.inputs[0]
            self.constants[scale] = np.array(1, np.float32)
            self.constants[zero] = np.array(0, np.uint8)
            self.scales.add(scale)
            return []
        if node.kind not in INTEGER:
            return [node]
        if len(node.inputs) < 2 or node.inputs[0] not in self.codes:
            raise node.refuse(
                "its input must be codes of DynamicQuantizeLinear; export the float network."
            )
        weight = self.weight(node)
        name = f"{node.outputs[0]}.weight"
        self.constants[name] = weight
        inputs = (self.codes[node.inputs[0]], name)
        return [replace(node, kind=INTEGER[node.kind], domain="", inputs=inputs)]

    def weight(self, node: Node) -> Array:
        """Code - zero point in float32; the scale is in the Mul behind."""
        codes = self.constants.get(node.inputs[1])
        zero = self.constants.get(node.inputs[3]) if len(node.inputs) > 3 else np.array(0)
        if codes is None or zero is None or codes.dtype.kind not in "iu":
            raise node.refuse("its weights must be constant integers; export the float network.")
        lines = [1] * codes.ndim
        if zero.size > 1:
            lines[0 if node.kind == "ConvInteger" else -1] = -1
        return codes.astype(np.float32) - zero.astype(np.float32).reshape(lines)
