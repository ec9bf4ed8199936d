"""Which torch operations there are: `TRANSLATIONS` to nodes, and `REMEDIES` for refused ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from intaglio.quant.capture import aten_layers as layers
from intaglio.quant.capture import aten_maps as maps
from intaglio.quant.capture.site import Site

BY_INDEX = "a map must not be written to by mask or index; use clamp, relu or another function."

REMEDIES = {
    "upsample_bicubic2d": "interpolation must be nearest neighbour or bilinear, not bicubic.",
    "group_norm": "a norm must have constant statistics, and GroupNorm takes each image's own;"
    " train with BatchNorm2d or MultiLevelNorm, or use a detector without it"
    " (retinanet_resnet50_fpn).",
    "layer_norm": "a norm must have constant statistics; use BatchNorm2d or MultiLevelNorm.",
    "instance_norm": "a norm must have constant statistics; use BatchNorm2d or MultiLevelNorm.",
    "softmax": "a softmax must be left to decoding; return the logits.",
    "index_put": BY_INDEX,
    "masked_fill": BY_INDEX,
    "fill": "a map must not be overwritten by a constant; leave it out.",
    "zero": "a map must not be overwritten by a constant; leave it out.",
    "wrap_with_autocast": "forward must run in one type; leave torch.autocast out when quantising.",
}

# Views of some elements of a map.
PARTS = (
    "slice",
    "select",
    "narrow",
    "chunk",
    "split",
    "split_with_sizes",
    "unbind",
    "diagonal",
    "as_strided",
    "unfold",
)

Translation = Callable[[Site], Any]

LOOKUPS = (
    "silu",
    "hardswish",
    "sigmoid",
    "hardsigmoid",
    "leaky_relu",
    "prelu",
    "tanh",
    "gelu",
    "elu",
    "selu",
    "celu",
    "mish",
    "softplus",
    "exp",
    "log",
    "pow",
    "square",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "abs",
    "erf",
)

TRANSLATIONS: dict[str, Translation] = {
    "conv2d": layers.conv2d,
    "convolution": layers.conv2d,
    "conv_transpose2d": layers.conv_transpose2d,
    "linear": layers.linear,
    "batch_norm": layers.batch_norm,
    "_native_batch_norm_legit_no_training": layers.batch_norm_with_statistics,
    "relu": layers.relu,
    "relu6": layers.relu6,
    "hardtanh": layers.hardtanh,
    "clamp": layers.clamp,
    "clamp_min": layers.clamp,
    "clamp_max": layers.clamp,
    "add": layers.add,
    "sub": layers.add,
    "rsub": layers.rsub,
    "neg": layers.neg,
    "mul": layers.mul,
    "div": layers.div,
    "max_pool2d": maps.max_pool2d,
    "max_pool2d_with_indices": maps.max_pool2d_with_indices,
    "avg_pool2d": maps.avg_pool2d,
    "adaptive_avg_pool2d": maps.adaptive_avg_pool2d,
    "_adaptive_avg_pool2d": maps.adaptive_avg_pool2d,
    "adaptive_max_pool2d": maps.adaptive_max_pool2d,
    "mean": maps.mean,
    "upsample_nearest2d": maps.upsample,
    "_upsample_nearest_exact2d": maps.upsample,
    "upsample_bilinear2d": maps.bilinear,
    "cat": maps.concat,
    "concat": maps.concat,
    "pad": maps.pad,
    "constant_pad_nd": maps.pad,
    "dropout": maps.dropout,
    "dropout2d": maps.dropout,
    "feature_dropout": maps.dropout,
    "alpha_dropout": maps.dropout,
    "feature_alpha_dropout": maps.dropout,
    "detach": maps.identity,
    "clone": maps.identity,
    "alias": maps.identity,
    "contiguous": maps.identity,
    "positive": maps.identity,
    "to": maps.identity,
    "_to_copy": maps.identity,
    "type_as": maps.identity,
    "copy": maps.copied,
    "expand": maps.expand,
    "expand_as": maps.expand,
    "view_as": maps.reshape,
    "reshape_as": maps.reshape,
    "flatten": maps.reshape,
    "view": maps.reshape,
    "reshape": maps.reshape,
    "_unsafe_view": maps.reshape,
    "squeeze": maps.reshape,
    "unsqueeze": maps.reshape,
    "unflatten": maps.reshape,
    "permute": maps.turned,
    "transpose": maps.turned,
    "swapaxes": maps.turned,
    "swapdims": maps.turned,
    "movedim": maps.turned,
    "t": maps.turned,
    "pixel_shuffle": maps.pixel_shuffle,
    "pixel_unshuffle": maps.pixel_unshuffle,
    "channel_shuffle": maps.channel_shuffle,
    "native_channel_shuffle": maps.channel_shuffle,
    "slice": maps.sliced,
    "narrow": maps.sliced,
    "select": maps.one_of,
    "index": maps.indexed,
    "index_select": maps.indexed,
    "flip": maps.flipped,
    "chunk": maps.split,
    "split": maps.split,
    "split_with_sizes": maps.split,
    "unbind": maps.split,
    **dict.fromkeys(LOOKUPS, layers.lookup),
}
