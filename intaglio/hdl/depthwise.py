# amaranth: UnusedElaboratable=no
"""The depthwise convolution engine: every lane its own channel."""

from collections.abc import Sequence

from intaglio.errors import BuildError
from intaglio.fixed import IntType, Rounding, code_bits
from intaglio.hdl.accumulator import Accumulator
from intaglio.hdl.engine import Engine, weight_sets
from intaglio.hdl.geometry import Geometry, Padding, Pair
from intaglio.hdl.pack import Ints, depthwise_words
from intaglio.hdl.products import ProductForm
from intaglio.hdl.requant import Scaling
from intaglio.hdl.rom import Rom
from intaglio.hdl.stream import Frame, ceil_div, common_channels
from intaglio.hdl.window import Window


class DepthwiseEngine(Engine):
    """Depthwise convolution (groups = Cin = Cout) and requantisation on `lanes` multipliers.

    weights (C, 1, Kh, Kw), or sets of them; everything else as `ConvEngine`. Ports: `i`
    lanes * x.bits, `o` out_lanes * y.bits; out_lanes divides lanes, and lanes / out_lanes <=
    Kh * Kw.
    Cycles per output pixel, or for all `pixels` that are made side by side, which takes `lanes` for
    every channel: ceil(C / lanes) * Kh * Kw.
    """

    def __init__(
        self,
        *,
        frames: Sequence[Frame],
        weights: Ints,
        x: IntType,
        w: IntType,
        odd: bool = False,
        form: ProductForm = "dsp",
        y: IntType,
        accumulator: Accumulator,
        scalings: Sequence[Scaling],
        sets: Sequence[int] = (),
        rounding: Rounding = "RND",
        lanes: int,
        out_lanes: int,
        stride: Pair = (1, 1),
        dilation: Pair = (1, 1),
        padding: Padding = (0, 0, 0, 0),
        pad_values: Sequence[Sequence[int]] = ((0,),),
        rows: int | None = None,
        pixels: int = 1,
        rom: str | None = None,
    ) -> None:
        kernels = weight_sets(weights)
        _, channels, one, kh, kw = kernels.shape
        if one != 1 or common_channels(frames) != channels:
            raise BuildError(
                f"Depthwise weights must be ({common_channels(frames)}, 1, Kh, Kw), not"
                f" {weights.shape}."
            )
        if form == "packed":
            raise BuildError("Depthwise products must not be packed: no two share a channel.")
        bits = code_bits(w, odd)
        words = [
            word
            for kernel in kernels
            for word in depthwise_words(kernel, lanes=lanes, bits=bits, odd=odd)
        ]
        file = None if rom is None else f"{rom}_weights.hex"
        super().__init__(
            window=Window(
                frames=frames,
                geometry=Geometry((kh, kw), stride, dilation, padding),
                x=x,
                lanes=lanes,
                groups=ceil_div(channels, lanes),
                pad_values=pad_values,
                rows=rows,
                pixels=pixels,
                tells=len(kernels) > 1,
                rom=rom,
            ),
            pairs=[[(k, k)] for k in range(lanes)],
            kernels=kernels,
            sets=sets,
            groups=channels,
            weights=Rom(words=words, width=lanes * bits, file=file),
            w=w,
            odd=odd,
            form=form,
            accumulator=accumulator,
            y=y,
            scalings=scalings,
            rounding=rounding,
            out_lanes=out_lanes,
            rom=rom,
        )
