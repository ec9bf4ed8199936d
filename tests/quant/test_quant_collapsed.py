"""Layers that are constant, dead, saturated or empty: every method ends, in a Program or a
sentence."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from intaglio.cli.app import show_warning
from intaglio.detect.networks.spec import HeadSpec
from intaglio.errors import CalibrationWarning, IntaglioError, ModelError
from intaglio.fixed import preset
from intaglio.quant import Budget, QuantConfig, Quantized, Reconstruction, pipeline, quantize
from intaglio.quant.adjust.compensate import Moments, rounded
from intaglio.quant.adjust.correct import corrected
from intaglio.quant.capture.export import capture
from intaglio.quant.capture.passes import simplify
from intaglio.quant.learn.aqd import TrainedNetwork
from intaglio.quant.learn.learned_weight import WeightGrid
from intaglio.quant.lowering.lower import lower
from intaglio.quant.ranges.grids import weight_codes
from intaglio.quant.ranges.scales import calibrate, choose
from intaglio.quant.search.odol import OdolTerms
from intaglio.sim import reference

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore::intaglio.errors.CalibrationWarning")

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Hardswish, nn.Identity, nn.SiLU)


class Block(nn.Module):
    """Convolution, norm and activation, with a skip perhaps."""

    def __init__(self, inputs: int, outputs: int, rng: np.random.Generator) -> None:
        super().__init__()
        kernel, groups = int(rng.choice([1, 3])), int(rng.choice([1, inputs]))
        outputs = max(1, outputs // groups) * groups if inputs != outputs else outputs
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups)
        self.norm = nn.BatchNorm2d(outputs) if rng.random() < 0.5 else nn.Identity()
        self.act = ACTIVATIONS[rng.integers(len(ACTIVATIONS))]()
        self.pool = nn.MaxPool2d(3, 1, 1) if rng.random() < 0.2 else nn.Identity()
        self.skip = inputs == outputs and rng.random() < 0.3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.pool(self.act(self.norm(self.conv(x))))
        return x + y if self.skip else y


class Collapsing(nn.Module):
    """One to three blocks and an FCOS head of one level, some of whose layers are degenerate."""

    def __init__(self, rng: np.random.Generator, channels: int) -> None:
        super().__init__()
        self.head_spec = HeadSpec("fcos", ("a", "b"), (1,))
        sizes = [channels, *(int(rng.integers(1, 6)) for _ in range(rng.integers(1, 4)))]
        self.body = nn.Sequential()
        for size in sizes[1:]:
            self.body.append(Block(channels, size, rng))
            channels = self.body[-1].conv.out_channels
        self.pooled = rng.random() < 0.2
        self.heads = nn.ModuleList(nn.Conv2d(channels, c, 1) for c in (2, 4, 1))
        for module in list(self.modules()):
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d) and rng.random() < 0.5:
                degrade(module, rng)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = self.body(x)
        if self.pooled:
            x = functional.adaptive_avg_pool2d(x, 1)
        return [head(x) for head in self.heads]


def degrade(layer: nn.Conv2d | nn.BatchNorm2d, rng: np.random.Generator) -> None:
    """Make a layer, or one of its channels, constant, dead, saturated, tiny or huge."""
    assert layer.bias is not None
    which = slice(None) if rng.random() < 0.7 else slice(0, 1)
    with torch.no_grad():
        match rng.choice(["dead", "full", "zero", "zeros", "tiny", "huge", "denormal", "still"]):
            case "dead":
                layer.bias[which] = -100.0
            case "full":
                layer.bias[which] = 100.0
            case "zero":
                layer.weight[which] = 0.0
            case "zeros":
                layer.weight[which] = 0.0
                layer.bias[which] = 0.0
            case "tiny":
                layer.weight[which] *= 1e-6
            case "huge":
                layer.weight[which] *= 1e4
            case "denormal":
                layer.weight[which] *= 1e-40
                layer.bias[which] = 0.0
            case "still" if isinstance(layer, nn.BatchNorm2d):
                assert layer.running_var is not None
                layer.running_var[which] = 0.0


def network(seed: int) -> tuple[nn.Module, NDArray[np.uint8]]:
    """A network and calibration images: random, one, equal ones, of one colour, of one pixel."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    channels = int(rng.choice([1, 3]))
    height, width = (int(s) for s in rng.choice([1, 2, 5, 8], 2))
    images = rng.integers(0, 256, (int(rng.choice([1, 2, 6])), channels, height, width))
    match rng.choice(["random", "random", "random", "equal", "black", "white", "grey"]):
        case "equal":
            images[:] = images[:1]
        case "black" | "white" | "grey" as shade:
            images[:] = {"black": 0, "white": 255, "grey": 7}[shade]
    return Collapsing(rng, channels).eval(), images.astype(np.uint8)


