"""Add: the skip connection."""

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intaglio.fixed import IntType, Rounding
from intaglio.hdl.stream import lanes_signature


class Add(wiring.Component):
    """y = clamp(round_shift(a * Ma + b * Mb + B, S) + offset, lo, hi), lane by lane.

    Ports: `a`, `b` and `o`, `lanes` values of the types `a`, `b`, `y`. A beat is taken from both
    at once; one beat a cycle.

    latency  cycles from taking the beats to `o.valid`.
    """

    latency: int

    def __init__(
        self,
        *,
        lanes: int,
        a_type: IntType,
        b_type: IntType,
        y: IntType,
        multiplier_a: int,
        multiplier_b: int,
        bias: int,
        shift: int,
        lo: int,
        hi: int,
        offset: int = 0,
        rounding: Rounding = "RND",
    ) -> None:
        super().__init__(
            {
                "a": In(lanes_signature(lanes, a_type.bits)),
                "b": In(lanes_signature(lanes, b_type.bits)),
                "o": Out(lanes_signature(lanes, y.bits)),
            }
        )
