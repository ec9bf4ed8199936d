"""Detectors: torchvision's names, output shapes, export with one norm per level, and losses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from intaglio.detect import zoo
from intaglio.detect.decode import HeadSpec, decode
from intaglio.detect.losses import detection_loss, encode_deltas, focal_loss, giou_loss
from intaglio.detect.networks.fcos import fcos_resnet
from intaglio.detect.networks.norm import MultiLevelNorm
from intaglio.detect.networks.retinanet import retinanet_resnet

COCO = tuple(f"class {i}" for i in range(91))
STRIDES = (8, 16, 32, 64, 128)
ANCHOR_SIZES = tuple(tuple(int(s * 4 * 2 ** (i / 3)) for i in range(3)) for s in STRIDES)


def resnet50_shapes() -> dict[str, tuple[int, ...]]:
    """Parameters and statistics of torchvision's ResNet-50 body, written out from its rules."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, bn: str, shape: tuple[int, ...]) -> None:
        shapes[f"{name}.weight"] = shape
        for field in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{bn}.{field}"] = (shape[0],)

    conv("conv1", "bn1", (64, 3, 7, 7))
    inputs = 64
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=1):
        for block in range(blocks):
            path = f"layer{stage}.{block}"
            conv(f"{path}.conv1", f"{path}.bn1", (width, inputs, 1, 1))
            conv(f"{path}.conv2", f"{path}.bn2", (width, width, 3, 3))
            conv(f"{path}.conv3", f"{path}.bn3", (4 * width, width, 1, 1))
            if block == 0:
                names = (f"{path}.downsample.0", f"{path}.downsample.1")
                conv(*names, (4 * width, inputs, 1, 1))
            inputs = 4 * width
    return {f"backbone.body.{name}": shape for name, shape in shapes.items()}


def pyramid_shapes(p6_inputs: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for i, channels in enumerate((512, 1024, 2048)):
        shapes[f"inner_blocks.{i}.0.weight"] = (256, channels, 1, 1)
        shapes[f"layer_blocks.{i}.0.weight"] = (256, 256, 3, 3)
    shapes["extra_blocks.p6.weight"] = (256, p6_inputs, 3, 3)
    shapes["extra_blocks.p7.weight"] = (256, 256, 3, 3)
    biases = {n.replace("weight", "bias"): (256,) for n in shapes}
    return {f"backbone.fpn.{name}": shape for name, shape in (shapes | biases).items()}


def predictor(name: str, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, 256, 3, 3), f"{name}.bias": (outputs,)}


def names_and_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    state = model.state_dict()
    return {k: tuple(v.shape) for k, v in state.items() if not k.endswith("batches_tracked")}


def trainable(model: nn.Module) -> int:
    """Parameters as torchvision's tables count them: the body's batch norms are frozen."""
    body = model.get_submodule("backbone.body").modules()
    frozen = [p for m in body if isinstance(m, nn.BatchNorm2d) for p in m.parameters()]
    return sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in frozen)


def test_parameters_are_those_of_torchvisions_retinanet() -> None:
    head = predictor("head.classification_head.cls_logits", 9 * 91)
    head |= predictor("head.regression_head.bbox_reg", 9 * 4)
    grouped = dict(head)
    for branch in ("classification_head", "regression_head"):
        for i in range(4):
            conv = f"head.{branch}.conv.{i}"
            head |= predictor(f"{conv}.0", 256)
            grouped |= {f"{conv}.0.weight": (256, 256, 3, 3)}
            grouped |= {f"{conv}.1.weight": (256,), f"{conv}.1.bias": (256,)}
    spec = HeadSpec("retinanet", COCO, STRIDES, ANCHOR_SIZES, (0.5, 1.0, 2.0))
    first = retinanet_resnet(50, spec, norm="none", fpn_norm=False, eps=0.0)
    second = retinanet_resnet(50, spec, norm="group", fpn_norm=False, extra_source="c5")
    expected = resnet50_shapes() | pyramid_shapes(256) | head
    assert names_and_shapes(first) == expected
    assert names_and_shapes(second) == resnet50_shapes() | pyramid_shapes(2048) | grouped
    assert trainable(first) == 34_014_999  # torchvision's figure; the second one trains all
    assert sum(p.numel() for p in second.parameters()) == 38_198_935
    # A published file has frozen batch norms, hence no counters: it must load strictly.
    first.load_state_dict({name: torch.zeros(shape) for name, shape in expected.items()})


