"""Operations that choose channels and pixels, as slices, gathers and transposes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from intaglio.exchange.to_tosa.pieces import Pieces
from intaglio.ops import Crop, DepthToSpace, Op, Select, SpaceToDepth


class Choosing(Pieces):
    """One method for each of them."""

    def select(self, op: Select) -> None:
        """A run of channels is a SLICE; else a GATHER, behind which one of the value stands where
        it is asked for."""
        source, (_, h, w, c) = self.codes(op, op.input), self.shape(op.input)
        chosen = [c if channel < 0 else channel for channel in op.channels]
        if c in chosen:
            value = np.full((1, h, w, 1), op.value - self.held(op).less)
            more = self.graph.constant(f"{op.output}:value", value, self.held(op).dtype)
            dtype, shape = self.held(op).dtype, (1, h, w, c + 1)
            source = self.graph.add("CONCAT", [source, more], f"{op.output}:more", dtype, shape,
                                    axis=3)  # fmt: skip
        elif chosen == list(range(chosen[0], chosen[0] + len(chosen))):
            self.slice(op, source, (0, 0, 0, chosen[0]), self.shape(op.output), op.output)
            return
        rows = self.reshaped(op, source, (1, h * w, -1), "rows")
        planes = self.turned(op, rows, (0, 2, 1), "planes")
        found = self.gathered(op, planes, [chosen], "found")
        back = self.turned(op, found, (0, 2, 1), "back")
        self.reshaped(op, back, self.shape(op.output))

    def crop(self, op: Crop) -> None:
        """A SLICE; in steps, a GATHER of rows and one of the columns of each."""
        source = self.codes(op, op.input)
        (top, _, dy), (left, _, dx) = op.rows, op.columns
        if dy == dx == 1:
            self.slice(op, source, (0, top, left, 0), self.shape(op.output), op.output)
            return
        self.picked(op, source, list(range(*op.rows)), list(range(*op.columns)))

    def picked(self, op: Op, source: str, rows: Sequence[int], columns: Sequence[int]) -> None:
        """Rows, and columns of each, by their numbers."""
        _, h, w, c = self.graph.edges[source].shape
        whole = self.reshaped(op, source, (1, h, w * c), "rows")
        kept = self.gathered(op, whole, [rows], "kept")
        each = self.reshaped(op, kept, (len(rows), w, c), "each")
        found = self.gathered(op, each, [columns] * len(rows), "found")
        self.reshaped(op, found, self.shape(op.output))

    def rearrange(self, op: SpaceToDepth | DepthToSpace) -> None:
        """The pixels (dx, c) of a row of a block lie side by side on both sides, so that only rows
        and columns of blocks change places."""
        source, (_, h, w, c), (bh, bw) = self.codes(op, op.input), self.shape(op.input), op.block
        if isinstance(op, SpaceToDepth):
            parts = (h // bh, bh, w // bw, bw * c)
        else:
            parts = (h, w, bh, c // bh)
        split = self.reshaped(op, source, parts, "parts")
        self.reshaped(op, self.turned(op, split, (0, 2, 1, 3), "turned"), self.shape(op.output))

    # --- pieces: a name behind the operation's, or its own ---

    def slice(
        self, op: Op, x: str, start: Sequence[int], shape: tuple[int, ...], output: str
    ) -> None:
        ends = [self.graph.shape(start), self.graph.shape(shape)]
        self.graph.add("SLICE", [x, *ends], output, self.held(op).dtype, shape)

    def reshaped(self, op: Op, x: str, shape: tuple[int, ...], name: str = "") -> str:
        """One side of the shape may be -1."""
        size = int(np.prod(self.graph.edges[x].shape))
        shape = tuple(size // -int(np.prod(shape)) if n < 0 else n for n in shape)
        output = f"{op.output}:{name}" if name else op.output
        inputs = [x, self.graph.shape(shape)]
        return self.graph.add("RESHAPE", inputs, output, self.held(op).dtype, shape)

    def turned(self, op: Op, x: str, perms: tuple[int, ...], name: str) -> str:
        edge = self.graph.edges[x]
        shape = tuple(edge.shape[p] for p in perms)
        output = f"{op.output}:{name}"
        return self.graph.add("TRANSPOSE", [x], output, edge.dtype, shape, perms=perms)

    def gathered(self, op: Op, x: str, places: Sequence[Sequence[int]], name: str) -> str:
        """Of x (N, K, C) the entries of each n at its places (N, W)."""
        edge, output = self.graph.edges[x], f"{op.output}:{name}"
        indices = self.graph.constant(f"{output}.places", np.array(places), np.int32)
        shape = (edge.shape[0], len(places[0]), edge.shape[2])
        return self.graph.add("GATHER", [x, indices], output, edge.dtype, shape)
