"""A detector of your own, as `intaglio quantize examples.own_detector:Digits` takes it.

What intaglio needs to know stands beside the layers: how pixels / 255 are normalised, the input's
size, and what the raw maps mean. Here the layers are the bundled network's, trained; put your own
there. `python examples/own_detector.py` shows its maps.
"""

import torch
from torch import nn

from intaglio.detect import zoo
from intaglio.detect.networks.spec import HeadSpec


class Digits(nn.Module):
    """(N, 3, 96, 96) normalised images to class, box and centre-ness maps, of three levels each."""

    image_mean, image_std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    input_size = (96, 96)
    head_spec = HeadSpec("fcos", classes=tuple("0123456789"), strides=(8, 16, 32), nms_iou=0.6)

    def __init__(self) -> None:
        super().__init__()
        self.network = zoo.load("fcos-nano")

    def forward(self, images: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
        return list(self.network(images))


def main() -> None:
    """The shapes of the maps."""
    for kind, maps in zip(
        ("class", "box", "centre"), Digits()(torch.zeros(1, 3, 96, 96)), strict=True
    ):
        print(kind, *("x".join(map(str, m.shape[1:])) for m in maps))


if __name__ == "__main__":
    main()
