"""Your own torch network, from float to verified RTL.

    intaglio quantize examples.own_network:skyline --images PICTURES --size 27x41 -o own.intaglio
    intaglio build own.intaglio -o own-build && intaglio verify own-build

or `python examples/own_network.py`, which does the same from Python. The network is deliberately
awkward: a non-square input of odd size, 5 and 7 channels, a depthwise layer, hard-swish, a skip, a
two-level pyramid, and a head shared by both levels with a norm of its own for each.
"""

import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn


class Skyline(nn.Module):
    """(N, 3, 27, 41) normalised images to two maps of 1 + 2 channels."""

    image_mean = (0.5, 0.4, 0.3)
    image_std = (0.2, 0.25, 0.3)
    input_size = (27, 41)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(5)
        self.depthwise = nn.Conv2d(5, 5, 3, padding=1, groups=5)
        self.point = nn.Conv2d(5, 7, 1)
        self.down = nn.Conv2d(7, 7, (3, 2), stride=(2, 2), padding=(1, 0))
        self.lateral = nn.Conv2d(7, 7, 1)
        self.head = nn.Conv2d(7, 7, 3, padding=1, bias=False)
        self.head_norms = nn.ModuleList([nn.BatchNorm2d(7), nn.BatchNorm2d(7)])
        self.score = nn.Conv2d(7, 1, 1)
        self.offset = nn.Conv2d(7, 2, 1)

    def forward(self, x: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        x = F.relu(self.stem_norm(self.stem(x)))
        x = F.hardswish(self.depthwise(x)) + x
        fine = F.relu6(self.point(x))
        coarse = F.relu(self.down(fine))
        fine = self.lateral(fine) + F.interpolate(coarse, size=fine.shape[-2:], mode="nearest")
        seen = [
            F.relu(norm(self.head(level)))
            for norm, level in zip(self.head_norms, (fine, coarse), strict=True)
        ]
        return [self.score(s) for s in seen], [self.offset(s) for s in seen]


def skyline() -> nn.Module:
    """Untrained, with norms that have seen some data; the same every time."""
    torch.manual_seed(0)
    model = Skyline()
    for _ in range(4):
        model(torch.randn(8, 3, 27, 41))
    return model.eval()


def main() -> None:
    """Quantise, simulate, build, verify."""
    import numpy as np

    import intaglio

    images = np.random.default_rng(0).integers(0, 256, (16, 3, 27, 41), dtype=np.uint8)
    program = intaglio.quantize(skyline(), images, wbits=4, abits=4)
    maps = intaglio.Simulator(program)(images[:2])
    print({name: array.shape for name, array in maps.items()})
    bundle = intaglio.build(program, target="ecp5-85k", images=images[:2])
    with tempfile.TemporaryDirectory() as folder:
        bundle.write(Path(folder) / "build")
        print(intaglio.verify(Path(folder) / "build").sentence())


if __name__ == "__main__":
    main()
