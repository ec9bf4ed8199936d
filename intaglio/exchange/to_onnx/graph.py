"""An ONNX graph as it grows, and the file made of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from intaglio.program import Program
from intaglio.system.disk import whole_file

Array = NDArray[Any]

OPSET = 21  # the first in which QuantizeLinear knows 16-bit integers
PRODUCER = "intaglio"
IR_VERSION = 10  # of that opset's release
MICROSOFT = "com.microsoft"  # onnxruntime's own quantised operators


class Graph:
    """Nodes and initialisers in order. Tensors are (N, C, H, W) with N left open."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.values: list[onnx.ValueInfoProto] = []
        self.domains: set[str] = set()

    def constant(self, name: str, value: Any, dtype: Any) -> str:
        """An initialiser; the same name twice is the same array."""
        if name not in self.initializers:
            array = np.array(value, dtype=dtype, order="C")
            self.initializers[name] = numpy_helper.from_array(array, name)
        return name

    def node(
        self, kind: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: Any
    ) -> str:
        """Append a node named after its only output, and return that."""
        self.domains.add(domain)
        self.nodes.append(
            helper.make_node(kind, list(inputs), [output], output, domain=domain, **attributes)
        )
        return output

    def describe(self, name: str, dtype: Any, shape: Sequence[int]) -> onnx.ValueInfoProto:
        """Type and (N, C, H, W) of a tensor, as viewers show it."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return helper.make_tensor_value_info(name, kind, ["N", *shape])

    def model(self, program: Program, form: str) -> onnx.ModelProto:
        """The checked model, with what the Program says about itself as metadata."""
        graph = helper.make_graph(
            self.nodes,
            "intaglio",
            self.inputs,
            self.outputs,
            list(self.initializers.values()),
            f"{form} form of a Program in {program.arithmetic.name} arithmetic",
            self.values,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        opsets += [helper.make_opsetid(d, 1) for d in sorted(self.domains - {""})]
        model = helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=IR_VERSION,
            producer_name=PRODUCER,
        )
        notes = {
            "intaglio.form": form,
            "intaglio.digest": program.digest(),
            "intaglio.meta": json.dumps(program.meta, sort_keys=True),
        }
        helper.set_model_props(model, notes)
        onnx.checker.check_model(model, full_check=True)
        return model


def is_own(path: Path) -> bool:
    """Whether a file was written here."""
    try:
        return str(onnx.load(path, load_external_data=False).producer_name) == PRODUCER
    except Exception:  # protobuf's own kinds, and whatever damaged bytes raise
        return False


def write(model: onnx.ModelProto, path: Path) -> None:
    """The file appears whole or not at all."""
    with whole_file(path) as part:
        part.write_bytes(model.SerializeToString())
