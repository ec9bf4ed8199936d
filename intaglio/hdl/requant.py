"""Requantisation: wide accumulators to narrow integers, acc * M + B, shifted, rounded, clamped."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Shape, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intaglio.errors import BuildError
from intaglio.fixed import IntType, Rounding, requantise
from intaglio.hdl.pack import Ints, pack_word
from intaglio.hdl.rom import Rom
from intaglio.hdl.stream import Frame, ceil_div, common_channels, lane, lanes_signature, shape_of


@dataclass(frozen=True)
class Scaling:
    """One level's y[c] = clamp(round_shift(x[c] * M[c] + B[c], S[c]) + offset, lo, hi).

    multiplier, bias and shift hold one value per channel, or one for all.
    """

    multiplier: tuple[int, ...]
    bias: tuple[int, ...]
    shift: tuple[int, ...]
    lo: int
    hi: int
    offset: int = 0


class Requantiser(wiring.Component):
    """The free-running pipeline: `lanes` values of `x` with `i_valid`, `latency` cycles later
    `lanes` values of `y` with `o_valid`. It cannot stall; an `Outlet` follows.

    It counts beats to know level and channel: ceil(C / lanes) a pixel, frame after frame.
    M and B (with the rounding constant of RND folded in), and whatever else differs between
    channels or levels, lie in a ROM with one word per (level, beat of a pixel).
    """

    latency: int
    rom: Rom

    def __init__(
        self,
        *,
        frames: Sequence[Frame],
        lanes: int,
        x: IntType,
        y: IntType,
        scalings: Sequence[Scaling],
        rounding: Rounding,
        rom: str | None = None,
    ) -> None:
        super().__init__(
            {
                "i": In(lanes * x.bits),
                "i_valid": In(1),
                "o": Out(lanes * y.bits),
                "o_valid": Out(1),
            }
        )


class Scale(wiring.Component):
    """A `Requant` of its own, on a narrow stream: elementwise, one beat a cycle.

    latency  cycles from taking a beat at `i` to `o.valid`.
    """

    def __init__(
        self,
        *,
        frames: Sequence[Frame],
        lanes: int,
        x: IntType,
        y: IntType,
        scalings: Sequence[Scaling],
        rounding: Rounding = "RND",
        rom: str | None = None,
    ) -> None:
        super().__init__(
            {"i": In(lanes_signature(lanes, x.bits)), "o": Out(lanes_signature(lanes, y.bits))}
        )
