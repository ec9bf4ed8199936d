"""Which pixel Resize and Upsample read, in float32 as onnxruntime computes it.

Formulas: the standard's text of Resize; the order of the float32 operations and the roundings are
those of onnxruntime's CPU kernel, against which the tests compare every mode.
"""

from __future__ import annotations

import numpy as np

from intaglio.exchange.from_onnx.onnx_file import Array

ABOUT = 1e-6  # from a half: the runtime takes it for one
ONE, HALF = np.float32(1), np.float32(0.5)


def target(old: int, scale: float) -> int:
    """The size of a side of `old` pixels."""
    return int(np.float32(scale) * np.float32(old))


def pixels(old: int, new: int, scale: np.float32, mode: str, nearest: str) -> Array:
    """The pixel of `old` that each of `new` ones is. `nearest` "simple" is Upsample's, which cuts
    the fraction off."""
    if scale == ONE:
        return np.minimum(np.arange(new), old - 1)
    at = coordinates(old, new, scale, mode)
    match nearest:
        case "floor":
            found = np.floor(at)
        case "ceil":
            found = np.ceil(at)
        case "simple":
            found = np.trunc(at) if scale > ONE else np.ceil(at)
        case _:
            whole, exact = np.floor(at), at.astype(np.float64)
            up = whole + 1 if nearest == "round_prefer_ceil" else whole
            half = np.abs(exact - whole - 0.5) < ABOUT
            found = np.where(half, up, np.floor(exact + 0.5))
    clipped: Array = np.clip(found.astype(np.int64), 0, old - 1)
    return clipped


def stretched(old: int, new: int, read: Array) -> tuple[int, int] | None:
    """(pixels to add, size) so that a side of `old` pixels, made longer by the first and stretched
    by floor(i * in / out) to the second, begins with the pixels `read`; None if nothing does.

    A sequence floor(i * a), i < new, is also that of the largest p / q <= a with q < new, and so of
    every multiple of p and q: at most `old` pixels need be added. No more than 256 are tried.
    Quotients in float32 can be no such sequence: 12 / 2.4 is rounded up to 5, 36 / 2.4 down to 14.
    """
    for more in range(min(old, 256) + 1):
        whole = old + more
        for size in range(max(new, whole * new // old), -(-whole * (new + 1) // old) + 1):
            if np.array_equal(np.arange(new) * whole // size, read):
                return more, size
    return None


def coordinates(old: int, new: int, scale: np.float32, mode: str) -> Array:
    """Where each new pixel lies among the old ones; half_pixel_symmetric of whole sizes is
    half_pixel."""
    i = np.arange(new, dtype=np.float32)
    match mode:
        case "asymmetric":
            return i / scale
        case "align_corners":
            if new == 1:
                return np.zeros(1, np.float32)
            return i * np.float32(old - 1) / np.float32(new - 1)
        case "pytorch_half_pixel":
            return (i + HALF) / scale - HALF if new > 1 else np.zeros(1, np.float32)
        case "tf_half_pixel_for_nn":
            return (i + HALF) / scale
    return (i + HALF) / scale - HALF
