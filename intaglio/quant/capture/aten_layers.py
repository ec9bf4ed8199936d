"""Torch's layers and arithmetic to nodes, one function each: convolutions, norms, activations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf

import numpy as np
import torch

from intaglio.gates import gated
from intaglio.ops import Padding, Pair
from intaglio.quant.capture.graph import (
    Add,
    Affine,
    Conv,
    Floats,
    Lookup,
    Multiply,
    Node,
    Upsample,
)
from intaglio.quant.capture.one_tensor import Function, common_root, product, quotient
from intaglio.quant.capture.replay import BATCH
from intaglio.quant.capture.site import Const, Map, Site, Value, both_sides, pair
from intaglio.transposed import phases


def affine(
    site: Site, x: Map, scale: Floats, shift: Floats, lo: float = -inf, hi: float = inf
) -> Node:
    """clamp(scale * x + shift, lo, hi)."""
    return Affine(
        output=site.output,
        origin=site.origin,
        shape=x.shape,
        input=x.name,
        scale=scale,
        shift=shift,
        lo=lo,
        hi=hi,
    )


# --- convolution --------------------------------------------------------------------------------


def conv2d(site: Site) -> Value:
    """conv2d with numbers, conv2d with padding='same' or 'valid', and `convolution`."""
    x, weight = site.map(), site.const("weight")
    if weight.value.ndim != 4:
        raise site.refuse(f"the kernel must be 2-d, not {weight.value.ndim - 2}-d.")
    if site.args.get("transposed"):
        return conv_transpose2d(site)
    kernel, dilation = weight.value.shape[2:], pair(site.args["dilation"])
    padding = site.args["padding"]
    if isinstance(padding, str):
        sums = [
            d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)
        ]
        sides = (sums[0] // 2, sums[0] - sums[0] // 2, sums[1] // 2, sums[1] - sums[1] // 2)
    else:
        sides = both_sides(padding)
    return conv(site, x, weight, weight.array(), pair(site.args["stride"]), dilation, sides)


def conv(
    site: Site, x: Map, weight: Const, array: Floats, stride: Pair, dilation: Pair, padding: Padding
) -> Node:
    """A Conv node with the site's bias."""
    bias = site.args["bias"]
    channels = array.shape[0]
    return Conv(
        output=site.output,
        origin=site.origin,
        shape=site.shape(),
        input=x.name,
        scale=np.ones(channels),
        shift=np.zeros(channels) if bias is None else site.const("bias").array(),
        weight=site.scope.weight(weight.name or f"{site.output.split('@')[0]}.weight", array),
        stride=stride,
        dilation=dilation,
        padding=padding,
        groups=site.args.get("groups", 1),
    )


def conv_transpose2d(site: Site) -> Value:
    """A convolution whose channels are the places of a block, and their spreading."""
    x, a = site.map(), site.args
    weight = site.const("weight")
    if weight.value.ndim != 4:
        raise site.refuse(f"the kernel must be 2-d, not {weight.value.ndim - 2}-d.")
    _, *size = x.shape
    _, *result = site.shape()
    made = phases(
        weight.array(), (size[0], size[1]), (result[0], result[1]), pair(a["stride"]),
        pair(a["padding"]), dilation=pair(a["dilation"]), groups=a["groups"],
    )  # fmt: skip
    count, _, kh, kw = made.weight.shape
    top, bottom, left, right = made.padding
    bias = np.zeros(count) if a["bias"] is None else site.const("bias").array()
    node = Conv(
        output=f"{site.output}.phases" if made.behind else site.output,
        origin=site.origin,
        shape=(count, size[0] + top + bottom - kh + 1, size[1] + left + right - kw + 1),
        input=x.name,
        scale=np.ones(count),
        shift=bias if a["bias"] is None else bias[list(made.repeated)],
        weight=site.scope.weight(weight.name or f"{site.output.split('@')[0]}.weight", made.weight),
        stride=(1, 1),
        dilation=(1, 1),
        padding=made.padding,
        groups=made.groups,
    )
    if not made.behind:
        return node
    site.scope.nodes[node.output] = node
    steps = [replace(op, output=f"{site.output}.{n}") for n, op in enumerate(made.behind)]
    steps[-1] = replace(steps[-1], output=site.output)
    return site.chosen(Map(node.output, node.shape), steps)


