"""How much work a torch model is."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from intaglio.ops import Shape
from intaglio.quant.capture.export import in_eval


def macs(model: nn.Module, shape: Shape) -> int:
    """Multiply-accumulates of an image (C, H, W) in convolutions and matrix products, as torch
    counts them; 0 of a model that does not run, which `capture` refuses with its reason."""
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            in_eval(model)(torch.zeros(1, *shape))
    except Exception:  # of any kind, as the model is anybody's
        return 0
    return int(counter.get_total_flops()) // 2
