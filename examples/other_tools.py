"""A detector quantised by onnxruntime's own tool, simulated, proved in RTL, and sent back.

    intaglio import detector.onnx --mean 0.45 --std 0.22 -o detector.intaglio
    intaglio build detector.intaglio -o build && intaglio verify build
    intaglio export detector.intaglio -o integers.onnx

or `python examples/other_tools.py`, which makes detector.onnx first, from a torch network with
torch.onnx.export and onnxruntime.quantization.quantize_static.
"""

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import nn
from torch.nn import functional

import intaglio
from intaglio.exchange.compared import compare
from intaglio.exchange.importer import import_onnx
from intaglio.exchange.integer import to_integer
from intaglio.exchange.runtime import run_onnx

MEAN, STD = 0.45, 0.22


class Detector(nn.Module):
    """A skip, two pyramid levels, and a head that both share: (N, 3, 12, 16) to two maps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.body = nn.Conv2d(4, 4, 3, padding=1)
        self.down = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.head = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = functional.relu(self.stem(x))
        fine = functional.relu(x + self.body(x))
        coarse = functional.relu(self.down(fine))
        fine = fine + functional.interpolate(coarse, scale_factor=2.0)
        return self.head(fine), self.head(coarse)


class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """One calibration image at a time."""

    def __init__(self, name: str, images: NDArray[np.float32]) -> None:
        self.rows: Iterator[dict[str, Any]] = iter([{name: x[None]} for x in images])

    def get_next(self) -> dict[str, Any] | None:
        return next(self.rows, None)


def quantised_by_onnxruntime(images: NDArray[np.uint8], folder: Path) -> Path:
    """detector.onnx: QDQ, uint8 codes, int8 weights with a scale for each channel."""
    torch.manual_seed(0)
    real = ((images / 255 - MEAN) / STD).astype(np.float32)
    plain, path = folder / "float.onnx", folder / "detector.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Detector().eval(), (torch.from_numpy(real[:1]),), plain, dynamo=True)
    name = onnx.load(plain).graph.input[0].name
    quantize_static(
        plain, path, Reader(name, real), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    return path


def main() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 3, 12, 16), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = quantised_by_onnxruntime(images, folder)
        program = import_onnx(path, mean=[MEAN], std=[STD])

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        real = ((images / 255 - MEAN) / STD).astype(np.float32)
        theirs = [session.run(None, {session.get_inputs()[0].name: x[None]}) for x in real]
        ours = intaglio.Simulator(program).run_dequantised(images)
        for n, tensor in enumerate(program.outputs):
            steps = np.rint((ours[n] - np.concatenate([t[n] for t in theirs])) / tensor.scale)
            print(
                f"{tensor.name}: {np.count_nonzero(steps)} of {steps.size} codes differ from the"
                f" quantised file's own run, by {int(np.abs(steps).max())} at most (its rounding"
                " is float32's, ours the hardware's)"
            )

        print("integer ONNX:", compare(program, run_onnx(to_integer(program), images), images))
        intaglio.build(program, target="ecp5-85k", images=images[:2]).write(folder / "build")
        print(intaglio.verify(folder / "build", frames=2).sentence())


if __name__ == "__main__":
    main()
