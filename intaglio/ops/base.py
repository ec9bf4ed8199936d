"""What every operation is: tensors, constants, shapes, the two ends of a Program, windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.errors import ProgramError
from intaglio.fixed import Arithmetic, IntType, code_bits

Shape = tuple[int, int, int]
Ints = NDArray[np.int64]
Pair = tuple[int, int]
SIDE = 1 << 20  # channels, rows, columns of an image, and of how a window slides: more is damage
Padding = tuple[int, int, int, int]  # top, bottom, left, right


@dataclass(frozen=True)
class Tensor:
    """A named edge of the graph: (C, H, W) integers of `type`, all within [lo, hi].

    `scale` and `zero_point` say what the integers stand for, scale * (q - zero_point); no
    operation reads them. `zero_point` is one value, or one per channel.
    """

    name: str
    shape: Shape
    type: IntType
    lo: int
    hi: int
    scale: float = 1.0
    zero_point: tuple[int, ...] = (0,)


def dequantise(tensor: Tensor, codes: NDArray[Any]) -> NDArray[np.float32]:
    """scale * (q - zero_point) of codes (N, C, H, W), computed in float64."""
    zero = np.array(tensor.zero_point, dtype=np.float64)[:, None, None]
    return (tensor.scale * (codes - zero)).astype(np.float32)


@dataclass(frozen=True)
class Constant:
    """A named integer array, shared by every operation that refers to its name.

    `odd`, for weights: all values are odd, and a ROM holds them as codes (`fixed.odd_code`), one
    bit narrower than the signed `type`. Operations read the values and never see the codes.
    """

    name: str
    array: Ints
    type: IntType
    odd: bool = False

    @property
    def code_bits(self) -> int:
        """Bits that one weight takes in a ROM."""
        return code_bits(self.type, self.odd)


@dataclass(frozen=True)
class Context:
    """What an operation may look at besides its inputs."""

    constants: Mapping[str, Constant]
    arithmetic: Arithmetic


Inferred = tuple[Shape, int, int]


@dataclass(frozen=True, kw_only=True)
class Op:
    """`output` names the tensor produced; `origin` is the torch module path it came from."""

    output: str
    origin: str = ""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tensors read, in order."""
        raise TypeError(f"{type(self).__name__} must define its inputs.")

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of the constants read."""
        return ()

    def infer(self, inputs: Sequence[Tensor], context: Context) -> Inferred:
        """Output shape and proved value range. Raises ProgramError when the inputs do not fit."""
        raise TypeError(f"{type(self).__name__} must define its shape and range rule.")

    def zeros(self, zero: tuple[int, ...]) -> tuple[int, ...]:
        """Zero points of the result of an operation that passes codes on, from its input's."""
        return zero

    def step(self, scale: float) -> float:
        """The scale of that result, from its input's."""
        return scale

    def refuse(self, sentence: str) -> ProgramError:
        """An error that names this operation in the user's words."""
        where = f" (from {self.origin})" if self.origin else ""
        return ProgramError(f"{type(self).__name__} {self.output!r}{where}: {sentence}")


@dataclass(frozen=True, kw_only=True)
class Unary(Op):
    """An operation that reads one tensor."""

    input: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True, kw_only=True)
class Input(Op):
    """The image: integers as they come, usually u8 pixels (C, H, W)."""

    shape: Shape
    type: IntType

    @property
    def inputs(self) -> tuple[str, ...]:
        return ()

    def infer(self, inputs: Sequence[Tensor], context: Context) -> Inferred:
        return self.shape, self.type.lo, self.type.hi


@dataclass(frozen=True, kw_only=True)
class Output(Unary):
    """A result of the Program; `output` is the name users see. Values pass unchanged."""

    def infer(self, inputs: Sequence[Tensor], context: Context) -> Inferred:
        (x,) = inputs
        return x.shape, x.lo, x.hi


def window_shape(x: Shape, kernel: Pair, stride: Pair, dilation: Pair, pad: Padding) -> Pair:
    """Output (H, W) of a sliding window: floor((in + pads - dilation*(k-1) - 1) / stride) + 1."""
    _, h, w = x
    top, bottom, left, right = pad
    oh = (h + top + bottom - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
    ow = (w + left + right - dilation[1] * (kernel[1] - 1) - 1) // stride[1] + 1
    return oh, ow


@dataclass(frozen=True, kw_only=True)
class Windowed(Unary):
    """Fields shared by operations that slide a window over the image."""

    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)

    @property
    def sliding(self) -> dict[str, Any]:
        """How the window slides, as keywords."""
        return {"stride": self.stride, "dilation": self.dilation, "padding": self.padding}

    def outside(self, x: Tensor) -> tuple[int, ...]:
        """The codes read outside the image `x`: one, or one for each channel."""
        raise NotImplementedError

    def window(self, x: Tensor, kernel: Pair) -> Pair:
        """Checked output (H, W) of a kernel (Kh, Kw)."""
        if min(*kernel, *self.stride, *self.dilation) < 1 or min(self.padding) < 0:
            raise self.refuse("kernel, stride and dilation must be at least 1 and padding 0.")
        if max(*self.stride, *self.dilation, *self.padding) > SIDE:
            raise self.refuse(f"stride, dilation and padding must be at most {SIDE}.")
        size = window_shape(x.shape, kernel, self.stride, self.dilation, self.padding)
        if min(size) < 1:
            raise self.refuse(f"the window {kernel} must fit into the input {x.shape}.")
        return size
