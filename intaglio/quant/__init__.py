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

from intaglio.quant.lowering.report import Differences, LayerReport
from intaglio.quant.pipeline import Quantized, float_predictor, quantize
from intaglio.quant.ranges.fake import FakeQuant
from intaglio.quant.settings.budget import Budget
from intaglio.quant.settings.config import QuantConfig, Reconstruction

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
