"""Bounds, sums and products of the reals that an ONNX file computes, value by value."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

from intaglio import ops
from intaglio.exchange.from_onnx.linear import rounded_product
from intaglio.exchange.from_onnx.onnx_file import Node
from intaglio.exchange.from_onnx.places import Places
from intaglio.exchange.from_onnx.values import (
    Bordered,
    Codes,
    Floats,
    Joined,
    Part,
    Real,
    real_of,
    tabulated,
)
from intaglio.gates import gated
from intaglio.ops import Shape


class Elementwise(Places):
    """One method for each kind of operator."""

    def clamp(self, node: Node, x: Any, lo: Fraction | None, hi: Fraction | None) -> Any:
        """Bounds on a real value."""
        real = self.real(node, x)
        if isinstance(real, Joined):
            return Joined(tuple(self.clamp(node, part, lo, hi) for part in real.parts))
        if real.function is None:
            return real.clamped(lo, hi)
        low = -np.inf if lo is None else float(lo)
        high = np.inf if hi is None else float(hi)
        floats = real.floats and real.floats.clamped(lo, hi)
        return replace(real, function=np.clip(real.function, low, high), floats=floats)

    def clip(self, node: Node, x: list[Any]) -> Any:
        """Clip of reals, or of codes."""
        bounds: list[Fraction | None] = []
        for n, word in ((1, "min"), (2, "max")):
            value = self.array(node, n, node.attributes.get(word))
            number = np.asarray(np.nan if value is None else value, dtype=np.float64)
            if number.size != 1 or (value is not None and np.isnan(number).any()):
                raise node.refuse(f"its {word} must be one number that is not NaN.")
            limit = number.item()
            if value is None or limit == {"min": -np.inf, "max": np.inf}[word]:
                bounds.append(None)
            else:
                bounds.append(Fraction(min(max(limit, -(2.0**200)), 2.0**200)))
        lo, hi = bounds
        if lo is not None and hi is not None:
            lo = min(lo, hi)
        if isinstance(x[0], Codes):
            grid = x[0].grid
            step, zero = Fraction(float(grid.scale)), grid.zero
            low, high = ((v - zero) * step if v is not None else None for v in (lo, hi))
            return self.settle(real_of(x[0]).clamped(low, high), grid, node)
        return self.clamp(node, x[0], lo, hi)

    def elementwise(self, node: Node, x: list[Any]) -> Any:
        """Sums of two tensors; a constant's scaling or shift; x * f(x)."""
        a, b = (self.constant(v) for v in x[:2])
        if not active(a) and not active(b):
            raise node.refuse("one of its operands must be an activation, not a constant.")
        if active(a) and active(b):
            return self.combined(node, self.real(node, a), self.real(node, b))
        n = int(active(b))
        real, one = self.real(node, (a, b)[n]), np.ones(1)
        constant = self.spread(node, (b, a)[n], n).astype(np.float64)
        floats = self.stepped(node, real, constant, 1 - n)
        if n and node.kind == "Div":
            if floats is None:
                raise node.refuse("it must divide by a constant; quantise the quotient before.")
            return tabulated(floats)
        match node.kind:
            case "Mul":
                return self.affine(node, real, constant, 0 * one, floats)
            case "Div":
                with np.errstate(divide="ignore"):
                    return self.affine(node, real, 1 / constant, 0 * one, floats)
            case "Add":
                return self.affine(node, real, one, constant, floats)
        moved = constant if n else -constant
        return self.affine(node, real, -one if n else one, moved, floats)

    def combined(self, node: Node, first: Any, second: Any) -> Any:
        """Two activations."""
        if node.kind in ("Add", "Sub"):
            made = self.sum(node, first, second, 1 if node.kind == "Add" else -1)
            self.check_views(node, 0, 1)
            return made
        if node.kind == "Mul":
            return self.product(node, first, second)
        raise node.refuse("it must divide by a constant.")

    def product(self, node: Node, a: Any, b: Any) -> Real:
        """x * f(x), as SiLU and hard-swish are written: one table; else a gate."""
        places = (0, 3) if node.kind == "QLinearMul" else (0, 1)
        roots = [(v, w) for v in self.rooted(a) for w in self.rooted(b) if v.root == w.root]
        if not roots:
            return self.gate(node, a, b, places)
        self.check_views(node, *places)
        one, two = roots[0]
        values = one.reals * two.reals
        floats = None
        if self.runtime:
            floats = Floats((one.root,), values)
            linear = node.kind == "QLinearMul"
            type = one.grid.type if linear else self.on_codes.type_of(node)
            if type is not None:
                pair = (one.codes, one.grid), (two.codes, two.grid)
                floats = replace(floats, settled=partial(rounded_product, type, *pair))
        return Real((), codes=one.root, function=values, floats=floats)

    def gate(self, node: Node, a: Any, b: Any, places: tuple[int, int]) -> Real:
        """Two activations; one of them may have a single channel, row or column. What the runtime
        makes of two codes is a table of both, as it rounds more than once."""
        views = [self.view(node, n) for n in places]
        found = gated(self.shape(node, a), self.shape(node, b))
        alike = len(views[0]) == len(views[1])  # else their channels are not the same dimension
        if found is None or not alike:
            raise node.refuse(
                f"its operands must have one shape, or one of them sides of 1, not {views[0]} and"
                f" {views[1]}; enlarge the smaller one before, with Resize."
            )
        table = self.pairs_of(node, self.floats(a), self.floats(b), found.shape)
        if table is not None:
            return tabulated(table)
        self.note(node, "a product of wide codes")
        codes = [self.plain(v, node) for v in ((b, a) if found.swapped else (a, b))]
        one, two = (
            c if size is None else self.enlarged(node, c, (self.shape(node, c)[0], *size))
            for c, size in zip(codes, found.sizes, strict=True)
        )
        product = ops.Multiply(
            output=self.unique(f"{node.outputs[0]}.acc"), origin=node.name, a=one.name, b=two.name,
            zero_a=one.grid.zero, zero_b=two.grid.zero,
        )  # fmt: skip
        part = Part(self.builder.add(product), one.grid.scale, (two.grid.scale,), (0,))
        return Real((part,))

    def pairs_of(
        self, node: Node, a: Floats | None, b: Floats | None, shape: Shape
    ) -> Floats | None:
        """The runtime's products of every two codes; None where a table would be too large."""
        table = None if a is None or b is None else a.times(b)
        if table is None:
            return None
        codes = tuple(self.enlarged(node, c, shape) for c in table.codes)
        linear = node.kind == "QLinearMul"
        type = codes[0].grid.type if linear else self.on_codes.type_of(node)
        table = replace(table, codes=codes)
        if type is None:
            return table
        return replace(table, settled=partial(rounded_product, type, *table.pairs()))

    def enlarged(self, node: Node, codes: Codes, shape: Shape) -> Codes:
        """Codes of which a single channel, row or column is repeated."""
        channels, *size = self.builder.tensors[codes.name].shape
        if tuple(size) != shape[1:]:
            name = self.unique(f"{codes.name}.large")
            op = ops.Upsample(output=name, origin=node.name, input=codes.name, size=shape[1:])
            codes = self.placed(op, codes.grid)
        if channels == shape[0]:
            return codes
        name = self.unique(f"{codes.name}.repeated")
        repeated = (0,) * shape[0]
        select = ops.Select(output=name, origin=node.name, input=codes.name, channels=repeated)
        return self.placed(select, codes.grid)

    def check_views(self, node: Node, *places: int) -> None:
        """Operands of a sum must have one shape, so that none is repeated."""
        views = [self.view(node, n) for n in places]
        if len(set(views)) > 1:
            raise node.refuse(
                f"its operands must have one shape, not {views[0]} and {views[1]}; enlarge the"
                " smaller one before, with Resize."
            )


def active(value: Any) -> bool:
    """Whether it is an activation."""
    return isinstance(value, (Codes, Real, Joined, Bordered))
