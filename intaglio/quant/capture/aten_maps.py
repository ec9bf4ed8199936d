"""Torch's pooling, resampling and rearranging to nodes, one function each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from intaglio import ops
from intaglio.ops import Padding, Pair, Select, Tap
from intaglio.ops.choosing import is_upsampled
from intaglio.ops.interpolation import align_corners, between, half_pixel, nearest
from intaglio.quant.capture.graph import (
    Concat,
    Interpolate,
    MaxPool,
    Node,
    Pad,
    SumPool,
    Upsample,
)
from intaglio.quant.capture.replay import BATCH
from intaglio.quant.capture.site import Const, Map, Site, Value, both_sides, pair, seen_as
from intaglio.views import View, taken

NEAR = 1e-12  # a factor that is new / old
STEPS = 1 << 14  # of a pixel between two


def max_pool2d(site: Site) -> Node:
    """ceil_mode becomes padding at the bottom and right."""
    x, a = site.map("self"), site.args
    kernel, padding = pair(a["kernel_size"]), both_sides(a["padding"])
    stride, dilation = pair(a["stride"] or a["kernel_size"]), pair(a["dilation"])
    if a["ceil_mode"]:
        padding = reaching(site, x, kernel, stride, dilation, padding)
    return MaxPool(
        output=site.output,
        origin=site.origin,
        shape=site.shape(),
        input=x.name,
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        padding=padding,
    )


def reaching(
    site: Site, x: Map, kernel: Pair, stride: Pair, dilation: Pair, padding: Padding
) -> Padding:
    """`padding` with bottom and right enlarged until the last window fits."""
    top, bottom, left, right = padding
    _, oh, ow = site.shape()
    rows = (oh - 1) * stride[0] + dilation[0] * (kernel[0] - 1) + 1
    columns = (ow - 1) * stride[1] + dilation[1] * (kernel[1] - 1) + 1
    return (
        top,
        max(bottom, rows - x.shape[1] - top),
        left,
        max(right, columns - x.shape[2] - left),
    )


def max_pool2d_with_indices(site: Site) -> Value:
    """The decomposed form: values and (unused) indices."""
    return (max_pool2d(site), None)


def avg_pool2d(site: Site) -> Node:
    """Zeros outside the image count, as the divisor is one number."""
    x, a = site.map("self" if "self" in site.args else "input"), site.args
    kernel, padding = pair(a["kernel_size"]), both_sides(a["padding"])
    stride = pair(a["stride"] or a["kernel_size"])
    if any(padding) and not a["count_include_pad"] and a["divisor_override"] is None:
        raise site.refuse("padded average pooling must have count_include_pad=True or padding=0.")
    if a["ceil_mode"] and reaching(site, x, kernel, stride, (1, 1), padding) != padding:
        raise site.refuse("average pooling must have ceil_mode=False where windows overhang.")
    return sum_pool(site, x, kernel, stride, padding, a["divisor_override"])


def sum_pool(
    site: Site, x: Map, kernel: Pair, stride: Pair, padding: Padding, divisor: int | None = None
) -> Node:
    """An average as a sum and 1 / n."""
    channels, n = x.shape[0], divisor or kernel[0] * kernel[1]
    return SumPool(
        output=site.output,
        origin=site.origin,
        shape=site.shape(),
        input=x.name,
        scale=np.full(channels, 1 / n),
        shift=np.zeros(channels),
        kernel=kernel,
        stride=stride,
        padding=padding,
    )


def windows(site: Site, x: Map) -> Pair:
    """The kernel of an adaptive pool whose windows are all alike."""
    _, h, w = x.shape
    _, oh, ow = site.shape()
    if h % oh or w % ow:
        raise site.refuse(f"the output {oh}x{ow} must divide the map {h}x{w}; use a fixed kernel.")
    return h // oh, w // ow


def adaptive_avg_pool2d(site: Site) -> Node:
    """Including AdaptiveAvgPool2d(1), the global average."""
    x = site.map("self")
    kernel = windows(site, x)
    return sum_pool(site, x, kernel, kernel, (0, 0, 0, 0))


def adaptive_max_pool2d(site: Site) -> Value:
    """Values and (unused) indices."""
    x = site.map("self")
    kernel = windows(site, x)
    pool = MaxPool(
        output=site.output,
        origin=site.origin,
        shape=site.shape(),
        input=x.name,
        kernel=kernel,
        stride=kernel,
        dilation=(1, 1),
        padding=(0, 0, 0, 0),
    )
    return (pool, None)


def mean(site: Site) -> Node:
    """x.mean((2, 3)): the global average."""
    x = site.map("self")
    if x.flat or {d % 4 for d in site.args["dim"] or ()} != {2, 3}:
        raise site.refuse(f"a mean must be over dimensions (2, 3), not {site.args['dim']}.")
    _, h, w = x.shape
    return sum_pool(site, x, (h, w), (1, 1), (0, 0, 0, 0))


def upsample(site: Site) -> Value:
    """Nearest neighbour: what torch reads of a map of which no two pixels are alike."""
    x = site.map(next(iter(site.args)))
    (_, h, w), (_, oh, ow) = x.shape, site.shape()
    ramp = torch.arange(h * w, dtype=torch.float64).reshape(1, 1, h, w)
    rest: tuple[Any, ...] = tuple(site.args.values())[1:]
    read = site.target(ramp, *rest)[0, 0].long().numpy()
    rows, columns = read[:, 0] // w, read[0] % w
    if is_upsampled(rows, h) and is_upsampled(columns, w):
        return Upsample(
            output=site.output, origin=site.origin, shape=(x.shape[0], oh, ow), input=x.name
        )
    op = ops.Interpolate(output=site.output, input="", rows=nearest(rows), columns=nearest(columns))
    return site.chosen(x, [op])


def bilinear(site: Site) -> Node:
    """Two rows and two columns, by weights that are the exact ones of torch's places."""
    x, aligned = site.map(next(iter(site.args))), bool(site.args["align_corners"])
    given = site.args.get("scale_factors") or [
        site.args.get("scales_h"), site.args.get("scales_w")
    ]  # fmt: skip
    sides = zip(x.shape[1:], site.shape()[1:], given, strict=True)
    (rows, plain), (columns, too) = (taps_of(site, *side, aligned) for side in sides)
    unit = sum(rows[0][1:]) * sum(columns[0][1:])
    channels = x.shape[0]
    return Interpolate(
        output=site.output, origin=site.origin, shape=site.shape(), input=x.name,
        scale=np.full(channels, 1 / unit), shift=np.zeros(channels), rows=rows, columns=columns,
        aligned=aligned if plain and too else None,
    )  # fmt: skip