def test_parameters_are_those_of_torchvisions_fcos() -> None:
    head: dict[str, tuple[int, ...]] = {}
    for branch in ("classification_head", "regression_head"):
        for i in range(4):
            head |= predictor(f"head.{branch}.conv.{3 * i}", 256)
            head |= {f"head.{branch}.conv.{3 * i + 1}.{f}": (256,) for f in ("weight", "bias")}
    head |= predictor("head.classification_head.cls_logits", 91)
    head |= predictor("head.regression_head.bbox_reg", 4)
    head |= predictor("head.regression_head.bbox_ctrness", 1)
    model = fcos_resnet(50, HeadSpec("fcos", COCO, STRIDES), norm="group", fpn_norm=False)
    expected = resnet50_shapes() | pyramid_shapes(256) | head
    assert names_and_shapes(model) == expected
    assert trainable(model) == 32_269_600  # torchvision's figure


@pytest.mark.parametrize("name", list(zoo.BUNDLED))
def test_output_maps_are_what_the_head_description_says(name: str) -> None:
    bundled = zoo.find(name)
    model = bundled.build().eval()
    with torch.inference_mode():
        outputs = model(torch.zeros(2, 3, *bundled.size))
    flat = [m for maps in outputs for m in maps]
    assert tuple(m.shape[1] for m in flat) == model.head_spec.channels
    for m, stride in zip(flat, model.head_spec.strides * len(outputs), strict=True):
        assert m.shape[2:] == tuple(-(-side // stride) for side in bundled.size)


@settings(max_examples=10, deadline=None)
@given(st.integers(33, 150), st.integers(33, 150), st.sampled_from(["multi", "shared", "none"]))
def test_odd_images_give_maps_of_rounded_up_sizes(height: int, width: int, norm: str) -> None:
    spec = HeadSpec("fcos", ("a", "b"), (8, 16, 32, 64))
    model = fcos_resnet(18, spec, width=0.125, channels=8, convs=1, norm=norm).eval()  # type: ignore[arg-type]  # sampled
    with torch.inference_mode():
        cls, reg, ctr = model(torch.zeros(1, 3, height, width))
    for maps in (cls, reg, ctr):
        sizes = [tuple(m.shape[2:]) for m in maps]
        assert sizes == [(-(-height // s), -(-width // s)) for s in spec.strides]
    assert all((m >= 0).all() for m in reg)


def test_each_level_has_a_norm_of_its_own_and_survives_export() -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
            self.norm = MultiLevelNorm(4, 3)

        def forward(self, maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            return tuple(self.norm(self.conv(x), level) for level, x in enumerate(maps))

    head = Head().train()
    maps = tuple(torch.randn(8, 3, 2**k, 2**k) * 10**k + k for k in (3, 2, 1))
    for _ in range(3):
        head(maps)
    head.eval()
    for level, x in enumerate(maps):
        alone = head.norm.levels[level](head.conv(x))
        assert (head(maps)[level] == alone).all()
        assert head.norm.levels[level].num_batches_tracked == 3
    exported = torch.export.export(head, (maps,)).module()
    # In any order, twice: a cursor inside the norm would lose its place.
    for _ in range(2):
        assert all((a == b).all() for a, b in zip(exported(maps), head(maps), strict=True))


@pytest.mark.parametrize("name", ["fcos-nano", "retinanet-small"])
def test_the_bundled_pyramids_export_with_a_norm_per_level(name: str) -> None:
    bundled = zoo.find(name)
    model = bundled.build().eval()
    images = torch.rand(1, 3, *bundled.size)
    exported = torch.export.export(model, (images,))
    ops = {str(n.target) for n in exported.graph.nodes if n.op == "call_function"}
    assert {op.split(".")[1] for op in ops} == {
        "conv2d", "batch_norm", "relu", "max_pool2d", "add", "upsample_nearest2d"
    }  # fmt: skip
    weights = [n.args[1] for n in exported.graph.nodes if "conv2d" in str(n.target)]
    shared = [w for w in set(weights) if weights.count(w) == model.head_spec.levels]
    assert len(shared) == len([m for m in model.head.modules() if isinstance(m, nn.Conv2d)])
    for a, b in zip(exported.module()(images), model(images), strict=True):
        assert all((x == y).all() for x, y in zip(a, b, strict=True))


boxes_strategy = st.tuples(
    st.floats(0, 60), st.floats(0, 60), st.floats(4, 40), st.floats(4, 40)
).map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])


@given(boxes_strategy, boxes_strategy)
def test_giou_loss_is_zero_only_for_equal_boxes_and_symmetric(
    a: list[float], b: list[float]
) -> None:
    x, y = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    assert giou_loss(x, x).item() == pytest.approx(0.0, abs=1e-12)
    assert giou_loss(x, y).item() == pytest.approx(giou_loss(y, x).item())
    assert 0.0 <= giou_loss(x, y).item() + 1e-12 <= 2.0
    if (x - y).abs().max() > 0.01:
        assert giou_loss(x, y).item() > 0.0


@given(st.floats(-8, 8), st.floats(0.01, 3))
def test_focal_loss_falls_as_the_logit_rises_towards_its_target(x: float, step: float) -> None:
    low, high = torch.tensor(x), torch.tensor(x + step)
    one, zero = torch.tensor(1.0), torch.tensor(0.0)
    assert focal_loss(high, one) < focal_loss(low, one)
    assert focal_loss(low, zero) < focal_loss(high, zero)


def fit(
    spec: HeadSpec, boxes: torch.Tensor, labels: torch.Tensor
) -> tuple[list[NDArray[np.float32]], float]:
    """Output maps fitted to one image by descending the loss, and the last loss over the first.

    The centre-ness is left out of the ratio: its targets are fractions, so its best is not zero.
    """
    maps = []
    for i, channels in enumerate(spec.channels):
        side = -(-96 // spec.strides[i % spec.levels])
        start = (-5.0, 1.0, 0.0)[i // spec.levels] if spec.kind == "fcos" else -5.0 * (i < 4)
        maps.append(torch.full((1, channels, side, side), start, requires_grad=True))
    optimiser = torch.optim.Adam(maps, lr=0.3)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.98)
    history = []
    for _ in range(250):
        optimiser.zero_grad()
        terms = detection_loss(spec, maps, boxes, labels)
        torch.autograd.backward(list(terms.values()))
        optimiser.step()
        schedule.step()
        history.append(terms["class"].item() + terms["box"].item())
    return [m.detach()[0].numpy() for m in maps], history[-1] / history[0]


@pytest.mark.parametrize("name", list(zoo.BUNDLED))
def test_maps_that_minimise_the_loss_decode_to_the_truth(name: str) -> None:
    """The targets of `losses` and the coder of `decode` are each other's inverse."""
    spec = zoo.find(name).build().head_spec
    boxes = torch.tensor([[[8.0, 10.0, 24.0, 40.0], [50.0, 30.0, 90.0, 92.0], [0.0] * 4]])
    labels = torch.tensor([[3, 7, -1]])
    maps, remaining = fit(spec, boxes, labels)
    assert remaining < 0.1
    found = decode(replace(spec, score_threshold=0.4), maps, (96, 96))
    assert sorted(found.labels.tolist()) == [3, 7]
    truth = boxes[0, [0 if label == 3 else 1 for label in found.labels]].numpy()
    assert abs(found.boxes - truth).max() < 1.0


@given(boxes_strategy, boxes_strategy)
def test_encoded_deltas_decode_to_the_box(anchor: list[float], box: list[float]) -> None:
    side = 96.0
    spec = HeadSpec("retinanet", ("a",), (8,), ((side,),), (1.0,))
    anchors = torch.tensor([[-side / 2, -side / 2, side / 2, side / 2]])
    shifted = torch.tensor([box])
    deltas = encode_deltas(anchors, shifted)[0].numpy()
    found = decode(spec, [deltas[:1, None, None] * 0 + 9, deltas[:, None, None]], (200, 200))
    assert abs(found.boxes[0] - shifted[0].numpy()).max() < 1e-3
