"""Operations that choose channels and pixels, in ONNX's operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.exchange.to_onnx.graph import Graph
from intaglio.ops import Crop, DepthToSpace, Select, SpaceToDepth, Tensor


def write(
    graph: Graph, op: Select | Crop | SpaceToDepth | DepthToSpace, x: Tensor, kind: np.dtype[Any]
) -> None:
    """The nodes of one operation on x, whose codes are stored as `kind`."""
    match op:
        case Select():
            select(graph, op, x, kind)
        case Crop():
            crop(graph, op)
        case SpaceToDepth() | DepthToSpace():
            rearrange(graph, op, x)


def select(graph: Graph, op: Select, x: Tensor, kind: np.dtype[Any]) -> None:
    """Gather of the channels, behind which one of the value stands where it is asked for."""
    source, out = op.input, op.output
    if -1 in op.channels:
        pads = graph.constant(f"{out}.pads", [0, 0, 0, 0, 0, 1, 0, 0], np.int64)
        fill = graph.constant(f"{kind}/{op.value}", op.value, kind)
        source = graph.node("Pad", [source, pads, fill], f"{out}.more", mode="constant")
    chosen = [x.shape[0] if c < 0 else c for c in op.channels]
    places = graph.constant(f"{out}.channels", chosen, np.int64)
    graph.node("Gather", [source, places], out, axis=1)


def crop(graph: Graph, op: Crop) -> None:
    """Slice of rows and columns."""
    ends = zip(op.rows, op.columns, strict=True)
    named = zip(("starts", "ends", "steps"), ends, strict=True)
    first, last, step = (graph.constant(f"{op.output}.{n}", v, np.int64) for n, v in named)
    axes = graph.constant(f"{op.output}.axes", [2, 3], np.int64)
    graph.node("Slice", [op.input, first, last, axes, step], op.output)


def rearrange(graph: Graph, op: SpaceToDepth | DepthToSpace, x: Tensor) -> None:
    """Reshape, Transpose, Reshape: runtimes have SpaceToDepth and DepthToSpace for few types."""
    (c, h, w), (bh, bw) = x.shape, op.block
    if isinstance(op, SpaceToDepth):
        split, order = [c, h // bh, bh, w // bw, bw], [0, 3, 5, 1, 2, 4]
        shape = [c * bh * bw, h // bh, w // bw]
    else:
        split, order = [bh, bw, c // (bh * bw), h, w], [0, 3, 4, 1, 5, 2]
        shape = [c // (bh * bw), h * bh, w * bw]
    ends = [
        graph.constant(f"{op.output}.{name}", [0, *sides], np.int64)
        for name, sides in (("split", split), ("shape", shape))
    ]
    parts = graph.node("Reshape", [op.input, ends[0]], f"{op.output}.parts")
    turned = graph.node("Transpose", [parts], f"{op.output}.turned", perm=order)
    graph.node("Reshape", [turned, ends[1]], op.output)
