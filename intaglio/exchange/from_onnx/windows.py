"""Operators of an ONNX graph that read a window or another place: pools, borders, resizing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np

from intaglio import forms, ops
from intaglio.exchange.from_onnx.onnx_file import Node
from intaglio.exchange.from_onnx.settling import Settling
from intaglio.exchange.from_onnx.values import Codes, Grid, Part, Real
from intaglio.sim.reference import nearest

ONE = np.float32(1)


class Windows(Settling):
    """Pools, Pad and Resize."""

    def mean(self, node: Node, x: Codes) -> Real:
        """Average pools: the exact sum, divided when it is quantised."""
        pool = self.pool(node, x)
        count = pool.kernel[0] * pool.kernel[1]
        name = self.builder.add(pool)
        part = Part(name, x.grid.scale, (ONE,), (x.grid.zero * count,), (Fraction(1, count),))
        return Real((part,))

    def linear_mean(self, node: Node, x: Codes, grid: Grid) -> Codes:
        """QLinearAveragePool and its global kind; the first has a form of its own in float32."""
        if node.attributes.get("channels_last"):
            raise node.refuse("its channels must come first.")
        plain = replace(node, kind=node.kind[7:])
        if plain.kind == "GlobalAveragePool" or self.arithmetic.product != "single":
            return self.settle(self.mean(plain, x), grid, node)
        reals = (
            forms.Real(float(x.grid.scale), x.grid.zero),
            forms.Real(float(grid.scale), grid.zero),
        )
        name = self.unique(node.outputs[0])
        pool = self.pool(plain, x)
        return Codes(forms.onnxruntime_average(self.builder, name, pool, reals, grid.type), grid)

    def pool(self, node: Node, x: Codes) -> ops.SumPool2d:
        """The sum of an average pool."""
        _, h, w = self.builder.tensors[x.name].shape
        a = node.attributes
        kernel, stride, padding = (h, w), (1, 1), (0, 0, 0, 0)
        if node.kind == "ReduceMean":
            axes = a.get("axes") or np.asarray(self.array(node, 1, [])).tolist()
            if sorted(v % 4 for v in axes) != [2, 3]:
                raise node.refuse("it must average over height and width (axes 2 and 3).")
        elif node.kind == "AveragePool":
            kernel, stride = pair(a.get("kernel_shape")), pair(a.get("strides"))
            padding = self.padding(node, x, kernel, stride, (1, 1))
            if a.get("ceil_mode") or (any(padding) and not a.get("count_include_pad")):
                raise node.refuse(
                    "its windows must all have one size: count_include_pad=1 or no padding, and no"
                    " ceil_mode."
                )
        return ops.SumPool2d(
            output=self.unique(f"{node.outputs[0]}.acc"), origin=node.name, input=x.name,
            kernel=kernel, stride=stride, padding=padding, pad_value=x.grid.zero,
        )  # fmt: skip

    def padding(
        self, node: Node, x: Codes, kernel: Sequence[int], stride: ops.Pair, dilation: ops.Pair
    ) -> ops.Padding:
        """Top, bottom, left, right from pads or auto_pad; more at the end for ceil_mode."""
        size, a = self.builder.tensors[x.name].shape[1:], node.attributes
        auto = a.get("auto_pad", b"NOTSET").decode()
        pads = list(a.get("pads") or (0, 0, 0, 0))
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
                pads[n + 2] = max((count - 1) * stride[n] + reach - size[n] - pads[n], 0)
        return pads[0], pads[2], pads[1], pads[3]

    def max_pool(self, node: Node, x: Codes) -> ops.Op:
        a = node.attributes
        kernel, stride, dilation = (
            pair(a.get(k)) for k in ("kernel_shape", "strides", "dilations")
        )
        return ops.MaxPool2d(
            output=self.unique(node.outputs[0]), origin=node.name, input=x.name, kernel=kernel,
            stride=stride, dilation=dilation,
            padding=self.padding(node, x, kernel, stride, dilation),
        )  # fmt: skip

    def pad(self, node: Node, x: Codes) -> ops.Op:
        """Constant borders."""
        if node.attributes.get("mode", b"constant") != b"constant":
            raise node.refuse("it must fill with a constant.")
        pads = node.attributes.get("pads") or self.array(node, 1)
        value = np.asarray(self.array(node, 2, node.attributes.get("value", 0))).item()
        integer = isinstance(self.value(node, node.inputs[0]), Codes)
        fill = int(value) if integer else x.grid.code(Fraction(value), 0)
        low, high = [int(v) for v in pads[:4]], [int(v) for v in pads[4:]]
        if any(low[:2] + high[:2]) or len(pads) != 8:
            raise node.refuse("it must pad height and width only.")
        return ops.Pad(
            output=self.unique(node.outputs[0]), origin=node.name, input=x.name,
            padding=(low[2], high[2], low[3], high[3]), value=fill,
        )  # fmt: skip

    def resize(self, node: Node, x: Codes) -> ops.Op:
        """Nearest neighbour, where it reads the pixels that `Upsample` reads."""
        a, size = node.attributes, self.builder.tensors[x.name].shape[1:]
        if a.get("mode", b"nearest") != b"nearest":
            raise node.refuse("it must enlarge by nearest neighbour, not bilinear; train with it.")
        if a.get("keep_aspect_ratio_policy", b"stretch") != b"stretch":
            raise node.refuse("it must stretch each side to its size; export it for one size.")
        places = (1, 2, 3) if node.kind == "Resize" else (9, 1, 9)
        scales, sizes = self.array(node, places[1]), self.array(node, places[2])
        axes = [v % 4 for v in a.get("axes", (0, 1, 2, 3))]
        if sizes is not None and np.size(sizes):
            given = dict(zip(axes, (int(v) for v in sizes), strict=True))
        else:
            factors = a["scales"] if scales is None else scales
            full = (1, self.shape(node, x)[0], *size)
            given = {n: int(full[n] * f) for n, f in zip(axes, factors, strict=True)}
        target = [given.get(2, size[0]), given.get(3, size[1])]
        for old, new in zip(size, target, strict=True):
            if new < old or not np.array_equal(source(a, old, new), nearest(old, new)):
                raise node.refuse(
                    "it must enlarge and read pixel floor(i * in / out), as 'asymmetric' with"
                    " 'floor' does; export it in that mode."
                )
        return ops.Upsample(
            output=self.unique(node.outputs[0]), origin=node.name, input=x.name,
            size=(target[0], target[1]),
        )  # fmt: skip


def source(attributes: dict[str, Any], old: int, new: int) -> Any:
    """The pixel that Resize reads for each of `new` ones, in exact arithmetic."""
    mode = attributes.get("coordinate_transformation_mode", b"half_pixel").decode()
    i = [Fraction(v) for v in range(new)]
    if mode in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        at = [(v + Fraction(1, 2)) * old / new - Fraction(1, 2) for v in i]
    elif mode == "align_corners":
        at = [v * (old - 1) / max(new - 1, 1) for v in i]
    else:
        at = [v * old / new for v in i]
    half = Fraction(1, 2)
    match attributes.get("nearest_mode", b"round_prefer_floor"):
        case b"floor":
            found = [floor(v) for v in at]
        case b"ceil":
            found = [ceil(v) for v in at]
        case b"round_prefer_ceil":
            found = [floor(v + half) for v in at]
        case _:
            found = [ceil(v - half) for v in at]
    return np.clip(np.array(found), 0, old - 1)


def pair(values: Any) -> ops.Pair:
    """Two sizes; 1 where they are left out."""
    return (int(values[0]), int(values[1])) if values else (1, 1)
