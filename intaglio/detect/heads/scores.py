"""How likely each class is at each anchor, as probabilities and as logits."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from intaglio.detect.networks.spec import HeadSpec

SURE = 1e-12  # a probability given as such is kept this far from 0 and 1 where its logit is asked
QUALITY = ("centre", "object")  # parts that say how good a location is, whatever its class


def sigmoid(x: Any, library: ModuleType = np) -> Any:
    """Of any number, without overflow."""
    return 0.5 * (1.0 + library.tanh(0.5 * x))


def softmax(x: Any, library: ModuleType = np) -> Any:
    """Over the last axis, without overflow."""
    grown = library.exp(x - library.amax(x, axis=-1, keepdims=True))
    return grown / grown.sum(-1)[..., None]


def probabilities(spec: HeadSpec, part: str, values: Any, library: ModuleType = np) -> Any:
    """Of the class channels (..., classes), without the background, or of another part."""
    if part in spec.probabilities:
        likely = values.clip(0.0, 1.0)
    elif part == "class" and spec.softmax:
        likely = softmax(values, library)
    else:
        likely = sigmoid(values, library)
    return likely[..., 1:] if part == "class" and spec.with_background else likely


def logits(spec: HeadSpec, part: str, values: Any, library: ModuleType = np) -> Any:
    """As `probabilities`, the logarithm of the odds of each."""
    if part not in spec.probabilities and not (part == "class" and spec.softmax):
        return values[..., 1:] if part == "class" and spec.with_background else values
    likely = probabilities(spec, part, values, library).clip(SURE, 1.0 - SURE)
    return library.log(likely) - library.log1p(-likely)


def quality_of(spec: HeadSpec) -> str | None:
    """The part that says how good a location is, if the kind has one."""
    return next((part for parts in spec.layout for part in parts if part in QUALITY), None)


def scored(spec: HeadSpec, parts: Mapping[str, Any], *, root: bool) -> Any:
    """Scores (..., classes) in 0..1: the class, times the location's quality if there is one, of
    which `root` takes the square root."""
    likely = probabilities(spec, "class", parts["class"])
    quality = quality_of(spec)
    if quality is None:
        return likely
    product = likely * probabilities(spec, quality, parts[quality])
    return np.sqrt(product) if root else product
