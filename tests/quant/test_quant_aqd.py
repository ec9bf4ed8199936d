"""Training with the Program's roundings: the grids, the start, the export, and going on."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_quant_detptq import SPECS, Detector
from torch import nn
from torch.testing import assert_close

from intaglio import ops
from intaglio.api import check_trained
from intaglio.cli import main
from intaglio.detect.coco import CocoData
from intaglio.detect.scenes import write_scenes
from intaglio.errors import DataError, ModelError
from intaglio.file import load
from intaglio.fixed import PRESETS, Arithmetic, IntType
from intaglio.quant import QuantConfig, float_predictor
from intaglio.quant.learn.aqd import TrainedNetwork, fixed_factor
from intaglio.quant.learn.distil import distillation_loss
from intaglio.quant.learn.learned import HALF, quantise
from intaglio.quant.learn.learned_weight import LearnedWeight, WeightGrid
from intaglio.quant.train import Pictures, TrainConfig, Trained, trained

torch.set_num_threads(1)
SIZE = (32, 40)


def detector(kind: str = "fcos") -> nn.Module:
    """A float detector with norms of every pyramid level."""
    torch.manual_seed(0)
    return Detector(kind).eval()


def pictures(folder: Path, count: int = 12) -> CocoData:
    """A COCO set of noise with one bright box on each picture."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images, boxes = [], []
    for n in range(count):
        pixels = rng.integers(0, 120, (*SIZE, 3), dtype=np.uint8)
        x, y, w, h = 4 + n % 8, 3 + n % 5, 12, 14
        pixels[y : y + h, x : x + w] = 230
        Image.fromarray(pixels).save(folder / "images" / f"{n}.png")
        images.append({"id": n, "file_name": f"{n}.png", "height": SIZE[0], "width": SIZE[1]})
        boxes.append({"image_id": n, "category_id": 1 + n % 2, "bbox": [x, y, w, h]})
    classes = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    record = {"images": images, "annotations": boxes, "categories": classes}
    (folder / "boxes.json").write_text(json.dumps(record))
    return CocoData(folder / "boxes.json", folder / "images")


@cache
def images() -> np.ndarray:
    """Calibration images (8, 3, H, W)."""
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (8, 3, *SIZE), dtype=np.uint8)


def run(
    folder: Path, kind: str = "fcos", *, odd: bool = True, epochs: int = 2,
    arithmetic: str = "intaglio", **more: object,
) -> Trained:  # fmt: skip
    """A short training."""
    spec = SPECS[kind]
    return trained(
        detector(kind), Pictures(pictures(folder), spec.classes, SIZE),
        QuantConfig(wbits=3, abits=3, arithmetic=PRESETS[arithmetic]),
        TrainConfig(epochs=epochs, batch=4, rate=1e-3),
        WeightGrid(odd=odd), **more,
    )  # fmt: skip


# --- grids --------------------------------------------------------------------------------------


@given(st.integers(2, 8), st.booleans(), st.sampled_from([0.0, HALF, -3.0]), st.floats(0.01, 2.0))
def test_rounded_values_are_the_nearest_of_the_grid(
    bits: int, signed: bool, offset: float, step: float
) -> None:
    codes = IntType(bits, signed)
    x = torch.linspace(-3, 3, 401)
    found = quantise(x, torch.tensor(step), codes, offset)
    grid = (torch.arange(codes.lo, codes.hi + 1) + offset) * torch.tensor(step)
    nearest = (x[:, None] - grid).abs().min(dim=1).values
    assert_close((found - x).abs(), nearest, atol=1e-5, rtol=1e-5)
    assert (found[:, None] == grid).any(dim=1).all()


def test_the_gradient_passes_inside_and_the_step_learns_from_both_sides() -> None:
    x = torch.tensor([-5.0, 0.3, 1.2, 9.0], requires_grad=True)
    step = torch.tensor(0.5, requires_grad=True)
    quantise(x, step, IntType(3, True)).sum().backward()
    assert x.grad is not None
    assert step.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 0]
    assert_close(step.grad, torch.tensor(-4 + (1 - 0.6) + (2 - 2.4) + 3))


