"""Detectors quantised by onnxruntime's own tool, simulated, judged, proved in RTL, and sent back.

    intaglio import detector.onnx --mean 0.45 --std 0.22 -o detector.intaglio
    intaglio build detector.intaglio -o build && intaglio verify build
    intaglio export detector.intaglio -o integers.onnx

    intaglio import fcos-nano.onnx --like fcos-nano -o fcos-nano.intaglio
    intaglio scenes -o held-out --count 200
    intaglio eval fcos-nano.intaglio --data held-out/scenes.json --images held-out/images

or `python examples/other_tools.py [FOLDER]`, which makes detector.onnx and fcos-nano.onnx first,
from torch networks with torch.onnx.export and onnxruntime.quantization.quantize_static, and leaves
them in FOLDER.
"""

import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
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
from intaglio.detect import zoo
from intaglio.detect.images import stack
from intaglio.exchange.compared import compare
from intaglio.exchange.importer import import_onnx
from intaglio.exchange.runtime import run_onnx
from intaglio.exchange.to_onnx.integer import to_integer
from intaglio.fixed import preset

MEAN, STD = (0.45,), (0.22,)
SCENES = 20  # that fcos-nano is judged on


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


def normalised(
    images: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    """What the networks read."""
    lines = [np.reshape(np.float64(v), (-1, 1, 1)) for v in (mean, std)]
    real: NDArray[np.float32] = ((images / 255 - lines[0]) / lines[1]).astype(np.float32)
    return real


def quantised_by_onnxruntime(model: nn.Module, real: NDArray[np.float32], path: Path) -> None:
    """A QDQ file, calibrated on `real`: uint8 codes, int8 weights with a scale for each channel."""
    plain = path.with_suffix(".float.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(), (torch.from_numpy(real[:1]),), plain, dynamo=True, verbose=False
        )
    name = onnx.load(plain).graph.input[0].name
    logging.disable(logging.WARNING)  # of vectors, which have no scale for each channel
    quantize_static(
        plain, path, Reader(name, real), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    logging.disable(logging.NOTSET)


def differing(
    program: intaglio.Program, path: Path, images: NDArray[np.uint8], real: NDArray[np.float32]
) -> list[NDArray[np.floating[Any]]]:
    """By how many codes every output of the Program differs from the file's own run."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    theirs = [session.run(None, {session.get_inputs()[0].name: x[None]}) for x in real]
    ours = intaglio.Simulator(program).run_dequantised(images)
    return [
        np.rint((ours[n] - np.concatenate([t[n] for t in theirs])) / tensor.scale)
        for n, tensor in enumerate(program.outputs)
    ]


def small(folder: Path) -> None:
    """To RTL and back."""
    torch.manual_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 12, 16), dtype=np.uint8)
    real, path = normalised(images, MEAN, STD), folder / "detector.onnx"
    quantised_by_onnxruntime(Detector(), real, path)
    program = import_onnx(path, mean=MEAN, std=STD)
    steps = differing(program, path, images, real)
    for tensor, found in zip(program.outputs, steps, strict=True):
        print(
            f"{tensor.name}: {np.count_nonzero(found)} of {found.size} codes differ from the"
            f" quantised file's own run, by {int(np.abs(found).max())} at most (its rounding is"
            " float32's, ours the hardware's)"
        )
    print("integer ONNX:", compare(program, run_onnx(to_integer(program), images), images))
    intaglio.build(program, target="ecp5-85k", images=images[:2]).write(folder / "build")
    print(intaglio.verify(folder / "build", frames=2).sentence())


def judged(folder: Path) -> None:
    """The average precision of fcos-nano in float and as imported, in two arithmetics."""
    model, path = zoo.load("fcos-nano"), folder / "fcos-nano.onnx"
    mean, std = model.image_mean, model.image_std
    seen = zoo.calibration("fcos-nano", folder / "calibration", 64)
    quantised_by_onnxruntime(
        model, normalised(stack([seen.file(i) for i in seen.ids], None), mean, std), path
    )
    data = zoo.held_out("fcos-nano", folder / "held-out", SCENES)
    images = stack([data.file(i) for i in data.ids], None)
    print(f"fcos-nano in float: AP {intaglio.evaluate(model, data).ap:.4f} on {SCENES} scenes")
    for name in ("intaglio", "onnxruntime"):
        program = import_onnx(
            path, preset(name), mean=mean, std=std, meta={"head": model.head_spec.to_json()}
        )
        found = intaglio.evaluate(program, data)
        steps = np.concatenate(
            [d.ravel() for d in differing(program, path, images, normalised(images, mean, std))]
        )
        print(
            f"imported in {name} arithmetic: AP {found.ap:.4f}; {np.count_nonzero(steps):,} of"
            f" {steps.size:,} output codes differ from the file's own run, by"
            f" {int(np.abs(steps).max())} at most"
        )


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(name)
        folder.mkdir(exist_ok=True)
        small(folder)
        judged(folder)


if __name__ == "__main__":
    main()
