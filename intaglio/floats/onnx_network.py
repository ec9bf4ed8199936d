"""A float ONNX file as a torch module: its nodes in order, up to its last layers.

Constants are folded by the onnx package's reference evaluator, those that come of the image's size
when the size is known. Files of `quantize_dynamic` are read with their weights as floats, scale *
(code - zero point): what they quantise of the activations is left to calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from intaglio.errors import ModelError
from intaglio.exchange.cutting import ended
from intaglio.exchange.from_onnx.folding import BROADCAST, OTHERS, evaluate
from intaglio.exchange.from_onnx.onnx_file import Array, Node, OnnxFile, read
from intaglio.exchange.from_onnx.operators import LARGEST, NEWEST
from intaglio.floats.dynamic import is_dynamic, undone
from intaglio.floats.network import Call, FileNetwork, Operator, as_parameter
from intaglio.floats.onnx_layers import LAYERS, WEIGHTS, Loose, Site
from intaglio.floats.onnx_maps import MAPS

OLDEST = 7
OPEN = -1  # how some exporters write a size that is open
OPERATORS = LAYERS | MAPS
UNKNOWN = "a float network must not contain this operator; end before it (--outputs)."


class OnnxOperator(Operator):
    """One node, with its constant inputs."""

    def __init__(self, node: Node, opset: int, batch: int, weights: dict[int, nn.Parameter]):
        super().__init__()
        self.node, self.opset, self.batch, self.places = node, opset, batch, dict[int, str]()
        names = WEIGHTS.get(node.kind, "").split()
        for number, weight in weights.items():
            name = names[number - 1] if 1 <= number <= len(names) else f"input{number}"
            self.places[number] = name
            self.register_parameter(name, weight)

    def forward(self, *given: Any) -> Any:
        """The node's outputs; arrays where nothing of it depends on values of the image."""
        if self.node.kind in ("Shape", "Size") and isinstance(given[0], torch.Tensor):
            shape = np.array(given[0].shape, dtype=np.int64)
            start, end = self.node.attributes.get("start", 0), self.node.attributes.get("end")
            return np.prod(shape) if self.node.kind == "Size" else shape[start:end]
        whole = [
            getattr(self, self.places[n]) if n in self.places else each
            for n, each in enumerate(given)
        ]
        if not any(isinstance(each, (torch.Tensor, Loose)) for each in given):
            arrays = [each.numpy() if isinstance(each, torch.Tensor) else each for each in whole]
            return evaluate(self.node, arrays, self.opset)
        function = OPERATORS.get(self.node.kind)
        if function is None or self.node.domain:
            raise self.node.refuse(UNKNOWN)
        try:
            return function(Site(self.node, self.opset, self.batch, whole))
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
            said = str(error).strip().splitlines()
            raise self.node.refuse(
                f"its inputs must be those of its kind, but: {said[0].rstrip('.') if said else ''};"
                " export the model anew."
            ) from error


def onnx_network(path: Path, outputs: Sequence[str] = ()) -> FileNetwork:
    """The module of a float ONNX file, up to its last layers or up to the tensors `outputs`.

    Raises ModelError for a file that is none, is quantised, or has an input that is no image.
    """
    file = read(path)
    dynamic = is_dynamic(file)
    file = undone(file)
    check_float(file)
    (image,) = images(file)
    size, channels, batch = declared(image, path)
    ends = ended(file, outputs)
    network = Reader(ends.file, image.name, batch).network(size, channels, ends.cut)
    network.ends = bool(outputs)
    if dynamic:
        network.notes = (
            f"{path} was quantised by quantize_dynamic: its weights are read as floats, scale *"
            " (code - zero point); what it does to activations is left to calibration",
        )
    return network


