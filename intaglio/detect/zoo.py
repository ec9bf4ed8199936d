"""The bundled detectors: ten classes of handwritten digits in scenes of 96 x 96 pixels or less."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from intaglio.detect.coco import CocoData
from intaglio.detect.decode import HeadSpec
from intaglio.detect.networks.column import Column
from intaglio.detect.networks.fcos import Fcos
from intaglio.detect.networks.resnet import BasicBlock, ResNet, resnet
from intaglio.detect.networks.retinanet import RetinaNet
from intaglio.detect.scenes import CLASSES, IMAGES, write_calibration, write_held_out
from intaglio.errors import ModelError

Detector = Fcos | RetinaNet | Column

TRAINING_SEED = 1
CALIBRATION_COUNT = 128
HELD_OUT_COUNT = 1000
_WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Bundled:
    """A bundled detector: `build()` makes it untrained; `size` is its input (H, W) in pixels."""

    name: str
    size: tuple[int, int]
    summary: str
    build: Callable[[], Detector]

    @property
    def weights(self) -> Path:
        """The safetensors file shipped with the package."""
        return _WEIGHTS / f"{self.name}.safetensors"


def fcos_nano() -> Fcos:
    """Stem, four single-block stages, levels P3 to P5, two convolutions in each tower."""
    spec = HeadSpec("fcos", CLASSES, strides=(8, 16, 32), nms_iou=0.6, topk=100)
    body = ResNet(BasicBlock, (1, 1, 1, 1), (12, 24, 48, 64), stem_kernel=3)
    return Fcos(body, spec, channels=24, convs=2)


def retinanet_small() -> RetinaNet:
    """ResNet-18 at a quarter of its width, levels P3 to P6, nine anchors a location."""
    sizes = tuple(tuple(2.0 * s * 2 ** (i / 3) for i in range(3)) for s in (8, 16, 32, 64))
    spec = HeadSpec(
        "retinanet",
        CLASSES,
        strides=(8, 16, 32, 64),
        anchor_sizes=sizes,
        anchor_ratios=(0.5, 1.0, 2.0),
        topk=100,
    )
    return RetinaNet(resnet(18, 0.25), spec, channels=64, convs=2)


def digits_up5k() -> Column:
    """Three convolutions and two predictors, 6 x 6 locations with an anchor of 22 pixels each."""
    spec = HeadSpec(
        "retinanet", CLASSES, strides=(8,), anchor_sizes=((22.0,),), anchor_ratios=(1.2,), topk=36
    )
    return Column(spec, (8, 16, 32))


BUNDLED = {
    bundled.name: bundled
    for bundled in (
        Bundled("fcos-nano", (96, 96), "FCOS small enough to live on a chip", fcos_nano),
        Bundled("retinanet-small", (96, 96), "RetinaNet on a narrow ResNet-18", retinanet_small),
        Bundled("digits-up5k", (48, 48), "Digit finder that fits an iCE40 UP5K", digits_up5k),
    )
}


def find(name: str) -> Bundled:
    """The bundled detector called `name`; ModelError with the names there are if there is none."""
    if name not in BUNDLED:
        raise ModelError(f"a bundled detector must be one of {', '.join(BUNDLED)}, not {name!r}")
    return BUNDLED[name]


def load(name: str) -> Detector:
    """The trained detector `name` in eval mode, float32."""
    bundled = find(name)
    model = bundled.build()
    model.input_size = bundled.size
    state, _ = read_weights(bundled.weights)
    model.load_state_dict(state)
    return model.eval()


def metadata(name: str) -> dict[str, str]:
    """How the weights of `name` were trained and what they reach, as stored with them."""
    return read_weights(find(name).weights)[1]


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; floats are widened to float32."""
    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
            notes: dict[str, str] = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} must be a readable safetensors file: {error}") from None
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}, notes


def calibration(name: str, folder: Path, count: int = CALIBRATION_COUNT) -> CocoData:
    """Write and open scenes for choosing quantisation parameters: digits seen in training."""
    return CocoData(write_calibration(folder, count, find(name).size[0]), folder / IMAGES)


def held_out(name: str, folder: Path, count: int = HELD_OUT_COUNT) -> CocoData:
    """Write and open the scenes on which every figure is measured: digits never trained on."""
    return CocoData(write_held_out(folder, count, find(name).size[0]), folder / IMAGES)
