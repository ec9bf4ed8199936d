# amaranth: UnusedElaboratable=no
"""The depthwise convolution engine: every lane its own channel."""

from typing import Unpack

from intaglio.errors import BuildError
from intaglio.hdl.engine import weight_sets
from intaglio.hdl.pack import Ints, depthwise_words
from intaglio.hdl.stream import ceil_div, common_channels
from intaglio.hdl.weighted import Settings, WeightedEngine


class DepthwiseEngine(WeightedEngine):
    """Depthwise convolution (groups = Cin = Cout) and requantisation on `lanes` multipliers.

    weights (C, 1, Kh, Kw), or sets of them; everything else as `ConvEngine`. Ports: `i`
    lanes * x.bits, `o` out_lanes * y.bits; out_lanes divides lanes, and lanes / out_lanes <=
    Kh * Kw.
    Cycles per output pixel, or for all `pixels` that are made side by side, which takes `lanes` for
    every channel: ceil(C / lanes) * Kh * Kw.
    """

    def __init__(self, *, lanes: int, **settings: Unpack[Settings]) -> None:
        weights, odd = settings["weights"], settings.get("odd", False)
        _, channels, one, _, _ = weight_sets(weights).shape
        if one != 1 or common_channels(settings["frames"]) != channels:
            raise BuildError(
                f"Depthwise weights must be ({common_channels(settings['frames'])}, 1, Kh, Kw), not"
                f" {weights.shape}."
            )
        if settings.get("form") == "packed":
            raise BuildError("Depthwise products must not be packed: no two share a channel.")

        def words(kernel: Ints, bits: int) -> list[int]:
            return depthwise_words(kernel, lanes=lanes, bits=bits, odd=odd)

        super().__init__(
            lanes=lanes,
            passes=ceil_div(channels, lanes),
            pairs=[[(k, k)] for k in range(lanes)],
            groups=channels,
            words=words,
            codes=lanes,
            **settings,
        )
