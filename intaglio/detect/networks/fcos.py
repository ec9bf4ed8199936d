"""FCOS: one box per location, given by its distances to the four sides, and a centre-ness."""

import torch
from torch import nn

from intaglio.detect.networks.heads import Classification, Detector, Maps, init_head, tower
from intaglio.detect.networks.norm import NormKind, at_level
from intaglio.detect.networks.resnet import ResNet, resnet
from intaglio.detect.networks.spec import HeadSpec


class Fcos(Detector):
    """A `Detector` with maps (class logits, distances, centre-ness logits).

    Each is a tuple of maps, one per pyramid level, finest first: (N, classes, h, w), (N, 4, h, w)
    non-negative in units of the level's stride, and (N, 1, h, w).
    """

    def __init__(
        self,
        body: ResNet,
        spec: HeadSpec,
        *,
        channels: int,
        convs: int,
        norm: NormKind = "multi",
        fpn_norm: bool = True,
    ) -> None:
        super().__init__(body, spec, channels=channels, fpn_norm=fpn_norm)
        self.head = FcosHead(channels, spec, convs, norm)


class FcosHead(nn.Module):
    """Two towers whose convolutions all levels share."""

    def __init__(self, channels: int, spec: HeadSpec, convs: int, norm: NormKind) -> None:
        super().__init__()
        self.classification_head = Classification(channels, spec, convs, norm)
        self.regression_head = FcosRegression(channels, spec.levels, convs, norm)

    def forward(self, pyramid: list[torch.Tensor]) -> tuple[Maps, Maps, Maps]:
        """Maps (N, channels, h, w), finest first, to the maps of `Fcos`."""
        cls = tuple(self.classification_head(x, level) for level, x in enumerate(pyramid))
        boxes = [self.regression_head(x, level) for level, x in enumerate(pyramid)]
        return cls, tuple(reg for reg, _ in boxes), tuple(ctr for _, ctr in boxes)


class FcosRegression(nn.Module):
    """Tower, distances to the four sides and centre-ness."""

    def __init__(self, channels: int, levels: int, convs: int, norm: NormKind) -> None:
        super().__init__()
        self.conv = tower(channels, levels, convs, norm)
        self.bbox_reg = nn.Conv2d(channels, 4, 3, padding=1)
        self.bbox_ctrness = nn.Conv2d(channels, 1, 3, padding=1)
        self.relu = nn.ReLU()
        init_head(self.conv, self.bbox_reg, self.bbox_ctrness)
        if self.bbox_reg.bias is not None:
            nn.init.ones_(self.bbox_reg.bias)  # a ReLU that starts closed would never learn

    def forward(self, x: torch.Tensor, level: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, channels, h, w) to (N, 4, h, w) and (N, 1, h, w)."""
        x = at_level(self.conv, x, level)
        return self.relu(self.bbox_reg(x)), self.bbox_ctrness(x)


def fcos_resnet(
    depth: int,
    spec: HeadSpec,
    *,
    width: float = 1.0,
    channels: int = 256,
    convs: int = 4,
    norm: NormKind = "multi",
    fpn_norm: bool = True,
) -> Fcos:
    """FCOS on ResNet-18, 34 or 50 with its channels multiplied by `width`.

    With `norm="group"` and `fpn_norm=False`, depth 50 has the parameters of torchvision's
    fcos_resnet50_fpn.
    """
    body = resnet(depth, width)
    return Fcos(body, spec, channels=channels, convs=convs, norm=norm, fpn_norm=fpn_norm)
