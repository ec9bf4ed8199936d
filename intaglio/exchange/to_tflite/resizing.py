"""Interpolate: RESIZE_NEAREST_NEIGHBOR, RESIZE_BILINEAR, or rows and columns gathered."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from intaglio.errors import ProgramError
from intaglio.exchange.from_tflite.resizing import nearest_places
from intaglio.exchange.to_tflite.file import Type
from intaglio.exchange.to_tflite.gates import Gates
from intaglio.exchange.to_tflite.pieces import REMEDY
from intaglio.forms import RESIZE_BITS, tflite_taps
from intaglio.ops import Interpolate, Ints, Requant, rounding_of
from intaglio.ops.interpolation import both

MODES = ((False, False), (False, True), (True, False))  # aligned corners, half pixel centres


class Resizing(Gates):
    """Of a map, with the Requant that rounds it."""

    def picked(self, op: Interpolate) -> None:
        """Rows and columns by their numbers."""
        x, y = self.source(op, op.input), self.made(op)
        _, h, w, c = self.graph.shape(x.number)
        rows, columns = (table[:, 0] for table in (both(op.rows, h), both(op.columns, w)))
        for aligned, half in MODES:
            found = (
                nearest_places(old, new, aligned=aligned, half=half)
                for old, new in zip((h, w), op.size, strict=True)
            )
            if all(map(np.array_equal, found, (rows, columns))):
                options = schema.ResizeNearestNeighborOptionsT()
                options.alignCorners, options.halfPixelCenters = aligned, half
                inputs = [x.number, self.graph.ints("size", op.size)]
                self.add("RESIZE_NEAREST_NEIGHBOR", inputs, y, options)
                return
        tall = self.graph.tensor(f"{op.output}:rows", (1, len(rows), w, c), Type.INT8, x.real)
        self.gathered(x.number, rows, 1, tall)
        self.gathered(tall, columns, 2, y.number)

    def gathered(self, x: int, places: Ints, axis: int, made: int) -> None:
        """GATHER along an axis."""
        options = schema.GatherOptionsT()
        options.axis = axis
        self.graph.add("GATHER", [x, self.graph.ints("places", places)], made, options)

    def interpolated(self, op: Requant, total: Interpolate) -> None:
        """RESIZE_BILINEAR, whose weights and rounding these must be."""
        x, y, shift = self.source(total, total.input), self.made(op), 2 * RESIZE_BITS
        wanted = {(1, -x.less << shift, shift)}
        plain = set(self.rows(op)) == wanted and op.offset == x.less
        rounding = rounding_of(op, self.program.arithmetic)
        mode = self.mode(total)
        if mode is None or not plain or rounding != "RND_INF" or (x.real, x.less) != (
            y.real, y.less,
        ):  # fmt: skip
            raise op.refuse(
                "it must resize as TFLite does: weights in 1024ths, one scale and zero point on"
                f" both sides, no function merged with it; {REMEDY}."
            )
        options = schema.ResizeBilinearOptionsT()
        options.alignCorners, options.halfPixelCenters = mode
        t = self.program.tensors[total.input]
        behind = [("MAXIMUM", op.lo)] * (op.lo > t.lo) + [("MINIMUM", op.hi)] * (op.hi < t.hi)
        inputs = [x.number, self.graph.ints("size", total.size)]
        self.add("RESIZE_BILINEAR", inputs, y, options, behind)

    def mode(self, op: Interpolate) -> tuple[bool, bool] | None:
        """The options that give its weights."""
        _, *sides = self.program.tensors[op.input].shape
        for aligned, half in MODES:
            try:
                found = tuple(
                    tflite_taps(old, new, aligned=aligned, half=half)
                    for old, new in zip(sides, op.size, strict=True)
                )
            except ProgramError:
                continue
            if found == (op.rows, op.columns):
                return aligned, half
        return None
