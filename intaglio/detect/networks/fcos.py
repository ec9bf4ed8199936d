"""FCOS: one box per location, given by its distances to the four sides, and a centre-ness."""

import torch
from torch import nn

from intaglio.detect.boxes.decode import HeadSpec
from intaglio.detect.networks.fpn import Backbone, FeaturePyramid
from intaglio.detect.networks.heads import Maps, init_head, set_prior, tower
from intaglio.detect.networks.norm import NormKind, at_level
from intaglio.detect.networks.resnet import IMAGENET_MEAN, IMAGENET_STD, ResNet, resnet


class Fcos(nn.Module):
    """Normalised images (N, 3, H, W) to (class logits, distances, centre-ness logits).

    Each is a tuple of maps, one per pyramid level, finest first: (N, classes, h, w), (N, 4, h, w)
    non-negative in units of the level's stride, and (N, 1, h, w). `decode.decode` makes boxes of
    them. Normalised means (pixel / 255 - image_mean) / image_std. `input_size` (H, W) is None where
    the detector was not made for one size.
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
    ) -> None:
        super().__init__()
        extra = spec.levels - len(body.channels)
        fpn = FeaturePyramid(body.channels, channels, norm=fpn_norm, extra=extra)
        self.backbone = Backbone(body, fpn)
        self.head = FcosHead(channels, len(spec.classes), spec.levels, convs, norm)
        self.head_spec = spec
        self.image_mean = IMAGENET_MEAN
        self.image_std = IMAGENET_STD

    def forward(self, images: torch.Tensor) -> tuple[Maps, Maps, Maps]:
        """Raw maps of a batch; see the class."""
        outputs: tuple[Maps, Maps, Maps] = self.head(self.backbone(images))
        return outputs


class FcosHead(nn.Module):
    """Two towers whose convolutions all levels share."""

    def __init__(
        self, channels: int, classes: int, levels: int, convs: int, norm: NormKind
    ) -> None:
        super().__init__()
        self.classification_head = FcosClassification(channels, classes, levels, convs, norm)
        self.regression_head = FcosRegression(channels, levels, convs, norm)

    def forward(self, pyramid: list[torch.Tensor]) -> tuple[Maps, Maps, Maps]:
        """Maps (N, channels, h, w), finest first, to the maps of `Fcos`."""
        cls = tuple(self.classification_head(x, level) for level, x in enumerate(pyramid))
        boxes = [self.regression_head(x, level) for level, x in enumerate(pyramid)]
        return cls, tuple(reg for reg, _ in boxes), tuple(ctr for _, ctr in boxes)


class FcosClassification(nn.Module):
    """Tower and class logits."""

    def __init__(
        self, channels: int, classes: int, levels: int, convs: int, norm: NormKind
    ) -> None:
        super().__init__()
        self.conv = tower(channels, levels, convs, norm)
        self.cls_logits = nn.Conv2d(channels, classes, 3, padding=1)
        init_head(self.conv, self.cls_logits)
        set_prior(self.cls_logits, 0.01)

    def forward(self, x: torch.Tensor, level: int) -> torch.Tensor:
        """(N, channels, h, w) to (N, classes, h, w)."""
        logits: torch.Tensor = self.cls_logits(at_level(self.conv, x, level))
        return logits


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
