"""Interpolate, in ONNX's operators: rows and columns gathered, and added by their weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from intaglio.exchange.to_onnx.graph import Graph
from intaglio.ops import Interpolate, Ints, Tensor
from intaglio.ops.interpolation import both


def write(graph: Graph, op: Interpolate, x: Tensor, source: str, kind: np.dtype[Any]) -> None:
    """The nodes of the operation on x, which is `source` in the graph: int64, or of any type where
    nothing is summed. The result is stored as `kind`."""
    out = op.output
    tables = [
        both(taps, side) for taps, side in zip((op.rows, op.columns), x.shape[1:], strict=True)
    ]
    if op.unit == 1:
        rows, columns = (table[:, 0] for table in tables)
        tall = gathered(graph, source, rows, 2, f"{out}.rows")
        gathered(graph, tall, columns, 3, out)
        return
    for axis, (name, table) in enumerate(zip(("rows", "columns"), tables, strict=True), 2):
        source = weighted(graph, source, table, axis, f"{out}.{name}")
    to = onnx.helper.np_dtype_to_tensor_dtype(kind)
    graph.node("Cast", [source], out, to=to)


def gathered(graph: Graph, source: str, places: Ints, axis: int, output: str) -> str:
    """Rows or columns by their numbers."""
    index = graph.constant(f"{output}.places", places.tolist(), np.int64)
    return graph.node("Gather", [source, index], output, axis=axis)


def weighted(graph: Graph, source: str, table: Ints, axis: int, name: str) -> str:
    """Two places of an axis by their weights."""
    parts, lines = [], (-1, 1) if axis == 2 else (-1,)
    for k in (0, 1):
        read = gathered(graph, source, table[:, k], axis, f"{name}.{k}")
        weights = table[:, 2 + k].reshape(lines).tolist()
        factor = graph.constant(f"{name}.{k}.weights", weights, np.int64)
        parts.append(graph.node("Mul", [read, factor], f"{name}.{k}.product"))
    return graph.node("Add", parts, name)
