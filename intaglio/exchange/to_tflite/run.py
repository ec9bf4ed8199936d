"""What LiteRT's reference kernels make of a file that was written here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from intaglio.errors import ModelError
from intaglio.exchange.from_tflite.kernels import run
from intaglio.exchange.to_tflite.tflite import Written
from intaglio.program import Program

Codes = NDArray[np.int64]


def run_tflite(program: Program, made: Written, images: Codes) -> dict[str, Codes]:
    """Every output of the Program, (N, C, H, W), for images (N, C, H, W) of its codes. Raises
    ModelError, with LiteRT's words, where it does not run the file."""
    (x,) = program.inputs
    dtype = np.int8 if x.lo < 0 or x.type.bits < 8 else np.uint8
    fed = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).astype(dtype)
    _, answers = run({"file": (made.content, [fed])})
    answer = answers["file"]
    if answer.words:
        raise ModelError(f"LiteRT's reference kernels must run the file, but say: {answer.words}")
    found = {}
    for t in program.outputs:
        c, h, w = t.shape
        laid = answer.tensors[made.outputs[t.name]].reshape(-1, h, w, c)
        found[t.name] = laid.transpose(0, 3, 1, 2).astype(np.int64)
    return found
