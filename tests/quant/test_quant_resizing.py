"""Bilinear resizing from torch: the integers of its exact weights, in every arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from models import pixels
from test_quant_lower import assert_nearest
from torch import nn
from torch.nn import functional

from intaglio.fixed import PRESETS
from intaglio.ops import Interpolate, Requant
from intaglio.quant import QuantConfig, quantize
from intaglio.sim.engine import Simulator

torch.set_num_threads(1)
SHAPE = (3, 8, 12)
WAYS: dict[str, dict[str, Any]] = {
    "twice": {"scale_factor": 2},
    "half": {"scale_factor": 0.5},
    "aligned": {"size": (15, 23), "align_corners": True},
    "any size": {"size": (5, 31)},
    "a factor": {"scale_factor": 1.3},
}


class Resized(nn.Module):
    """A convolution, a resize with a ReLU behind, which its Requant clamps, and a sum."""

    def __init__(self, way: dict[str, Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.before, self.way = nn.Conv2d(3, 6, 3, padding=1), way
        self.after = nn.Conv2d(6, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.interpolate(self.before(x), mode="bilinear", **self.way)
        return self.after(torch.relu(y) + y)


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
def test_every_code_is_the_nearest(way: dict[str, Any]) -> None:
    images = pixels(SHAPE, 4)
    done = quantize(Resized(way).eval(), images, QuantConfig(wbits=8, abits=8))
    assert_nearest(done, images)
    (total,) = done.program.of_kind(Interpolate)
    (reader,) = done.program.consumers[total.output]
    assert isinstance(reader, Requant)


@pytest.mark.parametrize(
    "arithmetic", ["intaglio", "shift-only", "tosa", "tflite", "cmsis-nn", "nvdla", "onnxruntime"]
)
def test_in_every_arithmetic_it_is_near_torch(arithmetic: str) -> None:
    images = pixels(SHAPE, 4)
    model = Resized(WAYS["twice"]).eval()
    done = quantize(model, images, QuantConfig(wbits=8, abits=8, arithmetic=PRESETS[arithmetic]))
    with torch.no_grad():
        expected = model(torch.from_numpy(images).float() / 255).numpy()
    (made,) = Simulator(done.program).run_dequantised(images)
    cosine = (made * expected).sum() / np.sqrt((made**2).sum() * (expected**2).sum())
    assert cosine > 0.999
