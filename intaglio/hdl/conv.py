# amaranth: UnusedElaboratable=no
"""The convolution engine: dense and grouped."""

from typing import Unpack

from intaglio.errors import BuildError
from intaglio.hdl.engine import weight_sets
from intaglio.hdl.pack import Ints, conv_words
from intaglio.hdl.stream import ceil_div, common_channels
from intaglio.hdl.weighted import Settings, WeightedEngine


class ConvEngine(WeightedEngine):
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
    hard        of the family: whether a register stands behind the memories of rows and of
                weights, and which products of the requantisers are made in parts.
    rows        rows held by the line buffer; default `Geometry.default_rows`.
    rom         prefix of ROM files (`rom + "_weights.hex"`, "_tables", "_pads"), or None to build
                the contents in.

    Ports: `i` simd * x.bits, `o` out_lanes * y.bits. Cycles per output pixel:
    ceil(Cout / pe) * Kh * Kw * ceil(Cin / groups / simd), or of every `pixels` of a row, with no
    others between pixels, rows, frames or levels as long as input is there and output is taken.
    """

    def __init__(
        self, *, simd: int, pe: int, groups: int = 1, **settings: Unpack[Settings]
    ) -> None:
        weights, odd = settings["weights"], settings.get("odd", False)
        packed = settings.get("form") == "packed"
        _, cout, cin, _, _ = weight_sets(weights).shape
        if common_channels(settings["frames"]) != cin * groups:
            raise BuildError(
                f"Weights {weights.shape} in {groups} groups must match the frames' channels, not"
                f" {common_channels(settings['frames'])}."
            )

        def words(kernel: Ints, bits: int) -> list[int]:
            return conv_words(
                kernel, groups=groups, simd=simd, pe=pe, bits=bits, odd=odd, packed=packed
            )

        super().__init__(
            lanes=simd,
            passes=groups,
            repeats=ceil_div(cout // groups, pe),
            zero_tail=odd,
            pairs=[[(s, p * simd + s) for s in range(simd)] for p in range(pe)],
            groups=groups,
            words=words,
            codes=pe * simd,
            **settings,
        )