@given(st.integers(2, 7), st.booleans(), st.booleans(), st.booleans())
def test_the_codes_are_what_training_used(
    bits: int, odd: bool, standardise: bool, normed: bool
) -> None:
    weight = np.random.default_rng(bits).normal(0.1, 0.3, (4, 3, 3, 3))
    learned = LearnedWeight(
        weight, bits, WeightGrid(odd=odd, standardise=standardise), normed=normed
    )
    _, codes = learned.learned()
    assert_close(learned().double(), torch.from_numpy(codes.real), atol=1e-6, rtol=1e-5)
    if odd:
        assert (codes.codes % 2 == 1).all()
        assert codes.odd
    assert codes.type.holds(int(codes.codes.min()), int(codes.codes.max()))
    assert len(np.unique(codes.codes)) <= 1 << bits


@given(st.lists(st.floats(-4, 4), min_size=1, max_size=8), st.integers(8, 16))
def test_factors_are_multiples_of_a_shift_that_fit_the_multiplier(
    factors: list[float], bits: int
) -> None:
    arithmetic = Arithmetic(multiplier_bits=bits)
    found = fixed_factor(torch.tensor(factors, dtype=torch.float64), arithmetic)
    largest = max(map(abs, factors))
    if largest < 1e-3:
        return
    one = 2.0 ** min(
        arithmetic.shift_range[1], np.floor(np.log2(arithmetic.multiplier_max / largest))
    )
    assert (found * one == torch.floor(found * one)).all()
    assert float((found * one).abs().max()) <= arithmetic.multiplier_max
    assert float((found - torch.tensor(factors, dtype=torch.float64)).abs().max()) <= 0.5 / one


def test_factors_of_a_shifting_arithmetic_are_powers_of_two() -> None:
    found = fixed_factor(torch.tensor([0.3, -5.0, 0.0]), PRESETS["shift-only"])
    assert found.tolist() == [0.25, -4.0, 0.0]


# --- the start ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SPECS)
def test_training_starts_from_the_float_model(kind: str) -> None:
    """With eight bits the network before training is the float one, but for rounding."""
    model = detector(kind)
    network = TrainedNetwork(
        model,
        images(),
        QuantConfig(wbits=8, abits=8, method="minmax"),
        WeightGrid(standardise=False),
    ).eval()
    with torch.no_grad():
        found = network(torch.from_numpy(images()).float())
    for ours, real in zip(found, float_predictor(model)(images()), strict=True):
        spread = float(np.abs(real - real.mean()).max())
        assert float(np.abs(ours.numpy() - real).max()) < 0.1 * spread + 0.02


def test_every_level_has_a_norm_of_its_own() -> None:
    network = TrainedNetwork(detector(), images(), QuantConfig())
    shared = [sites for sites in network.graph.call_sites.values() if len(sites) > 1]
    normed = [s for s in shared if s[0].output in network.site_norm]
    assert normed
    for sites in normed:
        assert len({network.site_norm[site.output] for site in sites}) == len(sites)


# --- the end ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "odd"), [("fcos", True), ("retinanet", False)])
def test_the_program_is_the_trained_network_on_every_integer(
    tmp_path: Path, kind: str, odd: bool
) -> None:
    done = run(tmp_path, kind, odd=odd)
    checked = check_trained(done, images())
    assert checked.compared > 1000
    assert checked.mismatches == 0
    for conv in done.program.of_kind(ops.Conv2d):
        constant = done.program.constants[conv.weight]
        few = len(np.unique(constant.array)) <= 8
        assert few or conv.input == done.program.inputs[0].name
        assert constant.odd == (odd and conv.input != done.program.inputs[0].name)


@pytest.mark.parametrize("kind", SPECS)
def test_a_network_trained_to_shift_only_is_its_program(tmp_path: Path, kind: str) -> None:
    """Every multiplier of a norm or a sum is one power of two, and every integer agrees."""
    done = run(tmp_path, kind, arithmetic="shift-only")
    assert done.program.arithmetic == PRESETS["shift-only"]
    for requant in done.program.of_kind(ops.Requant):
        factors = np.abs(done.program.constants[requant.multiplier].array)
        assert (factors & (factors - 1) == 0).all()
    checked = check_trained(done, images())
    assert checked.compared > 1000
    assert checked.mismatches == 0


