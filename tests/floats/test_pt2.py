"""Archives of torch.export: their module is what was exported, and nothing of them is run."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import numpy as np
import pytest
import torch
from models import Mixed, Modules, Pyramid
from torch import nn

from intaglio.errors import ModelError
from intaglio.floats.opening import open_network
from intaglio.quant.capture.execute import run
from intaglio.quant.capture.export import capture

torch.set_num_threads(1)


def archive(model: nn.Module, path: Path, shape: tuple[int, ...], dynamic: bool = False) -> Path:
    """A saved export."""
    dims = {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    spec = (dims,) if dynamic else None
    exported = torch.export.export(model.eval(), (torch.rand(shape),), dynamic_shapes=spec)
    torch.export.save(exported, path)
    return path


class Head(nn.Module):
    """One layer on two sizes, joined as one result for the image that it was exported with."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu_(self.body(x))
        maps = [self.head(x), self.head(nn.functional.max_pool2d(x, 2))]
        return torch.cat([m.view(1, 6, -1) for m in maps], 2).sigmoid()


@pytest.mark.parametrize(
    ("model", "shape"),
    [(Modules(), (1, 3, 16, 24)), (Pyramid(), (1, 3, 24, 30)), (Mixed(), (1, 3, 17, 20))],
)
@pytest.mark.filterwarnings("ignore")
def test_an_archive_is_the_module(model: nn.Module, shape: tuple[int, ...], tmp_path: Path) -> None:
    network = open_network(archive(model, tmp_path / "a.pt2", shape))
    assert network.input_size == shape[2:]
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape)).float()
    ours = run(capture(network, shape[1:]), pixels)
    theirs = run(capture(model_without_attributes(model), shape[1:]), pixels)
    for a, b in zip(ours.values(), theirs.values(), strict=True):
        torch.testing.assert_close(a, b)


def model_without_attributes(model: nn.Module) -> nn.Module:
    """The same network, given pixel / 255: an archive has no attributes."""
    for name in ("image_mean", "image_std"):
        if hasattr(model, name):
            setattr(model, name, 0.0 if name == "image_mean" else 1.0)
    return model


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_detector_is_cut_and_its_weights_are_shared(dynamic: bool, tmp_path: Path) -> None:
    class Free(Head):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu_(self.body(x))
            maps = [self.head(x), self.head(nn.functional.max_pool2d(x, 2))]
            return torch.cat([m.flatten(2) for m in maps], 2).sigmoid()

    model = Free() if dynamic else Head()
    network = open_network(archive(model, tmp_path / "a.pt2", (1, 3, 16, 16), dynamic))
    assert network.input_size == (None if dynamic else (16, 16))
    graph = capture(network, (3, 32, 48) if dynamic else (3, 16, 16))
    assert list(graph.outputs) == ["out0.0", "out0.1"]
    assert [node.shape[0] for node in map(graph.producer.__getitem__, graph.outputs.values())] == [
        6,
        6,
    ]
    assert len(graph.weights) == 2


class Shell:
    """A pickle that would run something."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("touched"),))


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """An archive with its parts changed."""
    with ZipFile(source) as old, ZipFile(target, "w", ZIP_STORED) as new:
        for name in old.namelist():
            new.writestr(name, change(name.partition("/")[2], old.read(name)))
    return target


def test_nothing_of_an_archive_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    good = archive(Head(), tmp_path / "a.pt2", (1, 3, 16, 16))
    evil = pickle.dumps(Shell())

    def as_pickle(name: str, data: bytes) -> bytes:
        if name.endswith("weights_config.json"):
            found = json.loads(data)
            for entry in found["config"].values():
                entry["use_pickle"] = True
            return json.dumps(found).encode()
        return evil if "/weight_" in name or "sample_inputs" in name else data

    with pytest.raises(ModelError, match="must be a whole archive of torch"):
        open_network(rewritten(good, tmp_path / "b.pt2", as_pickle))

    def other_target(name: str, data: bytes) -> bytes:
        return (
            data.replace(b"torch.ops.aten.cat.default", b"torch.hub.load")
            if "model.json" in name
            else data
        )

    with pytest.raises(
        ModelError, match=r"must be those of a convolutional network, not 'torch\.hub"
    ):
        open_network(rewritten(good, tmp_path / "c.pt2", other_target))

    def files(name: str, data: bytes) -> bytes:
        return (
            data.replace(b"aten.cat.default", b"aten.from_file.default")
            if "model.json" in name
            else data
        )

    with pytest.raises(ModelError, match=r"not 'torch\.ops\.aten\.from_file\.default'"):
        open_network(rewritten(good, tmp_path / "d.pt2", files))
    assert not Path("touched").exists()


def test_weights_that_are_pickled_are_read_as_tensors(tmp_path: Path) -> None:
    good = archive(Head(), tmp_path / "a.pt2", (1, 3, 16, 16))
    with ZipFile(good) as old:
        config = json.loads(old.read("a/data/weights/model_weights_config.json"))["config"]
    by_file = {entry["path_name"]: name for name, entry in config.items()}
    plain = open_network(good)

    def saved(name: str, data: bytes) -> bytes:
        if name.endswith("weights_config.json"):
            found = json.loads(data)
            for entry in found["config"].values():
                entry["use_pickle"] = True
            return json.dumps(found).encode()
        part = name.rpartition("/")[2]
        if part not in by_file:
            return data
        sizes = [v["as_int"] for v in config[by_file[part]]["tensor_meta"]["sizes"]]
        buffer = io.BytesIO()
        torch.save(torch.frombuffer(bytearray(data), dtype=torch.float32).reshape(sizes), buffer)
        return buffer.getvalue()

    other = open_network(rewritten(good, tmp_path / "b.pt2", saved))
    x = torch.rand(1, 3, 16, 16)
    assert torch.equal(plain(x)["out0"], other(x)["out0"])
