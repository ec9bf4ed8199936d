# amaranth: UnusedElaboratable=no
"""The convolution engine: dense and grouped."""

from collections.abc import Sequence

from intaglio.errors import BuildError
from intaglio.fixed import IntType, Rounding, code_bits
from intaglio.hdl.accumulator import Accumulator
from intaglio.hdl.engine import Engine, weight_sets
from intaglio.hdl.geometry import Geometry, Padding, Pair
from intaglio.hdl.pack import Ints, conv_words
from intaglio.hdl.products import ProductForm
from intaglio.hdl.requant import Scaling
from intaglio.hdl.rom import Rom
from intaglio.hdl.stream import Frame, ceil_div, common_channels
from intaglio.hdl.window import Window


class ConvEngine(Engine):
    """Convolution and requantisation on SIMD * PE multipliers, for one or more levels.

    frames      input frames in their cyclic order; one channel count, any sizes.
    weights     (Cout, Cin / groups, Kh, Kw) integers of type `w`; if `odd`, all are odd, and the
                ROM holds their codes, one bit narrower. Several sets of them, (S, Cout, ...), are
                one behind the other in the ROM; `sets` says which of them each level has.
    padding     (top, bottom, left, right).
    pad_values  per level (or one for all): one value or one per input channel, which is read
                outside the image.
    scalings    one per level.
    form        of the products, see `Engine`.
    simd, pe    input channels and output channels a cycle. Grouped: they divide the group's.
    out_lanes   requantisers; divides `pe`, and pe / out_lanes <= cycles of a group of PE.
    pixels      neighbours in a row of the output computed side by side; more than 1 where `pe` is
                all output channels and the kernel larger than a pixel.
    rows        rows held by the line buffer; default `Geometry.default_rows`.
    rom         prefix of ROM files (`rom + "_weights.hex"`, "_tables", "_pads"), or None to build
                the contents in.

    Ports: `i` simd * x.bits, `o` out_lanes * y.bits. Cycles per output pixel:
    ceil(Cout / pe) * Kh * Kw * ceil(Cin / groups / simd), or of every `pixels` of a row, with no
    others between pixels, rows, frames or levels as long as input is there and output is taken.
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
        simd: int,
        pe: int,
        out_lanes: int,
        groups: int = 1,
        stride: Pair = (1, 1),
        dilation: Pair = (1, 1),
        padding: Padding = (0, 0, 0, 0),
        pad_values: Sequence[Sequence[int]] = ((0,),),
        rows: int | None = None,
        pixels: int = 1,
        rom: str | None = None,
    ) -> None:
        kernels = weight_sets(weights)
        _, cout, cin, kh, kw = kernels.shape
        if common_channels(frames) != cin * groups:
            raise BuildError(
                f"Weights {weights.shape} in {groups} groups must match the frames' channels, not"
                f" {common_channels(frames)}."
            )
        bits = code_bits(w, odd)
        words = [
            word
            for kernel in kernels
            for word in conv_words(kernel, groups=groups, simd=simd, pe=pe, bits=bits, odd=odd)
        ]
        file = None if rom is None else f"{rom}_weights.hex"
        super().__init__(
            window=Window(
                frames=frames,
                geometry=Geometry((kh, kw), stride, dilation, padding),
                x=x,
                lanes=simd,
                groups=groups,
                repeats=ceil_div(cout // groups, pe),
                pad_values=pad_values,
                zero_tail=odd,
                rows=rows,
                pixels=pixels,
                tells=len(kernels) > 1,
                rom=rom,
            ),
            pairs=[[(s, p * simd + s) for s in range(simd)] for p in range(pe)],
            kernels=kernels,
            sets=sets,
            groups=groups,
            weights=Rom(words=words, width=pe * simd * bits, file=file),
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
