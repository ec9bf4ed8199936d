"""Damaged files of float networks: one sentence each, whatever a byte has become."""

from __future__ import annotations

import logging
import re
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx_files import File
from spoilt import Count
from torch import nn

from intaglio.errors import IntaglioError
from intaglio.floats.opening import open_network
from intaglio.quant.capture.export import capture

torch.set_num_threads(1)
Damage = Callable[[onnx.ModelProto], object]
MEMORY = 4 << 20  # KiB that all files together may add: some of them say large maps


class Told(logging.Handler):
    """What a logger says."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.words.append(record.getMessage())


def onnx_file(path: Path) -> Path:
    """Every kind of input and attribute, in a few nodes."""
    file = File()
    x = file.add("Relu", file.norm(file.conv("x", 3, 4, strides=[2, 2]), 4))
    x = file.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = file.add("Pad", x, file.ints(0, 0, 1, 1, 0, 0, 1, 1))
    x = file.add("Clip", file.conv(x, 4, 4), file.constant(0.0), file.constant(6.0))
    x = file.add("Concat", *file.add("Split", x, count=2, axis=1), axis=1)
    return file.save(path, file.add("Gemm", file.add("Flatten", x), file.weight(5, 144), transB=1))


def pt2_file(path: Path) -> Path:
    """The like by torch."""
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU6(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(64, 5),
    ).eval()  # fmt: skip
    torch.export.save(torch.export.export(net, (torch.rand(1, 3, 16, 16),)), path)
    return path


def spoilt(
    make: Callable[[Path], Path], folder: Path, suffix: str, count: int, config: pytest.Config
) -> int:
    """Read so many damaged files; how many were refused, each in one sentence."""
    good = make(folder / f"good{suffix}").read_bytes()
    rng, told = np.random.default_rng(0), Count(count, config)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    path = folder / f"bad{suffix}"
    for _ in range(count):
        data = bytearray(good)
        for at in rng.integers(0, len(data), rng.integers(1, 6)):
            data[at] = rng.integers(256)
        end = len(data) if rng.random() < 0.9 else int(rng.integers(len(data)))
        path.write_bytes(data[:end])
        said = ""
        try:
            capture(open_network(path), (3, 16, 16))
        except IntaglioError as error:
            said = str(error)
        assert len(said.splitlines()) <= 1
        told("refused" if said else "read")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    assert grown < MEMORY, f"{grown >> 10} MiB"
    return told.seen.get("refused", 0)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without the runtime's process, which takes a second and has a test of its own; and torch logs
    nothing, whose logs are tracebacks on the console."""
    monkeypatch.setattr("intaglio.floats.compared.find_spec", lambda _: None)
    log, told = logging.getLogger("torch._subclasses.fake_tensor"), Told()
    log.addHandler(told)
    yield
    log.removeHandler(told)
    assert told.words == []


MAKE = {".onnx": onnx_file, ".pt2": pt2_file}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 84), "not type 84 ["),
        (lambda m: m.graph.initializer[-1].dims.__setitem__(0, 4), "must"),
        (lambda m: m.graph.node[-1].attribute.pop(), "export the model anew"),
    ],
)
def test_a_damaged_value(damage: Damage, said: str, tmp_path: Path, alone: None) -> None:
    model = onnx.load(onnx_file(tmp_path / "net.onnx"))
    damage(model)
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(IntaglioError, match=re.escape(said)) as refused:
        capture(open_network(tmp_path / "net.onnx"), (3, 16, 16))
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("suffix", MAKE)
def test_some_damaged_files(
    suffix: str, tmp_path: Path, alone: None, pytestconfig: pytest.Config
) -> None:
    assert spoilt(MAKE[suffix], tmp_path, suffix, 25, pytestconfig) > 3


@pytest.mark.slow
@pytest.mark.parametrize("suffix", MAKE)
def test_many_damaged_files(
    suffix: str, tmp_path: Path, alone: None, pytestconfig: pytest.Config
) -> None:
    assert spoilt(MAKE[suffix], tmp_path, suffix, 10_000, pytestconfig) > 1000
