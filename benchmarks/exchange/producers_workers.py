"""Each producer's own call; run by the Python of its environment.

    python producers_workers.py TOOL NETWORK OPTIONS FLOAT.onnx IMAGES.npy RESULT.onnx

OPTIONS is a JSON object of what the row varies. Nothing here knows the importer.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

Made = Callable[[str, dict[str, Any], Path, np.ndarray, Path], None]


class Reader:
    """One calibration image at a time, as onnxruntime's quantiser and its relatives ask."""

    def __init__(self, path: Path, images: np.ndarray) -> None:
        self.name = onnx.load(path).graph.input[0].name
        self.images = images
        self.rewind()

    def rewind(self) -> None:
        self.rows: Iterator[dict[str, Any]] = iter([{self.name: x[None]} for x in self.images])

    def get_next(self) -> dict[str, Any] | None:
        return next(self.rows, None)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter([{self.name: x[None]} for x in self.images])

    def __len__(self) -> int:
        return len(self.images)


def opset(path: Path, version: int) -> Path:
    """The float file in another operator set, beside it."""
    moved = path.with_suffix(f".{version}.onnx")
    onnx.save(onnx.version_converter.convert_version(onnx.load(path), version), moved)
    return moved


def onnxruntime(_: str, o: dict[str, Any], path: Path, images: np.ndarray, out: Path) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    if "4" in o["weight"]:
        path = opset(path, 21)
    quantize_static(
        path, out, Reader(path, images),
        quant_format=QuantFormat[o.get("format", "QDQ")],
        activation_type=QuantType[o["activation"]],
        weight_type=QuantType[o["weight"]],
        per_channel=o.get("per_channel", False),
        reduce_range=o.get("reduce_range", False),
        calibrate_method=CalibrationMethod[o.get("method", "MinMax")],
        extra_options=o.get("extra", {}),
    )  # fmt: skip


def nncf(_: str, o: dict[str, Any], path: Path, images: np.ndarray, out: Path) -> None:
    import nncf

    model = onnx.load(path)
    name = model.graph.input[0].name
    data = nncf.Dataset([{name: x[None]} for x in images])
    made = nncf.quantize(
        model, data, subset_size=len(images),
        preset=nncf.QuantizationPreset[o["preset"]], target_device=nncf.TargetDevice[o["target"]],
    )  # fmt: skip
    onnx.save(made, out)


def aimet(_: str, o: dict[str, Any], path: Path, images: np.ndarray, out: Path) -> None:
    import types

    sys.modules.setdefault("torchvision", types.ModuleType("torchvision"))
    from aimet_onnx.quantsim import QuantizationSimModel

    model = onnx.load(path)
    name = model.graph.input[0].name
    sim = QuantizationSimModel(
        model,
        param_type=o["weight"],
        activation_type=o["activation"],
        quant_scheme=o["scheme"],
    )
    sim.compute_encodings([{name: x[None]} for x in images])
    onnx.save(sim.to_onnx_qdq(), out)


def quark(_: str, o: dict[str, Any], path: Path, images: np.ndarray, out: Path) -> None:
    from quark.onnx import ModelQuantizer
    from quark.onnx.quantization.config.config import Config
    from quark.onnx.quantization.config.custom_config import get_default_config

    config = Config(global_quant_config=get_default_config(o["config"]))
    ModelQuantizer(config).quantize_model(str(path), str(out), Reader(path, images))


def olive(_: str, o: dict[str, Any], path: Path, images: np.ndarray, out: Path) -> None:
    from olive.data.config import DataComponentConfig, DataConfig
    from olive.data.registry import Registry
    from olive.hardware import DEFAULT_CPU_ACCELERATOR
    from olive.model import ONNXModelHandler
    from olive.passes.olive_pass import create_pass_from_dict
    from olive.passes.onnx.quantization import OnnxStaticQuantization

    @Registry.register_dataset("scenes")
    def scenes(**_: Any) -> Any:
        import torch

        name = onnx.load(path).graph.input[0].name

        class Scenes(torch.utils.data.Dataset):  # type: ignore[type-arg]  # olive wants no type of its items
            def __len__(self) -> int:
                return len(images)

            def __getitem__(self, n: int) -> Any:
                return {name: images[n]}, 0

        return Scenes()

    data = DataConfig(
        name="scenes",
        load_dataset_config=DataComponentConfig(type="scenes"),
        pre_process_data_config=DataComponentConfig(type="skip_pre_process"),
        dataloader_config=DataComponentConfig(params={"batch_size": 1}),
    )
    made = create_pass_from_dict(
        OnnxStaticQuantization, {"data_config": data, **o}, True, DEFAULT_CPU_ACCELERATOR
    )
    found = made.run(ONNXModelHandler(str(path)), str(out.parent / "olive"))
    onnx.save(onnx.load(found.model_path), out)


