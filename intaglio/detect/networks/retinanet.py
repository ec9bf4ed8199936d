"""RetinaNet: boxes as corrections of anchors, with focal-loss class scores."""

import torch
from torch import nn

from intaglio.detect.networks.fpn import ExtraSource
from intaglio.detect.networks.heads import Classification, Detector, Maps, init_head, tower
from intaglio.detect.networks.norm import NormKind, at_level
from intaglio.detect.networks.resnet import ResNet, resnet
from intaglio.detect.networks.spec import HeadSpec


class RetinaNet(Detector):
    """A `Detector` with maps (class logits, box deltas).

    Each is a tuple of maps, one per pyramid level, finest first: (N, A * classes, h, w) and
    (N, A * 4, h, w) for A anchors per location, anchor-major.
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
        extra_source: ExtraSource = "p5",
    ) -> None:
        super().__init__(
            body, spec, channels=channels, fpn_norm=fpn_norm, extra_source=extra_source
        )
        self.head = RetinaNetHead(channels, spec, convs, norm)


class RetinaNetHead(nn.Module):
    """Two towers whose convolutions all levels share."""

    def __init__(self, channels: int, spec: HeadSpec, convs: int, norm: NormKind) -> None:
        super().__init__()
        self.classification_head = Classification(channels, spec, convs, norm, nested=True)
        self.regression_head = RetinaNetRegression(channels, spec, convs, norm)

    def forward(self, pyramid: list[torch.Tensor]) -> tuple[Maps, Maps]:
        """Maps (N, channels, h, w), finest first, to the maps of `RetinaNet`."""
        cls = tuple(self.classification_head(x, level) for level, x in enumerate(pyramid))
        reg = tuple(self.regression_head(x, level) for level, x in enumerate(pyramid))
        return cls, reg


class RetinaNetRegression(nn.Module):
    """Tower and box deltas."""

    def __init__(self, channels: int, spec: HeadSpec, convs: int, norm: NormKind) -> None:
        super().__init__()
        self.conv = tower(channels, spec.levels, convs, norm, nested=True)
        self.bbox_reg = nn.Conv2d(channels, spec.anchors_at(0) * 4, 3, padding=1)
        init_head(self.conv, self.bbox_reg)

    def forward(self, x: torch.Tensor, level: int) -> torch.Tensor:
        """(N, channels, h, w) to (N, A * 4, h, w)."""
        deltas: torch.Tensor = self.bbox_reg(at_level(self.conv, x, level))
        return deltas


def retinanet_resnet(
    depth: int,
    spec: HeadSpec,
    *,
    width: float = 1.0,
    channels: int = 256,
    convs: int = 4,
    norm: NormKind = "multi",
    fpn_norm: bool = True,
    extra_source: ExtraSource = "p5",
    eps: float = 1e-5,
) -> RetinaNet:
    """RetinaNet on ResNet-18, 34 or 50 with its channels multiplied by `width`.

    Depth 50 with `fpn_norm=False` is torchvision's retinanet_resnet50_fpn for `norm="none"` and
    `eps=0.0`, and retinanet_resnet50_fpn_v2 for `norm="group"` and `extra_source="c5"`.
    """
    return RetinaNet(
        resnet(depth, width, eps=eps),
        spec,
        channels=channels,
        convs=convs,
        norm=norm,
        fpn_norm=fpn_norm,
        extra_source=extra_source,
    )
