"""A Program's network as torch's int8 operators (oneDNN), for timing beside the simulator.

Shapes, weights, scales and zero points are the Program's. torch rounds in float, so that its
integers are near ours and not equal: a peer in speed, not an oracle. The network must be W8A8 and
unsigned between layers; outputs have 8 bits here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from peer_scale import ratio_and_bias
from torch.nn import functional

from intaglio.ops import Add, Conv2d, Input, MaxPool2d, Op, Output, Requant, Upsample
from intaglio.program import Program

Values = dict[str, Any]  # quantised tensors (1, C, H, W), channels last in memory


class Peer:
    """Calls torch's operators one by one: images (1, C, H, W) uint8 to uint8 maps."""

    def __init__(self, program: Program) -> None:
        torch.backends.quantized.engine = "onednn"
        warnings.filterwarnings("ignore", message="torch.quantize_per_tensor")
        self.program = program
        with torch.inference_mode():
            self.calls = [call for op in program.ops if (call := self.call(op)) is not None]

    @torch.inference_mode()
    def __call__(self, images: Any) -> list[Any]:
        (x,) = self.program.inputs
        planes = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
        values = {x.name: torch._make_per_tensor_quantized_tensor(planes, *self.real(x.name))}
        for call in self.calls:
            call(values)
        return [values[t.name].int_repr().contiguous().numpy() for t in self.program.outputs]

    def real(self, name: str) -> tuple[float, int]:
        """Scale and zero point of a tensor."""
        tensor = self.program.tensors[name]
        return float(tensor.scale), min(max(int(tensor.zero_point[0]), 0), 255)

    def conv(self, op: Conv2d, requant: Requant) -> Callable[[Values], None]:
        """The float scale of a channel's weights is M / 2^S times that of the result."""
        weight = self.program.constants[op.weight].array
        ratio, sums = ratio_and_bias(self.program, op, requant)
        (x_scale, _), (y_scale, point) = self.real(op.input), self.real(requant.output)
        scale = torch.tensor(ratio * y_scale / x_scale, dtype=torch.double)
        nothing = torch.zeros(len(scale), dtype=torch.long)
        codes = torch.from_numpy(weight.astype(np.float64)) * scale[:, None, None, None]
        packed = torch.quantize_per_channel(codes.float(), scale, nothing, 0, torch.qint8)
        bias = sums * scale.numpy() * x_scale
        top, _, left, _ = op.padding
        made = torch.ops.quantized.conv2d_prepack(
            packed, torch.tensor(bias).float(), op.stride, (top, left), op.dilation, op.groups
        )

        def call(values: Values) -> None:
            y = torch.ops.quantized.conv2d(values[op.input], made, y_scale, point)
            values[requant.output] = y

        return call

    def call(self, op: Op) -> Callable[[Values], None] | None:
        """One operation; a Requant goes in with its convolution."""
        match op:
            case Conv2d():
                (requant,) = self.program.consumers[op.output]
                assert isinstance(requant, Requant)
                return self.conv(op, requant)
            case Requant() | Input():
                return None
            case Add():
                result = self.real(op.output)

                def add(values: Values) -> None:
                    a, b = values[op.a], values[op.b]
                    values[op.output] = torch.ops.quantized.add(a, b, *result)

                return add
            case MaxPool2d():
                top, _, left, _ = op.padding

                def pool(values: Values) -> None:
                    values[op.output] = functional.max_pool2d(
                        values[op.input], op.kernel, op.stride, (top, left)
                    )

                return pool
            case Upsample():

                def upsample(values: Values) -> None:
                    values[op.output] = functional.interpolate(values[op.input], op.size)

                return upsample
            case Output():

                def output(values: Values) -> None:
                    values[op.output] = values[op.input]

                return output
            case _:
                raise TypeError(f"The peer has no operator for {type(op).__name__}.")
