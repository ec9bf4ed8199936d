"""Post-training quantisation: a torch model and images in, an integer `Program` out.

In order: `capture` and `passes` make a `FloatGraph`; `groups`, `observe`, `search` and `scales`
choose the codes, which `compensate` and `correct` better; `detptq` chooses them by the detector's
outputs instead, with `candidates`, `odol`, `partial` and `journal`; `reconstruct` trains them, with
`blocks`, `learner` and `augment`; `fake` runs them in real
numbers; `lower` and `multiplier` make the integers; `report` compares.
"""

from intaglio.quant.config import QuantConfig, Reconstruction
from intaglio.quant.fake import FakeQuant
from intaglio.quant.pipeline import Quantized, float_predictor, quantize
from intaglio.quant.report import Differences, LayerReport

__all__ = [
    "Differences",
    "FakeQuant",
    "LayerReport",
    "QuantConfig",
    "Quantized",
    "Reconstruction",
    "float_predictor",
    "quantize",
]