class Reader:
    """Nodes to calls, with what is constant already."""

    def __init__(self, file: OnnxFile, image: str, batch: int) -> None:
        self.file, self.image, self.batch = file, image, batch
        self.known: dict[str, Array] = dict(file.constants)
        self.parameters: dict[str, nn.Parameter] = {}
        self.opset = file.opsets.get("", 1)

    def network(
        self, size: tuple[int, int] | None, channels: int | None, cut: Sequence[str]
    ) -> FileNetwork:
        """Every node that depends on the image as a call."""
        calls: list[tuple[str, Call]] = []
        used: set[str] = set()
        for node in self.file.nodes:
            if self.folded(node):
                continue
            self.check_known(node)
            weights = self.weights(node)
            operator = OnnxOperator(node, self.opset, self.batch, weights)
            inputs = tuple("" if n in weights else name for n, name in enumerate(node.inputs))
            used.update(inputs)
            calls.append((node.name or node.outputs[0], Call(operator, inputs, node.outputs)))
        known: dict[str, Any] = {name: self.known[name] for name in used if name in self.known}
        outputs = {name: name for name in self.file.outputs}
        return FileNetwork(
            calls, self.image, outputs, known, input_size=size, channels=channels, cut=cut
        )

    def check_known(self, node: Node) -> None:
        """Raises ModelError for an operator that is none of ours, unless it computes shapes."""
        known = node.kind in OPERATORS or node.kind in BROADCAST + OTHERS
        if node.domain or not known:
            raise node.refuse(UNKNOWN)

    def folded(self, node: Node) -> bool:
        """Whether a node is constant; then its value is known."""
        if node.kind == "Constant":
            self.known[node.outputs[0]] = constant(node)
            return True
        given = [name for name in node.inputs if name]
        if not given or not all(name in self.known for name in given):
            return False
        arrays = [self.known[name] if name else None for name in node.inputs]
        if node.kind == "Dropout":
            self.known[node.outputs[0]] = self.known[given[0]]
        else:
            self.known[node.outputs[0]] = evaluate(node, arrays, self.opset)
        return True

    def weights(self, node: Node) -> dict[int, nn.Parameter]:
        """The constant inputs that are weights, one parameter for each initialiser."""
        found = {}
        for number, name in enumerate(node.inputs):
            array = self.known.get(name)
            if array is None or array.dtype.kind != "f" or node.kind not in WEIGHTS:
                continue
            if number == 0 and node.kind not in ("Add", "Sub", "Mul", "Div"):
                continue
            if array.size == 1 and node.kind in ("Add", "Sub", "Mul", "Div"):
                continue
            found[number] = self.parameters.setdefault(name, as_parameter(array))
        return found


def constant(node: Node) -> Array:
    """The value of a Constant."""
    for name, value in node.attributes.items():
        if name == "value":
            return onnx.numpy_helper.to_array(value)
        if name in ("value_float", "value_floats"):
            return np.asarray(value, dtype=np.float32)
        if name in ("value_int", "value_ints"):
            return np.asarray(value, dtype=np.int64)
    raise node.refuse("it must have numbers as its value; export the model anew.")


def check_float(file: OnnxFile) -> None:
    """Raises ModelError for a quantised file, and for an operator set that is not known."""
    quantised = ("QuantizeLinear", "DequantizeLinear", "Quant", "IntQuant", "BipolarQuant")
    for node in file.nodes:
        if node.kind in quantised or node.kind.startswith(("QLinear", "QGemm")):
            raise ModelError(
                f"MODEL must be a float network, not {file.path}, which is quantised already"
                f" ({node.kind}): use `intaglio import {file.path} -o MODEL.intaglio`."
            )
    given = file.opsets.get("", 1)
    if not OLDEST <= given <= NEWEST:
        raise ModelError(
            f"{file.path} must be of operator set {OLDEST} to {NEWEST}, not {given}; convert it"
            " with onnx.version_converter."
        )


def images(file: OnnxFile) -> list[onnx.ValueInfoProto]:
    """The file's one input."""
    if len(file.inputs) != 1:
        names = ", ".join(value.name for value in file.inputs)
        raise ModelError(
            f"{file.path} must have one input, the image, not {len(file.inputs)} ({names});"
            " export the part that reads the image."
        )
    return list(file.inputs)


def declared(
    image: onnx.ValueInfoProto, path: Path
) -> tuple[tuple[int, int] | None, int | None, int]:
    """(H, W) where both are fixed, channels, and the images that the file is made for."""
    kind = image.type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") else 0 for d in kind.shape.dim]
    dims = [0 if side == OPEN else side for side in dims]
    if len(dims) != 4 or kind.elem_type != onnx.TensorProto.FLOAT:
        types, type = onnx.TensorProto.DataType, kind.elem_type
        word = types.Name(type).lower() if type in types.values() else f"type {type}"
        raise ModelError(
            f"{path}: its input {image.name!r} must be float32, N x C x H x W, not {word}"
            f" {dims}; export the network so."
        )
    batch, channels, height, width = dims
    if not all(0 <= side <= LARGEST for side in dims):
        raise ModelError(
            f"{path}: its input {image.name!r} must have at most {LARGEST} values a side, not"
            f" {dims}; export the network for a smaller image."
        )
    if channels > 4 >= width:
        raise ModelError(
            f"{path}: its input {image.name!r} must be N x C x H x W, channels first, not {dims};"
            " convert the network with channels first."
        )
    size = (height, width) if height and width else None
    return size, channels or None, max(batch, 1)
