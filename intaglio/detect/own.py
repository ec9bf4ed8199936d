"""Boxes by a function of the user's own, for heads that no `HeadSpec` describes. No torch."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from intaglio.detect.decode import Detections, HeadSpec, decode
from intaglio.detect.heads.maps import Floats
from intaglio.errors import ModelError
from intaglio.system.named import named

FORM = "boxes (n, 4), scores (n,) and labels (n,), and perhaps landmarks (n, points, 2)"


@dataclass(frozen=True)
class OwnDecoder:
    """A function from maps to boxes, as `--decode package.module:function` names it.

    function  is given the list of an image's real-valued output maps (C, h, w) in float64, and the
              picture's size (height, width) in pixels of the network's input; it returns boxes
              (n, 4) x0 y0 x1 y1 in such pixels, scores (n,) in 0..1, labels (n,) that number its
              `classes`, and perhaps landmarks (n, points, 2); or `Detections`.
    classes   their names: the function's attribute `classes`.
    digest    of the function's source, where there is one.
    """

    reference: str
    classes: tuple[str, ...]
    digest: str
    function: Callable[..., Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, function: str | Callable[..., Any]) -> OwnDecoder:
        """By its name `package.module:function`, or itself. Raises ModelError."""
        if isinstance(function, str):
            if ":" not in function:
                raise ModelError(f"--decode must be package.module:function, not {function!r}.")
            reference, function = function, named(function, "--decode")
        else:
            home = getattr(function, "__module__", type(function).__module__)
            reference = f"{home}:{getattr(function, '__qualname__', type(function).__name__)}"
        if not callable(function):
            raise ModelError(
                f"--decode {reference} must be a function of maps and a size, not"
                f" {type(function).__name__}."
            )
        classes = getattr(function, "classes", None)
        whole = isinstance(classes, (list, tuple)) and all(isinstance(c, str) for c in classes)
        if not whole or not classes:
            name = reference.partition(":")[2]
            raise ModelError(
                f"--decode {reference} must have an attribute `classes`, the names of what its"
                f" labels number: {name}.classes = ('cat', 'dog')."
            )
        return cls(reference, tuple(classes), digest_of(function), function)

    def __call__(self, maps: Sequence[Floats], image_size: tuple[float, float]) -> Detections:
        """Boxes clipped to the picture, best first. Raises ModelError, one sentence."""
        try:
            found = self.function([np.array(map, np.float64) for map in maps], image_size)
        except Exception as error:  # the user's own code: whatever it raises is its one-line story
            raise ModelError(
                f"--decode {self.reference} must make boxes of the maps, but raised"
                f" {type(error).__name__}: {error}."
            ) from error
        if isinstance(found, Detections):
            found = (found.boxes, found.scores, found.labels, found.landmarks)
        return self.checked(found, image_size)

    def checked(self, found: Any, image_size: tuple[float, float]) -> Detections:
        """What the function returned, as `Detections` are."""
        parts = found if isinstance(found, (tuple, list)) else ()
        if len(parts) not in (3, 4):
            raise self.refusal(f"{FORM}, not {type(found).__name__}")
        try:
            boxes, scores = (np.asarray(part, np.float64) for part in parts[:2])
            labels = np.asarray(parts[2])
            given = parts[3] if len(parts) == 4 else None
            points = None if given is None else np.asarray(given, np.float64)
        except (TypeError, ValueError) as error:
            raise self.refusal(f"{FORM}, but: {error}") from error
        n = len(scores) if scores.ndim == 1 else -1
        boxes = boxes.reshape(0, 4) if n == 0 and boxes.size == 0 else boxes
        if boxes.shape != (n, 4) or labels.shape != (n,):
            raise self.refusal(f"{FORM}, not of {boxes.shape}, {scores.shape} and {labels.shape}")
        if points is not None and (points.ndim != 3 or points.shape[::2] != (n, 2)):
            raise self.refusal(f"landmarks ({n}, points, 2), not {points.shape}")
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise self.refusal("finite boxes and scores")
        if n and not (
            np.issubdtype(labels.dtype, np.integer)
            and labels.min() >= 0
            and labels.max() < len(self.classes)
        ):
            raise self.refusal(
                f"labels that are whole numbers from 0 to {len(self.classes) - 1}, of its classes"
            )
        order = np.argsort(-scores, kind="stable")
        height, width = image_size
        return Detections(
            boxes[order].clip(0.0, (width, height, width, height)),
            scores[order],
            labels[order].astype(np.int64),
            None if points is None else points[order],
        )

    def refusal(self, wanted: str) -> ModelError:
        """What the function must return."""
        return ModelError(f"--decode {self.reference} must return {wanted}.")


Head = HeadSpec | OwnDecoder


def digest_of(function: object) -> str:
    """SHA-256 of the source file that a function is from; of its name where there is none."""
    try:
        text = inspect.getsource(inspect.getmodule(function) or type(function))
    except (OSError, TypeError):
        text = repr(getattr(function, "__qualname__", type(function)))
    return hashlib.sha256(text.encode()).hexdigest()


def boxes_of(
    head: Head, outputs: Sequence[Any], image_size: tuple[float, float]
) -> Detections:  # fmt: skip
    """Boxes of one image by a spec or a function; see `decode`."""
    if isinstance(head, HeadSpec):
        return decode(head, outputs, image_size)
    return head([np.asarray(output, np.float64) for output in outputs], image_size)