def taps_of(
    site: Site, old: int, new: int, factor: float | None, aligned: bool
) -> tuple[tuple[Tap, ...], bool]:
    """Rows or columns, and whether their distance is that of the sizes alone."""
    if aligned:
        return between(align_corners(old, new), old), True
    ratio = Fraction(old, new)
    if factor and abs(factor * ratio - 1) > NEAR:
        ratio = Fraction(1 / factor).limit_denominator(STEPS)
    taps = between(half_pixel(old, new, ratio), old)
    if sum(taps[0][1:]) > 2 * STEPS:
        raise site.refuse(
            f"a resize from {old} to {new} pixels must have weights of at most {2 * STEPS} steps;"
            " give size instead of scale_factor, or a rounder factor."
        )
    return taps, ratio == Fraction(old, new)


def concat(site: Site) -> Node:
    """Maps along the channels."""
    maps = site.args["tensors"]
    if not all(isinstance(m, Map) for m in maps):
        raise site.refuse("all operands must depend on the image; append constants by a Conv2d.")
    if any(m.flat and m.shape[1:] != (1, 1) for m in maps):
        raise site.refuse("maps must be joined before they are flattened.")
    if site.args["dim"] % len(site.result) != 1:
        raise site.refuse(f"maps must be joined along dimension 1, not {site.args['dim']}.")
    return Concat(
        output=site.output,
        origin=site.origin,
        shape=site.shape(),
        parts=tuple(site.settled(m).name for m in maps),
    )


def pad(site: Site) -> Value:
    """A constant border of rows and columns, and channels of the value."""
    x, a = site.map("self"), site.args
    if a.get("mode", "constant") != "constant":
        raise site.refuse(f"mode must be 'constant', not {a['mode']!r}.")
    left, right, top, bottom, before, after, *rest = [*a["pad"], 0, 0, 0, 0, 0, 0][:8]
    if min(a["pad"]) < 0 or any(rest):
        raise site.refuse(f"a border must be of whole rows, columns or channels, not {a['pad']}.")
    padding, value = (top, bottom, left, right), float(a["value"] or 0)
    node: Value = x
    if any(padding):
        shape = (x.shape[0], x.shape[1] + top + bottom, x.shape[2] + left + right)
        node = Pad(output=site.output, origin=site.origin, shape=shape, input=x.name,
                   padding=padding, value=value)  # fmt: skip
    if not before + after:
        return node
    if any(padding):
        site.scope.nodes[node.output] = node
        x = Map(node.output, node.shape)
    channels = (*[-1] * before, *range(x.shape[0]), *[-1] * after)
    name = f"{site.output}.channels"
    return site.chosen(x, [Select(output=name, input="", channels=channels)], value)


