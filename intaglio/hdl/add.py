# amaranth: UnusedElaboratable=no
"""Add: the skip connection."""

import numpy as np
from amaranth.hdl import Cat, Elaboratable, Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intaglio.fixed import ROUNDINGS, IntType, Rounding, requantise
from intaglio.hdl.fifo import Outlet
from intaglio.hdl.pack import Ints
from intaglio.hdl.products import kept, product_of_tables
from intaglio.hdl.requant import clamped, fold_half
from intaglio.hdl.stream import delay, lane, lanes_signature, pipe


class Add(wiring.Component):
    """y = clamp(round_shift(a * Ma + b * Mb + B, S) + offset, lo, hi), lane by lane.

    Ports: `a`, `b` and `o`, `lanes` values of the types `a_type`, `b_type`, `y`. A beat is taken
    from both at once (each `ready` follows the other's `valid`); one beat a cycle.

    latency  4 cycles from taking the beats to `o.valid`, 5 when the rounding looks at the sign or
             parity: products, sum, [rounding,] clamp, outlet.
    """

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
        self.lanes = lanes
        self.types = (a_type, b_type, y)
        self.multipliers = (multiplier_a, multiplier_b)
        self.bias = bias
        self.shift = shift
        self.limits = (offset, lo, hi)
        self.rounding = rounding
        self.folded_bias, self.folded = fold_half(bias, shift, rounding)
        self.latency = 4 if self.folded == "TRN" else 5
        self.outlet = Outlet(width=lanes * y.bits, depth=self.latency + 1)
        super().__init__(
            {
                "a": In(lanes_signature(lanes, a_type.bits)),
                "b": In(lanes_signature(lanes, b_type.bits)),
                "o": Out(lanes_signature(lanes, y.bits)),
            }
        )

    def model(self, a: Ints, b: Ints) -> Ints:
        """Codes of any one shape to codes of that shape."""
        ma, mb = self.multipliers
        out = np.empty_like(a)
        for at in np.ndindex(a.shape):
            total = int(a[at]) * ma + int(b[at]) * mb + self.bias
            out[at] = requantise(total, self.shift, *self.limits, self.rounding)
        return out

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.outlet = outlet = self.outlet
        connect(m, outlet.o, flipped(self.o))
        room = outlet.free != 0
        taken = self.a.valid & self.b.valid & room
        m.d.comb += [
            self.a.ready.eq(self.b.valid & room),
            self.b.ready.eq(self.a.valid & room),
            outlet.reserve.eq(taken),
            outlet.push.eq(delay(m, taken, self.latency - 1, "valid")),
            outlet.data.eq(Cat(self._lane(m, k) for k in range(self.lanes))),
        ]
        return m

    def _lane(self, m: Module, k: int) -> Value:
        a_type, b_type, y = self.types
        a, b = lane(self.a.payload, k, a_type), lane(self.b.payload, k, b_type)
        a = pipe(m, product_of_tables(m, a, self.multipliers[0], f"a{k}"), 1, f"a{k}")
        b = pipe(m, product_of_tables(m, b, self.multipliers[1], f"b{k}"), 1, f"b{k}")
        total = pipe(m, kept(m, a + b, f"both{k}") + self.folded_bias, 1, f"total{k}")
        code = ROUNDINGS[self.folded](total, self.shift)
        if self.folded != "TRN":
            code = pipe(m, code, 1, f"rounded{k}")
        offset, lo, hi = self.limits
        return pipe(m, clamped(code + offset, lo, hi), 1, f"clamped{k}")[: y.bits]
