"""Operators of an ONNX graph that read a window or another place: pools, borders, resizing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from math import ceil, floor
from typing import Any

import numpy as np

from intaglio import forms, ops
from intaglio.exchange.from_onnx.linear import run_as
from intaglio.exchange.from_onnx.onnx_file import Node
from intaglio.exchange.from_onnx.operators import LARGEST
from intaglio.exchange.from_onnx.resizing import Resizing, four
from intaglio.exchange.from_onnx.values import (
    TABLE_BITS,
    Bordered,
    Codes,
    Floats,
    Grid,
    Part,
    Real,
    real_of,
)
from intaglio.fixed import IntType

ONE = np.float32(1)


class Windows(Resizing):
    """Pools and Pad."""

    def mean(self, node: Node, x: Codes) -> Real:
        """Average pools: the exact sum, divided when it is quantised."""
        pool = self.pool(node, x)
        count = pool.kernel[0] * pool.kernel[1]
        name = self.builder.add(pool)
        part = Part(name, x.grid.scale, (ONE,), (x.grid.zero * count,), (Fraction(1, count),))
        return Real((part,), floats=self.mean_floats(node, name, x.grid, count))

    def mean_floats(self, node: Node, total: str, grid: Grid, count: int) -> Floats | None:
        """The runtime's average, as a table of the sum: it adds reals one by one, whose sum may be
        the next float32 where their scale is no power of two."""
        self.note(node, "an average adds floats")
        run = self.on_codes.type_of(node)
        type = self.builder.tensors[total].type
        if not self.runtime or type.bits > TABLE_BITS or (run and node.kind != "AveragePool"):
            return None
        codes = Codes(total, Grid(type, grid.scale, grid.zero * count))
        mean = codes.grid.reals(np.float32) / np.float32(count)
        return Floats((codes,), mean, partial(rounded_mean, mean, run) if run else None)

    def linear_mean(self, node: Node, x: Codes, grid: Grid) -> Codes:
        """QLinearAveragePool and its global kind; the first has a form of its own in float32."""
        if node.kind == "QLinearGlobalAveragePool" or self.arithmetic.product != "single":
            return self.settle(replace(self.mean(node, x), floats=None), grid, node)
        self.note(node, "an average adds floats")
        reals = (
            forms.Real(float(x.grid.scale), x.grid.zero),
            forms.Real(float(grid.scale), grid.zero),
        )
        name = self.unique(node.outputs[0])
        pool = self.pool(node, x)
        return Codes(forms.onnxruntime_average(self.builder, name, pool, reals, grid.type), grid)

    def pool(self, node: Node, x: Codes) -> ops.SumPool2d:
        """The sum of an average pool."""
        _, h, w = self.builder.tensors[x.name].shape
        a = node.attributes
        fields: dict[str, Any] = {"kernel": (h, w)}
        if node.kind == "ReduceMean":
            if sorted(four(node, self.ints(node, "axes", 1))) != [2, 3]:
                raise node.refuse(
                    "it must average over height and width (axes 2 and 3), as GlobalAveragePool;"
                    " cut the model before it."
                )
            if not a.get("keepdims", 1):
                self.views[node.outputs[0]] = (self.batch, self.builder.tensors[x.name].shape[0])
        elif node.kind.endswith("AveragePool") and "Global" not in node.kind:
            fields = self.walk(node, (h, w))
            plain = replace(node, attributes=a | {"ceil_mode": 0})
            if fields != self.walk(plain, (h, w)) or (
                any(fields["padding"]) and not a.get("count_include_pad")
            ):
                raise node.refuse(
                    "its windows must all have one size: count_include_pad=1 or no padding, and no"
                    " ceil_mode that adds windows."
                )
        return ops.SumPool2d(
            output=self.unique(f"{node.outputs[0]}.acc"), origin=node.name, input=x.name,
            pad_value=x.grid.zero, **fields,
        )  # fmt: skip

    def walk(self, node: Node, size: ops.Pair) -> dict[str, Any]:
        """Kernel, stride, dilation and padding of a pool over a map of `size`."""
        kernel, stride, dilation = (
            self.pair(node, name) for name in ("kernel_shape", "strides", "dilations")
        )
        auto = node.attributes.get("auto_pad", b"NOTSET")
        distant = any(d > 1 < k for d, k in zip(dilation, kernel, strict=True))
        if auto.startswith(b"SAME") and distant:
            raise node.refuse(
                "auto_pad SAME and dilations must not come together, as runtimes differ; give pads."
            )
        padding = self.padding(node, size, kernel, stride, dilation)
        reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
        if max(padding[:2]) >= reach[0] or max(padding[2:]) >= reach[1]:
            raise node.refuse("its pads must be smaller than its window; pad with Pad before it.")
        return {"kernel": kernel, "stride": stride, "dilation": dilation, "padding": padding}

    def pair(self, node: Node, name: str) -> ops.Pair:
        """Two sizes of an attribute; 1 where they are left out."""
        values = node.attributes.get(name)
        if values is not None and len(values) != 2:
            raise node.refuse(f"its {name} must be two numbers, not {len(values)}.")
        return (int(values[0]), int(values[1])) if values else (1, 1)

    def padding(
        self, node: Node, size: ops.Pair, kernel: Sequence[int], stride: ops.Pair,
        dilation: ops.Pair,
    ) -> ops.Padding:  # fmt: skip
        """Top, bottom, left, right from pads or auto_pad; more at the end for ceil_mode."""
        a = node.attributes
        auto = a.get("auto_pad", b"NOTSET").decode()
        pads = list(a.get("pads") or (0, 0, 0, 0))
        if len(pads) != 4:
            raise node.refuse(f"its pads must be four numbers, not {len(pads)}.")
        if auto != "NOTSET" and any(pads):
            raise node.refuse("it must have pads or auto_pad, not both.")
        for n in (0, 1):
            reach = dilation[n] * (kernel[n] - 1) + 1
            if auto.startswith("SAME"):
                total = max((-(-size[n] // stride[n]) - 1) * stride[n] + reach - size[n], 0)
                low = total // 2 if auto == "SAME_UPPER" else total - total // 2
                pads[n], pads[n + 2] = low, total - low
            elif a.get("ceil_mode"):
                count = -(-(size[n] + pads[n] + pads[n + 2] - reach) // stride[n]) + 1
                if (count - 1) * stride[n] >= size[n] + pads[n]:
                    count -= 1
                pads[n + 2] = max((count - 1) * stride[n] + reach - size[n] - pads[n], pads[n + 2])
        return pads[0], pads[2], pads[1], pads[3]

    def max_pool(self, node: Node, x: Codes, border: ops.Padding = (0, 0, 0, 0)) -> ops.Op:
        """`border`: pixels around x that are lower than its lowest code."""
        _, h, w = self.builder.tensors[x.name].shape
        fields = self.walk(node, (h + border[0] + border[1], w + border[2] + border[3]))
        padding = tuple(a + b for a, b in zip(fields["padding"], border, strict=True))
        return ops.MaxPool2d(
            output=self.unique(node.outputs[0]), origin=node.name, input=x.name,
            **fields | {"padding": padding},
        )  # fmt: skip

    def max_pooled(self, node: Node, x: Any) -> Any:
        """A pool of codes, of what they stand for, or of that with a border of minus infinity."""
        if not isinstance(x, Bordered):
            codes = self.plain(self.real(node, x), node)
            return self.moved(x, codes.grid, self.max_pool(node, codes))
        grid = x.codes.grid
        if x.value > float(grid.scale) * (grid.type.lo - grid.zero):
            self.real(node, x)
        return self.moved(x, grid, self.max_pool(node, x.codes, x.padding))

    def pad(self, node: Node, x: Any) -> Any:
        """Constant borders of height and width, and channels of the same constant."""
        codes = self.plain(self.real(node, x), node)
        pads = self.ints(node, "pads", 1) or []
        axes = four(node, self.ints(node, "axes", 3))
        if len(pads) != 2 * len(axes) or len(set(axes)) != len(axes):
            raise node.refuse(
                "its pads must be two numbers for each axis, and each axis named once."
            )
        ends = dict(zip(axes, zip(pads[: len(axes)], pads[len(axes) :], strict=True), strict=True))
        if any(ends.get(0, ())):
            raise node.refuse("it must not pad images; leave the first axis as it is.")
        padding, more = (*ends.get(2, (0, 0)), *ends.get(3, (0, 0))), ends.get(1, (0, 0))
        if not all(0 <= p <= LARGEST for p in (*padding, *more)):
            raise node.refuse(
                f"its pads must be 0 to {LARGEST}; export a model that cuts nothing off."
            )
        value = self.array(node, 2, np.asarray(node.attributes.get("value", 0)))
        if value.size != 1 or np.isnan(np.asarray(value, np.float64)).any():
            raise node.refuse("it must pad with one number that is not NaN.")
        number = float(value.item())
        grid, fill = codes.grid, codes.grid.zero
        if isinstance(x, Codes):
            if not (np.isfinite(number) and grid.type.holds(floor(number), ceil(number))):
                raise node.refuse(f"it must pad with a code of {grid.type}, not {number:g}.")
            fill = int(number)
        elif np.isfinite(number) and grid.exactly(Fraction(number)) is not None:
            fill = grid.exactly(Fraction(number)) or 0
        elif any(more):
            raise node.refuse(
                f"the channels that it adds are {number:g}, which no code of scale"
                f" {float(grid.scale):g} stands for; pad with 0."
            )
        elif any(padding):
            return Bordered(codes, padding, number)
        name = self.unique(f"{node.outputs[0]}.border" if any(more) else node.outputs[0])
        op: ops.Op = ops.Pad(
            output=name, origin=node.name, input=codes.name, padding=padding, value=fill
        )
        if any(more):
            source = self.placed(op, grid) if any(padding) else codes
            own = range(self.builder.tensors[source.name].shape[0])
            op = ops.Select(
                output=self.unique(node.outputs[0]), origin=node.name, input=source.name,
                channels=(*[-1] * more[0], *own, *[-1] * more[1]), value=fill,
            )  # fmt: skip
        return self.moved(x, grid, op)

    def settle_border(self, x: Bordered, grid: Grid, node: Node) -> Codes:
        """A border whose value is quantised together with the inside."""
        inside = self.settle(real_of(x.codes), grid, node, f"{node.outputs[0]}.inside")
        lowest, highest = grid.type.lo, grid.type.hi
        fill = lowest if x.value < 0 else highest
        if np.isfinite(x.value):
            fill = int(grid.codes(np.array(x.value, self.precision)))
        op = ops.Pad(
            output=self.unique(node.outputs[0]), origin=node.name, input=inside.name,
            padding=x.padding, value=fill,
        )  # fmt: skip
        return self.placed(op, grid)


def rounded_mean(mean: Any, type: IntType, grid: Grid) -> Any:
    """Codes of averages as the runtime's operator on codes of `type` rounds them."""
    less, there = run_as(type, np.zeros(1, np.int64), grid)
    return forms.onnxruntime_rounded(mean, float(there.scale), there.zero, there.type) - less
