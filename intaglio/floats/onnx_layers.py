"""ONNX's operators with weights and those of single values, by torch's functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from intaglio.exchange.from_onnx.onnx_file import Array, Node

Tensor = torch.Tensor


@dataclass(frozen=True, eq=False)
class Loose:
    """What a file made for one image sees without a dimension of images, as (N, *its own shape)."""

    values: Tensor


class Site:
    """A node as its operator sees it: the file's operator set, and what is given for each input, as
    a tensor that depends on the image, a weight (a tensor too) or an array."""

    def __init__(self, node: Node, opset: int, batch: int, given: list[Any]) -> None:
        self.node, self.opset, self.batch, self.given = node, opset, batch, given

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        found = self.node.attributes.get(name, default)
        return found.decode() if isinstance(found, bytes) else found

    def tensor(self, number: int = 0) -> Tensor:
        """An input as a tensor."""
        found = self.given[number] if number < len(self.given) else None
        if isinstance(found, np.ndarray):
            return torch.from_numpy(np.asarray(found)).to(self.like())
        if isinstance(found, Loose):
            raise self.node.refuse(
                "its input must have the images as its first dimension; keep them apart from"
                " channels and pixels in reshapes."
            )
        if found is None:
            raise self.node.refuse(f"it must have its input {number}; export the model anew.")
        made: Tensor = found
        return made

    def like(self) -> Tensor:
        """Some tensor of the image's type."""
        return next(each for each in self.given if isinstance(each, torch.Tensor))

    def optional(self, number: int) -> Tensor | None:
        """An input that may be left out."""
        there = number < len(self.given) and self.given[number] is not None
        return self.tensor(number) if there else None

    def array(self, number: int, name: str | None = None) -> Array | None:
        """A constant input, or the attribute that older operator sets have in its place."""
        found = self.given[number] if number < len(self.given) else None
        if isinstance(found, torch.Tensor):
            raise self.node.refuse(
                f"its input {number} must not depend on the image; simplify the model (onnxsim)"
                " first."
            )
        if found is None and name is not None and name in self.node.attributes:
            return np.asarray(self.node.attributes[name])
        return found

    def ints(self, number: int, name: str | None = None) -> list[int] | None:
        """The same as integers."""
        found = self.array(number, name)
        return None if found is None else [int(v) for v in found.reshape(-1)]

    def number(self, number: int, name: str) -> float | None:
        """The same as one number."""
        found = self.array(number, name)
        if found is not None and found.size != 1:
            raise self.node.refuse(f"its {name} must be one number, not {found.size}.")
        return None if found is None else float(found.reshape(-1)[0])