FAINT = OdolTerms(foreground=0.001)
SHORT = Reconstruction(iterations=2, block_iterations=2, batch=2)
WAYS: dict[str, dict[str, Any]] = {
    "lp": {},
    "mse": {"method": "mse", "symmetric": False},
    "minmax": {"method": "minmax", "per_channel": False},
    "percentile": {"method": "percentile", "pot_scales": True},
    "kl": {"method": "kl", "abits": 8},
    "detptq": {"method": "detptq", "powers": (2.0,)},
    "equalised": {"equalize": True, "per_channel": False},
    "equalised by tables": {"equalize": True, "symmetric": False, "sum_bits": 8},
    "nearest": {"compensate": False, "correct_bias": False, "wbits": 2, "abits": 2},
    "wide": {"abits": 16, "wbits": 8},
    "reconstructed": {"reconstruct": replace(SHORT, odol=False)},
    "by odol": {"reconstruct": replace(SHORT, augment=False, block_iterations=0)},
    "bits": {"budgets": (Budget.parse("weight-bits=4"),)},
    "operations": {"budgets": (Budget.parse("bops=30"),), "method": "detptq", "powers": ()},
    "tosa": {"arithmetic": preset("tosa"), "wbits": 8, "abits": 8},
    "shifts": {"arithmetic": preset("shift-only"), "wbits": 8, "abits": 8},
}


def through_every_method(
    seed: int, monkeypatch: pytest.MonkeyPatch, ways: dict[str, dict[str, Any]] = WAYS
) -> Counter[str]:
    """Quantise one network in every way; refusals, by their first words, and warnings."""
    model, images = network(seed)
    monkeypatch.setattr(pipeline, "capture", cache(pipeline.capture))
    said: Counter[str] = Counter()
    for way, settings in ways.items():
        config = QuantConfig(odol=FAINT, **settings)
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                check(quantize(model, images, config), images)
        except IntaglioError as error:
            said[f"{way}: {error}"] += 1
            continue
        except Exception as error:
            error.add_note(f"in {way} of network {seed}")
            raise
        said["done"] += 1
        said["warnings"] += bool(caught)
        assert all("invalid value" not in str(w.message) for w in caught), (way, seed)
    return said


def check(done: Quantized, images: NDArray[np.uint8]) -> None:
    """What is made is whole: it runs, its report has numbers, and the twin has them too."""
    tensors = reference.run(done.program, images.astype(np.int64)).tensors
    for result in done.program.outputs:
        assert tensors[result.name].shape[0] == len(images)
    for fake in done.fake(images):
        assert np.isfinite(fake).all()
    for row in done.layers:
        assert np.isfinite([row.lo, row.hi, row.sqnr, row.clipped]).all()


