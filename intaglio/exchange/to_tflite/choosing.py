"""Operations that choose channels and pixels: codes move, none is changed."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from intaglio.exchange.to_tflite.file import Type
from intaglio.exchange.to_tflite.layers import Layers
from intaglio.exchange.to_tflite.pieces import Edge
from intaglio.ops import Crop, DepthToSpace, Select, SpaceToDepth
from intaglio.ops.choosing import Steps


class Choosing(Layers):
    """One method for each."""

    def select(self, op: Select) -> None:
        """SLICE of neighbours, else GATHER along the channels; what is added is one channel more,
        of PADV2."""
        x, y = self.source(op, op.input), self.made(op)
        _, h, w, c = self.graph.shape(x.number)
        first, count = op.channels[0], len(op.channels)
        if op.channels == tuple(range(first, first + count)) and first >= 0:
            ends = [self.graph.ints("begin", [0, 0, 0, first]),
                    self.graph.ints("size", [1, h, w, count])]  # fmt: skip
            self.add("SLICE", [x.number, *ends], y, schema.SliceOptionsT())
            return
        source = x.number
        if -1 in op.channels:
            source = self.graph.tensor(f"{op.output}:more", (1, h, w, c + 1), Type.INT8, x.real)
            ends = [self.graph.ints("pads", [[0, 0], [0, 0], [0, 0], [0, 1]])]
            self.graph.add("PADV2", [x.number, *ends, self.code(x, op.value)], source,
                           schema.PadV2OptionsT())  # fmt: skip
        options = schema.GatherOptionsT()
        options.axis = 3
        index = self.graph.ints("channels", np.where(np.array(op.channels) < 0, c, op.channels))
        self.add("GATHER", [source, index], y, options)

    def crop(self, op: Crop) -> None:
        """STRIDED_SLICE."""
        x, y = self.source(op, op.input), self.made(op)
        self.strided(x, op.rows, op.columns, y.number)

    def strided(self, x: Edge, rows: Steps, columns: Steps, made: int) -> int:
        """Rows and columns of a map."""
        _, _, _, c = self.graph.shape(x.number)
        ends = [
            self.graph.ints(name, [own, r, k, last])
            for name, own, r, k, last in (
                ("begin", 0, rows[0], columns[0], 0),
                ("end", 1, rows[1], columns[1], c),
                ("strides", 1, rows[2], columns[2], 1),
            )
        ]
        return self.graph.add(
            "STRIDED_SLICE", [x.number, *ends], made, schema.StridedSliceOptionsT()
        )

    def to_depth(self, op: SpaceToDepth) -> None:
        """SPACE_TO_DEPTH; of other blocks than squares, slices joined."""
        x, y = self.source(op, op.input), self.made(op)
        (bh, bw), (_, h, w, c) = op.block, self.graph.shape(x.number)
        if bh == bw:
            self.add("SPACE_TO_DEPTH", [x.number], y, blocked(schema.SpaceToDepthOptionsT(), bh))
            return
        parts = []
        for k in range(bh * bw):
            part = self.graph.tensor(
                f"{op.output}:{k}", (1, h // bh, w // bw, c), Type.INT8, x.real
            )
            parts.append(self.strided(x, (k // bw, h, bh), (k % bw, w, bw), part))
        self.join(parts, y.number)

    def to_space(self, op: DepthToSpace) -> None:
        """DEPTH_TO_SPACE."""
        if op.block[0] != op.block[1]:
            raise op.refuse(
                f"its block must be a square in TFLite, not {op.block}; export it as .onnx or"
                " .tosa."
            )
        x, y = self.source(op, op.input), self.made(op)
        options = blocked(schema.DepthToSpaceOptionsT(), op.block[0])
        self.add("DEPTH_TO_SPACE", [x.number], y, options)


def blocked(options: Any, side: int) -> Any:
    """With a block of that side."""
    options.blockSize = side
    return options
