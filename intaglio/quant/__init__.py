"""Post-training quantisation: a torch model and images in, an integer `Program` out.

In order: `capture` and `passes` make a `FloatGraph`, in which `equalize` may move factors between
layers; `mixed`, with `budget` and `allocate`, may choose widths; `groups`, `observe`, `search` and
`scales` choose the codes, which `compensate` and `correct` better; `detptq` chooses them by the
detector's outputs instead, with `candidates`, `odol`, `partial` and `journal`; `fake` runs them in
real numbers; `lower` and `multiplier` make the integers; `report` compares.
"""

from intaglio.quant.budget import Budget
from intaglio.quant.config import QuantConfig
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
    "float_predictor",
    "quantize",
]