def linear(site: Site) -> Node:
    """A Linear layer is a convolution whose kernel covers the whole map."""
    x, weight = site.args["input"], site.const("weight")
    if not isinstance(x, Map):
        raise site.refuse("operand 'input' must depend on the image; precompute the result.")
    count = x.shape[0] * x.shape[1] * x.shape[2]
    if x.seen.sides != (BATCH, count):
        raise site.refuse("Linear must read a flattened map; use a 1x1 Conv2d on (N, C, H, W).")
    places = x.seen.lines(np.arange(BATCH * count).reshape(BATCH, *x.shape))[:count]
    array = weight.array()[:, np.argsort(places)].reshape(-1, *x.shape)
    return conv(site, x, weight, array, (1, 1), (1, 1), (0, 0, 0, 0))


# --- per channel: norms, constants, clamps ------------------------------------------------------


def batch_norm(site: Site) -> Value:
    """Running statistics as scale and shift."""
    x, a = site.map(), site.args
    if a.get("training") or a["running_mean"] is None:
        raise site.refuse("a batch norm must use running statistics; train it with them.")
    spread = np.sqrt(site.const("running_var").array() + a["eps"])
    scale = (np.ones(x.shape[0]) if a["weight"] is None else site.const("weight").array()) / spread
    shift = np.zeros(x.shape[0]) if a["bias"] is None else site.const("bias").array()
    return affine(site, x, scale, shift - scale * site.const("running_mean").array())


def batch_norm_with_statistics(site: Site) -> Value:
    """The decomposed form: values and (unused) statistics."""
    return (batch_norm(site), None, None)


def relu(site: Site) -> Node:
    """max(x, 0)."""
    return clamped(site, 0.0, inf)


def relu6(site: Site) -> Node:
    """min(max(x, 0), 6)."""
    return clamped(site, 0.0, 6.0)


def hardtanh(site: Site) -> Node:
    """A clamp; ReLU6 is exported as this."""
    return clamped(site, site.args["min_val"], site.args["max_val"])


def clamp(site: Site) -> Node:
    """clamp, clamp_min, clamp_max with numbers."""
    lo, hi = site.args.get("min"), site.args.get("max")
    if isinstance(lo, (Map, Const)) or isinstance(hi, (Map, Const)):
        raise site.refuse("bounds must be numbers.")
    return clamped(site, -inf if lo is None else lo, inf if hi is None else hi)


def clamped(site: Site, lo: float, hi: float) -> Node:
    """clamp(x, lo, hi); hi everywhere if lo is above it, as in torch."""
    x = site.map("input" if "input" in site.args else "self")
    c = x.shape[0]
    return affine(site, x, np.ones(c), np.zeros(c), min(float(lo), float(hi)), float(hi))


def add(site: Site) -> Node:
    """Two maps, or a map and a constant; `sub` is the same with -alpha."""
    a, b = site.args["self"], site.args["other"]
    alpha = float(site.args.get("alpha", 1)) * (1 if site.op == "add" else -1)
    if isinstance(a, Map) and isinstance(b, Map):
        a, b = site.map("self"), site.map("other")
        if a.shape != b.shape:
            raise site.refuse(f"both maps must have one shape, not {a.shape} and {b.shape}.")
        return Add(
            output=site.output, origin=site.origin, shape=a.shape, a=a.name, b=b.name, beta=alpha
        )
    if isinstance(a, Map):
        a = site.map("self")
        return affine(site, a, np.ones(a.shape[0]), alpha * site.per_channel(b, a))
    b = site.map("other")
    return affine(site, b, np.full(b.shape[0], alpha), site.per_channel(a, b))


def rsub(site: Site) -> Node:
    """other - alpha * self."""
    x = site.map("self")
    scale = np.full(x.shape[0], -float(site.args["alpha"]))
    return affine(site, x, scale, site.per_channel(site.args["other"], x))