def windows(site: Site, kernel: list[int], x: Tensor) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations and pads (top, left, bottom, right) of two dimensions."""
    if len(kernel) != 2 or x.ndim != 4:
        raise site.node.refuse("it must be two-dimensional, on N x C x H x W.")
    strides = list(site.get("strides", [1, 1]))
    dilations = list(site.get("dilations", [1, 1]))
    pads = list(site.get("pads", [0, 0, 0, 0]))
    auto = site.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = [0, 0, 0, 0]
        for k in range(2):
            side, span = x.shape[2 + k], dilations[k] * (kernel[k] - 1) + 1
            total = max((-(-side // strides[k]) - 1) * strides[k] + span - side, 0)
            small, large = total // 2, total - total // 2
            pads[k], pads[2 + k] = (small, large) if auto == "SAME_UPPER" else (large, small)
    if len(strides) != 2 or len(dilations) != 2 or len(pads) != 4:
        raise site.node.refuse("its strides, dilations and pads must be of two dimensions.")
    return strides, dilations, pads


def bordered(x: Tensor, pads: list[int], value: float = 0.0) -> tuple[Tensor, list[int]]:
    """What is left of (top, left, bottom, right) as symmetric padding, the rest put around x."""
    top, left, bottom, right = pads
    if (top, left) == (bottom, right):
        return x, [top, left]
    return functional.pad(x, [left, right, top, bottom], value=value), [0, 0]


def conv(site: Site) -> Tensor:
    x, weight = site.tensor(), site.tensor(1)
    strides, dilations, pads = windows(site, list(weight.shape[2:]), x)
    x, padding = bordered(x, pads)
    return functional.conv2d(
        x, weight, site.optional(2), strides, padding, dilations, site.get("group", 1)
    )


def conv_transpose(site: Site) -> Tensor:
    x, weight = site.tensor(), site.tensor(1)
    strides, dilations, pads = windows(site, list(weight.shape[2:]), x)
    if site.get("output_shape") is not None or site.get("auto_pad", "NOTSET") != "NOTSET":
        raise site.node.refuse("it must say its pads, not output_shape or auto_pad.")
    extra = list(site.get("output_padding", [0, 0]))
    top, left, bottom, right = pads
    same = (top, left) == (bottom, right)
    y = functional.conv_transpose2d(
        x, weight, site.optional(2), strides, [top, left] if same else 0, extra,
        site.get("group", 1), dilations,
    )  # fmt: skip
    return y if same else y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right]


def batch_norm(site: Site) -> Tensor:
    if site.get("training_mode", 0):
        raise site.node.refuse("training_mode must be 0; export the model for inference.")
    x, scale, shift, mean, var = (site.tensor(n) for n in range(5))
    return functional.batch_norm(x, mean, var, scale, shift, False, 0.0, site.get("epsilon", 1e-5))


def gemm(site: Site) -> Tensor:
    x, weight, bias = site.tensor(), site.tensor(1), site.optional(2)
    if site.get("transA", 0):
        raise site.node.refuse("transA must be 0.")
    weight = weight if site.get("transB", 0) else weight.t()
    alpha, beta = site.get("alpha", 1.0), site.get("beta", 1.0)
    weight = weight if alpha == 1 else weight * alpha
    if bias is not None:
        bias = (bias if beta == 1 else bias * beta).reshape(-1).expand(weight.shape[0])
    return functional.linear(x, weight, bias)


def matmul(site: Site) -> Tensor:
    x, weight = site.tensor(), site.tensor(1)
    if weight.ndim == 2 and x.ndim == 2:
        return functional.linear(x, weight.t())
    return torch.matmul(x, weight)


def prelu(site: Site) -> Tensor:
    return functional.prelu(site.tensor(), site.tensor(1).reshape(-1))


def clip(site: Site) -> Tensor:
    return torch.clamp(site.tensor(), site.number(1, "min"), site.number(2, "max"))


def power(site: Site) -> Tensor:
    exponent = site.array(1)
    if exponent is None or exponent.size != 1:
        raise site.node.refuse("its exponent must be one number.")
    return torch.pow(site.tensor(), float(exponent.reshape(-1)[0]))


def hard_sigmoid(site: Site) -> Tensor:
    alpha, beta = site.get("alpha", 0.2), site.get("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return functional.hardsigmoid(site.tensor())
    return torch.clamp(site.tensor() * alpha + beta, 0.0, 1.0)


def gelu(site: Site) -> Tensor:
    return functional.gelu(site.tensor(), approximate=site.get("approximate", "none"))


def swish(site: Site) -> Tensor:
    x, alpha = site.tensor(), site.get("alpha", 1.0)
    return functional.silu(x) if alpha == 1 else x * torch.sigmoid(alpha * x)


def unary(function: Callable[[Tensor], Tensor]) -> Callable[[Site], Tensor]:
    """An operator of one input."""
    return lambda site: function(site.tensor())


def two(function: Callable[[Any, Any], Tensor]) -> Callable[[Site], Tensor]:
    """An operator of two inputs, of which one may be a constant."""
    return lambda site: function(operand(site, 0), operand(site, 1))


def operand(site: Site, number: int) -> Any:
    """A tensor, or a number where a constant is one."""
    found = site.given[number]
    if isinstance(found, torch.Tensor) and not found.ndim and isinstance(found, torch.nn.Parameter):
        return found
    if isinstance(found, np.ndarray) and found.size == 1 and found.dtype.kind in "fiu":
        return float(found.reshape(-1)[0])
    return site.tensor(number)


def folded(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Site], Tensor]:
    """An operator of any number of inputs."""

    def run(site: Site) -> Tensor:
        made = site.tensor(0)
        for number in range(1, len(site.given)):
            made = function(made, site.tensor(number))
        return made

    return run


LAYERS: dict[str, Callable[[Site], Any]] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "BatchNormalization": batch_norm,
    "Gemm": gemm,
    "MatMul": matmul,
    "PRelu": prelu,
    "Relu": unary(torch.relu),
    "Clip": clip,
    "LeakyRelu": lambda s: functional.leaky_relu(s.tensor(), s.get("alpha", 0.01)),
    "Elu": lambda s: functional.elu(s.tensor(), s.get("alpha", 1.0)),
    "Celu": lambda s: functional.celu(s.tensor(), s.get("alpha", 1.0)),
    "Selu": unary(torch.selu),
    "Sigmoid": unary(torch.sigmoid),
    "HardSigmoid": hard_sigmoid,
    "HardSwish": unary(functional.hardswish),
    "Mish": unary(functional.mish),
    "Gelu": gelu,
    "Swish": swish,
    "Tanh": unary(torch.tanh),
    "Softplus": unary(functional.softplus),
    "Exp": unary(torch.exp),
    "Log": unary(torch.log),
    "Sqrt": unary(torch.sqrt),
    "Abs": unary(torch.abs),
    "Neg": unary(torch.neg),
    "Erf": unary(torch.erf),
    "Reciprocal": unary(torch.reciprocal),
    "Pow": power,
    "Add": two(torch.add),
    "Sub": two(torch.sub),
    "Mul": two(torch.mul),
    "Div": two(torch.div),
    "Sum": folded(torch.add),
    "Max": folded(torch.maximum),
    "Min": folded(torch.minimum),
    "Softmax": lambda s: torch.softmax(s.tensor(), s.get("axis", -1 if s.opset >= 13 else 1)),
}
WEIGHTS = {
    "Conv": "weight bias", "ConvTranspose": "weight bias", "Gemm": "weight bias",
    "MatMul": "weight", "PRelu": "weight", "BatchNormalization": "weight bias mean var",
    "Add": "other", "Sub": "other", "Mul": "other", "Div": "other",
}  # fmt: skip