def neural_compressor(_: str, o: dict[str, Any], path: Path, images: np.ndarray, out: Path) -> None:
    from onnx_neural_compressor import data_reader
    from onnx_neural_compressor.quantization import QuantFormat, QuantType, config, quantize

    class Scenes(Reader, data_reader.CalibrationDataReader):  # type: ignore[misc]  # a base without types
        """Of the class that it asks for."""

    quantize(
        str(path), str(out),
        config.StaticQuantConfig(
            calibration_data_reader=Scenes(path, images),
            quant_format=QuantFormat[o["format"]],
            activation_type=QuantType[o["activation"]],
            weight_type=QuantType[o["weight"]],
            per_channel=o.get("per_channel", False),
            execution_provider="CPUExecutionProvider",
        ),
    )  # fmt: skip


def torchao(name: str, o: dict[str, Any], _: Path, images: np.ndarray, out: Path) -> None:
    import producers_networks
    import torch
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    if o["quantizer"] == "x86":
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as ours

        quantizer = ours.X86InductorQuantizer()
        quantizer.set_global(ours.get_default_x86_inductor_quantization_config())
    else:
        from torchao.testing.pt2e import _xnnpack_quantizer as xnnpack

        quantizer = xnnpack.XNNPACKQuantizer()
        quantizer.set_global(
            xnnpack.get_symmetric_quantization_config(is_per_channel=o["per_channel"])
        )
    example = (torch.from_numpy(images[:1]),)
    graph = torch.export.export(producers_networks.network(name), example).module()
    prepared = prepare_pt2e(graph, quantizer)
    for x in images:
        prepared(torch.from_numpy(x[None]))
    converted = convert_pt2e(prepared)
    torch.onnx.export(
        torch.export.export(converted, example), (), out, dynamo=True, verbose=False,
        external_data=False,
    )  # fmt: skip


def brevitas(name: str, o: dict[str, Any], _: Path, images: np.ndarray, out: Path) -> None:
    import producers_networks
    import torch
    from brevitas.export import export_onnx_qcdq, export_qonnx
    from brevitas.graph.calibrate import calibration_mode
    from brevitas.graph.quantize import preprocess_for_quantize, quantize

    real = torch.from_numpy(images)
    graph = torch.fx.symbolic_trace(producers_networks.network(name))
    model = quantize(preprocess_for_quantize(graph))
    with torch.no_grad(), calibration_mode(model):
        model(real)

    class Values(torch.nn.Module):
        """Its outputs are tensors with scales, each of which would be an output of the file."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Any) -> Any:
            return tuple(getattr(y, "value", y) for y in self.model(x))

    model = Values().eval()
    export = {"qcdq": export_onnx_qcdq, "qonnx": export_qonnx}[o["export"]]
    export(model, args=real[:1], export_path=str(out), opset_version=17, dynamo=False)


def esp_ppq(_: str, o: dict[str, Any], path: Path, images: np.ndarray, out: Path) -> None:
    import torch
    from esp_ppq import QuantizationSettingFactory, TargetPlatform
    from esp_ppq.api import export_ppq_graph, quantize_onnx_model

    platform = TargetPlatform[o["platform"]]
    graph = quantize_onnx_model(
        str(path), [torch.from_numpy(x[None]) for x in images], calib_steps=len(images),
        input_shape=[1, *images.shape[1:]], platform=platform, device="cpu",
        setting=QuantizationSettingFactory.default_setting(),
    )  # fmt: skip
    export_ppq_graph(graph, TargetPlatform[o["export"]], str(out), str(out.with_suffix(".json")))


def mct(name: str, o: dict[str, Any], _: Path, images: np.ndarray, out: Path) -> None:
    import model_compression_toolkit as mct
    import producers_networks

    made, _info = mct.ptq.pytorch_post_training_quantization(
        producers_networks.network(name), lambda: iter([[x[None]] for x in images])
    )
    mct.exporter.pytorch_export_model(
        made, str(out), lambda: iter([[images[:1]]]),
        quantization_format=mct.exporter.QuantizationFormat[o["format"]],
    )  # fmt: skip


def modelopt(_: str, o: dict[str, Any], path: Path, images: np.ndarray, out: Path) -> None:
    from modelopt.onnx.quantization import quantize

    quantize(
        str(path), quantize_mode="int8", calibration_data=images, calibration_method=o["method"],
        calibration_eps=["cpu"], output_path=str(out), high_precision_dtype="fp32",
    )  # fmt: skip


def onnx_quantize(_: str, o: dict[str, Any], path: Path, images: np.ndarray, out: Path) -> None:
    from onnx_quantize import QConfig, quantize

    onnx.save(quantize(onnx.load(path), QConfig(calibration_data=images[:1], **o)), out)


WORKERS: dict[str, Made] = {
    "onnxruntime": onnxruntime,
    "nncf": nncf,
    "aimet-onnx": aimet,
    "amd-quark": quark,
    "olive-ai": olive,
    "onnx-neural-compressor": neural_compressor,
    "torchao": torchao,
    "brevitas": brevitas,
    "esp-ppq": esp_ppq,
    "model-compression-toolkit": mct,
    "nvidia-modelopt": modelopt,
    "onnx-quantize": onnx_quantize,
}


def main() -> None:
    """One file."""
    tool, name, options, path, images, out = sys.argv[1:]
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    WORKERS[tool](name, json.loads(options), Path(path), np.load(images), Path(out))


if __name__ == "__main__":
    main()