def neg(site: Site) -> Node:
    """-x."""
    x = site.map("self")
    return affine(site, x, np.full(x.shape[0], -1.0), np.zeros(x.shape[0]))


def mul(site: Site) -> Node:
    """A map times a constant, f(x) * g(x), as SiLU and hard-swish are written out, or a map and its
    gate."""
    a, b = site.args["self"], site.args["other"]
    if isinstance(a, Map) and isinstance(b, Map):
        return of_one_tensor(site, a, b, product, "*") or multiply(site)
    x = site.map("self") if isinstance(a, Map) else site.map("other")
    factor = site.per_channel(b if isinstance(a, Map) else a, x)
    return affine(site, x, factor, np.zeros(x.shape[0]))


def multiply(site: Site) -> Node:
    """Two maps; one of them may have a single channel, row or column."""
    maps = [site.map("self"), site.map("other")]
    found = gated(maps[0].shape, maps[1].shape)
    alike = maps[0].flat == maps[1].flat  # else their channels are not the same dimension
    if found is None or not alike:
        raise site.refuse(
            "both maps must have one shape, or one of them 1 channel, row or column, not"
            f" {maps[0].shape} and {maps[1].shape}."
        )
    names = []
    for x, size in zip(maps[::-1] if found.swapped else maps, found.sizes, strict=True):
        names.append(x.name if size is None else enlarged(site, x, size))
    shape = found.shape
    return Multiply(
        output=site.output,
        origin=site.origin,
        shape=shape,
        input=names[0],
        gate=names[1],
        scale=np.ones(shape[0]),
        shift=np.zeros(shape[0]),
    )


def enlarged(site: Site, x: Map, size: Pair) -> str:
    """A map whose single row or column is repeated."""
    name = site.scope.unique(f"{site.output}.large")
    site.scope.nodes[name] = Upsample(
        output=name, origin=site.origin, shape=(x.shape[0], *size), input=x.name
    )
    return name


def of_one_tensor(
    site: Site, a: Map, b: Map, joined: Callable[[Function, Function], Function], sign: str
) -> Lookup | None:
    """Two maps that are functions of one, joined to a function of that; None of two others."""
    found = common_root(site.scope.nodes, a.name, b.name)
    if found is None or a.shape != b.shape:
        return None
    root, first, second = found
    nodes = site.scope.nodes
    words = ["x" if m.name == root else getattr(nodes[m.name], "name", "f(x)") for m in (a, b)]
    return Lookup(
        output=site.output,
        origin=site.origin,
        shape=a.shape,
        input=root,
        function=joined(first, second),
        name=sign.join(words),
    )


def div(site: Site) -> Node:
    """A map over a constant, or f(x) / g(x)."""
    x, other = site.map("self"), site.args["other"]
    if site.args.get("rounding_mode") is not None:
        raise site.refuse("rounding_mode must be None.")
    if isinstance(other, Map):
        made = of_one_tensor(site, x, other, quotient, "/")
        if made is not None:
            return made
    return affine(site, x, 1 / site.per_channel(other, x), np.zeros(x.shape[0]))


# --- element by element -------------------------------------------------------------------------


def lookup(site: Site) -> Node:
    """A function of one value, evaluated by torch itself."""
    first = next(iter(site.args))
    x = site.map(first)
    rest, by_channel = {}, False
    for name, value in site.args.items():
        if isinstance(value, Const):
            rest[name] = value.value.to(torch.float64)
            several = value.value.numel() > 1
            if several and (site.op != "prelu" or value.value.numel() != x.shape[0]):
                raise site.refuse(
                    "one parameter must serve all channels, or as a PReLU's each channel one."
                )
            by_channel |= several
        elif name != first:
            rest[name] = value
    function = getattr(torch.ops.aten, site.op)

    def evaluate(values: torch.Tensor) -> torch.Tensor:
        same = {k: v.to(values) if isinstance(v, torch.Tensor) else v for k, v in rest.items()}
        result: torch.Tensor = function(values, **same)
        return result

    return Lookup(
        output=site.output,
        origin=site.origin,
        shape=x.shape,
        input=x.name,
        function=evaluate,
        name=site.op,
        by_channel=by_channel,
    )
