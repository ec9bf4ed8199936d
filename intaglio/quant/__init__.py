"""Post-training quantisation: a torch model and images in, an integer `Program` out.

In order: `capture` and `passes` make a `FloatGraph`, in which `equalize` may move factors between
layers; `mixed`, with `budget` and `allocate`, may choose widths; `groups`, `observe`, `search` and
`scales` choose the codes, which `compensate` and `correct` better; `detptq` chooses them by the
detector's outputs instead, with `candidates`, `odol`, `partial` and `journal`; `reconstruct` trains
them, with `blocks`, `learner` and `augment`; `fake` runs them in real numbers; `lower` and
`multiplier` make the integers; `report` compares.

Quantisation-aware training: `train` trains the network of `aqd`, by `distil` too if asked for, with
the roundings of `learned`; `exact` runs it on codes, for comparison with the Program.
"""

from intaglio.quant.budget import Budget
from intaglio.quant.config import QuantConfig, Reconstruction
from intaglio.quant.fake import FakeQuant
from intaglio.quant.pipeline import Quantized, float_predictor, quantize
from intaglio.quant.report import Differences, LayerReport

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