def identity(site: Site) -> Value:
    """The same map."""
    return next(iter(site.args.values()))


def copied(site: Site) -> Value:
    """`a.copy_(b)`: b, if it is as large as a."""
    b = site.args["src"]
    if not isinstance(b, Map):
        raise site.refuse("a map must not be overwritten by a constant; leave it out.")
    if b.flat or b.shape != site.shape():
        raise site.refuse(
            f"a map {b.shape} must not be copied over one of another shape {site.shape()}."
        )
    return b


def dropout(site: Site) -> Value:
    """Nothing, outside training."""
    if site.args.get("train"):
        raise site.refuse("dropout must be inactive; use nn.Dropout, which eval() switches off.")
    return identity(site)


def reshape(site: Site) -> Value:
    """Flattening, its inverse, and dimensions of size 1; the batch stays the first."""
    x = next(iter(site.args.values()))
    if not isinstance(x, Map):
        raise site.refuse("the operand must depend on the image; precompute the result.")
    batch, *dims = site.result
    size = x.shape[0] * x.shape[1] * x.shape[2]
    if x.view is None and batch == BATCH:
        if dims == list(x.shape):
            return Map(x.name, x.shape)
        if dims == [size]:
            return Map(x.name, x.shape, flat=True)
        if x.shape[1:] == (1, 1) and [d for d in dims if d != 1] == [x.shape[0]]:
            return Map(x.name, x.shape)
    view = x.seen.reshaped(site.result)
    if view is None and x.view is not None and len(x.view.axes) == 4:
        x = site.settled(x)
        view = x.seen.reshaped(site.result)
    if view is not None and (view.starts_with_images or not x.seen.starts_with_images):
        return seen_as(x.name, view)
    if batch != BATCH:
        raise site.refuse(
            f"the first dimension must stay the number of images, not become {batch}; write"
            " x.shape[0] there, or flatten(1)."
        )
    raise site.refuse(
        f"a map {x.shape} must not be rearranged to {tuple(dims)}; return the map itself and"
        " rearrange it in decoding."
    )


def expand(site: Site) -> Value:
    """A map whose single channel, row or column is repeated; else a shape like its own."""
    x = next(iter(site.args.values()))
    batch, *dims = site.result
    plain = isinstance(x, Map) and not x.flat and x.view is None
    if not plain or batch != BATCH or len(dims) != 3 or tuple(dims) == x.shape:
        return reshape(site)
    if any(n not in (1, m) for n, m in zip(x.shape, dims, strict=True)):
        return reshape(site)
    channels, *size = x.shape
    node: Value = x
    if size != dims[1:]:
        shape = (channels, dims[1], dims[2])
        node = Upsample(output=site.output, origin=site.origin, shape=shape, input=x.name)
    if channels == dims[0]:
        return node
    if node is not x:
        site.scope.nodes[node.output] = node
        x = Map(node.output, node.shape)
    name = f"{site.output}.channels"
    return site.chosen(x, [Select(output=name, input="", channels=(0,) * dims[0])])


# --- other axes, and parts ----------------------------------------------------------------------


def turned(site: Site) -> Value:
    """permute, transpose, movedim: the same values along other axes."""
    x, a = site.args["self"], site.args
    count = len(x.seen.axes)
    order = list(range(count))
    if "dims" in a:
        order = [d % count for d in a["dims"]]
    elif "source" in a:
        source, target = ([d % count for d in listed(a[k])] for k in ("source", "destination"))
        order = [d for d in order if d not in source]
        for at, d in sorted(zip(target, source, strict=True)):
            order.insert(at, d)
    else:
        ends = [v for k, v in a.items() if k != "self"] or [0, 1]
        first, second = (d % count for d in ends)
        order[first], order[second] = second, first
    return seen_as(x.name, x.seen.transposed(order))


def listed(value: int | list[int]) -> list[int]:
    """One number or several."""
    return [value] if isinstance(value, int) else list(value)


