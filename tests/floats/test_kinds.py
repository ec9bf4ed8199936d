"""Files of every kind given to a command that does not take them: one sentence with a remedy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx_files import File
from safetensors.torch import save_file
from tools import Cli, refused
from torch import nn

PICTURES = ("--images", "p", "-o", "a.intaglio")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """One small file of each kind."""
    (tmp_path / "p").mkdir()
    np.save(tmp_path / "p/1.npy", np.zeros((3, 8, 8), np.uint8))
    net = nn.Sequential(nn.Conv2d(3, 4, 1))
    torch.save(net, tmp_path / "whole.pt")
    torch.save(net.state_dict(), tmp_path / "state.pth")
    torch.save(net.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(net.state_dict(), tmp_path / "state.safetensors")
    (tmp_path / "net.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(64))
    (tmp_path / "yolo.weights").write_bytes(bytes(20))
    (tmp_path / "net.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(20))
    (tmp_path / "cut.pt2").write_bytes(b"PK\x03\x04" + bytes(20))
    (tmp_path / "damaged.onnx").write_bytes(b"\x08\x08nonsense" * 3)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "whole.pt",
            "a pickle of torch, whose reading could run anything in it; give the network's",
        ),
        ("state.pth", "a pickle of torch"),
        ("old.pth", "a pickle of torch"),
        (
            "state.safetensors",
            "a state dict, which has no network; give that as package.module:fac",
        ),
        (
            "net.tflite",
            "a TFLite file: if it is quantised, use `intaglio import net.tflite -o MODEL",
        ),
        ("yolo.weights", "darknet's weights; convert it to float ONNX, and give that file."),
        ("net.h5", "a file of Keras; convert it to float ONNX, and give that file."),
        ("cut.pt2", "cut.pt2 must be a whole archive of torch.export.save, not a damaged or older"),
        ("damaged.onnx", "must be a whole ONNX model, not a damaged file."),
        ("nowhere.onnx", "nowhere.onnx must be an existing file."),
    ],
)
def test_given_to_quantize(files: Path, cli: Cli, name: str, words: str) -> None:
    refused(cli("quantize", name, *PICTURES), words)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_given_to_quantize_and_as_weights(files: Path, cli: Cli) -> None:
    torch.jit.script(nn.Conv2d(3, 4, 1)).save(str(files / "script.pt"))
    refused(
        cli("quantize", "script.pt", *PICTURES), "TorchScript; give the network's class as pack"
    )
    (files / "nets.py").write_text("from torch import nn\ndef net(): return nn.Conv2d(3, 4, 1)\n")
    for name in ("script.pt", "whole.pt"):
        given = cli("quantize", "nets:net", "--weights", name, *PICTURES)
        refused(given, f"{name} must be a state dict")


@pytest.mark.parametrize("name", ["whole.pt", "state.safetensors", "yolo.weights"])
def test_given_to_import(files: Path, cli: Cli, name: str) -> None:
    refused(
        cli("import", name, "-o", "a.intaglio"),
        f"FILE must be quantised ONNX or TFLite, not {name}",
    )


def test_an_archive_given_to_import(files: Path, cli: Cli) -> None:
    torch.export.save(
        torch.export.export(nn.Conv2d(3, 4, 1), (torch.zeros(1, 3, 8, 8),)), files / "n.pt2"
    )
    refused(
        cli("import", "n.pt2", "-o", "a.intaglio"), "use `intaglio quantize n.pt2 --images DIR -o"
    )
    assert cli("quantize", "n.pt2", *PICTURES)[0] == 0


def test_a_quantised_file_given_to_quantize(files: Path, cli: Cli) -> None:
    file = File((1, 3, 8, 8))
    scale, zero = file.constant(0.02), file.constant(0, np.uint8)
    codes = file.add("QuantizeLinear", "x", scale, zero)
    file.save(files / "q.onnx", file.conv(file.add("DequantizeLinear", codes, scale, zero), 3, 4))
    refused(
        cli("quantize", "q.onnx", *PICTURES),
        "which is quantised already (QuantizeLinear): use `int",
    )
