"""Torch's pooling, resampling and rearranging to nodes, one function each."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from intaglio.ops import Padding, Pair
from intaglio.quant.capture.graph import (
    Concat,
    MaxPool,
    Node,
    Pad,
    SumPool,
    Upsample,
)
from intaglio.quant.capture.site import Map, Site, Value, both_sides, pair


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


def upsample(site: Site) -> Node:
    """Nearest neighbour, where torch's source index is floor(i * in / out)."""
    x = site.map(next(iter(site.args)))
    (_, h, w), (_, oh, ow) = x.shape, site.shape()
    if oh < h or ow < w:
        raise site.refuse(f"the result must not be smaller than {h}x{w}; use a strided pool.")
    ramp = torch.arange(h * w, dtype=torch.float64).reshape(1, 1, h, w)
    rest: tuple[Any, ...] = tuple(site.args.values())[1:]
    expected = ramp[..., torch.arange(oh) * h // oh, :][..., torch.arange(ow) * w // ow]
    if not torch.equal(site.target(ramp, *rest), expected):
        raise site.refuse(
            f"source index must be floor(i * in / out) from {h}x{w} to {oh}x{ow}; give size="
            " instead of scale_factor, or a whole factor."
        )
    return Upsample(
        output=site.output, origin=site.origin, shape=(x.shape[0], oh, ow), input=x.name
    )


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
        parts=tuple(m.name for m in maps),
    )


def pad(site: Site) -> Node:
    """A constant border of rows and columns."""
    x, a = site.map("self"), site.args
    if a.get("mode", "constant") != "constant":
        raise site.refuse(f"mode must be 'constant', not {a['mode']!r}.")
    sides = [*a["pad"], 0, 0, 0, 0]
    left, right, top, bottom = sides[:4]
    if min(sides) < 0 or any(sides[4:]):
        raise site.refuse(f"a border must be of whole rows and columns, not {a['pad']}.")
    padding = (top, bottom, left, right)
    return Pad(
        output=site.output,
        origin=site.origin,
        shape=site.shape(),
        input=x.name,
        padding=padding,
        value=float(a["value"] or 0),
    )


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
    if batch == 2 and dims == list(x.shape):
        return Map(x.name, x.shape)
    if batch == 2 and dims == [size]:
        return Map(x.name, x.shape, flat=True)
    if batch == 2 and x.shape[1:] == (1, 1) and [d for d in dims if d != 1] == [x.shape[0]]:
        return Map(x.name, x.shape)
    if batch != 2:
        raise site.refuse(
            f"the first dimension must stay the number of images, not become {batch}; write"
            " x.shape[0] there, or flatten(1)."
        )
    raise site.refuse(
        f"a map {x.shape} must not be rearranged to {tuple(dims)}; return the map itself and"
        " rearrange it in decoding."
    )