def test_training_learns_and_every_part_of_the_network_does(tmp_path: Path) -> None:
    lines: list[str] = []
    before = TrainedNetwork(detector(), images(), QuantConfig(wbits=3, abits=3)).state_dict()
    done = run(tmp_path, epochs=12, report=lambda line, *_: lines.append(line))
    first, last = (float(line.split("class ")[1].split()[0]) for line in (lines[0], lines[-1]))
    assert last < first
    after = done.network.state_dict()
    still = [n for n, v in before.items() if v.is_floating_point() and torch.equal(v, after[n])]
    assert all(name.endswith(".gain") for name in still), still


def test_a_stopped_training_goes_on_to_the_same_program(tmp_path: Path) -> None:
    whole = run(tmp_path, epochs=3).program.digest()
    state = tmp_path / "state.pt"

    class StopError(Exception):
        """As if killed."""

    def stop(line: str, number: int, total: int) -> None:
        if number > 2 * total / 3:
            raise StopError

    with pytest.raises(StopError):
        run(tmp_path, epochs=3, state=state, report=stop)
    before = state.read_bytes()
    with pytest.raises(DataError) as error:
        run(tmp_path, epochs=2, state=state)
    assert str(error.value) == (
        f"{state} must be the state of this training, not of another that was stopped; finish that"
        " one with its own settings, choose another place, or give --force."
    )
    assert state.read_bytes() == before
    seen: list[int] = []
    again = run(tmp_path, epochs=3, state=state, report=lambda _, n, __: seen.append(n))
    assert len(seen) == 3  # the last epoch's steps only
    assert again.program.digest() == whole
    assert not state.exists()


def test_losses_that_overflow_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflowing(*_: object) -> dict[str, torch.Tensor]:
        return {"cls": torch.tensor(float("inf"), requires_grad=True) * 1}

    monkeypatch.setattr("intaglio.quant.train.detection_loss", overflowing)
    with pytest.raises(
        ModelError, match="must stay finite, not overflow in epoch 1; lower its rat"
    ):
        run(tmp_path, epochs=1)


def test_distillation_is_nothing_for_equal_maps_and_grows_with_the_difference() -> None:
    spec = SPECS["retinanet"]
    rng = torch.Generator().manual_seed(0)
    real = [torch.randn(2, c, 4, 5, generator=rng) for c in (4, 4, 8, 8)]
    assert sum(distillation_loss(spec, real, real).values()) == 0
    near = [m + 0.1 for m in real]
    far = [m + 1.0 for m in real]
    sums = [float(sum(distillation_loss(spec, m, real).values())) for m in (near, far)]
    assert 0 < sums[0] < sums[1]


def test_refusals(tmp_path: Path) -> None:
    data = pictures(tmp_path, 3)
    with pytest.raises(DataError, match="must list at least 4 images, one batch, not 3"):
        trained(detector(), Pictures(data, ("a",), SIZE), QuantConfig(), TrainConfig(batch=4))
    with pytest.raises(DataError, match="must share a name with the detector's classes"):
        Pictures(data, ("x",), SIZE)
    with pytest.raises(ModelError, match="epochs must be at least 1, not 0"):
        TrainConfig(epochs=0)
    with pytest.raises(ModelError, match="rate must be above 0 and below 100, not -1"):
        TrainConfig(rate=-1)


def test_the_command_trains_and_says_that_the_program_agrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "scenes"
    write_scenes(folder, 8, 96, 1, "train")
    output = tmp_path / "nano.intaglio"
    command = [
        "intaglio", "train", "fcos-nano", "--images", folder / "images",
        "--data", folder / "scenes.json", "--bits", 3, "--epochs", 1, "--batch", 4, "-o", output,
        "--last-wbits", 5, "--json", tmp_path / "train.json",
    ]  # fmt: skip
    monkeypatch.setattr("sys.argv", list(map(str, command)))
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    assert "trained network and simulator: 0 of" in capsys.readouterr().out
    record = json.loads((tmp_path / "train.json").read_text())
    assert record["agreement"]["mismatches"] == 0
    assert record["agreement"]["compared"] > 0
    program = load(output)
    odd = [c for c in program.constants.values() if c.odd]
    assert odd
    assert {c.code_bits for c in odd} == {3, 5}
    assert not list(tmp_path.glob("*.train.pt"))
