"""The networks that every producer quantises, as torch modules and as float ONNX files.

`fcos-nano` is the bundled detector, trained; `branches` has what it has not: depthwise
convolutions, SiLU, a concatenation, an average over the map, and random weights of a fixed seed.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from intaglio.detect import zoo
from intaglio.detect.images import stack

NAMES = ("fcos-nano", "branches")
IMAGES = 16  # that ranges are taken from


class Branches(nn.Module):
    """(N, 3, 48, 48) to a map of two joined branches, and to ten numbers of the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.pointwise = nn.Conv2d(16, 24, 1)
        self.side = nn.Conv2d(16, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(32, 16, 3, padding=1)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.classes = nn.Linear(16, 10)
        self.silu, self.relu = nn.SiLU(), nn.ReLU()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.pool(self.silu(self.stem(x)))
        wide = self.silu(self.pointwise(self.relu(self.depthwise(x))))
        joined = self.relu(self.head(torch.cat((wide, self.relu(self.side(x))), 1)))
        return joined, self.classes(torch.flatten(self.mean(joined), 1))


def network(name: str) -> nn.Module:
    """In inference mode, reading normalised images."""
    if name == "fcos-nano":
        return zoo.load(name).eval()
    torch.manual_seed(0)
    return Branches().eval()


def images(name: str, folder: Path) -> NDArray[np.float32]:
    """Normalised scenes (N, 3, H, W) that ranges are taken from, of `folder`, or put there."""
    seen = zoo.calibration("fcos-nano", folder / "scenes", IMAGES)
    detector = zoo.load("fcos-nano")
    pixels = stack([seen.file(i) for i in seen.ids[:IMAGES]], None)
    lines = [np.reshape(v, (-1, 1, 1)) for v in (detector.image_mean, detector.image_std)]
    real = ((pixels / 255 - lines[0]) / lines[1]).astype(np.float32)
    return real if name == "fcos-nano" else real[:, :, ::2, ::2].copy()


def write_float(name: str, folder: Path) -> None:
    """`NAME.onnx` and `NAME.npy` in a folder: the network by torch's exporter, norms folded by the
    step that onnxruntime's tool asks for before it quantises."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    real, path = images(name, folder), folder / f"{name}.onnx"
    np.save(path.with_suffix(".npy"), real)
    plain = folder / f"{name}.torch.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network(name), (torch.from_numpy(real[:1]),), plain, dynamo=True, verbose=False,
            external_data=False,
        )  # fmt: skip
    quant_pre_process(plain, path, skip_symbolic_shape=True)
    model = onnx.load(path)
    used = {n.domain for n in model.graph.node}
    kept = [s for s in model.opset_import if s.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    onnx.save(model, path)