def pixel_shuffle(site: Site) -> Value:
    """Channels (c, dy, dx) as the pixels of blocks."""
    x, n = site.map("self"), site.args["upscale_factor"]
    c, h, w = x.shape
    return viewed(site, x, (c // (n * n), n, n, h, w), (0, 1, 4, 2, 5, 3))


def pixel_unshuffle(site: Site) -> Value:
    """The pixels of blocks as channels (c, dy, dx)."""
    x, n = site.map("self"), site.args["downscale_factor"]
    c, h, w = x.shape
    return viewed(site, x, (c, h // n, n, w // n, n), (0, 1, 3, 5, 2, 4))


def channel_shuffle(site: Site) -> Value:
    """Groups of channels one into the other."""
    x, groups = site.map(next(iter(site.args))), site.args["groups"]
    c, h, w = x.shape
    return viewed(site, x, (groups, c // groups, h, w), (0, 2, 1, 3, 4))


def viewed(site: Site, x: Map, parts: Sequence[int], order: Sequence[int]) -> Value:
    """The result of a reshape of each image to `parts`, a permutation, and a reshape."""
    split = x.seen.reshaped((BATCH, *parts))
    view = None if split is None else split.transposed(order).reshaped(site.result)
    if view is None:
        raise site.refuse(f"its groups must divide a map {x.shape}.")
    return site.settled(seen_as(x.name, view))


def part(site: Site, x: Map, dim: int, places: Sequence[int], *, gone: bool = False) -> Map:
    """The `places` of one axis, which is `gone` afterwards if that is asked for."""
    dim %= len(x.seen.axes)
    found = taken(x.seen, dim, places)
    if found is None and x.view is not None:
        return part(site, site.settled(x), dim, places, gone=gone)
    if found is None:
        raise site.refuse(
            "a map must not be taken apart but in channels, and rows and columns in even steps."
        )
    op, view = found
    name = x.name if op is None else site.chosen(x, [replace(op, output=site.output)]).name
    if gone:
        view = View(view.shape, view.axes[:dim] + view.axes[dim + 1 :])
    return seen_as(name, view)


def sliced(site: Site) -> Value:
    """x[:, a:b:c] and narrow."""
    x, a = site.args["self"], site.args
    dim = a["dim"] % len(x.seen.axes)
    side = x.seen.sides[dim]
    if "length" in a:
        start = a["start"] % side if side else 0
        return part(site, x, dim, range(start, start + a["length"]))
    return part(site, x, dim, range(*slice(a["start"], a["end"], a["step"]).indices(side)))


def one_of(site: Site) -> Value:
    """x[:, k], without the axis."""
    x, a = site.args["self"], site.args
    side = x.seen.sides[a["dim"] % len(x.seen.axes)]
    return part(site, x, a["dim"], [a["index"] % side], gone=True)


def indexed(site: Site) -> Value:
    """x[:, [2, 1, 0]] and index_select, by constants."""
    x, a = site.args["self"], site.args
    if not isinstance(x, Map):
        raise site.refuse("only a map can be indexed, by constants.")
    given = (
        a["indices"] if "indices" in a else [None] * (a["dim"] % len(x.seen.axes)) + [a["index"]]
    )
    used = [k for k, index in enumerate(given) if index is not None]
    if len(used) != 1 or not isinstance(given[used[0]], Const) or given[used[0]].value.ndim != 1:
        raise site.refuse("a map must be indexed by one list of constants.")
    dim, index = used[0], given[used[0]].value
    side = x.seen.sides[dim]
    if index.dtype == torch.bool:
        index = index.nonzero()[:, 0]
    return part(site, x, dim, [int(k) % side for k in index])


def flipped(site: Site) -> Value:
    """Channels in the other order."""
    x = site.args["self"]
    for dim in site.args["dims"]:
        side = x.seen.sides[dim]
        x = part(site, x, dim, range(side - 1, -1, -1))
    return x


def split(site: Site) -> Value:
    """chunk, split, unbind: a map for each part."""
    x, a = site.args["self"], site.args
    dim = a.get("dim", 0) % len(x.seen.axes)
    side = x.seen.sides[dim]
    if site.op == "unbind":
        return tuple(part(site, x, dim, [k], gone=True) for k in range(side))
    if site.op == "chunk":
        size: int | list[int] = -(-side // a["chunks"])
    else:
        size = a["split_size"] if "split_size" in a else a["split_sizes"]
    sizes = size if isinstance(size, list) else [size] * -(-side // size)
    firsts = [0, *np.cumsum(sizes).tolist()]
    ends = pairwise(firsts)
    return tuple(part(site, x, dim, range(first, min(last, side))) for first, last in ends)
