"""A float ONNX file's module beside onnxruntime, tensor by tensor.

onnxruntime runs the file itself without graph optimisation, in a process of its own, with every
tensor that the module makes as an output. Two right float32 runs differ by rounding: a tensor may
differ by `CLOSE` roundings of its largest value, where a wrong operator differs by a good part of
it. What torch makes of the module is then held against the module itself, as for any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from intaglio.exchange.checked import run_there
from intaglio.floats.network import FileNetwork
from intaglio.floats.onnx_network import OnnxOperator

CLOSE = 4096.0  # roundings of a channel's largest value: 5e-4 of it in float32
SECONDS = 120.0


def compared(path: Path, network: FileNetwork, shape: tuple[int, int, int]) -> str:
    """What was compared, in words: on one random image (C, H, W).

    Raises ModelError naming the first operator of the file that the module does not compute.
    """
    if find_spec("onnxruntime") is None:
        return "not compared with onnxruntime, which is not installed"
    image = np.random.default_rng(0).random((1, *shape), dtype=np.float32)
    with torch.no_grad():
        ours = network.values(torch.from_numpy(image))
    names = [
        name
        for call in network.calls
        for name in call.outputs
        if isinstance(ours.get(name), torch.Tensor) and ours[name].is_floating_point()
    ]
    found = run_there("onnxruntime", path, image, SECONDS, names)
    if isinstance(found, str):
        return f"not compared with onnxruntime: {found}"
    version, arrays = found
    theirs = {name: arrays[f"plain.{n}"] for n, name in enumerate(names) if f"plain.{n}" in arrays}
    check(network, ours, theirs)
    return f"onnxruntime {version}: {len(theirs)} tensors of the file are those of the module"


def check(
    network: FileNetwork, ours: Mapping[str, torch.Tensor], theirs: Mapping[str, np.ndarray]
) -> None:
    """Raises ModelError for the first tensor that differs beyond rounding."""
    for call in network.calls:
        for name in call.outputs:
            if name not in theirs:
                continue
            error, size = difference(ours[name].numpy(), theirs[name])
            float32 = np.finfo(np.float32)
            if error <= CLOSE * float32.eps * size + float32.tiny:
                continue
            assert isinstance(call.operator, OnnxOperator)
            raise call.operator.node.refuse(
                f"its result must be onnxruntime's, not differ by {error:.3g} where it reaches"
                f" {size:.3g}; end before it (--outputs), and report this as a fault of intaglio."
            )


def difference(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """The largest difference and the largest value; everything where shapes differ."""
    if ours.shape != theirs.shape:
        return np.inf, 0.0
    if not ours.size:
        return 0.0, 0.0
    with np.errstate(invalid="ignore"):
        gaps = np.where(ours == theirs, 0.0, np.abs(ours.astype(np.float64) - theirs))
    return float(np.nan_to_num(gaps, nan=0.0).max()), float(np.nan_to_num(np.abs(theirs)).max())
