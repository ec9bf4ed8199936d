"""Interpolate as RESIZE, whose sums are those of the Program, or rows and columns gathered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from intaglio.exchange.to_tosa.choosing import Choosing
from intaglio.exchange.to_tosa.file import BILINEAR
from intaglio.exchange.to_tosa.scale import fits
from intaglio.ops import Interpolate, Pair, Tap
from intaglio.ops.interpolation import both

LARGEST = 1 << 11  # parts of a pixel that RESIZE counts in


class Resizing(Choosing):
    """Interpolate."""

    def interpolate(self, op: Interpolate) -> None:
        """RESIZE in bilinear mode gives sums of int32, whose unit is the product of both scales."""
        _, *sides = self.program.tensors[op.input].shape
        if op.unit == 1:
            tables = (
                both(taps, side) for taps, side in zip((op.rows, op.columns), sides, strict=True)
            )
            rows, columns = (table[:, 0].tolist() for table in tables)
            self.picked(op, self.codes(op, op.input), rows, columns)
            return
        source, less, out = self.codes(op, op.input, 8), self.held(op, op.input).less, op.output
        fits(op, 256 * op.unit, 0)
        scale: list[int] = []
        offset, border = [], []
        for taps, unit, side in zip((op.rows, op.columns), op.units, sides, strict=True):
            step = stepped(taps, unit, side)
            end = 0 if step is None else (len(taps) - 1) * step[0] - (side - 1) * unit + step[1]
            if step is None or unit > LARGEST or not (
                0 < step[0] < 16 * unit and -unit <= step[1] < 16 * unit
                and -16 * unit <= end < unit
            ):  # fmt: skip
                raise op.refuse(
                    f"its rows and columns must go on in even steps of at most {LARGEST} parts of a"
                    " pixel in TOSA; export it as .onnx."
                )
            scale += [unit, step[0]]
            offset.append(step[1])
            border.append(end)
        ends = [self.graph.shape(v) for v in (scale, offset, border)]
        made = f"{out}:less" if less else out
        self.graph.add("RESIZE", [source, *ends], made, np.int32, self.shape(out), mode=BILINEAR)
        if less:
            self.wide("ADD", made, [less * op.unit], out)


def stepped(taps: Sequence[Tap], unit: int, side: int) -> Pair | None:
    """(step, offset) with which tap i lies at i * step + offset parts of a pixel, moved into the
    image; None where there is none."""
    at = np.array([min(place * unit + ahead, (side - 1) * unit) for place, _, ahead in taps])
    i = np.arange(len(at))
    for step in sorted(set(np.diff(at).tolist()) - {0}, reverse=True) or [1]:
        for offset in sorted(set((at - i * step).tolist())):
            if np.array_equal(np.clip(i * step + offset, 0, (side - 1) * unit), at):
                return int(step), int(offset)
    return None
