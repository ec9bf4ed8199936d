"""The producers: what each needs in an environment of its own, and what is asked of it.

Every environment looks into ours last, so that torch, NumPy, onnx and onnxruntime are those of
`constraints.txt` where a tool asks for no others. Only what is named here is installed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

BOTH = ("fcos-nano", "branches")


@dataclass(frozen=True)
class Tool:
    """A package and its environment. `whole` installs what the pins ask for besides; `absent` says
    why it cannot be installed."""

    package: str
    pins: tuple[str, ...] = ()
    whole: bool = True
    absent: str = ""


@dataclass(frozen=True)
class Row:
    """One file of each network: `option` in words, `asked` as the worker reads it."""

    tool: str
    option: str
    asked: dict[str, Any] = field(default_factory=dict)
    networks: tuple[str, ...] = BOTH


TOOLS = {
    tool.package: tool
    for tool in (
        Tool("onnxruntime"),
        Tool("nncf", ("nncf==3.4.0",)),
        Tool(
            "aimet-onnx",
            ("aimet-onnx==2.42.0", "onnx2torch==1.5.15", "osqp==1.1.3", "bokeh==3.9.2",
             "hvplot==0.12.2", "pandas==3.1.1", "holoviews==1.23.2", "panel==1.9.4",
             "param==2.4.2", "pyviz_comms==3.0.6", "colorcet==3.2.1", "xyzservices==2026.9.1",
             "pybind11==3.1.0"),
            whole=False,  # torchvision, which nothing here calls, would bring another torch
        ),
        Tool("amd-quark", ("amd-quark==0.13",)),
        Tool("olive-ai", ("olive-ai==0.13.0",)),
        Tool("onnx-neural-compressor", ("onnx-neural-compressor==1.0", "prettytable==3.16.0")),
        Tool("torchao", ("torchao==0.18.0",)),
        Tool("brevitas", ("brevitas==0.13.4", "onnxoptimizer==0.4.2")),
        Tool("esp-ppq", ("esp-ppq==1.3.12",)),
        Tool(
            "nvidia-modelopt",
            ("nvidia-modelopt==0.47.0", "ninja==1.13.2", "nvidia-ml-py==13.615.71",
             "omegaconf==2.4.0", "pulp==3.3.2", "regex==2026.11.19", "onnx-graphsurgeon==0.6.1",
             "onnxslim==0.1.98", "onnxconverter-common==1.16.0", "polygraphy==0.53.4",
             "cppimport==26.4.17",
             "lief==1.0.0", "pybind11==3.1.0", "mako==1.4.3"),
            whole=False,  # its extra asks for CUDA
        ),
        Tool("onnx-quantize", ("onnx-quantize==0.2.0",)),
        Tool(
            "model-compression-toolkit",
            absent="its exporter imports torchvision, which does not load beside torch for CPUs",
        ),
    )
}  # fmt: skip

U8S8: dict[str, Any] = {"activation": "QUInt8", "weight": "QInt8"}
S8S8: dict[str, Any] = {"activation": "QInt8", "weight": "QInt8"}
EVEN = {"ActivationSymmetric": True}

ROWS = (
    Row("onnxruntime", "QDQ, u8 and i8", U8S8),
    Row("onnxruntime", "QDQ, u8 and i8 by channel", U8S8 | {"per_channel": True}),
    Row("onnxruntime", "QDQ, u8 and u8, reduce_range",
        {"activation": "QUInt8", "weight": "QUInt8", "reduce_range": True}),
    Row("onnxruntime", "QDQ, i8 symmetric, by channel",
        S8S8 | {"per_channel": True, "extra": EVEN}),
    Row("onnxruntime", "QDQ, dedicated pairs, float bias",
        U8S8 | {"extra": {"DedicatedQDQPair": True, "QuantizeBias": False}}),
    Row("onnxruntime", "QDQ, Entropy", U8S8 | {"method": "Entropy"}),
    Row("onnxruntime", "QDQ, Percentile", U8S8 | {"method": "Percentile"}),
    Row("onnxruntime", "QDQ, u16 and i8", {"activation": "QUInt16", "weight": "QInt8"}),
    Row("onnxruntime", "QDQ, i16 symmetric and i8",
        {"activation": "QInt16", "weight": "QInt8", "extra": EVEN}),
    Row("onnxruntime", "QDQ, u8 and i4 by channel",
        {"activation": "QUInt8", "weight": "QInt4", "per_channel": True}),
    Row("onnxruntime", "QOperator, u8 and i8, reduce_range",
        U8S8 | {"format": "QOperator", "reduce_range": True}),
    Row("onnxruntime", "QOperator, u8 and i8 by channel",
        U8S8 | {"format": "QOperator", "per_channel": True}),
    Row("nncf", "MIXED, for CPU", {"preset": "MIXED", "target": "CPU"}),
    Row("nncf", "PERFORMANCE, for NPU", {"preset": "PERFORMANCE", "target": "NPU"}),
    Row("aimet-onnx", "i8 and i8, min_max",
        {"weight": "int8", "activation": "int8", "scheme": "min_max"}),
    Row("amd-quark", "XINT8", {"config": "XINT8"}),
    Row("amd-quark", "A8W8", {"config": "A8W8"}),
    Row("olive-ai", "OnnxStaticQuantization, u8 and i8 by channel",
        {"activation_type": "uint8", "precision": "int8", "per_channel": True}),
    Row("onnx-neural-compressor", "QDQ, u8 and i8", U8S8 | {"format": "QDQ"}),
    Row("onnx-neural-compressor", "QOperator, u8 and i8", U8S8 | {"format": "QOperator"}),
    Row("torchao", "PT2E, X86InductorQuantizer", {"quantizer": "x86"}),
    Row("torchao", "PT2E, XNNPACKQuantizer by channel",
        {"quantizer": "xnnpack", "per_channel": True}),
    Row("brevitas", "QCDQ", {"export": "qcdq"}),
    Row("brevitas", "QONNX", {"export": "qonnx"}),
    Row("esp-ppq", "for ONNXRUNTIME", {"platform": "ONNXRUNTIME", "export": "ONNXRUNTIME"}),
    Row("nvidia-modelopt", "int8, entropy", {"method": "entropy"}),
    Row("onnx-quantize", "u8 and i8", {}, ("branches",)),
    Row("model-compression-toolkit", "FAKELY_QUANT", {"format": "FAKELY_QUANT"}),
)  # fmt: skip
