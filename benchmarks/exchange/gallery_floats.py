"""Float ONNX files of the gallery: W8A8 from the file, beside onnxruntime's float and int8 maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

from intaglio.floats.network import FileNetwork
from intaglio.models import Reading, opened
from intaglio.program import Program
from intaglio.quant import QuantConfig, quantize
from intaglio.sim.engine import Simulator

Array = NDArray[Any]
TESTED = 3  # pictures that the maps are compared on; the others calibrate


class Pictures(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Calibration pictures for onnxruntime."""

    def __init__(self, name: str, pictures: Array) -> None:
        self.left = iter([{name: picture[None]} for picture in pictures])

    def get_next(self) -> dict[str, Array] | None:
        return next(self.left, None)


def measured(
    path: Path,
    pixels: Array,
    mean: Sequence[float],
    std: Sequence[float],
    settings: Mapping[str, Any],
) -> tuple[Program, float, float]:
    """The Program of a float file, quantised on uint8 pictures (N, 3, H, W) but the first TESTED,
    with `settings` of QuantConfig besides W8A8 with zero points;
    the least cosine of a map on those beside onnxruntime's float ones; and that of onnxruntime's
    own int8 network, of the same calibration."""
    network = opened(path, None, Reading(None, mean, std))
    assert isinstance(network, FileNetwork)
    test, calibration = pixels[:TESTED], pixels[TESTED:]
    config = QuantConfig(wbits=8, abits=8, symmetric=False, **settings)
    program = quantize(network, calibration, config).program
    ours = Simulator(program).run_dequantised(test)
    names = list(network.outputs.values())
    model = cut(path, names)
    real = (pixels / 255 - channels(mean)) / channels(std)
    floats = run(model.SerializeToString(), names, network.image, real[:TESTED])
    eight = in_eight_bits(model, network.image, real[TESTED:])
    theirs = run(eight, names, network.image, real[:TESTED])
    return program, least(floats, ours), least(floats, theirs)


def channels(values: Sequence[float]) -> Array:
    """For maps (N, C, H, W)."""
    return np.asarray(values, np.float32).reshape(1, -1, 1, 1)


def cut(path: Path, names: Sequence[str]) -> onnx.ModelProto:
    """The file up to those tensors."""
    model = onnx.load(path)
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in names)
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    return model


def in_eight_bits(model: onnx.ModelProto, image: str, real: Array) -> bytes:
    """onnxruntime's static quantisation: u8 codes, i8 weights with a scale a channel."""
    if model.opset_import[0].version < 13:
        model = onnx.version_converter.convert_version(model, 17)
    with TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        quantize_static(
            source, target, Pictures(image, real.astype(np.float32)),
            quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
        return target.read_bytes()


def run(content: bytes, names: Sequence[str], image: str, real: Array) -> list[Array]:
    """onnxruntime's maps (N, C, H, W), an image at a time."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    found = [session.run(names, {image: x[None].astype(np.float32)}) for x in real]
    return [np.concatenate(maps) for maps in zip(*found, strict=True)]


def least(floats: Sequence[Array], others: Sequence[Array]) -> float:
    """The least cosine of a map."""
    cosines = []
    for a, b in zip(floats, others, strict=True):
        x, y = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
        cosines.append(float(x @ y / np.sqrt((x @ x) * (y @ y))))
    return round(min(cosines), 4)
