"""A network that was read from a file: its calls in order, each a module under the file's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from intaglio.errors import ModelError
from intaglio.quant.capture.exported import quiet

Array = NDArray[Any]
LARGEST = 1 << 26  # values of a tensor of one image; a capture holds some in float64, of two
Given = torch.Tensor | Array | int | float | None


class Operator(nn.Module):
    """One call of a file, which `forward` makes. It is given what depends on the image, and has
    its weights as parameters."""


@dataclass(frozen=True, eq=False)
class Call:
    """An operator, the tensors that it reads, and those that it makes; "" for one left out."""

    operator: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class FileNetwork(nn.Module):
    """Images (N, C, H, W) to the maps of a file by their names there.

    `input_size` is the (H, W) that the file is made for; None where it takes several. `cut` are the
    file's operators behind its last layers, in words, which are not in it; `notes` say what else
    was done to it. `ends`: it ends where it was asked to.
    """

    def __init__(
        self, calls: Sequence[tuple[str, Call]], image: str, outputs: Mapping[str, str],
        known: Mapping[str, Given], *, input_size: tuple[int, int] | None = None,
        channels: int | None = None, cut: Sequence[str] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        for name, call in calls:
            place(self, name, call.operator)
        self.calls = tuple(call for _, call in calls)
        self.image, self.outputs, self.known = image, dict(outputs), dict(known)
        self.input_size, self.channels, self.cut = input_size, channels, tuple(cut)
        self.notes: tuple[str, ...] = ()
        self.ends = False
        self.last: dict[str, int] = {}  # the call that reads a tensor last
        for number, call in enumerate(self.calls):
            self.last |= dict.fromkeys(call.inputs, number)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        values = self.values(x, keep=False)
        return {name: values[tensor] for name, tensor in self.outputs.items()}

    def values(self, x: torch.Tensor, *, keep: bool = True) -> dict[str, Any]:
        """Every tensor of the file, or those that are still read at the end."""
        values: dict[str, Any] = {**self.known, self.image: x}
        wanted = set(self.outputs.values())
        for number, call in enumerate(self.calls):
            made = call.operator(*(values[name] if name else None for name in call.inputs))
            several = made if isinstance(made, (tuple, list)) else (made,)
            for each in several:
                if isinstance(each, torch.Tensor) and each.numel() > LARGEST * len(x):
                    raise ModelError(
                        f"{call.outputs[0]!r} must have at most {LARGEST:,} values, not"
                        f" {tuple(each.shape)}; export the network for a smaller image."
                    )
            values |= {n: v for n, v in zip(call.outputs, several, strict=False) if n}
            for name in () if keep else call.inputs:
                if self.last[name] == number and name not in wanted:
                    values.pop(name, None)
        return values


def measure(network: FileNetwork, shape: tuple[int, int, int]) -> None:
    """Run a network without values on an image (C, H, W), before any memory is taken. Raises
    ModelError where a tensor is too large, and what torch does where an operator does not run."""
    with quiet(), FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        network.values(torch.zeros(1, *shape), keep=False)


def place(network: nn.Module, name: str, operator: nn.Module) -> None:
    """Make an operator a submodule under its own name, whose parts between dots are modules."""
    *parents, last = [part or "_" for part in name.split(".")]
    for part in parents:
        part = free(network, part, nn.Module)
        if part not in network._modules:
            network.add_module(part, nn.Module())
        network = network.get_submodule(part)
    network.add_module(free(network, last, type(None)), operator)


def free(network: nn.Module, name: str, kind: type) -> str:
    """The name, or one with underscores behind it where something else has it."""
    while hasattr(network, name) and type(network._modules.get(name)) is not kind:
        name += "_"
    return name


def as_parameter(array: Array) -> nn.Parameter:
    """A constant as the network's weight, in float32."""
    with np.errstate(over="ignore"):
        values = np.array(array, dtype=np.float32)
    return nn.Parameter(torch.from_numpy(values), requires_grad=False)


def check_size(network: nn.Module, size: tuple[int, int] | None, path: str) -> None:
    """Raises ModelError where a file of one size is to be read in another, or of any in none."""
    if not isinstance(network, FileNetwork) or size is None:
        return
    own = network.input_size
    if own is not None and own != size:
        raise ModelError(
            f"--size must be {own[0]}x{own[1]} for {path}, which is made for that size alone, not"
            f" {size[0]}x{size[1]}; leave it out, or export the network with dynamic sizes."
        )
