"""Products of two maps: MUL, which repeats sides of 1 as a Program does."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from intaglio.channels.spans import Spans
from intaglio.exchange.to_tflite.choosing import Choosing
from intaglio.exchange.to_tflite.layers import rounded
from intaglio.exchange.to_tflite.pieces import REMEDY
from intaglio.forms import quantized_multiplier, tflite_product
from intaglio.ops import Multiply, Requant, rounding_of
from intaglio.program import Builder


class Gates(Choosing):
    """A product and the Requant that reads it, as one operator."""

    def multiplied(self, op: Requant, product: Multiply) -> None:
        """MUL, where M and S are those that the kernel computes of three scales."""
        self.check_rounding(op, rounding_of(op, self.program.arithmetic))
        a, b, y = (self.source(product, product.a), self.source(product, product.b), self.made(op))
        if (a.zero, b.zero) != (product.zero_a, product.zero_b):
            raise op.refuse(f"its zero points must be those of its operands in TFLite; {REMEDY}.")
        m, s = quantized_multiplier(tflite_product(a.real.scale, b.real.scale, y.real.scale))
        if not self.rescaled_by(op, product, m, s):
            raise op.refuse(
                f"its factor must be that of its tensors' scales, without a bias, in TFLite;"
                f" {REMEDY}."
            )
        options = schema.MulOptionsT()
        options.fusedActivationFunction, behind = self.clamped(y, op.lo, op.hi)
        self.add("MUL", [a.number, b.number], y, options, behind)

    def rescaled_by(self, op: Requant, product: Multiply, m: int, s: int) -> bool:
        """Whether every product that can come becomes the code that (m, 0, s) makes of it: a
        channel that is always the same may have another M and B."""
        rows = self.rows(op)
        if all(row == (m, 0, s) for row in rows):
            return True
        builder = Builder(self.program.arithmetic)
        builder.constants = dict(self.program.constants)
        builder.ops, builder.tensors = list(self.program.ops), dict(self.program.tensors)
        span = Spans(builder)[product.output]
        return all(
            row == (m, 0, s)
            or (
                row[0] == 0
                and len(set(codes_of(op, row, ends) + codes_of(op, (m, 0, s), ends))) == 1
            )
            for row, ends in zip(rows, zip(*map(np.ndarray.tolist, span), strict=True), strict=True)
        )


def codes_of(op: Requant, row: tuple[int, int, int], products: tuple[int, ...]) -> list[int]:
    """What (M, B, S) makes of products."""
    m, b, s = row
    found: list[int] = rounded(np.array(products) * m + b, s, op.offset, op).tolist()
    return found
