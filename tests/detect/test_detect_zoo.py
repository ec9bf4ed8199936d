"""The bundled detectors: their files, their data and what they reach."""

import json
from pathlib import Path

import pytest
import torch

from intaglio import demo
from intaglio.codegen.area.devices import device
from intaglio.detect import zoo
from intaglio.detect.evaluate import evaluate
from intaglio.detect.train import count_macs, normalise, predictor, save
from intaglio.errors import ModelError

NAMES = list(zoo.BUNDLED)
LEAST = {"digits-up5k": (0.3, 0.6)}  # AP and AP50 that a detector exceeds, others as below


@pytest.mark.parametrize("name", NAMES)
def test_a_bundled_detector_finds_held_out_digits(name: str, tmp_path: Path) -> None:
    model = zoo.load(name)
    data = zoo.held_out(name, tmp_path, count=150)
    result = evaluate(predictor(model), data, model.head_spec, zoo.find(name).size)
    assert not model.training
    ap, ap50 = LEAST.get(name, (0.5, 0.7))
    assert result.ap > ap
    assert result.ap50 > ap50


@pytest.mark.parametrize("name", NAMES)
def test_the_notes_of_a_file_are_true_of_the_model(name: str) -> None:
    model, notes = zoo.load(name), zoo.metadata(name)
    assert notes["command"].startswith(f"python -m intaglio.detect.train {name} ")
    assert int(notes["parameters"]) == sum(p.numel() for p in model.parameters())
    assert int(notes["macs"]) == count_macs(model, zoo.find(name).size)
    figures = json.loads(notes["held_out"])
    ap, ap50 = LEAST.get(name, (0.5, 0.7))
    assert ap < figures["ap"] < figures["ap50"] < 0.95
    assert figures["ap50"] > ap50
    assert figures["images"] >= 1000
    assert zoo.find(name).weights.stat().st_size < 4e6


def test_sizes_stay_within_what_a_chip_can_hold() -> None:
    nano, small = (zoo.find(n).build() for n in ("fcos-nano", "retinanet-small"))
    assert sum(p.numel() for p in nano.parameters()) < 250_000
    assert count_macs(nano, (96, 96)) < 12_000_000
    assert 1_000_000 < sum(p.numel() for p in small.parameters()) < 1_900_000
    assert small.head_spec.levels >= 4
    least = zoo.find("digits-up5k").build()
    assert sum(p.numel() for p in least.parameters()) * 4 < device("ice40-up5k").memory_bits / 2
    assert count_macs(least, (48, 48)) < 1_000_000


def test_calibration_and_held_out_scenes_are_always_the_same_and_apart(tmp_path: Path) -> None:
    first = zoo.calibration("fcos-nano", tmp_path / "a", 4)
    again = zoo.calibration("retinanet-small", tmp_path / "b", 4)
    apart = zoo.held_out("fcos-nano", tmp_path / "c", 4)
    assert len(first) == 4
    for i in first.ids:
        assert first.file(i).read_bytes() == again.file(i).read_bytes()
        assert first.file(i).read_bytes() != apart.file(i).read_bytes()
    assert first.path.read_bytes() == again.path.read_bytes() != apart.path.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_saved_weights_load_as_the_rounded_values_they_hold(name: str, tmp_path: Path) -> None:
    model = zoo.find(name).build()
    save(model, tmp_path / "weights.safetensors", {"note": "one"})
    state, notes = zoo.read_weights(tmp_path / "weights.safetensors")
    assert notes == {"note": "one"}
    for key, value in model.state_dict().items():
        expected = value.half().float() if value.ndim == 4 else value
        assert (state[key] == expected).all()
        assert state[key].dtype == value.dtype


def test_normalised_pixels_have_the_models_mean_and_deviation() -> None:
    model = zoo.find("fcos-nano").build()
    mean, std = torch.tensor(model.image_mean), torch.tensor(model.image_std)
    black, white = (normalise(model, torch.full((1, 3, 1, 1), v).byte()) for v in (0, 255))
    assert torch.allclose(black.flatten(), -mean / std)
    assert torch.allclose(white.flatten(), (1 - mean) / std)


def test_wrong_names_and_files_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as error:
        zoo.load("yolo")
    assert str(error.value) == (
        "a bundled detector must be one of fcos-nano, retinanet-small, digits-up5k, not 'yolo'"
    )
    broken = tmp_path / "broken.safetensors"
    broken.write_text("no tensors")
    with pytest.raises(ModelError, match=r"broken\.safetensors must be a readable safetensors"):
        zoo.read_weights(broken)
    with pytest.raises(ModelError, match=r"none\.safetensors must be a readable safetensors"):
        zoo.read_weights(tmp_path / "none.safetensors")


def test_the_demo_writes_scenes_of_its_detectors_size() -> None:
    """Before the zoo, which takes torch, is there."""
    assert zoo.find(demo.DETECTOR).size == (demo.SIDE, demo.SIDE)
