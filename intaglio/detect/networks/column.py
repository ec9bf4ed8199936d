"""A detector for the smallest devices: a column of 3x3 convolutions and two predictors."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from intaglio.detect.networks.heads import Maps, init_head, set_prior
from intaglio.detect.networks.spec import HeadSpec


class Column(nn.Module):
    """Normalised images (N, 3, H, W) to class logits (N, A * classes, h, w) and box regression
    (N, A * 4, h, w), each in a tuple of its one level, as of a `RetinaNet`.

    channels  of the column's convolutions, each of stride 2 with batch norm and ReLU: h and w are
              H and W over 2 for each of them. Both predictors read the last one's map, so that a
              device needs as many engines as there are convolutions, and two.

    All channels of a picture are normalised alike, by a mean that a pixel can have, so that the
    border is one number.
    """

    input_size: tuple[int, int] | None = None
    image_mean = (128 / 255,) * 3
    image_std = (0.25,) * 3

    def __init__(self, spec: HeadSpec, channels: Sequence[int]) -> None:
        super().__init__()
        inputs = (3, *channels)
        self.body = nn.Sequential(*(step(a, b) for a, b in pairwise(inputs)))
        self.cls_logits = nn.Conv2d(
            channels[-1], spec.anchors_at(0) * len(spec.classes), 3, padding=1
        )
        self.bbox_reg = nn.Conv2d(channels[-1], spec.anchors_at(0) * 4, 3, padding=1)
        self.head_spec = spec
        init_head(self.body, self.cls_logits, self.bbox_reg)
        set_prior(self.cls_logits, 0.01)

    def forward(self, images: torch.Tensor) -> tuple[Maps, Maps]:
        """Raw maps of a batch; see the class."""
        x = self.body(images)
        return (self.cls_logits(x),), (self.bbox_reg(x),)


def step(inputs: int, outputs: int) -> nn.Sequential:
    """A convolution of stride 2, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )
