"""Quantisation: a torch model and images in, an integer `Program` out.

The rooms, in the order in which a network passes through them:

    settings   what a user can ask for
    capture    a torch model in, a `FloatGraph` out, and the running of one
    ranges     what the graph's tensors look like in, a grid of codes for each of them out
    adjust     weights that cost less when they are rounded: equalised, compensated, corrected
    search     each layer's p of the Lp metric chosen by the detector's outputs (DetPTQ)
    widths     each layer's bits, chosen under budgets
    learn      what a loss trains: rounding without labels, or the whole network with them (AQD)
    lowering   graph and grids in, a `Program` out, and what that did to each layer

`pipeline` quantises after training, `train` while training. Only this package and `detect` import
torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from intaglio.quant.lowering.report import Differences as Differences
    from intaglio.quant.lowering.report import LayerReport as LayerReport
    from intaglio.quant.pipeline import Quantized as Quantized
    from intaglio.quant.pipeline import float_predictor as float_predictor
    from intaglio.quant.pipeline import quantize as quantize
    from intaglio.quant.ranges.fake import FakeQuant as FakeQuant
    from intaglio.quant.settings.budget import Budget as Budget
    from intaglio.quant.settings.config import QuantConfig as QuantConfig
    from intaglio.quant.settings.config import Reconstruction as Reconstruction

# What can be asked for is known without torch, whose import takes seconds.
_HOMES = {
    "Budget": "settings.budget",
    "Differences": "lowering.report",
    "FakeQuant": "ranges.fake",
    "LayerReport": "lowering.report",
    "QuantConfig": "settings.config",
    "Quantized": "pipeline",
    "Reconstruction": "settings.config",
    "float_predictor": "pipeline",
    "quantize": "pipeline",
}
__all__ = [
    "Budget",
    "Differences",
    "FakeQuant",
    "LayerReport",
    "QuantConfig",
    "Quantized",
    "Reconstruction",
    "float_predictor",
    "quantize",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'intaglio.quant' has no attribute {name!r}")
    return getattr(import_module(f"intaglio.quant.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
