"""Values that are functions of one tensor's codes: tables, as every arithmetic has them, and the
floats of the runtime behind them where its own is chosen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from intaglio.exchange.from_onnx.functions import tabulate
from intaglio.exchange.from_onnx.linear import rounded_product, rounded_sum
from intaglio.exchange.from_onnx.onnx_file import Node
from intaglio.exchange.from_onnx.qonnx import Qonnx
from intaglio.exchange.from_onnx.values import (
    MOST_ENTRIES,
    Codes,
    Floats,
    Grid,
    Real,
    real_of,
    tabulated,
)
from intaglio.fixed import IntType

U8 = IntType(8, False)


@dataclass(frozen=True)
class Rooted:
    """A function of the codes of `root`: reals, and the codes on `grid` that they stand for."""

    root: Codes
    reals: Any
    codes: Any
    grid: Grid


class Pointwise(Qonnx):
    """Functions of one value, and operators with one constant."""

    def stepped(self, node: Node, real: Any, constant: Any, place: int) -> Floats | None:
        """The runtime's floats behind an elementwise operator with one constant, its input number
        `place`; where it runs that on codes, its codes."""
        floats = self.floats(real)
        type = self.on_codes.type_of(node)
        if floats is None:
            return None
        if constant.size > 1:
            small = constant.size * floats.reals.shape[-1] <= MOST_ENTRIES
            if real.function is None or type is not None or not small:
                return None
            return floats.step(node.kind, constant.reshape(-1, 1), place == 0)
        made = floats.step(node.kind, constant.reshape(-1)[0], place == 0)
        if type is None:
            return made
        grid = real.codes.grid
        codes = np.arange(grid.type.lo, grid.type.hi + 1)
        source = self.maker(node.inputs[place])
        other = self.grid(source, source.inputs[1:], self.types.get(source.inputs[0], U8))
        code = np.full_like(codes, int(np.asarray(self.array(source, 0)).reshape(-1)[0]))
        rule = partial(rounded_sum if node.kind == "Add" else rounded_product, type)
        one, two = (codes, grid), (code, other)
        return replace(made, settled=partial(rule, *((one, two) if place else (two, one))))

    def rooted(self, real: Any) -> Iterator[Rooted]:
        """A value as a function of the codes that it comes from, the nearest first."""
        floats = self.floats(real)
        if floats is not None and len(floats.codes) == 1:
            (root,), reals = floats.codes, floats.reals
        elif isinstance(real, Real) and real.codes is not None:
            root, reals = real.codes, self.reals(real)
        elif id(real) in self.wide:
            root = self.wide[id(real)][1]
            reals = root.grid.reals(self.precision)
        else:
            return
        grid = root.grid
        codes = np.arange(grid.type.lo, grid.type.hi + 1)
        yield Rooted(root, reals, codes, grid)
        while root.name in self.derived:
            source, table = self.derived[root.name]
            reals, codes = (behind(v, table - root.grid.type.lo) for v in (reals, codes))
            root = source
            yield Rooted(root, reals, codes, grid)

    def reals(self, real: Real) -> Any:
        """The real value of every code of `real.codes`, bounds applied."""
        assert real.codes is not None
        if real.function is not None:
            return real.function
        low, high = (None if v is None else float(v) for v in (real.lo, real.hi))
        reals = real.codes.grid.reals(self.precision)
        return reals if low is high is None else np.clip(reals, low, high)

    def function(self, node: Node, x: list[Any]) -> Real:
        """A function of codes, tabulated."""
        real, slope = self.real(node, x[0]), None
        if node.kind == "PRelu":
            slope = self.slopes(node, self.constant(x[1]))
        floats = self.floats(real)
        if node.kind == "Sqrt":
            self.check_root(node, real, floats)
        if floats is not None:
            self.check_entries(node, slope, floats.reals)
            return tabulated(Floats(floats.codes, tabulate(node, floats.reals, slope)))
        if not isinstance(real, Real) or real.codes is None:
            return self.function(node, [real_of(self.plain(real, node)), *x[1:]])
        reals = self.reals(real)
        self.check_entries(node, slope, reals)
        return Real((), codes=real.codes, function=tabulate(node, reals, slope))

    def check_entries(self, node: Node, slope: Any, reals: Any) -> None:
        """Tables of all channels must be of a size that a machine can hold."""
        if slope is not None and len(slope) * reals.shape[-1] > MOST_ENTRIES:
            raise node.refuse(
                f"its tables must have at most {MOST_ENTRIES} entries in all channels, not"
                f" {len(slope)} x {reals.shape[-1]}; quantise its input to 8 bits."
            )

    def slopes(self, node: Node, constant: Any) -> Any:
        """PRelu's second input: (1,), or (C, 1) of channels that differ."""
        if not isinstance(constant, np.ndarray):
            raise node.refuse("its slope must be constant; fold constants (onnxsim).")
        line = self.spread(node, self.finite(node, constant, "its slope"), 0)
        if (line == line[0]).all():
            return line[:1]
        return line[:, None]

    def check_root(self, node: Node, real: Any, floats: Floats | None) -> None:
        """Sqrt is no number below 0."""
        if floats is not None:
            low = floats.reals.min() < 0
        else:
            codes = self.plain(real, node)
            low = self.builder.tensors[codes.name].lo < codes.grid.zero
        if low:
            raise node.refuse(
                "its input must not be below 0; quantise it with its zero point at the lowest code."
            )


def behind(values: Any, places: Any) -> Any:
    """values[places], each (codes,), or (C, codes) of channels that differ."""
    if values.ndim == 1:
        return values[places]
    return np.take_along_axis(values, np.broadcast_to(places, (len(values), places.shape[-1])), 1)
