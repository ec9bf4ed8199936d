"""One operation in ExecuTorch's operators for Cortex-M, which say in torch what CMSIS-NN computes.

They run only beside packages that conflict with this project's, so `make conformance` puts them
into a folder of their own, .executorch, which is looked at last.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from conformance_cases import Array, Case

from intaglio.forms import quantized_multiplier

sys.path.append(str(Path(__file__).resolve().parent.parent.parent / ".executorch"))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import executorch.backends.cortex_m.passes  # noqa: F401 - defines what the next one needs
    from executorch.backends.cortex_m.ops import operators


def parts(factors: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Multipliers of 31 bits and exponents, as CMSIS-NN takes them."""
    pairs = [quantized_multiplier(f) for f in factors]
    return torch.tensor([m for m, _ in pairs]), torch.tensor([31 - s for _, s in pairs])


def conv(case: Case) -> Array:
    """quantized_conv2d, or quantized_depthwise_conv2d, of an image with its border in place."""
    assert case.weight is not None
    assert case.bias is not None
    assert case.scales is not None
    x, y = case.reals
    top, bottom, left, right = case.padding
    image = torch.from_numpy(case.images)
    image = torch.nn.functional.pad(image, (left, right, top, bottom), value=x.zero)
    m, shift = parts([x.scale * float(s) / y.scale for s in case.scales])
    weight = torch.from_numpy(case.weight)
    common = (-x.zero, y.zero, m, shift, -128, 127, torch.empty(0))
    window = (case.stride, (0, 0), (1, 1))
    bias = torch.from_numpy(case.bias)
    if case.groups > 1:
        deep = len(weight) // image.shape[1]
        result = operators.quantized_depthwise_conv2d_impl(
            image, weight.permute(1, 2, 3, 0), bias, *window, deep, *common
        )
    else:
        result = operators.quantized_conv2d_impl(
            image, weight.permute(0, 2, 3, 1), bias, *window, *common
        )
    return numpy(result)


def add(case: Case) -> Array:
    """quantized_add of the two channels."""
    a, b, y = case.reals
    twice = 2 * max(a.scale, b.scale)
    m, shift = parts([a.scale / twice, b.scale / twice, twice / ((1 << 20) * y.scale)])
    images = torch.from_numpy(case.images)
    arguments: list[Any] = []
    for n, real in enumerate((a, b)):
        arguments += [images[:, n : n + 1], real.zero, int(m[n]), int(shift[n])]
    return numpy(
        operators.quantized_add_impl(*arguments, y.zero, int(m[2]), int(shift[2]), -128, 127)
    )


def max_pool(case: Case) -> Array:
    """quantized_max_pool2d of an image with a border of -128."""
    top, bottom, left, right = case.padding
    image = torch.from_numpy(case.images)
    image = torch.nn.functional.pad(image, (left, right, top, bottom), value=-128)
    zero = case.reals[0].zero
    result = operators.quantized_max_pool2d_impl(
        image, case.kernel, case.stride, (0, 0), (1, 1), False, zero, zero, -128, 127
    )
    return numpy(result)


def numpy(result: torch.Tensor) -> Array:
    """As NumPy has it."""
    found: Array = result.contiguous().numpy()
    return found
