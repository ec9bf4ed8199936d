"""An ONNX file as nodes with attributes and constants, and its own words for refusals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_model

from intaglio.errors import ModelError
from intaglio.fixed import IntType

Array = NDArray[Any]
TYPES = {
    kind: IntType(bits, signed)
    for bits in (2, 4, 8, 16, 32)
    for signed in (False, True)
    if (kind := getattr(onnx.TensorProto, f"{'' if signed else 'U'}INT{bits}", None)) is not None
}


@dataclass(frozen=True)
class Node:
    """One node: operator, names of tensors, attributes as Python values."""

    kind: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]

    def refuse(self, sentence: str) -> ModelError:
        """An error that names this node."""
        return ModelError(f"{self.kind} {self.name or self.outputs[0]!r}: {sentence}")


@dataclass(frozen=True)
class OnnxFile:
    """`inputs` and `outputs` are the graph's, initialisers left out; `opsets` the version of each
    domain."""

    path: Path
    nodes: tuple[Node, ...]
    inputs: tuple[onnx.ValueInfoProto, ...]
    outputs: tuple[str, ...]
    constants: dict[str, Array]
    types: dict[str, IntType]  # of integer constants, sub-byte ones included
    opsets: dict[str, int]


def read(path: Path) -> OnnxFile:
    """Raises ModelError for a file that is missing, is no ONNX model, or makes a tensor twice."""
    if not path.is_file():
        raise ModelError(f"{path} must be an existing .onnx file.")
    damaged = f"{path} must be a whole ONNX model, not a damaged file"
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf raises many kinds
        raise ModelError(f"{damaged}.") from error
    try:
        load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # onnx raises many kinds
        raise ModelError(
            f"{path} must have the files of its weights beside it, as it was saved with external"
            " data; copy them too."
        ) from error
    try:
        graph = model.graph
        constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        nodes = tuple(node_of(n) for n in graph.node)
        values = [*graph.input, *graph.output, *graph.initializer]
        check_text([v.name for v in values] + [s.domain for s in model.opset_import])
    except Exception as error:  # protobuf and onnx raise many kinds
        raise ModelError(f"{damaged}.") from error
    if not nodes:
        raise ModelError(f"{damaged}.")
    if graph.sparse_initializer:
        raise ModelError(f"{path} must have no sparse initialisers; store its constants densely.")
    functions = {(f.domain, f.name) for f in model.functions}
    for node in nodes:
        if not node.outputs or not node.outputs[0]:
            raise ModelError(f"{damaged}: one of its {short_text(node.kind)} nodes has no output.")
        if (node.domain, node.kind) in functions:
            raise node.refuse(
                "it must be an operator, not a function of the file; inline those with"
                " onnx.inliner.inline_local_functions."
            )
    inputs = tuple(v for v in graph.input if v.name not in constants)
    made = [v.name for v in inputs] + list(constants)
    made += [name for n in nodes for name in n.outputs if name]
    if len(made) != len(set(made)) or len(constants) != len(graph.initializer):
        (twice, _), *_ = Counter(made).most_common(1) or [("an initialiser", 2)]
        raise ModelError(f"{path} must make each tensor once, not {twice!r} twice; export it anew.")
    types = {t.name: TYPES[t.data_type] for t in graph.initializer if t.data_type in TYPES}
    outputs = tuple(v.name for v in graph.output)
    opsets = {standard(s.domain): s.version for s in model.opset_import}
    return OnnxFile(path, in_order(nodes), inputs, outputs, constants, types, opsets)


def in_order(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """The nodes such that each comes behind those that it reads, else as they are: the standard
    asks for it, onnxruntime does not, and some quantisers append nodes at the end. Those that wait
    for each other come last."""
    made = {name for node in nodes for name in node.outputs if name}
    waiting = [{name for name in node.inputs if name in made} for node in nodes]
    readers: dict[str, list[int]] = {}
    for n, names in enumerate(waiting):
        for name in names:
            readers.setdefault(name, []).append(n)
    ready = [n for n, names in enumerate(waiting) if not names]
    found: list[int] = []
    while ready:
        n = heappop(ready)
        found.append(n)
        for name in nodes[n].outputs:
            for reader in readers.get(name, ()):
                waiting[reader].discard(name)
                if not waiting[reader]:
                    heappush(ready, reader)
    rest = sorted(set(range(len(nodes))) - set(found))
    return tuple(nodes[n] for n in (*found, *rest))


def node_of(proto: onnx.NodeProto) -> Node:
    """A node as Python values. Raises ValueError for an attribute without a type, or names that
    are no text."""
    check_text([proto.op_type, proto.name, proto.domain, *proto.input, *proto.output])
    return Node(
        short_text(proto.op_type),
        standard(proto.domain),
        short_text(proto.name),
        tuple(proto.input),
        tuple(proto.output),
        {a.name: helper.get_attribute_value(a) for a in proto.attribute},
    )


def check_text(names: Sequence[Any]) -> None:
    """Raises ValueError where damaged bytes are no text."""
    if not all(isinstance(name, str) for name in names):
        raise ValueError("names must be text")


def standard(domain: str) -> str:
    """The standard's domain has two names."""
    return "" if domain == "ai.onnx" else domain


def int_type(array: Array) -> IntType | None:
    """The integer type of an array, those of 2 and 4 bits included; None for others."""
    kind = array.dtype.name.removeprefix("u")
    bits = kind.removeprefix("int")
    if not kind.startswith("int") or bits not in ("2", "4", "8", "16", "32"):
        return None
    return IntType(int(bits), not array.dtype.name.startswith("u"))


def short_text(text: str) -> str:
    """A name that is printed: on one line, of at most 200 letters."""
    return text[:200] if text.isprintable() else repr(text[:200])


def single(node: Node, scale: Array) -> Array:
    """Scales as float32. Those of QLinearMatMul may be float16: it scales codes alone, and float32
    holds them exactly; between Q and DQ nodes values themselves would be float16."""
    if scale.dtype == np.float32 or (scale.dtype == np.float16 and node.kind == "QLinearMatMul"):
        return scale.astype(np.float32)
    raise node.refuse(f"its scale must be float32, not {scale.dtype}; quantise in float32.")
