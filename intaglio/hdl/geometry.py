"""How a window slides over a frame."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from intaglio.errors import BuildError
from intaglio.hdl.pack import Ints
from intaglio.hdl.stream import Frame

Pair = tuple[int, int]
Padding = tuple[int, int, int, int]  # top, bottom, left, right

POINTWISE_PIXELS = 4  # covers the cycles from freeing a pixel's place to reading the next one there


@dataclass(frozen=True)
class Geometry:
    """Kernel, stride and dilation as (vertical, horizontal), the same at every level."""

    kernel: Pair
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)

    @property
    def span(self) -> Pair:
        """Height and width of the image region under a window."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return dh * (kh - 1) + 1, dw * (kw - 1) + 1

    @property
    def pointwise(self) -> bool:
        """Whether a window is just its pixel."""
        return self == Geometry((1, 1), dilation=self.dilation)

    @property
    def default_rows(self) -> int:
        """Rows a line buffer needs to receive the next output row's while this one is computed."""
        return POINTWISE_PIXELS if self.pointwise else self.span[0] + self.stride[0]

    def out(self, frame: Frame, channels: int) -> Frame:
        """The output frame. Raises BuildError when no window fits."""
        top, bottom, left, right = self.padding
        height = (frame.height + top + bottom - self.span[0]) // self.stride[0] + 1
        width = (frame.width + left + right - self.span[1]) // self.stride[1] + 1
        if height < 1 or width < 1:
            raise BuildError(f"The window {self.kernel} must fit into the padded {frame}.")
        return Frame(channels, height, width)

    def windows(self, frame: Ints, pads: Sequence[int]) -> Ints:
        """Every window of a (C, H, W) frame, as (OH, OW, C, Kh, Kw); `pads` for one or each C."""
        channels, height, width = frame.shape
        top, bottom, left, right = self.padding
        image = np.empty((channels, height + top + bottom, width + left + right), np.int64)
        image[:] = np.array(pads).reshape(-1, 1, 1)
        image[:, top : top + height, left : left + width] = frame
        region = np.lib.stride_tricks.sliding_window_view(image, self.span, (1, 2))
        (sy, sx), (dy, dx) = self.stride, self.dilation
        return region[:, ::sy, ::sx, ::dy, ::dx].transpose(1, 2, 0, 3, 4)
