"""ONNX's operators that move, join and pool pixels, by torch's functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from intaglio.exchange.from_onnx.places import flattened, reshaped, squeezed, unsqueezed
from intaglio.exchange.from_onnx.resizing import pixels, target
from intaglio.floats.onnx_layers import Loose, Site, Tensor, bordered, windows
from intaglio.ops.choosing import is_upsampled

LINEAR = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")


def max_pool(site: Site) -> Tensor:
    x = site.tensor()
    kernel = list(site.get("kernel_shape", []))
    strides, dilations, pads = windows(site, kernel, x)
    symmetric = pads[:2] == pads[2:] and all(2 * p <= k for p, k in zip(pads, kernel, strict=False))
    ceil = bool(site.get("ceil_mode", 0))
    if symmetric:
        return functional.max_pool2d(x, kernel, strides, pads[:2], dilations, ceil_mode=ceil)
    low = float(torch.finfo(torch.float32).min)
    x, padding = bordered(x, pads, low) if pads[:2] != pads[2:] else (
        functional.pad(x, [pads[1], pads[3], pads[0], pads[2]], value=low), [0, 0]
    )  # fmt: skip
    return functional.max_pool2d(x, kernel, strides, padding, dilations, ceil_mode=ceil)


def average_pool(site: Site) -> Tensor:
    x = site.tensor()
    kernel = list(site.get("kernel_shape", []))
    strides, dilations, pads = windows(site, kernel, x)
    counted = bool(site.get("count_include_pad", 0))
    if dilations != [1, 1]:
        raise site.node.refuse("its dilations must be 1.")
    if not counted and pads[:2] != pads[2:]:
        raise site.node.refuse("its pads must be the same on both sides, or count_include_pad 1.")
    x, padding = bordered(x, pads)
    ceil = bool(site.get("ceil_mode", 0))
    return functional.avg_pool2d(x, kernel, strides, padding, ceil, counted or not any(pads))


def reduced(site: Site, function: Callable[..., Tensor]) -> Tensor:
    """Over the axes that are named, or over all but the image's."""
    x = site.tensor()
    axes = site.ints(1, "axes")
    if not axes:
        axes = list(range(x.ndim))
    return function(x, axes, keepdim=bool(site.get("keepdims", 1)))


def concat(site: Site) -> Tensor:
    return torch.cat([site.tensor(n) for n in range(len(site.given))], site.get("axis", 1))


