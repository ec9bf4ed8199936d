"""RetinaNet: boxes as corrections of anchors, with focal-loss class scores."""

import torch
from torch import nn

from intaglio.detect.boxes.decode import HeadSpec
from intaglio.detect.networks.fpn import Backbone, ExtraSource, FeaturePyramid
from intaglio.detect.networks.heads import Maps, init_head, set_prior, tower
from intaglio.detect.networks.norm import NormKind, at_level
from intaglio.detect.networks.resnet import IMAGENET_MEAN, IMAGENET_STD, ResNet, resnet


class RetinaNet(nn.Module):
    """Normalised images (N, 3, H, W) to (class logits, box deltas).

    Each is a tuple of maps, one per pyramid level, finest first: (N, A * classes, h, w) and
    (N, A * 4, h, w) for A anchors per location, anchor-major. `decode.decode` makes boxes of them.
    Normalised means (pixel / 255 - image_mean) / image_std. `input_size` (H, W) is None where the
    detector was not made for one size.
    """

    input_size: tuple[int, int] | None = None

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
        super().__init__()
        extra = spec.levels - len(body.channels)
        fpn = FeaturePyramid(
            body.channels, channels, norm=fpn_norm, extra=extra, extra_source=extra_source
        )
        self.backbone = Backbone(body, fpn)
        self.head = RetinaNetHead(channels, spec, convs, norm)
        self.head_spec = spec
        self.image_mean = IMAGENET_MEAN
        self.image_std = IMAGENET_STD

    def forward(self, images: torch.Tensor) -> tuple[Maps, Maps]:
        """Raw maps of a batch; see the class."""
        outputs: tuple[Maps, Maps] = self.head(self.backbone(images))
        return outputs


class RetinaNetHead(nn.Module):
    """Two towers whose convolutions all levels share."""

    def __init__(self, channels: int, spec: HeadSpec, convs: int, norm: NormKind) -> None:
        super().__init__()
        self.classification_head = RetinaNetClassification(channels, spec, convs, norm)
        self.regression_head = RetinaNetRegression(channels, spec, convs, norm)

    def forward(self, pyramid: list[torch.Tensor]) -> tuple[Maps, Maps]:
        """Maps (N, channels, h, w), finest first, to the maps of `RetinaNet`."""
        cls = tuple(self.classification_head(x, level) for level, x in enumerate(pyramid))
        reg = tuple(self.regression_head(x, level) for level, x in enumerate(pyramid))
        return cls, reg


class RetinaNetClassification(nn.Module):
    """Tower and class logits."""

    def __init__(self, channels: int, spec: HeadSpec, convs: int, norm: NormKind) -> None:
        super().__init__()
        self.conv = tower(channels, spec.levels, convs, norm, nested=True)
        self.cls_logits = nn.Conv2d(channels, spec.anchors * len(spec.classes), 3, padding=1)
        init_head(self.conv, self.cls_logits)
        set_prior(self.cls_logits, 0.01)

    def forward(self, x: torch.Tensor, level: int) -> torch.Tensor:
        """(N, channels, h, w) to (N, A * classes, h, w)."""
        logits: torch.Tensor = self.cls_logits(at_level(self.conv, x, level))
        return logits


class RetinaNetRegression(nn.Module):
    """Tower and box deltas."""

    def __init__(self, channels: int, spec: HeadSpec, convs: int, norm: NormKind) -> None:
        super().__init__()
        self.conv = tower(channels, spec.levels, convs, norm, nested=True)
        self.bbox_reg = nn.Conv2d(channels, spec.anchors * 4, 3, padding=1)
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