@pytest.mark.parametrize("seed", range(3))
def test_some_collapsed_networks_through_some_methods(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = dict(list(WAYS.items())[seed::3])
    assert through_every_method(seed, monkeypatch, ways)["done"] >= 1


@pytest.mark.slow
def test_many_collapsed_networks_through_every_method(monkeypatch: pytest.MonkeyPatch) -> None:
    total: Counter[str] = Counter()
    for seed in range(300):
        with monkeypatch.context() as patch:
            total += through_every_method(seed, patch)
    assert total["done"] >= 0.8 * 300 * len(WAYS)


class Constant(nn.Module):
    """Three convolutions of which the second reads one constant: that of a ReLU6."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.c = nn.Conv2d(8, 4, 1)
        nn.init.constant_(self.a.bias, bias)  # type: ignore[arg-type]  # there is a bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(torch.relu(self.b(functional.relu6(self.a(x)))))


@pytest.mark.parametrize("bias", [-100.0, 100.0])
@pytest.mark.parametrize("bits", [4, 8])
def test_a_constant_input_is_named_and_the_weights_are_rounded_to_the_nearest(
    bias: float, bits: int
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 16, 16), dtype=np.uint8)
    made = []
    for compensate in (True, False):
        config = QuantConfig(wbits=bits, abits=bits, compensate=compensate)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            made.append(quantize(Constant(bias).eval(), images, config).scales.weights)
        said = [str(w.message) for w in caught if w.category is CalibrationWarning]
        layers = ("b", "c") if compensate else ()
        assert len(said) == len(layers)
        for sentence, layer in zip(said, layers, strict=True):
            assert sentence == (
                f"What layer {layer!r} reads must vary over the calibration images, not be"
                " constant: its weights are rounded to the nearest codes alone; give other images"
                " or more bits, or prune the layer."
            )
    for name in ("b.weight", "c.weight"):
        np.testing.assert_array_equal(made[0][name].codes, made[1][name].codes)


# --- training -----------------------------------------------------------------------------------

TRAINED: tuple[tuple[dict[str, Any], WeightGrid, int], ...] = (
    ({}, WeightGrid(), 2),
    ({"wbits": 2, "abits": 2}, WeightGrid(odd=False), 1),
    ({"wbits": 8, "abits": 8}, WeightGrid(standardise=True), 4),
    ({"arithmetic": preset("shift-only"), "wbits": 8, "abits": 8}, WeightGrid(odd=False), 2),
)


def through_training(seed: int) -> Counter[str]:
    """Three steps of quantisation-aware training of one network in every way, and its Program."""
    model, images = network(seed)
    said: Counter[str] = Counter()
    for settings, grid, batch in TRAINED:
        config = QuantConfig(**settings)
        try:
            training = TrainedNetwork(model, images, config, grid).train()
            adam = torch.optim.AdamW(training.parameters(), lr=4e-3)
            pixels = torch.from_numpy(np.resize(images, (batch, *images.shape[1:]))).float()
            for _ in range(3):
                errors = [(result - 0.3).square().mean() for result in training(pixels)]
                adam.zero_grad()
                torch.stack(errors).sum().backward()  # type: ignore[no-untyped-call]  # torch's
                nn.utils.clip_grad_norm_(training.parameters(), 10.0)
                adam.step()
            training.settle([pixels, pixels])
            graph, scales = training.eval().exported(images)
            program = lower(graph, scales, config.arithmetic, {})
            reference.run(program, images.astype(np.int64))
        except IntaglioError as error:
            said[str(error)] += 1
            continue
        said["done"] += 1
    return said


@pytest.mark.parametrize("seed", [0, 3])
def test_some_collapsed_networks_are_trained(seed: int) -> None:
    assert through_training(seed)["done"] >= 2


@pytest.mark.slow
def test_many_collapsed_networks_are_trained() -> None:
    total: Counter[str] = Counter()
    for seed in range(300):
        total += through_training(seed)
    assert total["done"] >= 0.8 * 300 * len(TRAINED)


def test_a_norm_of_one_value_cannot_be_trained() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)).eval()
    images = np.full((1, 3, 1, 1), 9, np.uint8)
    training = TrainedNetwork(model, images, QuantConfig()).train()
    with pytest.raises(ModelError, match="A batch must hold more than one value of each channel"):
        training(torch.from_numpy(images).float())
    assert len(training(torch.ones(2, 3, 1, 1))) == 1


# --- sentences ----------------------------------------------------------------------------------


class Bare(nn.Module):
    """A detector without a weight."""

    head_spec = HeadSpec("fcos", ("a",), (1,))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = x * 3 - 1
        return [x, torch.cat([x, x, x, x], 1), x * 2]


IMAGES = np.random.default_rng(5).integers(0, 256, (4, 3, 4, 4), dtype=np.uint8)


def detector(logit: float) -> nn.Module:
    """One whose heads give constants; 1 is sure of what it sees, -100 sees nothing."""
    model = Collapsing(np.random.default_rng(1), 3)
    for head, value in zip(model.heads, (logit, 1.0, 1.0), strict=True):
        assert isinstance(head, nn.Conv2d)
        nn.init.zeros_(head.weight)
        nn.init.constant_(head.bias, value)  # type: ignore[arg-type]  # there is a bias
    return model.eval()


BITS = (Budget.parse("weight-bits=4"),)


@pytest.mark.parametrize(
    ("model", "settings", "words"),
    [
        (
            Bare(),
            {"budgets": BITS},
            "A model for a budget must have convolutions or linear",
        ),
        (detector(-100), {"budgets": BITS}, "Calibration images must show what the model detects"),
        (detector(-100), {"method": "detptq"}, "Calibration images must show what the model detec"),
        (detector(-100), {"reconstruct": SHORT}, "Calibration images must show what the model de"),
    ],
)
def test_what_needs_more_than_there_is(
    model: nn.Module, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(IntaglioError) as refused:
        quantize(model, IMAGES[:, : 1 if isinstance(model, Bare) else 3], QuantConfig(**settings))
    assert words in str(refused.value)


def test_heads_of_constants_and_widths_that_are_all_given() -> None:
    model = detector(1.0)
    check(quantize(model, IMAGES, QuantConfig(method="detptq", powers=())), IMAGES)
    check(quantize(model, IMAGES, QuantConfig(reconstruct=SHORT)), IMAGES)
    done = quantize(model, IMAGES, QuantConfig(budgets=BITS, overrides={"*": (4, 4)}))
    assert done.mixed is not None
    assert done.mixed.chosen == ()
    assert [float(s.used) for s in done.mixed.spending] == [4.0]


def test_values_beyond_float32_name_their_layer() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(2, 2, 1)).eval()
    nn.init.constant_(model[0].weight, 1e38)
    sentence = r"Layer '2' must be finite on the calibration images, not \["
    for settings in ({}, {"equalize": True}):
        nn.init.constant_(model[2].weight, 3e38)
        with pytest.raises(ModelError, match=sentence):
            quantize(model, IMAGES, QuantConfig(**settings))
    nn.init.constant_(model[2].weight, 0.1)
    graph = simplify(capture(model, (3, 4, 4)))
    config = QuantConfig()
    scales = choose(graph, calibrate(graph, IMAGES, config), config)
    name, codes = next(iter(scales.weights.items()))
    wider = replace(codes, scale=codes.scale * 4)
    wide = replace(scales, weights={**scales.weights, name: wider})
    with pytest.raises(ModelError, match="Layer '0' must stay finite on the calibration images"):
        corrected(graph, wide, IMAGES)


def test_rounding_where_nothing_can_be_inverted() -> None:
    """Inputs that vary far less than they are large, and some that repeat others."""
    rng = torch.Generator().manual_seed(0)
    base = torch.rand(400, 3, generator=rng, dtype=torch.float64)
    inputs = [
        torch.cat([base, base, base[:, :1] * 0 + 7.7], dim=1),
        base * 1e-9 + torch.tensor([1e5, 1.0, 0.0]),
        base.expand(-1, 3) * 1e-30,
    ]
    for x in inputs:
        moments = Moments()
        moments.add(x)
        weight = torch.randn(4, x.shape[1], 1, 1, generator=rng, dtype=torch.float64).numpy()
        nearest = weight_codes(weight, 4, QuantConfig())
        found = rounded(weight, nearest, [moments])
        assert (np.abs(found) <= 8).all()
    assert (Moments(1, base[0], torch.outer(base[0], base[0])).covariance == 0).all()


def test_a_warning_is_one_sentence_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_warning("Layer 'b' must vary.", CalibrationWarning, "net.py", 3)
    show_warning("Anything else.", UserWarning, "net.py", 3)
    assert capsys.readouterr().err.splitlines() == [
        "intaglio: warning: Layer 'b' must vary.",
        "net.py:3: UserWarning: Anything else.",
    ]