def split(site: Site) -> tuple[Tensor, ...]:
    x, axis, sizes = site.tensor(), site.get("axis", 0), site.ints(1, "split")
    if sizes is None:
        count = site.get("num_outputs", len(site.node.outputs))
        each = -(-x.shape[axis] // count)
        sizes = [min(each, x.shape[axis] - k * each) for k in range(count)]
    return torch.split(x, sizes, axis)


def sliced(site: Site) -> Tensor:
    x = site.tensor()
    starts, ends = site.ints(1, "starts") or [], site.ints(2, "ends") or []
    axes = site.ints(3, "axes")
    steps = site.ints(4) or [1] * len(starts)
    for axis, start, end, step in zip(axes or range(len(starts)), starts, ends, steps, strict=True):
        size = x.shape[axis]
        first, last, stride = slice(start, end, step).indices(size)
        if stride < 0:
            x = x.index_select(axis, torch.arange(first, last, stride))
        elif (first, last, stride) != (0, size, 1):
            x = x[(slice(None),) * (axis % x.ndim) + (slice(first, last, stride),)]
    return x


def pad(site: Site) -> Tensor:
    x, mode = site.tensor(), site.get("mode", "constant")
    amounts = site.ints(1, "pads") or site.ints(1, "paddings") or []
    axes = site.ints(3) or list(range(x.ndim))
    value = site.number(2, "value") or 0.0
    sides = {axis % x.ndim: pair for axis, *pair in
             zip(axes, amounts, amounts[len(axes) :], strict=False)}  # fmt: skip
    if any(any(sides.get(n, ())) for n in range(x.ndim - 3)):
        raise site.node.refuse("it must not pad images.")
    last = max((x.ndim - axis for axis, pair in sides.items() if any(pair)), default=0)
    if not last:
        return x
    listed = [
        v for axis in range(x.ndim - 1, x.ndim - last - 1, -1) for v in sides.get(axis, (0, 0))
    ]
    modes = {"constant": "constant", "edge": "replicate", "reflect": "reflect", "wrap": "circular"}
    if mode == "constant":
        return functional.pad(x, listed, value=value)
    return functional.pad(x, listed, mode=modes[mode])


def resize(site: Site) -> Tensor:
    """Resize and Upsample. What nearest neighbour reads is computed as onnxruntime has it."""
    x = site.tensor()
    upsample = site.node.kind == "Upsample" or site.opset < 11
    mode = site.get("mode", "nearest")
    scales = site.array(1 if upsample else 2, "scales")
    sizes = None if upsample else site.ints(3)
    axes = site.get("axes")
    if x.ndim != 4 or axes is not None or site.get("antialias", 0):
        raise site.node.refuse("it must enlarge N x C x H x W by all four sizes, not antialiased.")
    factors = [1.0] * 4 if scales is None or not scales.size else scales.astype(float).tolist()
    if sizes:
        factors = [new / old for new, old in zip(sizes, x.shape, strict=True)]
    new = sizes[2:] if sizes else [target(x.shape[2 + k], factors[2 + k]) for k in range(2)]
    if list(new) == list(x.shape[2:]):
        return x
    how = "asymmetric" if upsample else site.get("coordinate_transformation_mode", "half_pixel")
    if mode == "nearest":
        rule = "simple" if upsample else site.get("nearest_mode", "round_prefer_floor")
        chosen, plain = [], True
        for axis in range(2):
            old = x.shape[2 + axis]
            read = pixels(old, new[axis], np.float32(factors[2 + axis]), how, rule)
            chosen.append(torch.from_numpy(read))
            plain &= is_upsampled(read, old)
        if plain:
            return functional.interpolate(x, size=tuple(new), mode="nearest")
        return x.index_select(2, chosen[0]).index_select(3, chosen[1])
    if mode not in ("linear", "bilinear") or how not in LINEAR:
        raise site.node.refuse(
            f"its mode must be nearest or linear, not {mode} with coordinates {how}."
        )
    if any(factors[2 + k] * x.shape[2 + k] != new[k] for k in range(2)) and not sizes:
        raise site.node.refuse("its factors must make whole sizes; give sizes.")
    if how != "asymmetric":
        corners = how == "align_corners"
        return functional.interpolate(x, size=tuple(new), mode="bilinear", align_corners=corners)
    for axis in (2, 3):  # one pixel more, whose corner is the last one's
        old = x.shape[axis]
        x = x.index_select(axis, torch.tensor([*range(old), old - 1]))
    more = [n + 1 for n in new]
    x = functional.interpolate(x, size=tuple(more), mode="bilinear", align_corners=True)
    return x[:, :, : new[0], : new[1]]


def lifted(site: Site) -> Tensor:
    """The first input as (N, *its shape in the file), which was made for one image."""
    x = site.given[0]
    return x.values if isinstance(x, Loose) else site.tensor().unsqueeze(1)


def lowered(x: Tensor) -> Tensor | Loose:
    """The other way round: images are the first dimension again where the file has one there."""
    return x.squeeze(1) if x.ndim > 1 and x.shape[1] == 1 else Loose(x)


def reshape(site: Site) -> Tensor | Loose:
    """The number of images in the shape is that which the file was made for: here it is any."""
    wanted, whole = site.ints(1, "shape") or [], bool(site.get("allowzero", 0))
    if isinstance(site.given[0], Loose):
        x = lifted(site)
        made = reshaped(tuple(x.shape[1:]), wanted, whole)
    else:
        x = site.tensor()
        made = reshaped((site.batch, *x.shape[1:]), wanted, whole)
        if made is not None and made[:1] == (site.batch,):
            return x.reshape(x.shape[0], *made[1:])
        if made is None or site.batch > 1:  # a shape that was computed from this one
            made, batch = reshaped(tuple(x.shape), wanted, whole), x.shape[0]
            if made is not None and made[:1] == (batch,):
                return x.reshape(made)
    if made is None:
        raise site.node.refuse(f"it must keep its {x.numel()} values, not make {wanted} of them.")
    return lowered(x.reshape(x.shape[0], *made))


def expand(site: Site) -> Tensor:
    x, wanted = site.tensor(), site.ints(1) or []
    sides = [1] * (len(wanted) - x.ndim) + list(x.shape)
    made = [max(a, b) if b != site.batch or n else a for n, (a, b) in
            enumerate(zip(sides, wanted, strict=False))]  # fmt: skip
    return x.expand(made)


def flatten(site: Site) -> Tensor:
    x, axis = site.tensor(), site.get("axis", 1)
    made = flattened(tuple(x.shape), axis)
    if made is None:
        raise site.node.refuse(f"its axis must be one of its input's, not {axis}.")
    return x.flatten(1) if axis % max(x.ndim, 1) == 1 else x.reshape(made)


def squeeze(site: Site) -> Tensor:
    x, axes = site.tensor(), site.ints(1, "axes")
    made = squeezed(tuple(x.shape), axes)
    if made is None:
        raise site.node.refuse("its axes must have size 1.")
    return x.reshape(made)


def unsqueeze(site: Site) -> Tensor:
    x, axes = site.tensor(), site.ints(1, "axes") or []
    made = unsqueezed(tuple(x.shape), axes)
    if made is None:
        raise site.node.refuse("its axes must be places in its result.")
    return x.reshape(made)


def transpose(site: Site) -> Tensor | Loose:
    x = site.given[0]
    loose = isinstance(x, Loose)
    rank = (x.values.ndim - 1) if isinstance(x, Loose) else site.tensor().ndim
    order = list(site.get("perm", range(rank - 1, -1, -1)))
    if loose or order[0] != 0:
        return lowered(lifted(site).permute([0, *(axis + 1 for axis in order)]))
    return site.tensor().permute(order)


def gather(site: Site) -> Tensor | Loose:
    at = site.array(1)
    first = site.given[0]
    rank = (first.values.ndim - 1) if isinstance(first, Loose) else site.tensor().ndim
    axis = site.get("axis", 0) % rank
    loose = isinstance(first, Loose) or axis == 0
    x = lifted(site) if loose else site.tensor()
    axis += int(loose)
    if at is None or at.ndim > 1:
        raise site.node.refuse("it must take values by one constant number, or a line of them.")
    at = np.where(at < 0, at + x.shape[axis], at)
    index = torch.from_numpy(at.astype(np.int64))
    made = x.index_select(axis, index) if at.ndim else x.select(axis, int(at))
    return lowered(made) if loose else made


def space_to_depth(site: Site) -> Tensor:
    """Channels in the order (dy, dx, c): the pixels of a block one after the other."""
    x, b = site.tensor(), site.get("blocksize", 1)
    return torch.cat([x[:, :, dy::b, dx::b] for dy in range(b) for dx in range(b)], 1)


def depth_to_space(site: Site) -> Tensor:
    x, b = site.tensor(), site.get("blocksize", 1)
    if site.get("mode", "DCR") == "DCR" and x.shape[1] != b * b:
        order = np.arange(x.shape[1]).reshape(b * b, -1).T.reshape(-1)
        x = x.index_select(1, torch.from_numpy(order.copy()))
    return functional.pixel_shuffle(x, b)


def cast(site: Site) -> Tensor:
    import onnx

    kind = onnx.helper.tensor_dtype_to_np_dtype(site.get("to", 1))
    if kind.kind == "f" or kind.name == "bfloat16":
        return site.tensor()
    return site.tensor().to(getattr(torch, kind.name))


def same(site: Site) -> Tensor:
    return site.tensor()


MAPS: dict[str, Callable[[Site], Any]] = {
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": lambda s: functional.adaptive_avg_pool2d(s.tensor(), 1),
    "GlobalMaxPool": lambda s: functional.adaptive_max_pool2d(s.tensor(), 1),
    "ReduceMean": lambda s: reduced(s, torch.mean),
    "ReduceSum": lambda s: reduced(s, torch.sum),
    "ReduceMax": lambda s: reduced(s, torch.amax),
    "Concat": concat,
    "Split": split,
    "Slice": sliced,
    "Pad": pad,
    "Resize": resize,
    "Upsample": resize,
    "Reshape": reshape,
    "Expand": expand,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    "Gather": gather,
    "SpaceToDepth": space_to_depth,
    "DepthToSpace": depth_to_space,
    "Cast": cast,
    "Identity": same,
    "Dropout": same,
}
