"""LiteRT's reference kernels: a file's tensors, and functions of one code as tables.

They run in a process of their own, with a limit of time. A table is what the owner's kernel makes
of every code, not what a real function would be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from intaglio.exchange.from_tflite.flat import STORED, Array, File, Operator
from intaglio.exchange.from_tflite.magic import MAGIC
from intaglio.system.processes import run_apart

WORKER = Path(__file__).with_name("litert_worker.py")
SECONDS = 300.0
Kernels = Literal["reference", "xnnpack"]  # LiteRT's own, or as it runs by default


@dataclass(frozen=True)
class Answer:
    """Of one file: its tensors by number, (N, 1, ...); or LiteRT's words on why there are none."""

    tensors: Mapping[int, Array]
    words: str


def run(
    files: Mapping[str, tuple[bytes, Sequence[Array]]], seconds: float = SECONDS,
    kernels: Kernels = "reference",
) -> tuple[str, dict[str, Answer]]:  # fmt: skip
    """LiteRT's version, and of each (content, inputs (N, ...)) its answer: every tensor, or with
    XNNPACK the file's outputs."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        for name, (content, inputs) in files.items():
            (folder / f"{name}.tflite").write_bytes(content)
            named: dict[str, Any] = {f"in{n}": array for n, array in enumerate(inputs)}
            np.savez(folder / f"{name}.npz", **named)
        words = run_apart(WORKER, (folder, kernels), seconds) or "it left no answer"
        version = folder / "version"
        found = {name: answer(folder, name, words) for name in files}
        return version.read_text("utf-8") if version.exists() else "", found


def answer(folder: Path, name: str, words: str) -> Answer:
    """What the worker left for one file."""
    said, made = folder / f"{name}.answer", folder / f"{name}.results.npz"
    if said.exists():
        return Answer({}, said.read_text("utf-8")[:300])
    if not made.exists():
        return Answer({}, words)
    with np.load(made) as stored:
        return Answer({int(number): stored[number] for number in stored.files}, "")


def alone(file: File, operator: Operator, sides: tuple[int, int]) -> bytes:
    """A file of one operator, each of whose activations is (1, 1, *sides); a constant has one value
    or as many as the last side."""
    model = schema.ModelT()
    model.version = 3
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode = operator.code, min(operator.code, 127)
    code.version = operator.version
    model.operatorCodes, model.buffers = [code], [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs = [], []
    places: dict[int, int] = {}
    for number in (*operator.inputs, *operator.outputs):
        if number < 0 or number in places:
            continue
        flat, tensor = file.tensors[number], schema.TensorT()
        tensor.type = getattr(schema.TensorType, flat.kind)
        tensor.shape, tensor.name = [1, 1, *sides], f"t{number}"
        quantised = schema.QuantizationParametersT()
        quantised.scale, quantised.zeroPoint = list(flat.scales), list(flat.zeros)
        tensor.quantization = quantised
        if flat.data is not None:
            buffer = schema.BufferT()
            data: Array = np.ascontiguousarray(flat.data, STORED[tensor.type])
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            tensor.shape = [*[1] * (len(flat.shape) - 1), data.size] if flat.shape else []
            tensor.buffer = len(model.buffers)
            model.buffers.append(buffer)
        elif number in operator.inputs:
            graph.inputs.append(len(graph.tensors))
        places[number] = len(graph.tensors)
        graph.tensors.append(tensor)
    made = schema.OperatorT()
    made.inputs = [places.get(number, -1) for number in operator.inputs]
    made.outputs = [places[number] for number in operator.outputs]
    made.builtinOptionsType, made.builtinOptions = operator.options_kind, operator.options
    graph.operators, graph.outputs = [made], made.outputs
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), MAGIC)
    return bytes(builder.Output())


def opened(content: bytes, numbers: Sequence[int]) -> bytes:
    """A file with those tensors as its outputs, which XNNPACK then has to make."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    model.subgraphs[0].outputs = list(numbers)
    model.signatureDefs = None
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), MAGIC)
    return bytes(builder.Output())
